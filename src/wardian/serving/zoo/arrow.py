"""Requests of Cluster Serving as their clients write them: an Arrow stream, one record batch.

Both encapsulations are read (with the continuation marker since Arrow 0.15, without it before), and
the batches of their HTTP front end, whose lists have more rows than the batch: only the value
buffers of lists count, as for their server, and rows and nulls of the lists are not looked at.

No buffer is believed before it was compared with the bytes at hand; arrays are views of these bytes
where they can be, so that memory is bounded by what was sent.

Source: Apache Arrow, "Columnar format", 1.4, "Serialization and Interprocess Communication".
"""

import struct
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from wardian.errors import FormatError
from wardian.inference.spec import Array
from wardian.serving.zoo.arrow_schema import (
    MAX_METADATA_BYTES,
    RECORD_BATCH,
    Leaf,
    Schema,
    TensorColumn,
    parse_message,
    parse_schema,
)
from wardian.serving.zoo.columns import Column, Columns, Strings
from wardian.serving.zoo.tensors import build_dense, build_sparse
from wardian.serving.zoo.text import bound_strings, decode_base64, parse_text

MAX_STREAM_BYTES: Final = 64 * 1024 * 1024
"""Bytes of one request, decoded: 16 million numbers. A caller may ask for less."""
_I32: Final = struct.Struct("<i")
_TWO: Final = struct.Struct("<ii")
_FLOAT32: Final = np.dtype("<f4")
_INT32: Final = np.dtype("<i4")
_FILE_MAGIC: Final = b"ARROW1"
_KEPT_BYTES: Final = 4096
"""Of a record batch's metadata that is remembered: five tensors have less."""


def parse_columns(payload: bytes, *, max_bytes: int = MAX_STREAM_BYTES) -> Columns:
    """Return the columns in `payload`, the `data` of a stream's entry.

    Args:
        payload: base64 of an Arrow stream, untrusted.
        max_bytes: of the stream, decoded.

    Raises:
        FormatError: not base64, too large, malformed, or of a kind that is not read.
    """
    if len(payload) // 4 * 3 > max_bytes:
        raise FormatError(f"an Arrow stream: more than {max_bytes} bytes")
    return parse_stream(decode_base64(payload, what="an Arrow stream"))


def parse_stream(raw: bytes) -> Columns:
    """Return the columns in the Arrow stream `raw`.

    Raises:
        FormatError: malformed, or of a kind that is not read.
    """
    if raw.startswith(_FILE_MAGIC):
        raise FormatError(
            "an Arrow file (enqueue_tensor writes them); a stream was expected, as enqueue writes"
        )
    metadata, at = read_metadata(raw, 0)
    schema = parse_schema(metadata)
    metadata, at = read_metadata(raw, at)
    if not metadata:
        raise FormatError("an Arrow stream: no record batch")
    batch = read_batch(raw, at, metadata=metadata, schema=schema)
    _end(raw, at + batch.size)
    return {name: _column(batch, place) for name, place in schema.columns}


def read_batch(raw: bytes, at: int, *, metadata: bytes, schema: Schema) -> "Batch":
    """Return the record batch that `metadata` describes and whose body begins at `at`.

    Raises:
        FormatError: another message, compressed, not of `schema`, or longer than the stream.
    """
    known = len(metadata) <= _KEPT_BYTES
    layout = _layout(metadata) if known else _layout.__wrapped__(metadata)
    if layout.body_bytes > len(raw) - at:
        raise FormatError("an Arrow stream: a body is longer than the stream")
    batch = Batch(raw, at, *layout)
    if len(batch.nodes) != 2 * schema.nodes or len(batch.buffers) != 2 * schema.buffers:
        raise FormatError("an Arrow stream: a record batch is not of the stream's schema")
    return batch


class _Layout(NamedTuple):
    """How long a record batch's body is; nodes (length, nulls), buffers (offset, length), flat."""

    body_bytes: int
    nodes: tuple[int, ...]
    buffers: tuple[int, ...]


@lru_cache(maxsize=64)
def _layout(metadata: bytes) -> _Layout:
    """Return what the message of a record batch says of its body, which nobody has looked at yet.

    One client's records of one shape all say the same, so that the last 64 are remembered, of
    `_KEPT_BYTES` at most (a megabyte together).
    """
    message = parse_message(metadata)
    if message.kind != RECORD_BATCH:
        raise FormatError("an Arrow stream: a record batch was expected after the schema")
    if message.header.has(3):
        raise FormatError("an Arrow stream: compressed; it was expected plain")
    return _Layout(message.body_bytes, message.header.pairs(1), message.header.pairs(2))


class Batch(NamedTuple):
    """The stream, where its body is, and in pairs (length, nulls) and (offset, length)."""

    raw: bytes
    start: int
    size: int
    nodes: tuple[int, ...]
    buffers: tuple[int, ...]


