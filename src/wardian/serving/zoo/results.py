"""Answers as the clients of Cluster Serving read them: an Arrow stream in base64, or `NaN`.

The stream has two columns, `data` (float, nullable) and `shape` (int, nullable), and one record
batch for each output, with a row for each element. The dimensions stand in the first rows of
`shape`; its other rows are null. The reader drops what is null or zero in `shape`, and reshapes
`data` to what is left.

Source: Apache Arrow, "Columnar format", 1.4, "Serialization and Interprocess Communication".
"""

import struct
from binascii import b2a_base64
from collections.abc import Iterable
from functools import lru_cache
from math import prod
from typing import Any, Final

import numpy as np

from wardian.errors import FormatError
from wardian.inference.spec import Array
from wardian.serving.zoo.flatbuffer_build import (
    Scalar,
    Structs,
    Table,
    Tables,
    Text,
    build_flatbuffer,
)

NAN: Final = b"NaN"
"""What a client reads where there is no answer."""
MAX_RESULT_ELEMENTS: Final = 2**25
"""Elements of all outputs of a result: 256 MiB of Arrow, 341 in base64; Redis holds 512."""
_KEPT_ROWS: Final = 8192
_FLOAT32: Final = np.dtype("<f4")
_CONTINUED: Final = struct.pack("<i", -1)
_METADATA_V4: Final = 3
"""The version since Arrow 0.8: readers before 1.0 refuse a newer one, later ones read this."""


def encode_result(outputs: Iterable[Array]) -> bytes:
    """Return the value of a result's hash: `outputs` as base64 of an Arrow stream.

    All elements become float32: integers beyond 2^24 lose digits, and what is beyond float32's
    range becomes infinite. Their reader cannot take every shape, so that

    - an axis of length 1 is dropped, outermost first, where there are fewer elements than axes;
      other axes always stay, and so do all elements in their order;
    - a scalar (no axes) is one element with nothing in `shape`, which it reads as a scalar;
    - an output without elements cannot be read by it at all: the whole result is `NAN`.

    Args:
        outputs: boolean, integer or real arrays of any shape, at least one.

    Raises:
        FormatError: an output of another type (text, complex); no outputs; more than
            `MAX_RESULT_ELEMENTS` elements.
    """
    arrays = list(outputs)
    if not arrays:
        raise FormatError("a result: no outputs, one or more were expected")
    elements = sum(each.size for each in arrays)
    if elements > MAX_RESULT_ELEMENTS:
        raise FormatError(
            f"a result: {elements} elements, at most {MAX_RESULT_ELEMENTS} fit the client's form"
        )
    floats = [_floats(each, index) for index, each in enumerate(arrays)]
    if not all(each.size for each in floats):
        return NAN
    parts: list[Any] = [_SCHEMA]
    for each in floats:
        small = each.size <= _KEPT_ROWS
        before, behind = _frame(each.shape) if small else _frame.__wrapped__(each.shape)
        parts += (before, each.reshape(-1).data.cast("B"), behind)
    parts.append(_END)
    return b2a_base64(b"".join(parts), newline=False)


def readable_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return `shape`, all above 0, without as many outermost ones as do not fit into its rows."""
    surplus = len(shape) - prod(shape)
    kept = []
    for length in shape:
        if length == 1 and surplus > 0:
            surplus -= 1
        else:
            kept.append(length)
    return tuple(kept)


def _floats(output: Array, index: int) -> Array:
    """Return `output` as little-endian float32, in C order."""
    if output.dtype.kind not in "biuf":
        raise FormatError(
            f"a result: output {index} is not of numbers (but {output.dtype.name}); the client's "
            "form has float32 alone"
        )
    if output.dtype == _FLOAT32:
        return np.asarray(output, order="C")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(output, _FLOAT32, order="C")


@lru_cache(maxsize=64)
def _frame(shape: tuple[int, ...]) -> tuple[bytes, bytes]:
    """Return what stands before and behind the data of a record batch of this `shape`.

    Before: the message. Behind: padding, the validity of `shape`, its rows. Data has no validity
    bitmap: without nulls it may be left out. A model's results are of few shapes, so that the last
    64 are remembered, of `_KEPT_ROWS` elements at most (3 MiB together).
    """
    rows, dims = prod(shape), readable_shape(shape)
    nulls = rows - len(dims)
    column = -(-rows // 2) * 8  # bytes of either column: a multiple of eight
    bits = -(-rows // 64) * 8 if nulls else 0
    buffers = (0, 0, 0, 4 * rows, column, -(-rows // 8) if nulls else 0, column + bits, 4 * rows)
    head = bytearray(_BATCH)
    struct.pack_into("<q", head, _AT_BODY, 2 * column + bits)
    struct.pack_into("<q", head, _AT_ROWS, rows)
    struct.pack_into("<4q", head, _AT_NODES, rows, 0, rows, nulls)
    struct.pack_into("<8q", head, _AT_BUFFERS, *buffers)
    valid = (2 ** len(dims) - 1).to_bytes(bits, "little") if nulls else b""
    ints = struct.pack(f"<{len(dims)}i", *dims)
    return bytes(head), bytes(column - 4 * rows) + valid + ints + bytes(column - len(ints))


def build_message(kind: int, header: Table, body_bytes: int = 0) -> bytes:
    """Return an encapsulated message: continuation, length, `Message`. Its body follows."""
    slots = (Scalar("h", _METADATA_V4), Scalar("B", kind), header, Scalar("q", body_bytes))
    raw = build_flatbuffer(Table(slots))
    return _CONTINUED + struct.pack("<i", len(raw)) + raw


def build_field(
    name: str, kind: int, slots: tuple[Scalar, ...], children: tuple[Table, ...] = ()
) -> Table:
    """Return a nullable `Field` of the type `kind` with its own `slots`."""
    of = Tables(children)
    return Table((Text(name), Scalar("?", 1), Scalar("B", kind), Table(slots), None, of))


def build_schema(fields: tuple[Table, ...]) -> bytes:
    """Return the message of a little-endian schema."""
    return build_message(1, Table((Scalar("h", 0), Tables(fields))))


FLOAT32_TYPE: Final = (3, (Scalar("h", 1),))
"""FloatingPoint, of single precision: the type's number and its slots."""
INT32_TYPE: Final = (2, (Scalar("i", 32), Scalar("?", 1)))
"""Int, of 32 bits, signed."""
_SCHEMA: Final = build_schema(
    (build_field("data", *FLOAT32_TYPE), build_field("shape", *INT32_TYPE))
)
_END: Final = _CONTINUED + bytes(4)

_MARKS: Final = tuple(range(0x7A6F6F00_00000001, 0x7A6F6F00_0000000F))
"""Numbers that occur nowhere else in a message: they show where its real ones have to stand."""
_BATCH: Final = build_message(
    3,
    Table((Scalar("q", _MARKS[1]), Structs(2, _MARKS[2:6]), Structs(2, _MARKS[6:14]))),
    _MARKS[0],
)
_AT_BODY, _AT_ROWS, _AT_NODES, _AT_BUFFERS = (
    _BATCH.index(struct.pack("<q", _MARKS[index])) for index in (0, 1, 2, 6)
)
