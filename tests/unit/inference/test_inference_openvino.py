import numpy as np
import pytest
from onnx import TensorProto, helper
from simulators.data_plane import onnx_digits, onnx_model

from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.inference import TensorSpec, load_model
from wardian.inference.probe import rows_independent


def load(data: bytes | bytearray):
    return load_model(data, media_type="application/onnx", engine="openvino", threads=1)


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
    assert digits.engine.startswith("openvino 20")
    assert digits.batchable


def test_is_made_from_a_buffer_that_may_be_wiped():
    data = bytearray(onnx_digits())
    model = load(data)
    before = model.infer({"image": images(3)})
    data[:] = bytes(len(data))
    after = model.infer({"image": images(3)})
    assert np.array_equal(before["probabilities"], after["probabilities"])


def test_agrees_with_another_runtime(digits):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_digits(), providers=["CPUExecutionProvider"])
    for rows in (1, 2, 7, 64):
        mine = digits.infer({"image": images(rows)})
        probabilities, label = session.run(["probabilities", "label"], {"image": images(rows)})
        assert np.allclose(mine["probabilities"], probabilities, atol=1e-6)
        assert np.array_equal(mine["label"], label)


def test_the_answer_outlives_the_next_inference(digits):
    first = digits.infer({"image": images(5)})
    kept = first["probabilities"].copy()
    digits.infer({"image": images(5) + 1})
    assert np.array_equal(first["probabilities"], kept)


def test_reads_arrays_that_lie_askew(digits):
    raw = bytearray(3 + 2 * 64 * 4)
    askew = np.frombuffer(raw, np.uint8)[3:].view(np.float32).reshape(2, 64)
    askew[:] = images(2)
    expected = digits.infer({"image": images(2)})
    assert np.array_equal(digits.infer({"image": askew})["label"], expected["label"])


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": np.zeros((1, 63), np.float32)},
        {"picture": np.zeros((1, 64), np.float32)},
        {"image": np.zeros((64,), np.float32)},
    ],
)
def test_wrong_inputs_end_in_a_typed_error_and_the_model_lives_on(digits, inputs):
    with pytest.raises(JobFailed):
        digits.infer(inputs)
    assert digits.infer({"image": images(1)})["label"].shape == (1,)


@pytest.mark.parametrize("data", [b"", b"not a model", onnx_digits()[:-200], bytes(1000)])
def test_bytes_that_are_no_model_are_refused(data):
    with pytest.raises((FormatError, ConfigError)):
        load(data)


def test_weights_in_another_file_are_not_fetched(tmp_path):
    data = bytearray(onnx_digits())
    model = __import__("onnx").load_from_string(bytes(data))
    weight = model.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=str(tmp_path / "weights.bin"))
    with pytest.raises((FormatError, ConfigError)):
        load(model.SerializeToString())


def test_text_tensors_are_refused_at_load():
    data = onnx_model(
        [helper.make_node("Identity", ["text"], ["same"])],
        inputs=[("text", TensorProto.STRING, ["N"])],
        outputs=[("same", TensorProto.STRING, ["N"])],
    )
    with pytest.raises(ConfigError):
        load(data)


def test_a_model_that_mixes_rows_is_found_out():
    data = onnx_model(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 3])],
        outputs=[("y", TensorProto.FLOAT, ["N", 3])],
    )
    model = load(data)
    assert not model.batchable
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.allclose(model.infer({"x": x})["y"], x - x.mean(axis=0))


def quantised_over_the_batch(onnx_type: int, loudest: int | None, vocabulary: int = 10) -> bytes:
    """Return a model whose quantisation range is that of the whole batch (red team, T19).

    With an embedding if `loudest` says which of its rows outweighs the others.
    """
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["e"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("ReduceMean", ["d"], ["y"], axes=[1], keepdims=0),
    ]
    weights = {}
    if loudest is None:
        nodes.insert(0, helper.make_node("Identity", ["x"], ["e"]))
    else:
        table = np.random.default_rng(0).uniform(-1, 1, (vocabulary, 16)).astype(np.float32)
        table[loudest] *= 2000
        weights["E"] = table
        nodes.insert(0, helper.make_node("Gather", ["E", "x"], ["e"]))
    return onnx_model(
        nodes,
        inputs=[("x", onnx_type, ["N", "L"] if weights else ["N", "L", 16])],
        outputs=[("y", TensorProto.FLOAT, ["N", 16])],
        weights=weights,
    )


