"""Arrow streams of Cluster Serving's clients: what is read, and what is refused and why."""

import json
import struct
import sys
import tracemalloc
from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "simulators"))

import zoo_arrow as arrow

from wardian.errors import FormatError
from wardian.serving.zoo.arrow import parse_columns, parse_stream
from wardian.serving.zoo.columns import Column, Dense, Image, Sparse, Strings

VECTORS = Path(__file__).parents[2] / "vectors" / "zoo"
PAYLOADS = json.loads((VECTORS / "payloads.json").read_text())
REFUSED = json.loads((VECTORS / "refused.json").read_text())
TENSOR = arrow.front_end_stream({"t": (arrow.FLOAT32, [2, 2], [1.0, 2.0, 3.0, 4.0], [], [])})


def told(column: Column) -> dict:
    """Return `column` as the vectors say it."""
    if isinstance(column, Dense):
        assert column.array.dtype == np.float32
        assert column.array.flags.aligned
        return {
            "kind": "dense",
            "shape": list(column.array.shape),
            "data": column.array.ravel().tolist(),
        }
    if isinstance(column, Sparse):
        assert column.values.dtype == np.float32
        return {
            "kind": "sparse",
            "shape": list(column.shape),
            "indices": column.indices.tolist(),
            "data": column.values.tolist(),
        }
    if isinstance(column, Strings):
        return {"kind": "strings", "values": list(column.values)}
    assert isinstance(column, Image)
    return {"kind": "image", "hex": column.raw.hex()}


def rounded(columns: dict) -> dict:
    """Return what a vector expects, its numbers as float32 holds them."""
    return {
        name: column | {"data": np.array(column["data"], np.float32).tolist()}
        if "data" in column
        else column
        for name, column in columns.items()
    }


@pytest.mark.parametrize("case", PAYLOADS, ids=lambda case: f"{case['name']}, {case['source']}")
def test_what_clients_write_is_read(case: dict) -> None:
    columns = parse_columns(case["payload"].encode())

    assert {name: told(column) for name, column in columns.items()} == rounded(case["columns"])
    assert list(columns) == list(case["columns"])  # their server goes by the order


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_what_is_not_read_is_refused_by_what_it_is(case: dict) -> None:
    with pytest.raises(FormatError, match=case["says"]):
        parse_columns(case["payload"].encode())


@pytest.mark.parametrize("case", PAYLOADS, ids=lambda case: f"{case['name']}, {case['source']}")
def test_a_stream_cut_anywhere_is_refused_or_the_same(case: dict) -> None:
    """The same: if nothing is missing but the mark at the end, and padding before it."""
    raw = b64decode(case["payload"])
    whole = {name: told(column) for name, column in parse_stream(raw).items()}

    for size in range(len(raw)):
        try:
            cut = parse_stream(raw[:size])
        except FormatError:
            continue
        assert size in {len(raw) - 4, len(raw) - 8}
        assert {name: told(column) for name, column in cut.items()} == whole