def read_metadata(raw: bytes, at: int) -> tuple[bytes, int]:
    """Return the next message's metadata and where it ends; nothing at the stream's end.

    Raises:
        FormatError: it is longer than the stream, or than a message may be.
    """
    if at == len(raw):
        return b"", at
    if len(raw) - at >= 8:
        size, second = _TWO.unpack_from(raw, at)
        if size == -1:
            size, at = second, at + 8
        else:
            at += 4
    else:  # the end of a stream of before Arrow 0.15, or of a short one
        size, at = _int32(raw, at)
        if size == -1:
            size, at = _int32(raw, at)
    if not 0 <= size <= MAX_METADATA_BYTES:
        raise FormatError(
            f"an Arrow stream: a message is not of 0 to {MAX_METADATA_BYTES} bytes of metadata"
        )
    if size > len(raw) - at:
        raise FormatError("an Arrow stream: a message is longer than the stream")
    return raw[at : at + size], at + size


def _int32(raw: bytes, at: int) -> tuple[int, int]:
    if len(raw) - at < 4:
        raise FormatError("an Arrow stream: it ends within a message")
    return _I32.unpack_from(raw, at)[0], at + 4


def _end(raw: bytes, at: int) -> None:
    """Return if the stream ends at `at`, with or without saying so."""
    metadata, end = read_metadata(raw, at)
    if metadata:
        raise FormatError("an Arrow stream: more than one record batch; one was expected")
    if end != len(raw):
        raise FormatError("an Arrow stream: bytes behind its end")


def _column(batch: Batch, place: Leaf | TensorColumn) -> Column:
    if isinstance(place, TensorColumn):
        return _tensor(batch, place)
    if _count(batch, place) != 1:
        raise FormatError("a column of a text or a number: one row was expected")
    if place.kind == "text":
        return parse_text(_texts(batch, place)[0])
    return build_dense(read_numbers(batch, place), ())


def _tensor(batch: Batch, place: TensorColumn) -> Column:
    """Return the tensor at `place`; dense if its indices have no shape, as for their server."""
    shape = read_numbers(batch, place.shape).tolist()
    if place.data.kind == "text":
        return _string_tensor(batch, place, shape)
    values = read_numbers(batch, place.data)
    if place.indices_shape is None or place.indices is None:
        return build_dense(values, shape)
    indices_shape = read_numbers(batch, place.indices_shape).tolist()
    if not indices_shape:
        return build_dense(values, shape)
    indices = read_numbers(batch, place.indices)
    return build_sparse(values, shape, indices=indices, indices_shape=indices_shape)


def _string_tensor(batch: Batch, place: TensorColumn, shape: list[int]) -> Strings:
    strings = _texts(batch, place.data)
    if shape != [len(strings)]:
        raise FormatError("a tensor of strings: one axis, as long as they are, was expected")
    return Strings(tuple(strings))


def _count(batch: Batch, leaf: Leaf) -> int:
    """Return how many values are in `leaf`; none is null."""
    at = 2 * leaf.node
    length, nulls = batch.nodes[at], batch.nodes[at + 1]
    if length < 0 or nulls:
        raise FormatError("an Arrow stream: a value is null, or there are fewer than none")
    return length


def buffer_place(batch: Batch, index: int) -> tuple[int, int]:
    """Return where in the stream a buffer begins and how long it is.

    Raises:
        FormatError: it is not within the body.
    """
    offset, length = batch.buffers[2 * index], batch.buffers[2 * index + 1]
    if offset < 0 or length < 0 or offset + length > batch.size:
        raise FormatError("an Arrow stream: a buffer is outside its body")
    return batch.start + offset, length


def read_numbers(batch: Batch, leaf: Leaf) -> Array:
    """Return the values in `leaf`: a view, and a copy where they do not begin at their multiple.

    Raises:
        FormatError: one is null, or they are not within the body.
    """
    values = view_buffer(batch, leaf.buffer + 1, _count(batch, leaf), leaf.kind)
    return values if values.flags.aligned else values.copy()


def view_buffer(batch: Batch, buffer: int, count: int, kind: str) -> Array:
    """Return the first `count` numbers, of float32 or int32, in a buffer.

    Raises:
        FormatError: it is shorter, or not within the body.
    """
    at, size = buffer_place(batch, buffer)
    if 4 * count > size:
        raise FormatError("an Arrow stream: a buffer is shorter than its values")
    dtype = _FLOAT32 if kind == "float32" else _INT32
    return np.frombuffer(batch.raw, dtype, count, at) if count else np.empty(0, dtype)


def _texts(batch: Batch, leaf: Leaf) -> list[str]:
    """Return the strings in `leaf`."""
    count = _count(batch, leaf)
    if not count:
        return []
    bound_strings(count)
    ends = view_buffer(batch, leaf.buffer + 1, count + 1, "int32")
    at, size = buffer_place(batch, leaf.buffer + 2)
    if ends[0] < 0 or ends[-1] > size or (ends[1:] < ends[:-1]).any():
        raise FormatError("an Arrow stream: a string is outside its buffer")
    places = ends.tolist()
    try:
        return [batch.raw[at + start : at + end].decode() for start, end in pairwise(places)]
    except UnicodeDecodeError as err:
        raise FormatError("an Arrow stream: a string is not UTF-8") from err
