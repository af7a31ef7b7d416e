"""Models whose own inputs and outputs are bfloat16, in both engines and both dialects."""

import struct

import numpy as np
import pytest
from onnx import TensorProto, helper
from simulators.data_plane import onnx_model

from wardian._internal.steps import NormaliseStep
from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.inference.choice import choose_model
from wardian.inference.dtypes import BF16, dtype_name, from_bf16, numpy_dtype, to_bf16
from wardian.inference.model import load_model
from wardian.inference.probe import close
from wardian.serving.rules import InputRules
from wardian.serving.tensors import Group, Pack, decode_pack, encode_pack

ONNX = "application/onnx"
ENGINES = ("openvino", "onnxruntime")
B, F = TensorProto.BFLOAT16, TensorProto.FLOAT


def doubles(*, inner: int = F, wide: bool = False) -> bytes:
    """Return y = x + x over bf16 rows of 4, and, if `wide`, z = 3 * w over float32 beside it."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=inner),
        helper.make_node("Add", ["a", "a"], ["b"]),
        helper.make_node("Cast", ["b"], ["y"], to=B),
    ]
    inputs, outputs = [("x", B, ["N", 4])], [("y", B, ["N", 4])]
    if wide:
        nodes += [
            helper.make_node("Add", ["w", "w"], ["v"]),
            helper.make_node("Add", ["v", "w"], ["z"]),
        ]
        inputs.append(("w", F, ["N", 2]))
        outputs.append(("z", F, ["N", 2]))
    return onnx_model(nodes, inputs=inputs, outputs=outputs)


def load(data: bytes, engine: str):
    return load_model(data, media_type=ONNX, engine=engine, threads=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_takes_and_gives_bf16(engine: str) -> None:
    model = load(doubles(), engine)
    assert [(each.name, each.dtype, each.shape) for each in model.inputs + model.outputs] == [
        ("x", "BF16", (-1, 4)),
        ("y", "BF16", (-1, 4)),
    ]
    assert model.batchable
    values = np.array([[1, -2.5, 0.15625, 3e38], [0, -0.0, 1e-38, 255]], np.float32)
    values[0, 3] = 1e38
    answer = model.infer({"x": to_bf16(values)})["y"]
    assert (answer.dtype, answer.shape) == (BF16, (2, 4))
    expected = 2 * from_bf16(to_bf16(values))
    assert np.allclose(from_bf16(answer), from_bf16(to_bf16(expected)), rtol=0, atol=2e-38)
    model.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_bf16_beside_other_types_and_arrays_that_may_not_be_written_to(engine: str) -> None:
    model = load(doubles(wide=True), engine)
    x = np.frombuffer(to_bf16(np.arange(8, dtype="f4").reshape(2, 4)).tobytes(), BF16).reshape(2, 4)
    backwards = x[::-1]  # not in C order, either
    answers = [
        model.infer({"x": each, "w": np.ones((2, 2), np.float32)}) for each in (x, backwards)
    ]
    assert from_bf16(answers[0]["y"]).tolist() == [[0, 2, 4, 6], [8, 10, 12, 14]]
    assert from_bf16(answers[1]["y"]).tolist() == [[8, 10, 12, 14], [0, 2, 4, 6]]
    assert all(each["z"].tolist() == [[3, 3], [3, 3]] for each in answers)
    assert all(each["z"].dtype == np.float32 for each in answers)
    model.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_is_not_overwritten_by_the_next(engine: str) -> None:
    model = load(doubles(), engine)
    first = model.infer({"x": to_bf16(np.ones((1, 4), "f4"))})["y"]
    model.infer({"x": to_bf16(np.full((1, 4), 7, "f4"))})
    assert from_bf16(first).tolist() == [[2, 2, 2, 2]]
    model.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_other_bits_than_bf16_do_not_pass_for_it(engine: str) -> None:
    model = load(doubles(), engine)
    rules = InputRules(inputs=model.inputs, outputs=model.outputs, batchable=True)
    for wrong in (np.ones((1, 4), "<u2"), np.ones((1, 4), "<f4"), np.ones((1, 4), "<f2")):
        with pytest.raises(Exception, match=r"'x' BF16 \[-1, 4\] was expected"):
            rules.measure({"x": wrong})
    with pytest.raises(JobFailed):
        model.infer({"x": to_bf16(np.ones((1, 3), "f4"))})
    model.close()


def test_both_engines_are_measured_and_agree() -> None:
    chosen = choose_model(doubles(), media_type=ONNX, engine="auto", max_batch=4)
    assert "auto" in chosen.model.engine
    answer = chosen.model.infer({"x": to_bf16(np.ones((3, 4), "f4"))})["y"]
    assert from_bf16(answer).tolist() == [[2] * 4] * 3


def test_bf16_travels_between_front_end_and_worker() -> None:
    parts = {"x": [to_bf16(np.full((rows, 4), rows, "f4")) for rows in (1, 2)]}
    sent = Pack(groups=[Group(ids=[1, 2], rows=[1, 2], parts=parts)])
    (group,) = decode_pack(encode_pack(sent)).groups
    (got,) = group.parts["x"]
    assert (got.dtype, dtype_name(got.dtype), numpy_dtype("BF16")) == (BF16, "BF16", BF16)
    assert from_bf16(got).tolist() == [[1] * 4, [2] * 4, [2] * 4]
    joined = np.concatenate([got, got])
    assert (joined.dtype, joined.shape) == (BF16, (6, 4))


def test_steps_of_numbers_refuse_bf16() -> None:
    with pytest.raises(ConfigError, match="normalise takes floats"):
        choose_model(doubles(), media_type=ONNX, pre=[NormaliseStep(input="x", scale=2)])


BITS = (  # FP32 bits, BF16 bits: nearest, ties to even; infinities and NaN as they are
    (0x3F800000, 0x3F80), (0x3F808000, 0x3F80), (0x3F818000, 0x3F82), (0x3F808001, 0x3F81),
    (0x80000000, 0x8000), (0x00000001, 0x0000), (0x00018000, 0x0002), (0x7F7F7FFF, 0x7F7F),
    (0x7F800000, 0x7F80), (0xFF800000, 0xFF80), (0x7F800001, 0x7FC0), (0xFFC00000, 0xFFC0),
)  # fmt: skip


@pytest.mark.parametrize(("wide", "half"), BITS)
def test_rounding(wide: int, half: int) -> None:
    value = np.frombuffer(struct.pack("<I", wide), "<f4")
    got = to_bf16(value.reshape(1, 1))
    assert (got.shape, got.view("<u2")[0, 0]) == ((1, 1), half)
    assert from_bf16(got).view("<u4")[0, 0] == half << 16


@pytest.mark.parametrize("bits", [0x7F7F8000, 0x7F7FFFFF, 0xFF7F8000])
def test_what_would_become_infinite_is_refused(bits: int) -> None:
    with pytest.raises(FormatError, match="out of range"):
        to_bf16(np.frombuffer(struct.pack("<I", bits), "<f4"))


def test_one_step_of_bf16_is_rounding_and_two_percent_are_not() -> None:
    one = to_bf16(np.array([1.0, 100.0], "f4"))
    assert close(to_bf16(np.array([1.0078125, 100.5], "f4")), one)
    assert not close(to_bf16(np.array([1.03, 100.0], "f4")), one)