def test_every_byte_of_every_message_may_be_any_and_nothing_breaks() -> None:
    for case in (case for case in PAYLOADS[:11] if case["name"] in {"strings", "sparse"}):
        raw = bytearray(b64decode(case["payload"]))
        for at in range(len(raw)):
            before = raw[at]
            for value in (0, 1, 0x7F, 0x80, 0xFF, before ^ 1):
                raw[at] = value
                with suppress(FormatError):
                    parse_stream(bytes(raw))
            raw[at] = before


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "ends within|no record batch|does not begin|shorter"),
        (b"NaN!", "not base64"),
        (b"AAAA\n", "not base64"),
        (b"AAAAA", "not base64"),
        (b"AAAA=", "not base64"),
        (b"AAAA====", "not base64"),
        (b"AA==AAAA", "not base64"),
        (b"=AAA", "not base64"),
        (b"//////////8=", "0 to"),
    ],
)
def test_what_is_no_base64_or_no_stream(payload: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        parse_columns(payload)


def test_padding_may_be_missing() -> None:
    """Java's decoder does without."""
    payload = next(case for case in PAYLOADS if case["payload"].endswith("="))

    assert parse_columns(payload["payload"].rstrip("=").encode())


def test_a_request_may_be_bounded_below_the_limit() -> None:
    payload = b64encode(TENSOR)

    assert parse_columns(payload, max_bytes=len(TENSOR) + 2)
    with pytest.raises(FormatError, match="more than 100 bytes"):
        parse_columns(payload, max_bytes=100)


def _tensor(*, rows: int = 1) -> tuple[bytes, arrow.Batch]:
    """Return a schema of one tensor, and its batch, which a test then spoils."""
    lists = [
        arrow.field(name, arrow.LIST, arrow.field("item", kind))
        for name, kind in (("data", arrow.FLOAT32), ("shape", arrow.INT32))
    ]
    batch = arrow.Batch(rows)
    batch.node(1)
    batch.buffer(b"")
    batch.list_of_ones("f", [1.0, 2.0])
    batch.list_of_ones("i", [2])
    return arrow.schema([arrow.field("t", arrow.STRUCT, *lists)]), batch


def test_the_batch_that_the_next_tests_spoil_is_right() -> None:
    schema, batch = _tensor()

    (column,) = parse_stream(schema + batch.build()).values()

    assert told(column) == {"kind": "dense", "shape": [2], "data": [1.0, 2.0]}


@pytest.mark.parametrize("index", range(9))
@pytest.mark.parametrize("offset", [-8, 2**20, 2**62, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("length", [-1, 2**20, 2**62, 2**63 - 1])
def test_a_buffer_that_lies_is_refused_where_it_counts(
    index: int, offset: int, length: int
) -> None:
    schema, batch = _tensor()
    counts = index in {4, 8}  # the others are validity and the lists' ends

    for place, value in ((2 * index, offset), (2 * index + 1, length)):
        before, batch.buffers[place] = batch.buffers[place], value
        if counts:
            with pytest.raises(FormatError, match="outside its body"):
                parse_stream(schema + batch.build())
        else:
            assert parse_stream(schema + batch.build())
        batch.buffers[place] = before


@pytest.mark.parametrize("length", [-1, 3, 2**31, 2**62, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("node", [2, 4])
def test_a_count_that_lies_allocates_nothing(node: int, length: int) -> None:
    schema, batch = _tensor()
    batch.nodes[2 * node] = length
    raw = schema + batch.build()
    tracemalloc.start()

    with pytest.raises(FormatError):
        parse_stream(raw)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 2**20


def test_nodes_and_buffers_are_those_of_the_schema() -> None:
    for spoil in (
        lambda batch: batch.node(1),
        lambda batch: batch.buffer(b""),
        lambda batch: batch.nodes.clear(),
        lambda batch: batch.buffers.clear(),
    ):
        schema, batch = _tensor()
        spoil(batch)
        with pytest.raises(FormatError, match="not of the stream's schema"):
            parse_stream(schema + batch.build())


def test_a_body_may_not_be_longer_than_the_stream() -> None:
    schema, batch = _tensor()

    with pytest.raises(FormatError, match="a body is longer"):
        parse_stream(schema + batch.build()[:-8])


def test_a_buffer_that_begins_anywhere_is_copied_to_its_multiple() -> None:
    schema, batch = _tensor()
    batch.body = b"x" + batch.body
    batch.buffers[0::2] = [offset + 1 for offset in batch.buffers[0::2]]

    (column,) = parse_stream(schema + batch.build()).values()

    assert told(column) == {"kind": "dense", "shape": [2], "data": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (lambda s, b: s + b + arrow.END + b"\0", "behind its end"),
        (lambda s, b: s + b + b"\0\0", "within a message"),
        (lambda s, b: s + s, "record batch was expected"),
        (lambda s, b: b + b, "does not begin with a schema"),
        (lambda s, b: arrow.END, "shorter than"),
        (lambda s, b: s + arrow.END + b, "no record batch"),
        (lambda s, b: s + struct.pack("<i", 2**30) + b, "0 to"),
        (lambda s, b: s + struct.pack("<ii", -1, -1) + b, "bytes of metadata"),
        (lambda s, b: s + struct.pack("<i", 1000), "a message is longer"),
    ],
)
def test_a_stream_is_a_schema_and_one_batch(stream, says: str) -> None:
    schema, batch = _tensor()

    with pytest.raises(FormatError, match=says):
        parse_stream(stream(schema, batch.build()))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"version": 2}, "version 4 or 5"),
        ({"version": 5}, "version 4 or 5"),
        ({"endianness": 1}, "big-endian"),
        ({"body": bytes(8)}, "does not begin"),
    ],
)
def test_a_schema_of_another_kind(more: dict, says: str) -> None:
    fields = [arrow.field("t", arrow.FLOAT32)]

    with pytest.raises(FormatError, match=says):
        parse_stream(arrow.schema(fields, **more))


