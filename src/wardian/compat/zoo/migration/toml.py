"""Values as TOML writes them."""

import json
import os
from pathlib import Path

from wardian.errors import ConfigError


def text(value: str) -> str:
    """Return `value` as a basic string, whose escapes are JSON's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def path_text(path: Path) -> str:
    """Return `path`, absolute, as a basic string.

    Raises:
        ConfigError: its name is not UTF-8, so that no settings file can hold it.
    """
    whole = os.fsencode(path.absolute())
    try:
        return text(whole.decode())
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: its name is not UTF-8: give the file another one") from err
