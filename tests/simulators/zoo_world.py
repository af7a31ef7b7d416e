"""An API with Cluster Serving's HTTP dialect over a dispatcher that answers when told."""

import json
from typing import Any

import numpy as np
from simulators.tenants import Clock, key_of, terms

from wardian._internal.agreed import ModelTerms, ZooDialect
from wardian._internal.metrics import Metrics
from wardian._internal.steps import ImageStep
from wardian.errors import WardianError
from wardian.inference.spec import TensorSpec
from wardian.serving.api.routes import Api
from wardian.serving.api.tenant_api import TenantApi
from wardian.serving.api.zoo.dialect import ZooRoutes
from wardian.serving.catalog import ModelInfo
from wardian.serving.dispatch import Outcome
from wardian.serving.http.messages import HttpRequest, HttpResponse

TEXT = b"text/plain; charset=UTF-8"
PREDICT = "/models/digits/versions/1/predict"


def spec(name: str, dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def info(name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> ModelInfo:
    return ModelInfo(
        name=name, versions=(1, 3), inputs=inputs, outputs=outputs, engine="fake 1",
        ready_versions=(1, 3),
    )  # fmt: skip


X, Y = spec("x", "FP32", -1, 2), spec("y", "FP32", -1, 2)
MODELS = (
    info("digits", (X,), (Y,)),
    info("pair", (X, spec("n", "INT64", -1)), (Y, spec("z", "INT64", -1))),
    info("whole", (spec("x", "FP32", 3),), (spec("y", "FP32", 2),)),
    info("photos", (spec("pixels", "BYTES", -1),), (Y,)),
    info("words", (spec("text", "BYTES", -1, 2),), (spec("label", "BYTES", -1),)),
    ModelInfo(name="later", versions=(), inputs=(), outputs=(), engine="", ready_versions=()),
)
TERMS = {each.name: ModelTerms() for each in MODELS} | {
    "photos": ModelTerms(pre=(ImageStep(input="pixels"),))
}


class World:
    """An API with this dialect, over a dispatcher that answers when told."""

    def __init__(self, *, tenants: bool = False, **given: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self.raises: dict[int, WardianError] = {}
        self.metrics = Metrics()
        self.models = {each.name: each for each in MODELS}
        self.now = 0.0
        zoo = ZooDialect(**{"enabled": True, "default_model": "digits", **given})
        more: dict[str, Any] = {"more_routes": ZooRoutes(zoo, models=TERMS).find}
        if tenants:
            self.roster = Clock().roster(
                terms("alice", "pair"), terms("bob", "digits", rate_per_s=1.0, burst=1)
            )
            more |= {"roster": self.roster, "max_open": 8}
        self.api = (TenantApi if tenants else Api)(
            dispatcher=self, desk=self, metrics=self.metrics, deadline_s=10,
            serves={b"spki"}.__contains__, clock=self.clock, **more,
        )  # fmt: skip

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def catalog(self) -> dict[str, ModelInfo]:
        return self.models

    def submit(self, **call: Any) -> None:
        self.calls.append(call)
        if err := self.raises.get(len(self.calls)):
            raise err

    def answer(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nobody asked for evidence")

    def start(self, method: str, target: str, body: Any = b"", who: str = "") -> list[HttpResponse]:
        answers: list[HttpResponse] = []
        headers = {b"authorization": b"Bearer " + key_of(who)} if who else {}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = HttpRequest(
            method.encode(), target.encode(), headers, raw, b"spki", 7, "192.0.2.1"
        )
        self.api.handle(request, answers.append)
        return answers

    def do(self, method: str, target: str, body: Any = b"", who: str = "") -> tuple[int, bytes]:
        (response,) = self.start(method, target, body, who)
        return response.status, b"".join(response.body)

    def predict(
        self, instances: list[Any], *outputs: Any, target: str = PREDICT
    ) -> tuple[int, bytes]:
        """Post `instances`; each inference has one of `outputs`, in reverse order."""
        answers = self.start("POST", target, {"instances": instances})
        for call, each in reversed(list(zip(self.calls, outputs, strict=True))):
            assert answers == []
            call["done"](
                Outcome(error=each) if isinstance(each, Exception)
                else Outcome(outputs=each, version=3)
            )  # fmt: skip
        (response,) = answers
        assert response.content_type == TEXT
        assert self.api.in_flight == 0
        return response.status, b"".join(response.body)


def rows(*values: Any) -> dict[str, np.ndarray]:
    return {"y": np.array(values, "f4")}


def values(body: bytes) -> list[Any]:
    """What a client reads, by the three layers of JSON."""
    return [json.loads(json.loads(each)["value"]) for each in json.loads(body)["predictions"]]
