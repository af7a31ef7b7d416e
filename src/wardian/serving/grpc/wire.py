"""Protocol Buffers' wire format, as far as a handful of fixed messages needs it.

A message is a series of fields, each a number and a wire type before its value. What a field means
its reader knows; nothing here recurses, and every loop is paid from a `Budget`.

Source: Protocol Buffers, "Encoding".
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from wardian.errors import FormatError, RequestError
from wardian.inference.spec import Array

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

MAX_FIELDS: Final = 65_536
"""Fields of one message and of all messages in it: each costs about a microsecond of the loop."""
MAX_VARINTS_BYTES: Final = 1024 * 1024
"""Bytes of packed varints in one message; larger tensors travel raw."""
_FEW: Final = 64
"""Up to so many bytes of varints a loop is faster than numpy."""
_MASK64: Final = 2**64 - 1
_TOO_LONG: Final = "message: a field is longer than the message"


class Budget:
    """How much one message may still cost."""

    __slots__ = ("_bytes", "_fields")

    def __init__(self) -> None:
        self._fields = MAX_FIELDS
        self._bytes = MAX_VARINTS_BYTES

    def field(self) -> None:
        """Pay for a field.

        Raises:
            RequestError: 413.
        """
        self._fields -= 1
        if self._fields < 0:
            raise RequestError(
                f"the message has more than {MAX_FIELDS} fields; send tensors in "
                "raw_input_contents",
                status=413,
            )

    def varints(self, size: int) -> None:
        """Pay for `size` bytes of packed varints.

        Raises:
            RequestError: 413.
        """
        self._bytes -= size
        if self._bytes < 0:
            raise RequestError(
                f"more than {MAX_VARINTS_BYTES} bytes of typed integers; send large tensors in "
                "raw_input_contents",
                status=413,
            )


def read_fields(
    source: bytes | bytearray, start: int, end: int, budget: Budget
) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, and two integers for each field of `source` from `start` to `end`.

    For a varint these are its value and 0; for all others where the value begins and where it ends.

    Raises:
        FormatError: not fields, or of a wire type that is no more in use (groups).
        RequestError: 413; the `budget` is used up.
    """
    at = start
    while at < end:
        budget.field()
        key, at = read_varint(source, at, end)
        kind, number = key & 7, key >> 3
        if not 0 < number < 2**29:
            raise FormatError("message: a field number is out of range")
        if kind == VARINT:
            value, at = read_varint(source, at, end)
            yield number, kind, value, 0
            continue
        if kind == BYTES:
            length, at = read_varint(source, at, end)
        elif kind == FIXED32:
            length = 4
        elif kind == FIXED64:
            length = 8
        else:
            raise FormatError("message: a wire type is not in use")
        if length > end - at:
            raise FormatError(_TOO_LONG)
        yield number, kind, at, at + length
        at += length


def read_varint(source: bytes | bytearray, at: int, end: int) -> tuple[int, int]:
    """Return the varint at `at`, below 2^64, and where it ends.

    Raises:
        FormatError: it goes on beyond `end`, or beyond ten bytes.
    """
    value = shift = 0
    while at < end and shift < 70:
        byte = source[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK64, at
        shift += 7
    raise FormatError("message: a varint does not end")


def read_text(source: bytes | bytearray, kind: int, start: int, end: int) -> str:
    """Return the string from `start` to `end`.

    Raises:
        FormatError: not UTF-8, or the field is of another kind.
    """
    expect(kind, BYTES)
    try:
        return source[start:end].decode()
    except UnicodeDecodeError as err:
        raise FormatError("message: a string is not UTF-8") from err


def expect(kind: int, wanted: int) -> None:
    """Return if a field is of the wire type `wanted`.

    Raises:
        FormatError: it is not.
    """
    if kind != wanted:
        raise FormatError("message: a field has another type than specified")


def signed(value: int) -> int:
    """Return the two's complement of 64 bits that `value` is."""
    return value - 2**64 if value >= 2**63 else value


def unpack_double(source: bytes | bytearray, start: int) -> float:
    """Return the double at `start`."""
    value: float = struct.unpack_from("<d", source, start)[0]
    return value


def unpack_varints(source: bytes | bytearray, start: int, end: int) -> Array:
    """Return the packed varints from `start` to `end`, as unsigned integers of 64 bits.

    Raises:
        FormatError: the last does not end, or one has more than ten bytes.
    """
    if end - start <= _FEW:
        few = []
        while start < end:
            value, start = read_varint(source, start, end)
            few.append(value)
        return np.array(few, np.uint64)
    raw = np.frombuffer(source, np.uint8, end - start, start)
    ends = np.flatnonzero(raw < 0x80)
    if not ends.size or ends[-1] != raw.size - 1:
        raise FormatError("message: a varint does not end")
    starts = np.concatenate((np.zeros(1, ends.dtype), ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise FormatError("message: a varint does not end")
    place = np.arange(raw.size) - np.repeat(starts, lengths)
    parts = (raw & 0x7F).astype(np.uint64) << (place * 7).astype(np.uint64)
    values: Array = np.bitwise_or.reduceat(parts, starts)
    return values


def pack_varints(values: Array) -> bytes:
    """Return integers as packed varints; negative ones as two's complements of 64 bits."""
    return b"".join([varint(value & _MASK64) for value in values.tolist()])


def varint(value: int) -> bytes:
    """Return `value`, below 2^64, as a varint."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def key(number: int, kind: int = BYTES) -> bytes:
    """Return what stands before a field's value."""
    return varint(number << 3 | kind)


def field(number: int, value: bytes) -> bytes:
    """Return a field of bytes, a string, a message or packed numbers; nothing if it is empty."""
    return key(number) + varint(len(value)) + value if value else b""


def element(number: int, value: bytes) -> bytes:
    """Return one element of a repeated field, which may be empty."""
    return key(number) + varint(len(value)) + value


def flag(number: int, *, value: bool) -> bytes:
    """Return a field of a boolean; nothing if it is false."""
    return key(number, VARINT) + b"\1" if value else b""


def read_repeated(parts: list[Any], dtype: Any) -> Array:
    """Return the arrays in `parts`, one behind the other, as `dtype`."""
    if len(parts) == 1:
        return np.asarray(parts[0], dtype)
    return np.concatenate([np.asarray(part, dtype) for part in parts])
