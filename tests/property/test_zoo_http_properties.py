"""Whatever a stranger sends to Cluster Serving's paths ends in one answer, and never in a bug."""

import json
from typing import Any

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from wardian._internal.agreed import ModelTerms, ZooDialect
from wardian._internal.metrics import Metrics
from wardian._internal.steps import ImageStep
from wardian.inference.dtypes import NUMPY_OF
from wardian.inference.spec import TensorSpec
from wardian.serving.api.routes import Api
from wardian.serving.api.zoo.dialect import ZooRoutes
from wardian.serving.catalog import ModelInfo
from wardian.serving.dispatch import Outcome
from wardian.serving.http.messages import HttpRequest, HttpResponse
from wardian.serving.rules import InputRules

TYPES = st.sampled_from([*NUMPY_OF, "BYTES"])
AXES = st.lists(st.sampled_from([-1, 1, 2, 3]), max_size=3).map(tuple)
NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 300)
TEXTS = st.text(max_size=8) | st.sampled_from(["AAAA", "/9j/4AAQ", "a|b", "ü"])
SHORT = st.lists(st.integers(-1, 4), max_size=3)
VALUES = st.recursive(
    NUMBERS | TEXTS | st.none() | st.booleans(), lambda inner: st.lists(inner, max_size=3),
    max_leaves=12,
) | st.fixed_dictionaries({"b64": TEXTS}) | st.fixed_dictionaries(
    {"shape": SHORT, "data": st.lists(NUMBERS, max_size=3), "indices": st.lists(SHORT, max_size=3)}
)  # fmt: skip
INSTANCES = st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=5)


def tensors(drawn: list[tuple[str, tuple[int, ...]]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name="abc"[place], dtype=dtype, shape=shape)
        for place, (dtype, shape) in enumerate(drawn)
    )


def nested(shape: list[int], value: Any) -> Any:
    return [nested(shape[1:], value) for _ in range(shape[0])] if shape else value


@st.composite
def likely(draw: st.DrawFn) -> tuple[tuple[TensorSpec, ...], Any]:
    """Inputs, and instances that may well fit them."""
    inputs = draw(st.lists(st.tuples(TYPES, AXES), min_size=1, max_size=2).map(tensors))
    instances = []
    for _ in range(draw(st.integers(1, 3))):
        instance = {}
        for spec in inputs:
            begin = draw(st.integers(0, 1))
            shape = [draw(st.integers(1, 2)) if each < 0 else each for each in spec.shape[begin:]]
            value = draw(st.sampled_from([0, 1, 0.5]) if spec.dtype != "BYTES" else TEXTS)
            instance[spec.name] = nested(shape, value)
        instances.append(instance)
    return inputs, instances


class Desk:
    """A dispatcher that answers with what it is asked for, in the types of the outputs."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        self.rules = InputRules(inputs=info.inputs, outputs=info.outputs, batchable=False)

    def catalog(self) -> dict[str, ModelInfo]:
        return {"m": self.info}

    def submit(self, *, inputs: dict[str, np.ndarray], done: Any, **_: Any) -> None:
        self.rules.measure(inputs)
        outputs = {f"{name}{copy}": array for name, array in inputs.items() for copy in range(2)}
        done(Outcome(outputs=outputs, version=1))


@settings(max_examples=400, deadline=None)
@given(
    asked=likely() | st.tuples(likely().map(lambda both: both[0]), INSTANCES),
    compat=st.sampled_from(["sane", "strict"]),
    answers=st.sampled_from(["json", "arrow"]),
    is_image=st.booleans(),
)
def test_one_answer_and_no_bug(
    asked: tuple[tuple[TensorSpec, ...], Any], compat: Any, answers: Any, is_image: bool
) -> None:
    inputs, instances = asked
    info = ModelInfo(
        name="m", versions=(1,), inputs=inputs, outputs=inputs, engine="e", ready_versions=(1,)
    )
    zoo = ZooDialect(enabled=True, default_model="m", compat=compat, model_answers=answers)
    terms = {"m": ModelTerms(pre=(ImageStep(input="a"),) if is_image else ())}
    desk: Any = Desk(info)
    api = Api(
        dispatcher=desk, desk=desk, metrics=Metrics(), deadline_s=10, serves=lambda _: True,
        more_routes=ZooRoutes(zoo, models=terms).find,
    )  # fmt: skip
    for path in (b"/predict", b"/models/m/versions/1/predict"):
        told: list[HttpResponse] = []
        body = json.dumps({"instances": instances}).encode()
        api.handle(HttpRequest(b"POST", path, {}, body, b"", 1, "192.0.2.1"), told.append)
        (answer,) = told
        said = b"".join(answer.body)
        assert api.in_flight == 0
        event(f"{compat} {answer.status}")
        assert answer.status in {200, 400, 413} or (
            compat == "strict" and said.startswith(b"Internal Error: no instance can be found")
        ), said
        if answer.status == 200:
            predictions = json.loads(said)["predictions"]
            assert len(predictions) in {len(instances), 1}
            for each in predictions:
                json.loads(each)


@settings(max_examples=200, deadline=None)
@given(
    dtype=st.sampled_from(sorted(NUMPY_OF)),
    rows=st.lists(st.integers(0, 1), min_size=2, max_size=6),
)
def test_numbers_come_back_as_they_were_sent(dtype: str, rows: list[int]) -> None:
    (spec,) = tensors([(dtype, (-1,))])
    info = ModelInfo(
        name="m", versions=(1,), inputs=(spec,), outputs=(spec,), engine="e", ready_versions=(1,)
    )
    zoo = ZooDialect(enabled=True)
    desk: Any = Desk(info)
    api = Api(
        dispatcher=desk, desk=desk, metrics=Metrics(), deadline_s=10, serves=lambda _: True,
        more_routes=ZooRoutes(zoo, models={"m": ModelTerms()}).find,
    )  # fmt: skip
    told: list[HttpResponse] = []
    body = json.dumps({"instances": [{"a": each} for each in rows]}).encode()
    path = b"/models/m/versions/1/predict"
    api.handle(HttpRequest(b"POST", path, {}, body, b"", 1, "192.0.2.1"), told.append)
    predictions = json.loads(b"".join(told[0].body))["predictions"]
    values = [json.loads(json.loads(each)["value"]) for each in predictions]
    assert [[first["data"], second["data"]] for first, second in values] == [
        [[each], [each]] for each in rows
    ]
