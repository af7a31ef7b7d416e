"""The engine, the threads and the batch are measured; an engine that is wrong is never chosen."""

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper
from simulators.data_plane import onnx_digits, onnx_model

from wardian._internal.steps import SoftmaxStep
from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.inference import TensorSpec, choice
from wardian.inference.base import Compiled
from wardian.inference.choice import choose_model, medians

ONNX = "application/onnx"


class Clock:
    """Tells a time that only `advance` moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Timed(Compiled):
    """An engine that takes `base + each * rows` seconds of the clock, and doubles, about."""

    def __init__(self, name, clock, *, base, each, off=0.0, shape=(-1, 4), fails=False):
        super().__init__(name)
        self.clock, self.base, self.each, self.off, self.fails = clock, base, each, off, fails
        self.closed = False
        self.calls: list[int] = []
        spec = TensorSpec(name="x", dtype="FP32", shape=shape)
        answer = TensorSpec(name="y", dtype="FP32", shape=(-1, 4))
        self.describe(inputs=(spec,), outputs=(answer,), remembers=False, threads=1)

    def infer(self, inputs):
        assert not self.closed
        if self.fails:
            raise JobFailed("not on this machine")
        x = inputs["x"]
        self.calls.append(len(x))
        self.clock.advance(self.base + self.each * len(x))
        return {"y": x * np.float32(2) + np.float32(self.off)}

    def close(self):
        self.closed = True


@pytest.fixture
def engines(monkeypatch):
    """Return what makes `choose_model` find these engines instead of the real ones."""

    def use(clock, **made):
        loaded = {}

        def load(data, *, media_type, engine, threads, precision):
            terms = made[engine]
            if isinstance(terms, Exception):
                raise terms
            terms = terms(threads) if callable(terms) else terms
            loaded[engine, threads] = Timed(engine, clock, **terms)
            return loaded[engine, threads]

        monkeypatch.setattr(choice, "load_compiled", load)
        return loaded

    return use


FAST, SLOW = {"base": 1e-5, "each": 1e-6}, {"base": 1e-4, "each": 1e-6}


def choose(clock, **more):
    return choose_model(b"", media_type=ONNX, clock=clock, **more)


@pytest.mark.parametrize("fast", ["openvino", "onnxruntime"])
def test_the_faster_engine_is_taken_and_the_other_closed(engines, fast):
    clock = Clock()
    slow = next(name for name in ("openvino", "onnxruntime") if name != fast)
    loaded = engines(clock, **{fast: FAST, slow: SLOW})
    chosen = choose(clock)
    assert chosen.model.engine.startswith(f"{fast} (auto: ")
    assert "openvino" in chosen.model.engine
    assert "us a row" in chosen.model.engine
    assert loaded[slow, 1].closed
    assert not loaded[fast, 1].closed


def test_an_engine_that_is_hardly_faster_is_not_worth_it(engines):
    clock = Clock()
    engines(clock, openvino={"base": 1e-5, "each": 0}, onnxruntime={"base": 0.97e-5, "each": 0})
    assert choose(clock).model.engine.startswith("openvino")


def test_engines_that_disagree_are_both_refused(engines):
    clock = Clock()
    loaded = engines(clock, openvino=FAST, onnxruntime=SLOW | {"off": 0.1})
    with pytest.raises(ConfigError, match="different answers"):
        choose(clock)
    assert all(model.closed for model in loaded.values())
    assert choose(clock, engine="openvino").model.engine == "openvino", "named, it is believed"


def test_rounding_is_no_disagreement(engines):
    clock = Clock()
    engines(clock, openvino=SLOW, onnxruntime=FAST | {"off": 1e-6})
    assert choose(clock).model.engine.startswith("onnxruntime")


def test_an_engine_that_cannot_load_it_or_fails_on_it_is_no_candidate(engines):
    clock = Clock()
    engines(clock, openvino=FormatError("no such operator"), onnxruntime=SLOW)
    assert "openvino cannot run it" in choose(clock).model.engine
    engines(clock, openvino=FAST | {"fails": True}, onnxruntime=SLOW)
    assert choose(clock).model.engine.startswith("onnxruntime")
    engines(clock, openvino=ConfigError("mine"), onnxruntime=FormatError("other"))
    with pytest.raises(ConfigError, match="mine"):
        choose(clock)


def test_an_axis_that_one_engine_leaves_open_is_open(engines):
    clock = Clock()
    engines(clock, openvino=FAST | {"shape": (-1, -1)}, onnxruntime=SLOW)
    chosen = choose(clock)
    assert chosen.model.inputs[0].shape == (-1, -1)
    engines(clock, openvino=FAST | {"shape": (-1, 4, 4)}, onnxruntime=SLOW)
    with pytest.raises(ConfigError, match="differently"):
        choose(clock)


def test_threads_are_used_only_where_they_help(engines):
    clock = Clock()
    scales = lambda threads: {"base": 1e-4 / threads, "each": 1e-6}  # noqa: E731
    loaded = engines(clock, openvino=scales, onnxruntime=SLOW)
    assert "4 threads" in choose(clock, threads=4).model.engine
    assert loaded["openvino", 1].closed
    loaded = engines(clock, openvino=FAST, onnxruntime=SLOW)
    assert "1 thread)" in choose(clock, threads=4).model.engine
    assert loaded["openvino", 4].closed
    assert not loaded["openvino", 1].closed


@pytest.mark.parametrize(
    ("terms", "most", "expected"),
    [
        ({"base": 1e-4, "each": 1e-6}, 64, 64),  # more is always better
        ({"base": 0.0, "each": 1e-3}, 64, 2),  # nothing is gained
        ({"base": 8e-6, "each": 8e-6}, 64, 8),  # 8 rows cost 9/8 a row, of 65/64 at best
        ({"base": 1e-4, "each": 1e-6}, 1, 1),
        ({"base": 1e-4, "each": 1e-6}, 48, 48),
        ({"base": 1e-4, "each": 1e-6}, 3, 3),
    ],
)
def test_the_batch_is_the_smallest_that_is_nearly_the_best(engines, terms, most, expected):
    clock = Clock()
    loaded = engines(clock, openvino=terms)
    chosen = choose(clock, engine="openvino", max_batch=most)
    assert chosen.max_batch in {expected, 2 * expected}
    assert chosen.max_batch <= most
    assert max(loaded["openvino", 1].calls) <= max(most, 4)  # 4: the probe's own


def test_measuring_ends_in_time_even_for_a_slow_model(engines):
    clock = Clock()
    loaded = engines(clock, openvino={"base": 2.0, "each": 1.0})
    probes = 9  # rows_independent: four alone, five in company
    chosen = choose(clock, engine="openvino")
    assert chosen.max_batch == 2
    assert len(loaded["openvino", 1].calls) - probes <= 6


def test_a_large_model_is_not_loaded_twice(engines, monkeypatch):
    clock = Clock()
    loaded = engines(clock, openvino=SLOW, onnxruntime=FAST)
    monkeypatch.setattr(choice, "MAX_COMPARED_BYTES", 3)
    chosen = choose_model(b"four", media_type=ONNX, clock=clock, threads=8)
    assert chosen.model.engine.startswith("openvino")
    assert list(loaded) == [("openvino", 1)]


def test_runs_take_turns_and_the_median_counts():
    clock = Clock()
    order = []
    waits = {"a": itertools.cycle([1e-3, 1e-3, 0.05]), "b": itertools.cycle([2e-3])}

    def run(name):
        order.append(name)
        clock.advance(next(waits[name]))

    found = medians({name: lambda n=name: run(n) for name in "ab"}, clock=clock, budget_s=1.0)
    assert order[:6] == ["a", "b", "a", "b", "a", "b"]
    assert found == {"a": pytest.approx(1e-3), "b": pytest.approx(2e-3)}


def test_real_engines_are_measured_warm_and_said(caplog):
    with caplog.at_level("INFO"):
        chosen = choose_model(
            onnx_digits(), media_type=ONNX, post=[SoftmaxStep(output="probabilities")]
        )
    assert 2 <= chosen.max_batch <= 64
    assert "(auto: openvino " in chosen.model.engine
    (said,) = [r for r in caplog.records if r.getMessage() == "model.chosen"]
    assert said.fields == {
        "engine": chosen.model.engine,
        "max_batch": chosen.max_batch,
        "batchable": True,
    }
    answer = chosen.model.infer({"image": np.zeros((3, 64), np.float32)})
    assert np.allclose(answer["probabilities"].sum(axis=1), 1)


def test_trees_fall_to_the_one_engine_that_has_them():
    data = onnx_model(
        [helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[3.0])],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 2])],
    )
    import onnx

    model = onnx.load_from_string(data)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    chosen = choose_model(model.SerializeToString(), media_type=ONNX)
    assert chosen.model.engine.startswith("onnxruntime")
    assert chosen.model.infer({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[3, 3]]


def test_precision_leaves_the_engines_that_have_it():
    chosen = choose_model(onnx_digits(), media_type=ONNX, precision="bf16")
    assert "onnxruntime" not in chosen.model.engine


def test_what_no_engine_reads_ends_in_one_error():
    with pytest.raises(FormatError):
        choose_model(b"nothing", media_type=ONNX)
    with pytest.raises(ConfigError, match="text/plain"):
        choose_model(b"nothing", media_type="text/plain")


def test_real_engines_that_disagree_end_in_an_error_and_each_alone_still_serves():
    """A number above 255 to 8 bits: OpenVINO takes the largest, ONNX Runtime the low bits."""
    data = onnx_model(
        [
            helper.make_node("Mul", ["x", "k"], ["m"]),
            helper.make_node("Cast", ["m"], ["y"], to=TensorProto.UINT8),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 4])],
        outputs=[("y", TensorProto.UINT8, ["N", 4])],
        weights={"k": np.array(1000, np.float32)},
    )
    with pytest.raises(ConfigError, match="openvino and onnxruntime give different answers"):
        choose_model(data, media_type=ONNX)
    for engine in ("openvino", "onnxruntime"):
        model = choose_model(data, media_type=ONNX, engine=engine).model
        y = model.infer({"x": np.full((1, 4), 0.1, np.float32)})["y"]
        assert y.tolist() == [[100] * 4]
