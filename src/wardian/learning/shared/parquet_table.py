"""Parquet, read batch by batch from a file that lies nowhere in the clear. Needs `pyarrow`.

Arrow is a large program in C++ that parses what an owner sealed. The file is pinned, so it is that
owner's and no stranger's; but what a crafted one can do to the job, it does beside the rows of all
owners. The threat model says so.
"""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from wardian.crypto.secret import Secret
from wardian.errors import FormatError
from wardian.learning.shared.columns import (
    BATCH_ROWS,
    MAX_TEXT,
    MOST_ROWS,
    Columns,
    Kind,
    names_of,
)
from wardian.learning.shared.extra import extra
from wardian.learning.shared.parquet_keys import TableKeys

MEDIA_TYPE: Final = "application/vnd.apache.parquet"
_ENCRYPTED_FOOTER: Final = b"PARE"
_LEAST_BUFFER, _MOST_BUFFER, _BUFFERS = 2**16, 2**20, 2**26
"""Bytes: of a column, and of all columns together, but for the least of each."""


def parquet_batches(
    source: BinaryIO, kinds: Mapping[str, Kind], *, key: Secret, table: str
) -> Iterator[Columns]:
    """Yield the columns `kinds` of the table in `source`, up to 65536 rows at a time.

    Args:
        source: seekable, untrusted.
        kinds: which columns are read at all, and as what.
        key: of the table: opens Parquet's own encryption where the file has it.
        table: its name.

    Raises:
        FormatError: no such file; a column is missing, nested, or of a kind that is neither number
            nor text; a whole number that 64 bits of floating point do not hold.
        ConfigError: pyarrow is not installed.
    """
    pa, pq = extra("pyarrow"), extra("pyarrow.parquet")
    keys = TableKeys(key, table=table) if source.read(4) == _ENCRYPTED_FOOTER else None
    source.seek(0)
    opening = {"decryption_properties": keys.decrypting()} if keys is not None else {}
    try:
        file = pq.ParquetFile(
            pa.PythonFile(source, mode="r"),
            memory_map=False,
            pre_buffer=False,
            buffer_size=_buffer_bytes(len(kinds)),
            read_dictionary=[name for name, kind in kinds.items() if kind is Kind.TEXT],
            **opening,
        )
        names_of(file.schema_arrow.names, kinds)
        if file.metadata.num_rows > MOST_ROWS:
            raise FormatError(f"more than {MOST_ROWS} rows")
        for batch in file.iter_batches(
            batch_size=BATCH_ROWS, columns=list(kinds), use_threads=False
        ):
            yield {
                name: _numbers(name, batch[name])
                if kind is Kind.NUMBER
                else _texts(name, batch[name])
                for name, kind in kinds.items()
            }
    except (pa.ArrowException, OSError, LookupError, ValueError) as err:
        raise FormatError("not a Parquet file that can be read") from err


def _buffer_bytes(columns: int) -> int:
    """Return how much of each column is read ahead: whole groups of rows may be all of the file."""
    return max(_LEAST_BUFFER, min(_MOST_BUFFER, _BUFFERS // columns))


def _numbers(name: str, found: Any) -> NDArray[Any]:
    pa, types = extra("pyarrow"), extra("pyarrow.types")
    kind = found.type
    if types.is_boolean(kind):
        found = found.cast(pa.int8())
    elif not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
        raise FormatError(f"column {name}: not of numbers")
    try:
        values: NDArray[Any] = found.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as err:
        raise FormatError(f"column {name}: a number does not fit 64 bits") from err
    if np.isinf(values).any():
        raise FormatError(f"column {name}: a number is not finite")
    return values.astype(np.float64, copy=False)


def _texts(name: str, found: Any) -> NDArray[Any]:
    pa, types = extra("pyarrow"), extra("pyarrow.types")
    kind = found.type.value_type if types.is_dictionary(found.type) else found.type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)):
        raise FormatError(f"column {name}: not of texts or whole numbers")
    different = found.dictionary if types.is_dictionary(found.type) else found
    if not types.is_integer(kind):  # before one long text becomes as many as there are rows
        longest = extra("pyarrow.compute").max(extra("pyarrow.compute").utf8_length(different))
        if (longest.as_py() or 0) > MAX_TEXT:
            raise FormatError(f"column {name}: a text is longer than {MAX_TEXT} characters")
    values = np.empty(len(found), object)
    values[:] = [each or None for each in found.cast(pa.string()).to_pylist()]
    return values
