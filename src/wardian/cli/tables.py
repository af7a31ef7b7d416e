"""`wardian seal` of tables: what a file is by its name, and Parquet whose columns are encrypted."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wardian.crypto.recipients import BrokerKey, Recipient
from wardian.errors import ConfigError

_BY_SUFFIX: Final = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}
_OTHERWISE: Final = "application/onnx"


def media_type_of(file: Path) -> str:
    """Return what `file` is sealed as where nobody says."""
    return _BY_SUFFIX.get(file.suffix.lower(), _OTHERWISE)


def encrypted_columns(file: Path, recipients: Sequence[Recipient], *, name: str) -> Path:
    """Leave the Parquet `file` with every column encrypted beside it, and return where.

    Who holds the key reads it with pandas; see `learning.shared.parquet_keys`. What was there
    before is replaced once the new file is whole.

    Args:
        file: Parquet in the clear.
        recipients: one of them a broker key, which columns are encrypted under.
        name: of the table.

    Raises:
        ConfigError: no such key; a file cannot be read or written; pyarrow is not installed.
        FormatError: no Parquet.
    """
    from wardian.learning.shared.parquet_keys import encrypt_file  # noqa: PLC0415  loads Arrow

    key = next((each.key for each in recipients if isinstance(each, BrokerKey)), None)
    if key is None:
        raise ConfigError("--parquet takes the table's key: --key or --new-key")
    target = file.with_name(file.name + ".encrypted")
    part = target.with_name(f".{target.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
            encrypt_file(file, sink, key=key, name=name)
        part.replace(target)
    except OSError as err:
        raise ConfigError(f"{target}: cannot be written: {err.strerror}") from err
    finally:
        part.unlink(missing_ok=True)
    return target
