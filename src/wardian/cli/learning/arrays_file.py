"""A model's arrays as numpy's `.npz`, whatever the arrays are called."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from wardian.errors import ConfigError
from wardian.learning.arrays import ArrayRecord


def write_arrays(file: BinaryIO, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `arrays` to `file` in their order; `np.savez` would not take one called `file`."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(entry, array, allow_pickle=False)


def encode_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return what `write_arrays` writes."""
    file = io.BytesIO()
    write_arrays(file, arrays)
    return file.getvalue()


def read_arrays(source: Path | bytes) -> ArrayRecord:
    """Return the arrays in the file, or in the bytes, `source`; nothing is unpickled.

    Raises:
        ConfigError: it cannot be read, or holds no arrays.
        FormatError: it holds arrays that no model has.
    """
    name = str(source) if isinstance(source, Path) else "the model"
    try:
        raw = io.BytesIO(source.read_bytes() if isinstance(source, Path) else source)
        if not zipfile.is_zipfile(raw):
            raise ConfigError(f"{name}: holds no arrays by name, as numpy's .npz does")
        raw.seek(0)
        with np.load(raw, allow_pickle=False) as data:
            found = dict(data)
    except OSError as err:
        raise ConfigError(f"{name}: cannot be read: {err.strerror}") from err
    except (ValueError, EOFError, zipfile.BadZipFile) as err:
        raise ConfigError(f"{name}: holds what is no array of numbers") from err
    return ArrayRecord(found)
