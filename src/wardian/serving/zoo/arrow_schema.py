"""The schema of an Arrow stream as the clients of Cluster Serving write it: where each part stands.

A column is a text (`utf8`), a number (`int32`, `float32`), or a tensor:
`struct<indiceData: list<int32>, indiceShape: list<int32>, data: list<T>, shape: list<int32>>` with
`T` a number or a text, its fields in any order and the first two optional. Anything else is refused
by name: what a column's buffers mean is known only if all columns before it are.

Source: Apache Arrow, format/Schema.fbs and format/Message.fbs.
"""

from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

from wardian.errors import FormatError
from wardian.serving.zoo.columns import MAX_COLUMNS, bound_columns, column_name
from wardian.serving.zoo.flatbuffer import Table, root

MAX_METADATA_BYTES: Final = 128 * 1024
"""A schema of `MAX_COLUMNS` tensors with names of usual length takes half of it."""
SCHEMA: Final = 1
RECORD_BATCH: Final = 3
_HEADERS: Final = {0: "nothing", 2: "a dictionary", 4: "a tensor", 5: "a sparse tensor"}
_TYPES: Final = (
    "none", "Null", "Int", "FloatingPoint", "Binary", "Utf8", "Bool", "Decimal", "Date", "Time",
    "Timestamp", "Interval", "List", "Struct", "Union", "FixedSizeBinary", "FixedSizeList", "Map",
    "Duration", "LargeBinary", "LargeUtf8", "LargeList", "RunEndEncoded", "BinaryView", "Utf8View",
    "ListView", "LargeListView",
)  # fmt: skip
_INT, _FLOAT, _UTF8, _LIST, _STRUCT = 2, 3, 5, 12, 13
_PARTS: Final = frozenset({"indiceData", "indiceShape", "data", "shape"})

Kind: TypeAlias = Literal["int32", "float32", "text"]
_BUFFERS: Final[dict[Kind, int]] = {"int32": 2, "float32": 2, "text": 3}


class Leaf(NamedTuple):
    """Values of one type: which node counts them, and which buffer is their first (validity)."""

    kind: Kind
    node: int
    buffer: int


class TensorColumn(NamedTuple):
    """Where the parts of a tensor are."""

    data: Leaf
    shape: Leaf
    indices: Leaf | None
    indices_shape: Leaf | None


class Schema(NamedTuple):
    """What a record batch has to hold."""

    columns: tuple[tuple[str, Leaf | TensorColumn], ...]
    nodes: int
    buffers: int


class Message(NamedTuple):
    """One message of a stream: of which kind, what about, and how many bytes come behind it."""

    kind: int
    header: Table
    body_bytes: int


def parse_message(metadata: bytes) -> Message:
    """Return the message that `metadata` is: a schema or a record batch.

    Raises:
        FormatError: malformed; of a version before Arrow 0.8; a dictionary; a negative body.
    """
    message = root(metadata)
    version, kind = message.number(0, "h"), message.number(1, "B")
    if version not in {3, 4}:
        raise FormatError("an Arrow message: metadata of version 4 or 5 was expected")
    if kind not in {SCHEMA, RECORD_BATCH}:
        found = _HEADERS.get(kind, "of an unknown kind")
        raise FormatError(f"an Arrow message: {found}; a schema or a record batch was expected")
    body_bytes = message.number(3, "q")
    if body_bytes < 0:
        raise FormatError("an Arrow message: its body has a negative length")
    return Message(kind, message.table(2), body_bytes)


@lru_cache(maxsize=64)
def parse_schema(metadata: bytes) -> Schema:
    """Return the schema in a stream's first message.

    The same client writes the same bytes each time, so that the last 64 of them are remembered
    (8 MiB at most, if all are as large as they may be).

    Raises:
        FormatError: malformed, or a column of another kind than those that are accepted.
    """
    message = parse_message(metadata)
    if message.kind != SCHEMA or message.body_bytes:
        raise FormatError("an Arrow stream: it does not begin with a schema")
    if message.header.number(0, "h") != 0:
        raise FormatError("an Arrow schema: big-endian; little-endian was expected")
    fields = message.header.tables(1, most=MAX_COLUMNS)
    bound_columns(len(fields))
    walk = _Walk()
    names: set[str] = set()
    columns = []
    for field in fields:
        name = column_name(field.text(0), names)
        names.add(name)
        columns.append((name, walk.column(field)))
    return Schema(tuple(columns), walk.nodes, walk.buffers)


class _Walk:
    """Counts nodes and buffers on the way through the fields, in their order (depth first)."""

    def __init__(self) -> None:
        self.nodes = self.buffers = 0

    def column(self, field: Table) -> Leaf | TensorColumn:
        return self._tensor(field) if _type(field) == _STRUCT else self._leaf(field)

    def _tensor(self, field: Table) -> TensorColumn:
        self.nodes, self.buffers = self.nodes + 1, self.buffers + 1
        parts: dict[str, Leaf] = {}
        for child in field.tables(5, most=len(_PARTS)):
            name = child.text(0)
            if name not in _PARTS or name in parts:
                raise FormatError("an Arrow schema: a tensor has a field too many, or one twice")
            parts[name] = self._list(child, name)
        if not {"data", "shape"} <= parts.keys():
            raise FormatError("an Arrow schema: a tensor has no data or no shape")
        if any(leaf.kind != "int32" for name, leaf in parts.items() if name != "data"):
            raise FormatError("an Arrow schema: a shape or indices that are not of int32")
        return TensorColumn(
            parts["data"], parts["shape"], parts.get("indiceData"), parts.get("indiceShape")
        )

    def _list(self, field: Table, name: str) -> Leaf:
        if _type(field) != _LIST:
            raise FormatError(f"an Arrow schema: a tensor's {name} is no list")
        self.nodes, self.buffers = self.nodes + 1, self.buffers + 2
        children = field.tables(5, most=1)
        if not children:
            raise FormatError("an Arrow schema: a list says not what of")
        return self._leaf(children[0])

    def _leaf(self, field: Table) -> Leaf:
        kind = _leaf_kind(field)
        leaf = Leaf(kind, self.nodes, self.buffers)
        self.nodes, self.buffers = self.nodes + 1, self.buffers + _BUFFERS[kind]
        return leaf


def _type(field: Table) -> int:
    """Return the number of the type of `field`, which holds values and not a dictionary's keys."""
    if field.has(4):
        raise FormatError("an Arrow schema: a column encoded by a dictionary")
    return field.number(2, "B")


def _leaf_kind(field: Table) -> Kind:
    kind = _type(field)
    if kind == _UTF8:
        return "text"
    if kind == _INT:
        width, signed = field.table(3).number(0, "i"), field.table(3).number(1, "?")
        if (width, signed) == (32, 1):
            return "int32"
        raise FormatError("an Arrow schema: integers that are not of 32 bits and signed")
    if kind == _FLOAT:
        if field.table(3).number(0, "h") == 1:
            return "float32"
        raise FormatError("an Arrow schema: floating point that is not of single precision")
    name = _TYPES[kind] if kind < len(_TYPES) else "an unknown type"
    raise FormatError(f"an Arrow schema: a column of {name}; see the reference for what is read")
