"""Arrow streams from their parts, right or wrong, as clients of Cluster Serving may write them."""

import struct
from collections.abc import Sequence
from typing import Any

from wardian.serving.zoo.flatbuffer_build import (
    Scalar,
    Structs,
    Table,
    Tables,
    Text,
    build_flatbuffer,
)

INT32 = (2, (Scalar("i", 32), Scalar("?", 1)))
FLOAT32 = (3, (Scalar("h", 1),))
UTF8 = (5, ())
LIST = (12, ())
STRUCT = (13, ())


def field(name: str, kind: tuple[int, tuple[Scalar, ...]], *children: Table) -> Table:
    """Return a nullable field."""
    return Table(
        (Text(name), Scalar("?", 1), Scalar("B", kind[0]), Table(kind[1]), None, Tables(children))
    )


def message(kind: int, header: Table, body: bytes = b"", *, version: int = 4) -> bytes:
    """Return an encapsulated message and its body."""
    slots = (Scalar("h", version), Scalar("B", kind), header, Scalar("q", len(body)))
    raw = build_flatbuffer(Table(slots))
    return struct.pack("<ii", -1, len(raw)) + raw + body


def schema(fields: Sequence[Table], *, endianness: int = 0, **more: Any) -> bytes:
    """Return the message of a schema."""
    return message(1, Table((Scalar("h", endianness), Tables(tuple(fields)))), **more)


class Batch:
    """A record batch that grows by nodes and buffers."""

    def __init__(self, rows: int = 1) -> None:
        self.rows = rows
        self.nodes: list[int] = []
        self.buffers: list[int] = []
        self.body = b""

    def node(self, length: int, nulls: int = 0) -> None:
        """Add a node."""
        self.nodes += (length, nulls)

    def buffer(self, raw: bytes) -> None:
        """Add a buffer, its end padded to eight."""
        self.buffers += (len(self.body), len(raw))
        self.body += raw + bytes(-len(raw) % 8)

    def values(self, code: str, values: Sequence[Any]) -> None:
        """Add a node and its buffers: validity, and numbers of `code` or (for "s") texts."""
        self.node(len(values))
        self.buffer((2 ** len(values) - 1).to_bytes(-(-len(values) // 8), "little"))
        if code == "s":
            raw = [value.encode() for value in values]
            ends = [sum(map(len, raw[:index])) for index in range(len(raw) + 1)]
            self.buffer(struct.pack(f"<{len(ends)}i", *ends))
            self.buffer(b"".join(raw))
        else:
            self.buffer(struct.pack(f"<{len(values)}{code}", *values))

    def list_of_ones(self, code: str, values: Sequence[Any]) -> None:
        """Add a list with one element in each row, however many rows the batch has."""
        self.node(len(values))
        self.buffer((2 ** len(values) - 1).to_bytes(-(-len(values) // 8), "little"))
        self.buffer(struct.pack(f"<{len(values) + 1}i", *range(len(values) + 1)))
        self.values(code, values)

    def build(self, **more: Any) -> bytes:
        """Return the message and its body."""
        header = Table(
            (Scalar("q", self.rows), Structs(2, tuple(self.nodes)), Structs(2, tuple(self.buffers)))
        )
        return message(3, header, self.body, **more)


END = struct.pack("<ii", -1, 0)

_CODES = {INT32: "i", FLOAT32: "f", UTF8: "s"}


def front_end_stream(columns: dict[str, Any]) -> bytes:
    """Return the stream that their HTTP front end makes of an instance.

    Args:
        columns: a single value as (type, value), or a tensor as (type, shape, data, indices' shape,
            indices); its lists are in the order in which the front end declares them.
    """
    fields, batch = [], Batch(rows=1)
    for name, (kind, *parts) in columns.items():
        if len(parts) == 1:
            fields.append(field(name, kind))
            batch.values(_CODES[kind], parts)
            continue
        names = ("shape", "data", "indiceShape", "indiceData")
        kinds = (INT32, kind, INT32, INT32)
        lists = [field(each, LIST, field("", of)) for each, of in zip(names, kinds, strict=True)]
        fields.append(field(name, STRUCT, *lists))
        batch.node(0)  # nobody sets how long the struct itself is
        batch.buffer(b"")
        for of, values in zip(kinds, parts, strict=True):
            batch.list_of_ones(_CODES[of], values)
    return schema(fields) + batch.build() + END
