"""Tensors of BYTES on the queue: elements of any length, each bounded by what is really there."""

import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian.errors import FormatError, RequestError
from wardian.inference.spec import TensorSpec
from wardian.serving.batcher import Batcher, Work
from wardian.serving.rules import InputRules
from wardian.serving.tensors import (
    Failure,
    Group,
    Pack,
    decode_elements,
    decode_pack,
    encode_elements,
    encode_pack,
)


def texts(*elements: bytes) -> np.ndarray:
    return np.array([*elements, None], object)[:-1]


def packed(shape, tail: bytes) -> bytes:
    head = msgspec.msgpack.encode(["", [[[1], [1], [["x", "BYTES", shape]], 0]]])
    raw = struct.pack("<B3xI", 1, len(head)) + head
    return raw + bytes(-len(raw) % 64) + tail + bytes(-len(tail) % 64)


@settings(max_examples=60, deadline=None)
@given(
    elements=st.lists(st.binary(max_size=70), max_size=6),
    numbers=st.lists(st.integers(0, 255), min_size=1, max_size=9),
)
def test_elements_come_back_beside_tensors_of_other_types(elements, numbers):
    parts = {"a": [texts(*elements)], "b": [np.array(numbers, np.uint8)], "c": [texts(b"z")]}
    (back,) = decode_pack(encode_pack(Pack(groups=[Group(ids=[1], rows=[1], parts=parts)]))).groups
    assert back.parts["a"][0].tolist() == elements
    assert back.parts["b"][0].tolist() == numbers
    assert back.parts["c"][0].tolist() == [b"z"]


def test_requests_stack_and_keep_their_shape():
    one, two = texts(b"a", b"bb").reshape(1, 2), texts(b"", b"d" * 300).reshape(1, 2)
    group = Group(ids=[1, 2], rows=[1, 1], parts={"x": [one, two]})
    (back,) = decode_pack(encode_pack(Pack(groups=[group]))).groups
    assert back.parts["x"][0].tolist() == [[b"a", b"bb"], [b"", b"d" * 300]]


@pytest.mark.parametrize(
    ("shape", "tail"),
    [
        ([2], struct.pack("<I", 3) + b"abc"),  # the second is missing
        ([1], struct.pack("<I", 2**32 - 1) + b"abc"),
        ([1], struct.pack("<I", 65) + b"a" * 60),  # reaches beyond the padding
        ([2**40], b""),  # a terabyte of elements, of no bytes
        ([2**30, 2**30], struct.pack("<I", 0)),
        ([3], struct.pack("<II", 0, 0)[:7]),
        ([1], b"\x01"),
    ],
)
def test_what_is_not_there_is_not_read(shape, tail):
    with pytest.raises(FormatError):
        decode_pack(packed(shape, tail)[: -(-len(tail) % 64) or None])
    if shape == [1] or len(tail) < 8:
        return
    with pytest.raises(FormatError):
        decode_pack(packed(shape, tail))


def test_bytes_left_over_are_refused():
    with pytest.raises(FormatError, match="left over"):
        decode_pack(packed([1], struct.pack("<I", 1) + b"a") + bytes(64))
    with pytest.raises(FormatError, match="as many|rows"):
        head = msgspec.msgpack.encode(["", [[[1, 2], [1, 1], [["x", "BYTES", [3]]], 0]]])
        raw = struct.pack("<B3xI", 1, len(head)) + head
        decode_pack(raw + bytes(-len(raw) % 64) + bytes(64))


@pytest.mark.parametrize("element", ["text", 7, None, [b"a"], np.array([1])])
def test_addresses_of_objects_never_travel(element):
    array = np.empty(1, object)
    array[0] = element
    with pytest.raises(FormatError, match="no bytes"):
        encode_pack(Pack(groups=[Group(ids=[1], rows=[1], parts={"x": [array]})]))


def test_elements_alone():
    array = texts(b"one", b"", b"three").reshape(3, 1)
    raw = encode_elements(array)
    back, end = decode_elements(raw, offset=0, shape=(3, 1))
    assert (back.tolist(), end) == (array.tolist(), len(raw))
    assert encode_elements(texts()) == b""


SPEC = TensorSpec(name="x", dtype="BYTES", shape=(-1,))
ANSWER = TensorSpec(name="y", dtype="BYTES", shape=(-1,))


def test_rules_count_the_bytes_of_elements_not_of_pointers():
    rules = InputRules(inputs=(SPEC,), outputs=(ANSWER,), batchable=True)
    assert rules.measure({"x": texts(b"a" * 1000, b"")}).size_bytes == 1008
    assert rules.measure({"x": texts(b"a", b"b")}).rows == 2
    with pytest.raises(RequestError, match="'x' BYTES"):
        rules.measure({"x": np.zeros(2, np.float32)})
    numbers = InputRules(
        inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1,)),), outputs=(), batchable=True
    )
    with pytest.raises(RequestError, match="got BYTES"):
        numbers.measure({"x": texts(b"a")})


class Upper:
    engine, inputs, outputs, batchable = "upper 1", (SPEC,), (ANSWER,), True

    def infer(self, inputs):
        return {"y": texts(*[each.upper() for each in inputs["x"]])}

    def close(self):
        pass


def test_batches_of_texts_are_cut_where_they_were_joined():
    batcher = Batcher(Upper(), max_rows=2, batch_across_tenants=True)
    works = [
        Work(0, "a", Group(ids=[1], rows=[1], parts={"x": [texts(b"one")]})),
        Work(1, "b", Group(ids=[2], rows=[3], parts={"x": [texts(b"p", b"q", b"r")]})),
    ]
    batches, refused = batcher.plan(works)
    assert not refused
    ran = {done.source: done.group for batch in batches for done in batcher.run(batch)}
    assert ran[0].parts["y"][0].tolist() == [b"ONE"]
    assert ran[1].parts["y"][0].tolist() == [b"P", b"Q", b"R"]
    assert ran[0].failure is Failure.NONE
