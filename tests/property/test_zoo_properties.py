"""What holds for every tensor that goes through the forms of Cluster Serving."""

import struct
import sys
from base64 import b64decode, b64encode
from math import prod
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

sys.path.insert(0, str(Path(__file__).parents[1] / "simulators"))

import zoo_arrow as arrow

from wardian.serving.zoo.arrow import parse_columns
from wardian.serving.zoo.arrow_schema import parse_message
from wardian.serving.zoo.columns import Dense, Strings
from wardian.serving.zoo.java_numbers import java_floats
from wardian.serving.zoo.results import encode_result, readable_shape

FLOATS = st.floats(width=32, allow_nan=False)
TENSORS = arrays.arrays(np.float32, arrays.array_shapes(max_side=5, min_dims=0), elements=FLOATS)
NAMES = st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable())
QUICK = settings(max_examples=200, deadline=None)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, TENSORS, min_size=1, max_size=5))
def test_a_tensor_sent_is_the_tensor_read(tensors: dict[str, np.ndarray]) -> None:
    stream = arrow.front_end_stream(
        {
            name: (arrow.FLOAT32, list(tensor.shape), tensor.ravel().tolist(), [], [])
            for name, tensor in tensors.items()
        }
    )

    columns = parse_columns(b64encode(stream))

    assert list(columns) == list(tensors)
    for name, column in columns.items():
        assert isinstance(column, Dense)
        np.testing.assert_array_equal(column.array, tensors[name])


@QUICK
@given(st.lists(st.text(max_size=9, alphabet=st.characters(exclude_categories=["Cs"])), max_size=9))
def test_strings_sent_are_the_strings_read(strings: list[str]) -> None:
    stream = arrow.front_end_stream({"t": (arrow.UTF8, [len(strings)], strings, [], [])})

    assert parse_columns(b64encode(stream)) == {"t": Strings(tuple(strings))}


@QUICK
@given(st.lists(TENSORS, min_size=1, max_size=4))
def test_a_client_reads_every_output_in_a_shape_of_its_elements(outputs: list[np.ndarray]) -> None:
    read = _read(b64decode(encode_result(outputs)))

    assert len(read) == len(outputs)
    for output, (data, shape) in zip(outputs, read, strict=True):
        assert prod(shape) == output.size
        assert tuple(shape) == readable_shape(output.shape)
        assert [n for n in shape if n != 1] == [n for n in output.shape if n != 1]
        np.testing.assert_array_equal(data, output.ravel())


def _read(raw: bytes) -> list[tuple[np.ndarray, list[int]]]:
    """Read a result by its messages, without what wrote it."""
    found, at = [], 0
    while True:
        mark, size = struct.unpack_from("<iI", raw, at)
        assert mark == -1
        at += 8
        if not size:
            assert at == len(raw)
            return found
        message = parse_message(raw[at : at + size])
        at += size
        if message.kind == 3:
            found.append(_read_batch(message, raw[at : at + message.body_bytes]))
        at += message.body_bytes


def _read_batch(message, body: bytes) -> tuple[np.ndarray, list[int]]:
    rows = message.header.number(0, "q")
    nodes, buffers = message.header.pairs(1), message.header.pairs(2)
    assert nodes[:3] == (rows, 0, rows)
    assert all(place % 8 == 0 for place in buffers[::2])
    values = [body[start : start + size] for start, size in zip(buffers[::2], buffers[1::2])]  # noqa: B905
    assert values[0] == b""
    valid = int.from_bytes(values[2], "little") if nodes[3] else 2**rows - 1
    assert rows - valid.bit_count() == nodes[3]
    dims = np.frombuffer(values[3], "<i4")
    assert len(values[1]) == len(values[3]) == 4 * rows
    shape = [int(dims[row]) for row in range(rows) if valid >> row & 1]
    return np.frombuffer(values[1], "<f4"), shape


@QUICK
@given(st.floats(width=32))
def test_a_number_in_java_s_notation_is_the_same_number(value: float) -> None:
    (text,) = java_floats(np.array(value, np.float32))

    np.testing.assert_equal(np.float32(text), np.float32(value))
    assert "." in text or text.lstrip("-") in {"NaN", "Infinity"}
