"""Flatbuffers of strangers: every offset is compared with the bytes at hand before it is followed.

References go forwards only, so nothing refers to itself. How deep and how wide a reader goes it
decides by itself: nothing here recurses.

Source: FlatBuffers, "FlatBuffer Internals" (https://flatbuffers.dev/internals/).
"""

import struct
from typing import Final

from wardian.errors import FormatError

_U16: Final = struct.Struct("<H")
_I32: Final = struct.Struct("<i")
_U32: Final = struct.Struct("<I")
_NUMBERS: Final = {code: struct.Struct(f"<{code}") for code in "bB?hiq"}


class Table:
    """A table within `raw`; its slots are read when they are asked for."""

    __slots__ = ("_at", "_raw", "_size", "_vtable", "_vtable_size")

    def __init__(self, raw: bytes, at: int) -> None:
        if not 0 <= at <= len(raw) - 4:
            raise FormatError("a flatbuffer: a table is outside")
        vtable = at - _I32.unpack_from(raw, at)[0]
        if not 0 <= vtable <= len(raw) - 4:
            raise FormatError("a flatbuffer: a vtable is outside")
        self._vtable_size = _U16.unpack_from(raw, vtable)[0]
        self._size = _U16.unpack_from(raw, vtable + 2)[0]
        if self._vtable_size < 4 or vtable + self._vtable_size > len(raw):
            raise FormatError("a flatbuffer: a vtable is longer than its buffer")
        if self._size < 4 or at + self._size > len(raw):
            raise FormatError("a flatbuffer: a table is longer than its buffer")
        self._raw, self._at, self._vtable = raw, at, vtable

    def number(self, slot: int, code: str, default: int = 0) -> int:
        """Return the number in `slot`, of the type `code` of `struct`.

        Raises:
            FormatError: it is not within the table.
        """
        number = _NUMBERS[code]
        at = self._place(slot, number.size)
        return default if not at else int(number.unpack_from(self._raw, at)[0])

    def has(self, slot: int) -> bool:
        """Return whether anything but the default stands in `slot`.

        Raises:
            FormatError: it is not within the table.
        """
        return bool(self._place(slot, 1))

    def table(self, slot: int) -> "Table":
        """Return the table that `slot` refers to.

        Raises:
            FormatError: there is none, or it is outside.
        """
        at = self._reference(slot)
        if not at:
            raise FormatError("a flatbuffer: a table is missing")
        return Table(self._raw, at)

    def tables(self, slot: int, *, most: int) -> "list[Table]":
        """Return the tables in the vector that `slot` refers to, at most `most`; none if it is not.

        Raises:
            FormatError: too many, or outside.
        """
        at, count = self._vector(slot, 4)
        if count > most:
            raise FormatError(f"a flatbuffer: {count} tables, at most {most} are accepted here")
        return [
            Table(self._raw, place + _U32.unpack_from(self._raw, place)[0])
            for place in range(at, at + 4 * count, 4)
        ]

    def pairs(self, slot: int) -> tuple[int, ...]:
        """Return the vector of structs of two 64-bit integers that `slot` refers to, flat.

        Raises:
            FormatError: outside.
        """
        at, count = self._vector(slot, 16)
        return struct.unpack_from(f"<{2 * count}q", self._raw, at)

    def text(self, slot: int) -> str:
        """Return the string that `slot` refers to, "" if it does not.

        Raises:
            FormatError: outside, or not UTF-8.
        """
        at, count = self._vector(slot, 1)
        try:
            return self._raw[at : at + count].decode()
        except UnicodeDecodeError as err:
            raise FormatError("a flatbuffer: a string is not UTF-8") from err

    def _place(self, slot: int, size: int) -> int:
        """Return where the `size` bytes in `slot` are; 0, where nothing can be, for a default."""
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_size:
            return 0
        offset = _U16.unpack_from(self._raw, self._vtable + entry)[0]
        if not offset:
            return 0
        if offset < 4 or offset + size > self._size:
            raise FormatError("a flatbuffer: a field is outside its table")
        return int(self._at + offset)

    def _reference(self, slot: int) -> int:
        """Return where `slot` refers to, with four bytes there; 0 for nothing."""
        at = self._place(slot, 4)
        if not at:
            return 0
        target = at + _U32.unpack_from(self._raw, at)[0]
        if target == at or target > len(self._raw) - 4:
            raise FormatError("a flatbuffer: a reference leads outside")
        return int(target)

    def _vector(self, slot: int, size: int) -> tuple[int, int]:
        """Return where the elements of `size` bytes in a vector begin, and how many are there."""
        at = self._reference(slot)
        if not at:
            return 0, 0
        count = _U32.unpack_from(self._raw, at)[0]
        if count * size > len(self._raw) - at - 4:
            raise FormatError("a flatbuffer: a vector is longer than its buffer")
        return at + 4, int(count)


def root(raw: bytes) -> Table:
    """Return the table that the buffer `raw` is about.

    Raises:
        FormatError: it is outside.
    """
    if len(raw) < 4:
        raise FormatError("a flatbuffer: shorter than the reference to its table")
    return Table(raw, _U32.unpack_from(raw)[0])
