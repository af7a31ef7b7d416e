"""The model of a run that is over, sealed in the party's directory until it is published.

An app's function that exports is tried only when the run is over. If it fails, or the machine does,
the model is still here, and the same command goes on from it.
"""

import io
from pathlib import Path
from typing import Final

from wardian._internal import settings
from wardian._internal.files import replace_file
from wardian.cli.files import read_secret
from wardian.cli.learning.arrays_file import encode_arrays, read_arrays
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, open_bytes, save_sealed
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, CryptoError, FormatError
from wardian.learning.arrays import ArrayRecord

SEALED: Final = "model.sealed"
PIN: Final = "model.sealed.pin"
KEY: Final = "model.key"
MEDIA_TYPE: Final = "application/vnd.wardian.arrays"
_MAX_PIN_BYTES: Final = 256


def keep_model(place: Path, model: ArrayRecord, *, name: str) -> None:
    """Leave `model` of the consortium `name` sealed in the directory `place`.

    The key is fresh, and is written last: without it there is nothing to go on from.

    Raises:
        ConfigError: the disk does not take it.
    """
    (place / KEY).unlink(missing_ok=True)
    raw, key = encode_arrays(model), Secret.random()
    pin = save_sealed(
        io.BytesIO(raw),
        place / SEALED,
        total_bytes=len(raw),
        recipients=[BrokerKey(key)],
        media_type=MEDIA_TYPE,
        name=name,
        version=1,
    )
    try:
        replace_file(place / PIN, f"{pin}\n".encode(), sync=True)
        replace_file(place / KEY, f"{key.reveal().hex()}\n".encode(), sync=True)
    except OSError as err:
        raise ConfigError(f"{place}: the model cannot be kept: {err.strerror}") from err
    finally:
        key.wipe()


def kept_model(place: Path, *, name: str) -> ArrayRecord | None:
    """Return the model of the consortium `name` that is kept in `place`; None if there is none.

    Raises:
        ConfigError: what is there is another consortium's, or was changed.
    """
    if not (place / KEY).exists():
        return None
    try:
        pin = Pin.parse(
            settings.read(place / PIN, limit_bytes=_MAX_PIN_BYTES)
            .decode("ascii", "replace")
            .strip()
        )
        with (place / SEALED).open("rb") as file:
            raw = open_bytes(
                file,
                identities=[BrokerKey(read_secret(place / KEY))],
                pin=pin,
                media_type=MEDIA_TYPE,
                name=name,
                version=1,
                max_bytes=(place / SEALED).stat().st_size,
            )
    except (CryptoError, FormatError) as err:
        raise ConfigError(
            f"{place / SEALED}: is not the model that was kept: {err}; remove {place / KEY} to ask "
            "the aggregator again"
        ) from err
    except OSError as err:
        raise ConfigError(f"{place / SEALED}: cannot be read: {err.strerror}") from err
    return read_arrays(bytes(raw))


def forget_model(place: Path) -> None:
    """Remove what is kept in `place`, its key first: then nobody opens what is left."""
    for name in (KEY, SEALED, PIN):
        (place / name).unlink(missing_ok=True)
