"""Tables of flatbuffers, written as they are read: forwards, each before what it refers to.

Small and for fixed messages only: a table is a tree of the classes here, and every table and every
vector begins at a multiple of eight, which is more than any field needs.

Source: FlatBuffers, "FlatBuffer Internals" (https://flatbuffers.dev/internals/).
"""

import struct
from typing import Final, NamedTuple

_SIZE: Final = {"b": 1, "B": 1, "?": 1, "h": 2, "i": 4, "q": 8}


class Scalar(NamedTuple):
    """A number in a table. `code` is that of `struct`: one of `b B ? h i q`."""

    code: str
    value: int


class Text(NamedTuple):
    """A string."""

    value: str


class Structs(NamedTuple):
    """A vector of structs of eight-byte integers, `width` in each."""

    width: int
    values: tuple[int, ...]


class Table(NamedTuple):
    """A table: what stands in each of its slots, `None` for a default."""

    slots: tuple["Scalar | Text | Structs | Tables | Table | None", ...]


class Tables(NamedTuple):
    """A vector of tables."""

    items: tuple[Table, ...]


def build_flatbuffer(root: Table) -> bytes:
    """Return the buffer that `root` is, a multiple of eight bytes long."""
    out = bytearray(8)
    struct.pack_into("<I", out, 0, _put_table(out, root))
    _align(out, 0)
    return bytes(out)


def _put_table(out: bytearray, table: Table) -> int:
    """Append `table` and all that it refers to; return where the table begins."""
    places, size = _layout(table)
    _align(out, 4 + 2 * len(places))  # its vtable stands right before it
    out += struct.pack(f"<HH{len(places)}H", 4 + 2 * len(places), size, *places)
    start = len(out)
    out += bytes(size)
    struct.pack_into("<i", out, start, 4 + 2 * len(places))
    for slot, place in zip(table.slots, places, strict=True):
        if isinstance(slot, Scalar):
            struct.pack_into(f"<{slot.code}", out, start + place, slot.value)
        elif slot is not None:
            target = _put(out, slot)
            struct.pack_into("<I", out, start + place, target - (start + place))
    return start


def _layout(table: Table) -> tuple[list[int], int]:
    """Return where each slot stands in the table, 0 for a default, and the table's size."""
    places, at = [0] * len(table.slots), 4
    for index, slot in enumerate(table.slots):
        if slot is not None:
            size = _SIZE[slot.code] if isinstance(slot, Scalar) else 4
            at += -at % size
            places[index] = at
            at += size
    return places, at


def _put(out: bytearray, slot: Text | Structs | Tables | Table) -> int:
    if isinstance(slot, Table):
        return _put_table(out, slot)
    if isinstance(slot, Tables):
        return _put_tables(out, slot)
    _align(out, 4)
    start = len(out)
    if isinstance(slot, Text):
        raw = slot.value.encode()
        out += struct.pack("<I", len(raw)) + raw + b"\0"
    else:
        count = len(slot.values) // slot.width
        out += struct.pack(f"<I{len(slot.values)}q", count, *slot.values)
    return start


def _put_tables(out: bytearray, tables: Tables) -> int:
    _align(out, 4)
    start = len(out)
    out += struct.pack("<I", len(tables.items)) + bytes(4 * len(tables.items))
    for index, item in enumerate(tables.items):
        place = start + 4 + 4 * index
        struct.pack_into("<I", out, place, _put_table(out, item) - place)
    return start


def _align(out: bytearray, before: int) -> None:
    """Append zeros until what comes after `before` more bytes begins at a multiple of eight."""
    out += bytes(-(len(out) + before) % 8)
