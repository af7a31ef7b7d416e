"""Steps around a model change what a client sees of it, and nothing else."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from simulators.data_plane import onnx_model

from wardian._internal.steps import ImageStep, NormaliseStep, SoftmaxStep, TopStep
from wardian.errors import ConfigError, JobFailed
from wardian.inference import TensorSpec, load_model
from wardian.inference.steps.pipeline import with_steps


def scores(classes: int | str = 6, kind: int = TensorProto.FLOAT, name: str = "scores"):
    """Return a model that gives back what it gets: rows of scores."""
    data = onnx_model(
        [helper.make_node("Identity", ["x"], [name])],
        inputs=[("x", kind, ["N", classes])],
        outputs=[(name, kind, ["N", classes])],
    )
    return load_model(data, media_type="application/onnx", engine="onnxruntime", threads=1)


def run(x, *, pre=(), post=(), **model):
    pipeline = with_steps(scores(**model), pre=pre, post=post)
    return pipeline.infer({"x": np.asarray(x, np.float32)})


ROWS = [[0.1, 5.0, -3.0, 5.0, 2.0, 4.0], [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]]


def test_without_steps_the_model_is_itself():
    model = scores()
    assert with_steps(model, pre=(), post=()) is model


def test_top_gives_the_largest_with_equals_in_their_order():
    answer = run(ROWS, post=[TopStep(output="scores", n=3)])
    assert answer["scores_index"].tolist() == [[1, 3, 5], [0, 1, 2]]
    assert answer["scores_value"].tolist() == [[5.0, 5.0, 4.0], [6.0, 5.0, 4.0]]
    assert answer["scores_index"].dtype == np.int64
    assert "scores" not in answer


def test_top_names_what_it_found():
    labels = ("ant", "bee", "cat", "dög", "eel", "fox")
    pipeline = with_steps(scores(), pre=(), post=[TopStep(output="scores", n=2, labels=labels)])
    assert [(o.name, o.dtype, o.shape) for o in pipeline.outputs] == [
        ("scores_index", "INT64", (-1, 2)),
        ("scores_value", "FP32", (-1, 2)),
        ("scores_label", "BYTES", (-1, 2)),
    ]
    answer = pipeline.infer({"x": np.array(ROWS, np.float32)})
    assert answer["scores_label"].tolist() == [[b"bee", "dög".encode()], [b"ant", b"bee"]]


def test_what_is_no_number_comes_last():
    answer = run([[np.nan, 1, np.inf, -np.inf, 0, 2]], post=[TopStep(output="scores", n=6)])
    assert answer["scores_index"].tolist() == [[2, 5, 1, 4, 3, 0]]


def test_softmax_sums_to_one_and_does_not_overflow():
    answer = run([[1e30, 0, 0, 0, 0, 0], ROWS[0]], post=[SoftmaxStep(output="scores")])["scores"]
    assert answer.dtype == np.float32
    assert answer[0].tolist() == [1, 0, 0, 0, 0, 0]
    powers = np.exp(np.array(ROWS[0]))
    assert np.allclose(answer[1], powers / powers.sum(), atol=1e-6)


def test_steps_run_in_their_order():
    post = [SoftmaxStep(output="scores"), TopStep(output="scores", n=1)]
    answer = run([[0.0, 0, 0, 0, 0, np.log(5)]], post=post)
    assert answer["scores_index"].tolist() == [[5]]
    assert np.allclose(answer["scores_value"], 0.5)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (NormaliseStep(input="x", scale=2.0), [2.0, 4.0]),
        (NormaliseStep(input="x", mean=(1.0,), std=(0.5,)), [0.0, 2.0]),
        (NormaliseStep(input="x", scale=10.0, mean=(1.0, 2.0), std=(1.0, 2.0)), [9.0, 9.0]),
    ],
)
def test_normalise_scales_then_takes_the_mean_then_divides(ask, expected):
    answer = run([[1.0, 2.0]], pre=[ask], classes=2)["scores"]
    assert answer.dtype == np.float32
    assert np.allclose(answer, [expected])


def test_normalise_by_channel_knows_both_layouts():
    ask = NormaliseStep(input="x", mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    for shape, channel in ((["N", 3, 4, 5], 1), (["N", 4, 5, 3], 3)):
        data = onnx_model(
            [helper.make_node("Identity", ["x"], ["y"])],
            inputs=[("x", TensorProto.FLOAT, shape)],
            outputs=[("y", TensorProto.FLOAT, shape)],
        )
        model = load_model(data, media_type="application/onnx", engine="onnxruntime", threads=1)
        x = np.full((2, *shape[1:]), 7, np.float32)
        y = with_steps(model, pre=[ask], post=()).infer({"x": x})["y"]
        found = np.moveaxis(y, channel, -1).reshape(-1, 3)
        assert np.allclose(found, [6.0, 2.5, 1.0])


def test_the_caller_keeps_its_arrays():
    x = np.ones((1, 6), np.float32)
    inputs = {"x": x}
    with_steps(scores(), pre=[NormaliseStep(input="x", scale=3.0)], post=()).infer(inputs)
    assert inputs["x"] is x
    assert (x == 1).all()


@pytest.mark.parametrize(
    ("pre", "post", "model", "message"),
    [
        ([NormaliseStep(input="z")], [], {}, "no tensor 'z'"),
        ([], [SoftmaxStep(output="z")], {}, "no tensor 'z'"),
        ([], [TopStep(output="scores", n=7)], {}, "fewer than 7"),
        ([], [TopStep(output="scores", n=1, labels=("a", "b"))], {}, "2 labels"),
        ([], [TopStep(output="scores"), TopStep(output="scores")], {}, "no tensor 'scores'"),
        ([], [SoftmaxStep(output="scores")], {"kind": TensorProto.INT64}, "takes rows of floats"),
        ([NormaliseStep(input="x")], [], {"kind": TensorProto.INT64}, "takes floats"),
        ([NormaliseStep(input="x", mean=(1.0, 2.0))], [], {}, "2 channels"),
        ([ImageStep(input="x")], [], {}, "image needs"),
    ],
)
def test_steps_that_do_not_fit_the_model_are_refused_at_load(pre, post, model, message):
    with pytest.raises(ConfigError, match=message):
        with_steps(scores(**model), pre=pre, post=post)


def test_two_tensors_never_get_one_name():
    data = onnx_model(
        [
            helper.make_node("Identity", ["x"], ["a"]),
            helper.make_node("Identity", ["x"], ["a_index"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 6])],
        outputs=[("a", TensorProto.FLOAT, ["N", 6]), ("a_index", TensorProto.FLOAT, ["N", 6])],
    )
    model = load_model(data, media_type="application/onnx", engine="onnxruntime", threads=1)
    with pytest.raises(ConfigError, match="one name"):
        with_steps(model, pre=(), post=[TopStep(output="a")])


def test_lengths_that_only_a_request_shows_fail_that_request():
    pipeline = with_steps(
        scores(classes="K"), pre=(), post=[TopStep(output="scores", n=2, labels=("a", "b"))]
    )
    assert pipeline.infer({"x": np.ones((1, 2), np.float32)})["scores_label"].tolist()
    for width in (1, 3):
        with pytest.raises(JobFailed):
            pipeline.infer(
                {"x": np.ones((1, width), np.float32)[:, ::-1] * np.arange(width, dtype="f4")}
            )


def test_the_pipeline_is_the_model_in_all_else():
    model = scores()
    pipeline = with_steps(model, pre=(), post=[SoftmaxStep(output="scores")])
    assert (pipeline.engine, pipeline.batchable) == (model.engine, model.batchable)
    assert pipeline.inputs == (TensorSpec(name="x", dtype="FP32", shape=(-1, 6)),)
    pipeline.close()
    with pytest.raises((JobFailed, AttributeError)):
        pipeline.infer({"x": np.zeros((1, 6), np.float32)})