def test_names_are_bounded() -> None:
    for name in ("", "n" * 257):
        with pytest.raises(FormatError, match="characters"):
            parse_stream(arrow.schema([arrow.field(name, arrow.FLOAT32)]))
    with pytest.raises(FormatError, match="0 columns"):
        parse_stream(arrow.schema([]))


def test_a_deep_schema_is_refused_at_its_first_wrong_level() -> None:
    nested = arrow.field("x", arrow.FLOAT32)
    for _ in range(200):
        nested = arrow.field("x", arrow.LIST, nested)

    with pytest.raises(FormatError, match="a column of List"):
        parse_stream(arrow.schema([nested]))


def _texts(ends: list[int], raw: bytes) -> bytes:
    batch = arrow.Batch()
    batch.node(len(ends) - 1)
    batch.buffer(b"")
    batch.buffer(struct.pack(f"<{len(ends)}i", *ends))
    batch.buffer(raw)
    return arrow.schema([arrow.field("t", arrow.UTF8)]) + batch.build()


@pytest.mark.parametrize("ends", [[-1, 3], [2, 1], [0, 4], [0, 2**31 - 1], [4, 4]])
def test_a_string_is_within_its_buffer(ends: list[int]) -> None:
    with pytest.raises(FormatError, match="a string is outside"):
        parse_stream(_texts(ends, b"a|b"))


def test_a_string_is_utf8() -> None:
    assert parse_stream(_texts([0, 3], b"a|b"))["t"] == Strings(("a", "b"))
    with pytest.raises(FormatError, match="not UTF-8"):
        parse_stream(_texts([0, 3], b"|\xff\xff"))


def test_a_text_without_a_bar_is_an_image_or_nothing() -> None:
    assert parse_stream(_texts([0, 4], b"/9j/"))["t"] == Image(b"\xff\xd8\xff")
    with pytest.raises(FormatError, match="an image: not base64"):
        parse_stream(_texts([0, 5], b"hello"))
    with pytest.raises(FormatError, match="an image: not base64"):
        parse_stream(_texts([0, 2], "\u00e9".encode()))


def test_strings_are_bounded() -> None:
    assert parse_stream(_texts([0, 65_535], b"|" * 65_535))
    with pytest.raises(FormatError, match="65537 strings"):
        parse_stream(_texts([0, 65_536], b"|" * 65_536))


def test_strings_are_counted_before_they_are_made() -> None:
    size = 8 * 2**20
    raw = _texts([0, size], b"|" * size)
    tracemalloc.start()

    with pytest.raises(FormatError, match="strings, at most"):
        parse_stream(raw)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 3 * size


def test_more_strings_than_their_shape_says() -> None:
    parts = [2], ["a", "b"], [], []
    assert parse_stream(arrow.front_end_stream({"t": (arrow.UTF8, *parts)}))
    for shape in ([], [1], [1, 2], [2, 1]):
        with pytest.raises(FormatError, match="a tensor of strings"):
            parse_stream(arrow.front_end_stream({"t": (arrow.UTF8, shape, *parts[1:])}))