@pytest.mark.parametrize("loudest", range(10))
def test_a_range_shared_by_the_batch_is_found_out_whichever_word_is_loud(loudest):
    assert not load(quantised_over_the_batch(TensorProto.INT64, loudest)).batchable


def test_a_range_shared_by_the_batch_is_found_out():
    assert not load(quantised_over_the_batch(TensorProto.FLOAT, None)).batchable
    assert not load(quantised_over_the_batch(TensorProto.INT32, 3, vocabulary=400)).batchable


@pytest.mark.parametrize("vocabulary", [2, 10, 30_000])
def test_words_of_any_vocabulary_are_batchable(vocabulary):
    table = np.random.default_rng(1).normal(size=(vocabulary, 8)).astype(np.float32)
    data = onnx_model(
        [
            helper.make_node("Gather", ["E", "x"], ["e"]),
            helper.make_node("ReduceMean", ["e"], ["y"], axes=[1], keepdims=0),
        ],
        inputs=[("x", TensorProto.INT64, ["N", "L"])],
        outputs=[("y", TensorProto.FLOAT, ["N", 8])],
        weights={"E": table},
    )
    assert load(data).batchable


IMAGE = TensorSpec(name="x", dtype="FP32", shape=(-1, 4))
WORDS = TensorSpec(name="x", dtype="INT64", shape=(-1, 4))
ANSWER = TensorSpec(name="y", dtype="FP32", shape=(-1, 4))


def probed(spec: TensorSpec, function) -> bool:
    def infer(inputs):
        return {"y": function(inputs["x"]).astype(np.float32)}

    return rows_independent(infer, inputs=(spec,), outputs=(ANSWER,))


def test_an_engine_that_refuses_large_indices_is_probed_with_small_ones():
    refused = []

    def lookup(x, *, mix=False):
        if x.max() > 1:
            refused.append(x.max())
            raise JobFailed("no such word")
        return x + x.mean() if mix else x * 2

    assert probed(WORDS, lookup)
    assert max(refused) > 1000
    assert not probed(WORDS, lambda x: lookup(x, mix=True))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + (np.abs(x).max() > 100),  # only a loud neighbour shows
        lambda x: x[::-1],
        lambda x: x * (1 if len(x) < 3 else 2),
        lambda x: np.maximum(x, x[:1]),
        lambda x: x[:1],
    ],
    ids=["loud", "reversed", "many", "first", "one"],
)
def test_rows_that_look_at_their_neighbours_are_found_out(function):
    assert not probed(IMAGE, function)


def test_a_model_that_always_fails_is_not_batchable():
    def fail(_):
        raise JobFailed("never")

    assert not probed(IMAGE, fail)
    assert not probed(WORDS, fail)


def test_a_fixed_batch_axis_is_not_batchable():
    data = onnx_model(
        [helper.make_node("Relu", ["x"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, [2, 3])],
        outputs=[("y", TensorProto.FLOAT, [2, 3])],
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


@pytest.mark.parametrize("threads", [1, 2])
def test_a_request_that_fails_inside_never_gets_the_answer_of_the_one_before(threads):
    """Red: with one thread the engine's own `infer` returned the previous request's answer."""
    data = onnx_model(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        inputs=[("a", TensorProto.FLOAT, ["N", "M"]), ("b", TensorProto.FLOAT, ["N", "K"])],
        outputs=[("y", TensorProto.FLOAT, ["N", None])],
    )
    model = load_model(data, media_type="application/onnx", engine="openvino", threads=threads)
    three, two = np.ones((2, 3), np.float32), np.ones((2, 2), np.float32)
    for secret in (5.0, 7.0):
        assert model.infer({"a": three * secret, "b": three})["y"].max() == secret + 1
        with pytest.raises(JobFailed):
            model.infer({"a": three, "b": two})


def test_unknown_engine_and_media_type_say_what_there_is():
    with pytest.raises(ConfigError, match="openvino"):
        load_model(b"", media_type="application/onnx", engine="abacus", threads=1)
    with pytest.raises(ConfigError, match="application/onnx"):
        load_model(b"", media_type="text/plain", engine="openvino", threads=1)


def test_the_room_exports_what_it_lists_and_no_more():
    import wardian.inference as room

    assert room.__all__ == sorted(room.__all__)
    assert all(getattr(room, name) is not None for name in room.__all__)
    with pytest.raises(AttributeError):
        _ = room.nothing
