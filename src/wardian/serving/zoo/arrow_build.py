"""Requests of Cluster Serving, written: the Arrow streams that `arrow` reads.

A stream has one record batch of one row. Each column is one of those that clients of Cluster
Serving write; that theirs spread a tensor over four rows tells nobody anything: their server, as
`arrow`, reads the values of lists and looks at no row. So tensors, texts and images fit into one
request, which the original's client cannot write.

Source: Apache Arrow, "Columnar format", 1.4, "Serialization and Interprocess Communication".
"""

import struct
from binascii import b2a_base64
from functools import lru_cache
from typing import Any, Final

import numpy as np

from wardian.errors import FormatError
from wardian.inference.spec import Array
from wardian.serving.zoo.arrow import MAX_STREAM_BYTES
from wardian.serving.zoo.columns import (
    Column,
    Columns,
    Dense,
    Image,
    Sparse,
    Strings,
    bound_columns,
)
from wardian.serving.zoo.flatbuffer_build import Scalar, Structs, Table
from wardian.serving.zoo.results import (
    FLOAT32_TYPE,
    INT32_TYPE,
    build_field,
    build_message,
    build_schema,
)
from wardian.serving.zoo.text import bound_strings

_UTF8: Final = (5, ())
_LIST: Final = (12, ())
_STRUCT: Final = (13, ())
_END: Final = struct.pack("<2i", -1, 0)
_NONE: Final = np.empty(0, "<i4")


def build_columns(columns: Columns) -> bytes:
    """Return the `data` of a record that holds `columns`: base64 of an Arrow stream.

    Texts travel as one text with "|" between them where that is all that they mean, as the
    original's client writes them; a single text and one with "|" in it as a tensor of texts, as the
    original's HTTP front end does, for as a text the one is an image and the other is several.

    Args:
        columns: 1 to `MAX_COLUMNS` of them, with names that `column_name` takes.

    Raises:
        FormatError: too many columns or texts, or more than `MAX_STREAM_BYTES`.
    """
    bound_columns(len(columns))
    batch = _Batch()
    schema = _schema(tuple(batch.add(name, column) for name, column in columns.items()))
    parts = [schema, batch.message(), *batch.body, _END]
    if sum(map(len, parts)) > MAX_STREAM_BYTES:
        raise FormatError(f"an Arrow stream: more than {MAX_STREAM_BYTES} bytes")
    return b2a_base64(b"".join(parts), newline=False)


class _Batch:
    """A record batch of one row, column by column; nothing in it is null."""

    def __init__(self) -> None:
        self.body: list[Any] = []
        self._nodes: list[int] = []
        self._buffers: list[int] = []
        self._size = 0

    def add(self, name: str, column: Column) -> Table:
        """Append `column`; return its field."""
        if isinstance(column, Image):
            return self._text(name, b2a_base64(column.raw, newline=False))
        if isinstance(column, Strings):
            return self._strings(name, column.values)
        if isinstance(column, Dense):
            return self._tensor(name, column.array, column.array.shape, _NONE, ())
        return self._sparse(name, column)

    def message(self) -> bytes:
        """Return the message before the body."""
        return _message(tuple(self._nodes), tuple(self._buffers), self._size)

    def _sparse(self, name: str, column: Sparse) -> Table:
        indices = column.indices
        return self._tensor(name, column.values, column.shape, indices, indices.shape)

    def _strings(self, name: str, texts: tuple[str, ...]) -> Table:
        bound_strings(len(texts))
        if len(texts) > 1 and not any("|" in text for text in texts):
            return self._text(name, "|".join(texts).encode())
        self._node(1)
        return build_field(
            name,
            *_STRUCT,
            (
                self._list("indiceData", _NONE),
                self._list("indiceShape", _NONE),
                self._text_list("data", [text.encode() for text in texts]),
                self._list("shape", np.array([len(texts)])),
            ),
        )

    def _tensor(
        self,
        name: str,
        data: Array,
        shape: tuple[int, ...],
        indices: Array,
        indices_shape: tuple[int, ...],
    ) -> Table:
        self._node(1)
        return build_field(
            name,
            *_STRUCT,
            (
                self._list("indiceData", indices),
                self._list("indiceShape", np.array(indices_shape)),
                self._list("data", data, "<f4"),
                self._list("shape", np.array(shape)),
            ),
        )

    def _list(self, name: str, values: Array, code: str = "<i4") -> Table:
        """Append a list of numbers, the row's only one."""
        flat = np.ascontiguousarray(values, code).reshape(-1)
        self._node(1)
        self._buffer(struct.pack("<2i", 0, flat.size))
        self._node(flat.size)
        self._buffer(flat.data.cast("B") if flat.size else b"")
        return _list_field(name, *_TYPES[code])

    def _text_list(self, name: str, texts: list[bytes]) -> Table:
        self._node(1)
        self._buffer(struct.pack("<2i", 0, len(texts)))
        self._texts(texts)
        return _list_field(name, *_UTF8)

    def _text(self, name: str, text: bytes) -> Table:
        self._texts([text])
        return build_field(name, *_UTF8)

    def _texts(self, texts: list[bytes]) -> None:
        ends = np.cumsum([0, *map(len, texts)])
        self._node(len(texts))
        self._buffer(ends.astype("<i4").tobytes())
        self._buffer(b"".join(texts))

    def _node(self, length: int) -> None:
        """Append a node without nulls, so that its validity is a buffer of no bytes."""
        self._nodes += (length, 0)
        self._buffer(b"")

    def _buffer(self, raw: Any) -> None:
        """Append a buffer; the next one begins at a multiple of eight."""
        self._buffers += (self._size, len(raw))
        padding = -len(raw) % 8
        self.body += (raw, bytes(padding))
        self._size += len(raw) + padding


@lru_cache(maxsize=16)
def _list_field(name: str, kind: int, slots: tuple[Scalar, ...]) -> Table:
    return build_field(name, *_LIST, (build_field("item", kind, slots),))


_schema = lru_cache(maxsize=64)(build_schema)
"""The records of one caller are mostly of one kind and shape, so the last are remembered."""


@lru_cache(maxsize=64)
def _message(nodes: tuple[int, ...], buffers: tuple[int, ...], size: int) -> bytes:
    """Return the message of a batch of one row, likewise remembered."""
    header = Table((Scalar("q", 1), Structs(2, nodes), Structs(2, buffers)))
    return build_message(3, header, size)


_TYPES: Final = {"<i4": INT32_TYPE, "<f4": FLOAT32_TYPE}
