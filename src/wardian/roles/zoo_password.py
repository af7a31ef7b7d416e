"""The operator's passwords that the role `zoo` reads: of their Redis, and of a keystore."""

from pathlib import Path
from typing import Final

from wardian._internal.settings import read
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError

MAX_PASSWORD_BYTES: Final = 1024


def first_line(path: Path, key: str) -> Secret:
    """Return the first line of the file `path`, which `key` of `[zoo]` names.

    Raises:
        ConfigError: there is none, or it is longer than a password.
    """
    text = read(path, limit_bytes=MAX_PASSWORD_BYTES).split(b"\n", 1)[0].strip()
    if not text:
        raise ConfigError(f"operator.toml: [zoo] {key}: is empty")
    return Secret(text)
