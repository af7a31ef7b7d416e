"""Results, read: what our role writes, what theirs may write, and what a hostile Redis may."""

import json
import struct
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from simulators import zoo_arrow as arrow

from wardian.errors import FormatError
from wardian.serving.zoo import result_arrays
from wardian.serving.zoo.result_arrays import parse_result
from wardian.serving.zoo.results import encode_result, readable_shape

VECTORS = Path(__file__).parents[2] / "vectors" / "zoo"
CASES = json.loads((VECTORS / "results.json").read_text())
READ = [case for case in CASES if case["client_reads"] != "NaN"]
FIELDS = (arrow.field("data", arrow.FLOAT32), arrow.field("shape", arrow.INT32))


@pytest.mark.parametrize("case", READ, ids=lambda case: case["name"])
def test_read_as_their_client_was_seen_to_read(case: dict) -> None:
    outputs = parse_result(case["value"].encode())
    assert len(outputs) == len(case["client_reads"])
    for output, read in zip(outputs, case["client_reads"], strict=True):
        assert output.dtype == np.float32
        assert output.flags.writeable
        assert list(output.shape) == read["shape"]
        assert output.ravel().tolist() == [float(np.float32(float(each))) for each in read["data"]]


@given(
    st.lists(
        hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=5, max_side=5)),
        min_size=1,
        max_size=3,
    )
)
def test_what_the_role_writes(outputs: list[np.ndarray]) -> None:
    for given_, read in zip(outputs, parse_result(encode_result(outputs)), strict=True):
        np.testing.assert_array_equal(read, given_.reshape(readable_shape(given_.shape)))


def batch(
    data: list[float], shape: list[int], *, rows: int, valid: bytes = b"\xff", nulls: int = 0
) -> bytes:
    """Return a record batch as their server's Java writes it: with a validity for both columns."""
    made = arrow.Batch(rows=rows)
    made.values("f", data)
    made.node(rows, nulls)
    made.buffer(valid)
    made.buffer(struct.pack(f"<{len(shape)}i", *shape))
    return made.build()


def stream(*batches: bytes, fields: tuple = FIELDS, end: bytes = arrow.END) -> bytes:
    return b64encode(arrow.schema(fields) + b"".join(batches) + end)


def test_what_their_server_writes() -> None:
    value = stream(
        batch([1, 2, 3, 4, 5, 6], [2, 3, 9, 9, 9, 9], rows=6, valid=b"\x03", nulls=4),
        batch([7], [99], rows=1, valid=b"\0", nulls=1),
        batch([8, 9], [0, 2], rows=2),  # a zero is no axis
    )
    first, second, third = parse_result(value)
    assert first.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert second.shape == ()
    assert second == 7
    assert third.tolist() == [8, 9]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"%%%",
        b"AAAA",
        stream(),
        stream(end=b""),
        stream(batch([1], [1], rows=1), end=arrow.END + b"more"),
        stream(batch([1], [2], rows=1)),
        stream(batch([1], [-1], rows=1)),
        stream(batch([1, 2, 3, 4], [-2, -2, 0, 0], rows=4)),
        stream(batch([1], [1], rows=1, nulls=2)),
        stream(batch([1], [1], rows=1, nulls=-1)),
        stream(batch([1], [1], rows=-1)),
        stream(batch([1], [1], rows=1, valid=b"", nulls=1)),
        stream(batch([1], [1], rows=2**31)),
        stream(batch([1], [], rows=1)),
        stream(batch([1] * 17, [1] * 17, rows=17)),
        stream(batch([1], [1], rows=1), fields=(FIELDS[0],)),
        stream(batch([1], [1], rows=1), fields=(FIELDS[1], FIELDS[0])),
        stream(batch([1], [1], rows=1), fields=(FIELDS[0], arrow.field("shape", arrow.FLOAT32))),
        stream(batch([1], [1], rows=1), fields=(FIELDS[0], arrow.field("form", arrow.INT32))),
        stream(arrow.schema(FIELDS)),
        b64encode(arrow.front_end_stream({"t": (arrow.FLOAT32, [1], [1.0], [], [])})),
    ],
)
def test_what_is_no_result(value: bytes) -> None:
    with pytest.raises(FormatError):
        parse_result(value)


def test_no_more_outputs_than_a_model_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_arrays, "MAX_OUTPUTS", 2)
    one = batch([1], [1], rows=1)
    assert len(parse_result(stream(one, one))) == 2
    with pytest.raises(FormatError, match="more than 2"):
        parse_result(stream(one, one, one))


def test_every_byte_altered_is_read_or_refused() -> None:
    raw = bytearray(encode_result([np.arange(6.0).reshape(2, 3)]))
    from base64 import b64decode

    raw = bytearray(b64decode(bytes(raw)))
    for place in range(len(raw)):
        for flip in (1, 0x80, 0xFF):
            raw[place] ^= flip
            try:
                outputs = parse_result(b64encode(bytes(raw)))
            except FormatError:
                pass
            else:
                assert sum(each.size for each in outputs) <= 6
            raw[place] ^= flip
