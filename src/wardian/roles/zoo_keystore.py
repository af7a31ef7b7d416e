"""The keystore of the operator's, under whose certificate the role `zoo` serves HTTPS."""

import math
from pathlib import Path
from typing import Final

from wardian._internal.settings import read
from wardian.crypto.pkcs12 import MAX_BYTES, Keystore, open_keystore
from wardian.errors import ConfigError, CryptoError, FormatError
from wardian.roles.host import ZooHttpsPlace
from wardian.roles.zoo_password import first_line

SOON_S: Final = 30 * 24 * 3600
"""So long before its end a certificate is warned of."""
_DAY_S: Final = 24 * 3600


def load_keystore(place: ZooHttpsPlace) -> Keystore:
    """Return what is in the operator's keystore.

    Raises:
        ConfigError: a file cannot be read, or the keystore cannot be used; says what to do.
    """
    raw = read(Path(place.keystore), limit_bytes=MAX_BYTES)
    password = first_line(Path(place.password_file), "keystore_password_file")
    try:
        return open_keystore(raw, password)
    except (FormatError, CryptoError) as err:
        raise ConfigError(f"operator.toml: [zoo] {err}") from err
    finally:
        password.wipe()


def time_trouble(keystore: Keystore, *, now: float) -> str | None:
    """Return what is to be said of the time of a certificate at `now`, Unix seconds.

    It is served whatever that is: clients judge it by their clocks, and this one is the host's.
    """
    if now < keystore.not_before:
        return "the certificate of the keystore is not valid yet"
    left_s = keystore.not_after - now
    if left_s < 0:
        return "the certificate of the keystore is over: clients that look at its time refuse it"
    if left_s < SOON_S:
        return f"the certificate of the keystore is over in {math.ceil(left_s / _DAY_S)} days"
    return None
