import contextlib
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wardian.errors import FormatError
from wardian.inference.dtypes import NUMPY_OF
from wardian.serving.tensors import (
    Failure,
    Group,
    Kind,
    Pack,
    decode_body,
    decode_pack,
    encode_body,
    encode_pack,
    kind_of,
)

any_array = st.sampled_from(sorted(NUMPY_OF)).flatmap(
    lambda name: arrays.arrays(
        NUMPY_OF[name], arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    )
)


def stacked(*values: float, rows: int = 1) -> Group:
    return Group(
        ids=list(range(len(values))),
        rows=[rows] * len(values),
        parts={"x": [np.full((rows, 3), value, np.float32) for value in values]},
    )


def with_header(header, tail: bytes = b"") -> bytes:
    body = msgspec.msgpack.encode(header)
    raw = struct.pack("<B3xI", 1, len(body)) + body
    return raw + bytes(-len(raw) % 64) + tail


@settings(max_examples=50, deadline=None)
@given(tensors=st.dictionaries(st.text(min_size=1, max_size=8), any_array, max_size=4))
def test_one_request_comes_back_as_it_went_in(tensors):
    group = Group(ids=[7], rows=[0], parts={name: [array] for name, array in tensors.items()})
    (back,) = decode_pack(encode_pack(Pack(groups=[group], tenant="t"))).groups
    assert back.ids == [7]
    assert back.parts.keys() == tensors.keys()
    for name, array in tensors.items():
        (mine,) = back.parts[name]
        assert mine.dtype == array.dtype
        assert mine.shape == array.shape
        assert mine.tobytes() == array.tobytes()


def test_stacked_requests_come_back_as_one_array():
    (back,) = decode_pack(encode_pack(Pack(groups=[stacked(1, 2, 3, rows=2)]))).groups
    assert back.parts["x"][0].shape == (6, 3)
    assert back.parts["x"][0][:, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert back.rows == [2, 2, 2]


def test_arrays_in_any_order_of_memory_travel():
    wide = np.arange(24, dtype=np.float32).reshape(2, 12)
    parts = [wide[:, ::2], np.asfortranarray(wide[:, :6])]
    group = Group(ids=[1, 2], rows=[2, 2], parts={"x": parts})
    (back,) = decode_pack(encode_pack(Pack(groups=[group]))).groups
    assert np.array_equal(back.parts["x"][0], np.concatenate(parts))


def test_failures_and_tenant_travel():
    group = Group(ids=[1, 2], rows=[0, 0], failure=Failure.EXPIRED)
    back = decode_pack(encode_pack(Pack(groups=[group], tenant="acme")))
    assert back.tenant == "acme"
    assert back.groups[0].failure is Failure.EXPIRED
    assert back.groups[0].parts == {}


def test_tensors_lie_on_cache_lines():
    raw = encode_pack(Pack(groups=[stacked(5), stacked(6)]))
    assert len(raw) % 64 == 0
    first = raw.index(np.full(3, 5, np.float32).tobytes())
    second = raw.index(np.full(3, 6, np.float32).tobytes())
    assert first % 64 == second % 64 == 0


def test_truncation_at_every_length_is_refused():
    raw = encode_pack(Pack(groups=[stacked(1, 2), stacked(3)]))
    for length in range(len(raw)):
        with pytest.raises(FormatError):
            decode_pack(raw[:length])
    with pytest.raises(FormatError):
        decode_pack(raw + b"\0")


def test_a_type_without_a_name_cannot_travel():
    for array in (np.array(["text"]), np.zeros(2, complex), np.zeros(2, ">f4")):
        with pytest.raises(FormatError):
            encode_pack(Pack(groups=[Group(ids=[1], rows=[1], parts={"x": [array]})]))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        [],
        ["", []],
        ["", [[[], [], [], 0]]],
        ["", [[[1], [1, 1], [], 0]]],
        ["", [[[-1], [1], [], 0]]],
        ["", [[[1], [1], [], 9]]],
        ["", [[[1], [1], [], 0, 0]]],
        ["", [[[1], [1], [], 0]], 0],
        ["t" * 257, [[[1], [1], [], 0]]],
        ["", [[[1], [1], [["x", "FP99", [1]]], 0]]],
        ["", [[[1], [1], [["x", "FP32", [2**40, 2**40]]], 0]]],
        ["", [[[1], [1], [["x", "FP32", [-1]]], 0]]],
        ["", [[[1], [1], [["x", "FP32", [1]]], 0]]],
        ["", [[[1, 2], [1, 1], [["x", "FP32", []]], 0]]],
        ["", [[[1, 2], [1, 1], [["x", "FP32", [3]]], 0]]],
        ["", [[[1], [1], [["x", "FP32", [0]], ["x", "FP32", [0]]], 0]]],
        ["", [[list(range(65)), [0] * 65, [], 0]]],
        ["", [[list(range(40)), [0] * 40, [], 0]] * 2],
    ],
)
def test_headers_that_do_not_add_up_are_refused(header):
    with pytest.raises(FormatError):
        decode_pack(with_header(header))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_format_error_or_a_pack(raw):
    for data in (raw, b"\x01\0\0\0" + struct.pack("<I", len(raw)) + raw):
        with contextlib.suppress(FormatError):
            assert isinstance(decode_pack(data), Pack)


def test_a_body_travels_under_its_kind():
    raw = encode_body(Kind.DESCRIBE, b"words")
    assert kind_of(raw) is Kind.DESCRIBE
    assert decode_body(raw, Kind.DESCRIBE) == b"words"
    for bad in (raw + b"!", raw[:-1], raw[:3], b"", b"\x09" + raw[1:]):
        with pytest.raises(FormatError):
            decode_body(bad, Kind.DESCRIBE)
    with pytest.raises(FormatError):
        decode_pack(raw)
