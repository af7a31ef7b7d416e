"""What stands inside a sealed request: its author is a stranger, so the reader is strict."""

import random
import struct

import msgspec
import numpy as np
import pytest

from wardian.crypto.sealed_request import padded_bytes
from wardian.errors import FormatError, JobFailed, PeerProtocolError, RequestError, WardianError
from wardian.serving.sealed_content import (
    MAX_ELEMENTS,
    Ended,
    Told,
    decode_asked,
    decode_ended,
    encode_asked,
    encode_ended,
)
from wardian.serving.tensors import Failure, Group, Kind, Pack, encode_pack

TENSORS = {
    "image": np.arange(12, dtype="<f4").reshape(3, 4),
    "flag": np.array([True, False]),
    "scalar": np.array(7, "<i8"),
    "texts": np.array([b"one", b""], object),
}


def asked(**changes):
    given = {"version": 3, "outputs": ("a", "b"), "pad": True} | changes
    return encode_asked(given.pop("inputs", TENSORS), **given)


def enveloped(pack: bytes, *, head: bytes | None = None) -> bytes:
    """A request whose pack is any bytes, with no padding."""
    head = msgspec.msgpack.encode([0, None]) if head is None else head
    start = 12 + len(head)
    return struct.pack(">IQ", len(head), len(pack)) + head + bytes(-start % 64) + pack


def packed(*groups: Group, tenant: str = "", kind: Kind = Kind.INFER) -> bytes:
    return encode_pack(Pack(groups=list(groups), tenant=tenant), kind)


def group(**changes) -> Group:
    fields = {"ids": [0], "rows": [0], "parts": {"x": [np.ones((1, 2), "<f4")]}} | changes
    return Group(**fields)


@pytest.mark.parametrize("pad", [True, False])
def test_a_request_comes_out_as_it_went_in(pad: bool) -> None:
    raw = asked(pad=pad)
    assert (len(raw) == padded_bytes(len(raw))) is pad
    found = decode_asked(raw)
    assert (found.version, found.outputs) == (3, ("a", "b"))
    assert found.inputs.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found.inputs[name], array)
        assert found.inputs[name].dtype == array.dtype
    assert decode_asked(asked(version=0, outputs=None)).outputs is None


def test_arrays_lie_where_they_were_opened_aligned() -> None:
    raw = np.frombuffer(asked(), np.uint8)
    image = decode_asked(raw.tobytes()).inputs["image"]
    assert not image.flags.owndata
    assert not image.flags.writeable


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(11),
        bytes(64),
        enveloped(packed(group(), group(ids=[1]))),
        enveloped(packed(group(ids=[0, 1], rows=[1, 0]))),
        enveloped(packed(group(ids=[1]))),
        enveloped(packed(group(rows=[1]))),
        enveloped(packed(group(), tenant="a tenant")),
        enveloped(packed(group(failure=Failure.FAILED))),
        enveloped(packed(group(), kind=Kind.SEALED)),
        enveloped(packed(group(parts={"x": [np.array([2, 1], "u1").view("?")]}))),
        enveloped(packed(group()) + bytes(64)),
        enveloped(packed(group()))[:-1],
        enveloped(packed(group())) + b"\1",
        enveloped(packed(group()), head=msgspec.msgpack.encode([-1, None])),
        enveloped(packed(group()), head=msgspec.msgpack.encode([0, []])),
        enveloped(packed(group()), head=msgspec.msgpack.encode([0, None, 1])),
        enveloped(packed(group()), head=msgspec.msgpack.encode([0, ["x" * 300]])),
        enveloped(packed(group()), head=bytes(70_000)),
        enveloped(packed(group()), head=b"\xd9\x04\xff\xff\xff\xff"),
        struct.pack(">IQ", 2**32 - 1, 2**64 - 1) + bytes(100),
    ],
)
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        decode_asked(raw)


@pytest.mark.parametrize("dtype", ["FP32", "BYTES"])
def test_a_shape_that_no_array_has_is_refused(dtype: str) -> None:
    """An axis of 0 beside others so long that numpy gives up: in the worker's only thread."""
    header = msgspec.msgpack.encode(["", [[[0], [0], [["x", dtype, [0, 2**47, 2**47]]], 0]]])
    prefix = struct.pack("<B3xI", 1, len(header)) + header
    with pytest.raises(FormatError, match="no array has"):
        decode_asked(enveloped(prefix + bytes(-len(prefix) % 64)))


def test_work_that_costs_a_stranger_four_bytes_an_element_is_bounded() -> None:
    """Elements of BYTES are read one by one, in the worker's only thread."""
    texts = np.array([b""] * MAX_ELEMENTS, object)
    assert len(decode_asked(asked(inputs={"a": texts})).inputs["a"]) == MAX_ELEMENTS
    for inputs in ({"a": np.append(texts, b"")}, {"a": texts, "b": texts[:1]}):
        with pytest.raises(FormatError, match="more than 65536 elements"):
            decode_asked(asked(inputs=inputs))


def test_what_is_almost_right_is_accepted_or_refused_and_nothing_else() -> None:
    rng = random.Random(11)
    seeds = (asked(), asked(pad=False), enveloped(packed(group())))
    refused = 0
    for _ in range(20_000):
        raw = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            raw[rng.randrange(min(len(raw), 256))] = rng.choice((0, 1, 2, 127, 128, 255))
        if rng.random() < 0.2:
            del raw[rng.randrange(len(raw)) :]
        try:
            decode_asked(bytes(raw))
        except WardianError:
            refused += 1
    assert 5_000 < refused < 20_000


def ended(told: Told = Told.ANSWERED, **changes) -> Ended:
    fields = {"version": 3, "outputs": {}, "text": ""} | changes
    return Ended(told=told, **fields)


def test_answers_of_each_kind() -> None:
    found = decode_ended(encode_ended(ended(outputs=TENSORS)))
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(RequestError, match="^expected x$"):
        decode_ended(encode_ended(ended(Told.BAD_INPUT, text="expected x")))
    with pytest.raises(JobFailed, match="^no\\?luck$"):
        decode_ended(encode_ended(ended(Told.FAILED, text="no\x1bluck")))


def test_an_answer_without_tensors_is_as_long_as_asked_for() -> None:
    short = encode_ended(ended(Told.BAD_INPUT, text="x"))
    assert len(short) == 1024
    assert len(encode_ended(ended(Told.FAILED, text="y" * 9000))) == 2304  # cut at 2000
    assert len(encode_ended(ended(Told.FAILED, text="y"), least_bytes=5000)) == padded_bytes(5000)


def test_garbage_for_an_answer() -> None:
    good = encode_ended(ended(outputs={"x": np.ones(3, "<f4")}))
    for raw in (
        b"",
        bytes(63),
        good[:64],
        b"\x03" + good[1:],
        good[:1] + b"\1" + good[2:],
        good[:30] + b"\1" + good[31:],
        good[:-1] + b"\1",
        good[:16] + b"\xff" * 8 + good[24:],
        good[:70] + bytes(len(good) - 70),
    ):
        with pytest.raises(PeerProtocolError):
            decode_ended(raw)
