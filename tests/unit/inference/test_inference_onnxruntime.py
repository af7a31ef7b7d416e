import gc

import numpy as np
import pytest
from onnx import TensorProto, helper
from simulators.data_plane import onnx_digits, onnx_model

from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.inference import TensorSpec, load_model


def load(data: bytes | bytearray, **more):
    return load_model(data, media_type="application/onnx", engine="onnxruntime", threads=1, **more)


@pytest.fixture(scope="module")
def digits():
    return load(onnx_digits())


def images(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, 64)).astype(np.float32)


def test_describes_its_tensors(digits):
    assert digits.inputs == (TensorSpec(name="image", dtype="FP32", shape=(-1, 64)),)
    assert digits.outputs == (
        TensorSpec(name="probabilities", dtype="FP32", shape=(-1, 10)),
        TensorSpec(name="label", dtype="INT64", shape=(-1,)),
    )
    assert digits.engine.startswith("onnxruntime 1.")
    assert digits.batchable


def test_is_made_from_a_buffer_that_may_be_wiped():
    data = bytearray(onnx_digits())
    model = load(data)
    before = model.infer({"image": images(3)})
    data[:] = bytes(len(data))
    gc.collect()
    after = model.infer({"image": images(3)})
    assert np.array_equal(before["probabilities"], after["probabilities"])


@pytest.mark.parametrize("threads", [1, 2])
def test_agrees_with_openvino(threads):
    mine = load_model(
        onnx_digits(), media_type="application/onnx", engine="onnxruntime", threads=threads
    )
    other = load_model(
        onnx_digits(), media_type="application/onnx", engine="openvino", threads=threads
    )
    for rows in (1, 2, 7, 64, 1000):
        one, two = mine.infer({"image": images(rows)}), other.infer({"image": images(rows)})
        assert np.allclose(one["probabilities"], two["probabilities"], atol=1e-6)
        assert np.array_equal(one["label"], two["label"])


def test_the_answer_outlives_the_next_inference_and_the_model():
    model = load(onnx_digits())
    first = model.infer({"image": images(5)})
    kept = first["probabilities"].copy()
    model.infer({"image": images(5) + 1})
    model.close()
    gc.collect()
    assert np.array_equal(first["probabilities"], kept)


def test_large_inputs_come_out_right_and_give_their_memory_back(digits):
    x = images(70_000)  # 18 MB: above the bound from which the arena shrinks
    answer = digits.infer({"image": x})
    assert np.array_equal(answer["label"][:50], digits.infer({"image": x[:50]})["label"])


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": np.zeros((1, 63), np.float32)},
        {"picture": np.zeros((1, 64), np.float32)},
        {"image": np.zeros((64,), np.float32)},
        {"image": np.zeros((1, 64), np.float64)},
        {},
        {"image": np.zeros((1, 64), np.float32), "more": np.zeros(1, np.float32)},
    ],
)
def test_wrong_inputs_end_in_a_typed_error_and_the_model_lives_on(digits, inputs, capfd):
    with pytest.raises(JobFailed):
        digits.infer(inputs)
    assert digits.infer({"image": images(1)})["label"].shape == (1,)
    assert capfd.readouterr() == ("", ""), "the engine says nothing"


@pytest.mark.parametrize("data", [b"", b"not a model", onnx_digits()[:-200], bytes(1000)])
def test_bytes_that_are_no_model_are_refused(data, capfd):
    with pytest.raises((FormatError, ConfigError)):
        load(data)
    assert capfd.readouterr() == ("", "")


def test_a_name_that_is_no_text_is_refused_and_not_printed(capfd):
    data = onnx_model(
        [helper.make_node("Add", ["x", "weights"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, [2])],
        outputs=[("y", TensorProto.FLOAT, [2])],
    )
    with pytest.raises(ConfigError, match="cannot run this ONNX model"):
        load(data.replace(b"weights", b"w\xe9ights"))
    assert capfd.readouterr() == ("", "")


def test_texts_travel_as_bytes():
    data = onnx_model(
        [helper.make_node("Identity", ["text"], ["same"])],
        inputs=[("text", TensorProto.STRING, ["N"])],
        outputs=[("same", TensorProto.STRING, ["N"])],
    )
    model = load(data)
    assert (model.inputs[0].dtype, model.outputs[0].dtype) == ("BYTES", "BYTES")
    assert model.batchable
    texts = np.array([b"", "größer".encode(), b"a" * 5000], object)
    assert model.infer({"text": texts})["same"].tolist() == texts.tolist()
    for bad in (b"\xff\xfe", "no bytes", 7):
        with pytest.raises(JobFailed):
            model.infer({"text": np.array([bad], object)})


def test_maps_and_sequences_are_refused_with_advice():
    data = onnx_model(
        [helper.make_node("SequenceConstruct", ["x"], ["s"])],
        inputs=[("x", TensorProto.FLOAT, ["N"])],
        outputs=[],
    )
    import onnx

    model = onnx.load_from_string(data)
    model.graph.output.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["N"]))
    with pytest.raises(ConfigError, match="zipmap=False"):
        load(model.SerializeToString())


def test_precision_that_it_has_not_is_refused():
    with pytest.raises(ConfigError, match="bf16"):
        load(onnx_digits(), precision="bf16")


def test_a_model_that_mixes_rows_is_found_out():
    data = onnx_model(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 3])],
        outputs=[("y", TensorProto.FLOAT, ["N", 3])],
    )
    assert not load(data).batchable


def test_random_numbers_are_not_batchable():
    data = onnx_model(
        [
            helper.make_node("RandomUniformLike", ["x"], ["r"]),
            helper.make_node("Add", ["x", "r"], ["y"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 3])],
        outputs=[("y", TensorProto.FLOAT, ["N", 3])],
    )
    assert not load(data).batchable


@pytest.mark.parametrize(
    ("onnx_type", "name", "dtype"),
    [
        (TensorProto.FLOAT, "FP32", np.float32),
        (TensorProto.DOUBLE, "FP64", np.float64),
        (TensorProto.FLOAT16, "FP16", np.float16),
        (TensorProto.INT8, "INT8", np.int8),
        (TensorProto.UINT8, "UINT8", np.uint8),
        (TensorProto.INT32, "INT32", np.int32),
        (TensorProto.INT64, "INT64", np.int64),
        (TensorProto.BOOL, "BOOL", np.bool_),
    ],
)
def test_element_types_come_back_as_they_went_in(onnx_type, name, dtype):
    data = onnx_model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        inputs=[("x", onnx_type, ["N", 4])],
        outputs=[("y", onnx_type, ["N", 2, 2])],
        weights={"shape": np.array([-1, 2, 2], np.int64)},
    )
    model = load(data)
    x = np.array([[0, 1, 1, 0], [1, 0, 0, 1]]).astype(dtype)
    y = model.infer({"x": x})["y"]
    assert model.inputs[0].dtype == model.outputs[0].dtype == name
    assert y.dtype == dtype
    assert np.array_equal(y, x.reshape(2, 2, 2))
