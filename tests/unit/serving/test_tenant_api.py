"""The API where callers have to be known: who sees what, and what nobody learns."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from simulators.tenants import Clock, key_of, terms, verified

from wardian._internal.metrics import Metrics
from wardian.errors import ConnectionLost, QueueFull, RequestError
from wardian.inference.spec import TensorSpec
from wardian.serving.api.table import ROUTES
from wardian.serving.api.tenant_api import OPEN_TO_ALL, TenantApi
from wardian.serving.catalog import ModelInfo
from wardian.serving.dispatch import Outcome
from wardian.serving.http.messages import HttpRequest, HttpResponse

TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
INFER = json.dumps({"inputs": [TENSOR]}).encode()
ROWS = json.dumps({"instances": [[1, 2]]}).encode()
NOBODY = ""


def info(name: str, *, ready: bool = True) -> ModelInfo:
    x, y = (TensorSpec(name=each, dtype="FP32", shape=(-1, 2)) for each in "xy")
    return ModelInfo(
        name=name, versions=(1,), inputs=(x,), outputs=(y,), engine="fake 1",
        ready_versions=(1,) if ready else (),
    )  # fmt: skip


class World:
    """An API with three models and three tenants, over a dispatcher that answers when told."""

    def __init__(self, **bob: Any) -> None:
        self.models = {name: info(name) for name in ("digits", "faces", "secret")}
        self.clock = Clock()
        self.roster = self.clock.roster(
            terms("alice", "digits", "planned"),
            terms("bob", "faces", "digits", **bob),
            terms("root", metrics=True),
        )
        self.calls: list[dict[str, Any]] = []
        self.raises: Exception | None = None
        self.metrics = Metrics()
        self.now = 0.0
        self.api = TenantApi(
            dispatcher=self,
            desk=self,
            metrics=self.metrics,
            deadline_s=10,
            serves={b"spki"}.__contains__,
            roster=self.roster,
            max_open=8,
            clock=self.tick,
        )

    def tick(self) -> float:
        self.now += 1.0  # older than any description may be
        return self.now

    def catalog(self) -> dict[str, ModelInfo]:
        return self.models

    def submit(self, **call: Any) -> None:
        if self.raises:
            raise self.raises
        self.calls.append(call)

    def answer(self, nonce: bytes, *, tls_spki: bytes, connection: int, done: Any) -> None:
        del nonce, tls_spki, connection
        done(HttpResponse(body=(b"{}",)))

    def start(
        self, who: str, method: str, target: str, body: bytes = b"", **more: str
    ) -> list[HttpResponse]:
        answers: list[HttpResponse] = []
        headers = {b"authorization": b"Bearer " + key_of(who)} if who else {}
        headers |= {name.replace("_", "-").encode(): text.encode() for name, text in more.items()}
        request = HttpRequest(
            method.encode(), target.encode(), headers, body, b"spki", 7, "192.0.2.1"
        )
        self.api.handle(request, answers.append)
        return answers

    def ask(self, who: str, method: str, target: str, body: bytes = b"") -> tuple[int, str]:
        (response,) = self.start(who, method, target, body)
        return response.status, b"".join(response.body).decode()

    def finish(self, call: int = -1, value: float = 3.0) -> None:
        outputs = {"y": np.full((1, 2), value, "f4")}
        self.calls[call]["done"](Outcome(outputs=outputs, version=1))


@pytest.fixture
def world() -> World:
    return World()


def every_route(model: str) -> Iterator[tuple[str, str, bytes]]:
    for path, route in ROUTES.items():
        method = "POST" if b"POST" in route.methods else "GET"
        body = {"infer": INFER, "predict": ROWS}.get(route.name, b"")
        yield method, path.replace("*", model), body


def test_nobody_unknown_gets_anything_but_three_answers(world: World) -> None:
    for method, path, body in every_route("digits"):
        status, text = world.ask(NOBODY, method, path, body)
        if path.encode() in OPEN_TO_ALL:
            assert status in (200, 400)  # without a nonce there is no evidence
        else:
            assert status == 401
            assert json.loads(text)["code"] == "no_credentials"
        assert not any(name in text.replace(path, "") for name in world.models)
    assert world.calls == []


@pytest.mark.parametrize(
    "path",
    ["/v2/health/live/", "/v2/health/%6cive", "//v2/health/live", "/v2/health/live;x", "/nowhere",
     "/v1/models", "/V2/health/live", "/v2/health/live/../../models/digits"],
)  # fmt: skip
def test_other_spellings_open_nothing(world: World, path: str) -> None:
    assert world.ask(NOBODY, "GET", path)[0] == 401


def test_an_unknown_caller_is_told_how_to_be_known(world: World) -> None:
    (response,) = world.start("eve", "GET", "/v1/models")
    assert response.status == 401
    assert b"WWW-Authenticate: Bearer" in response.headers
    assert json.loads(response.body[0])["code"] == "unknown_credentials"


def test_readiness_names_no_model_to_a_stranger(world: World) -> None:
    world.models["secret"] = info("secret", ready=False)
    status, text = world.ask(NOBODY, "GET", "/v2/health/ready")
    assert (status, "secret" in text) == (503, False)
    assert world.ask("alice", "GET", "/v2/models/digits/ready")[0] == 200
    assert world.ask("root", "GET", "/v2/models/secret/ready")[0] == 503


def test_without_a_list_nobody_is_served_and_readiness_says_so(world: World) -> None:
    world.clock.pass_s(8 * 86_400)
    status, text = world.ask("alice", "GET", "/v1/models")
    assert (status, json.loads(text)["code"]) == (503, "no_tenants_list")
    assert world.ask(NOBODY, "GET", "/v2/health/ready")[0] == 503
    assert world.ask(NOBODY, "GET", "/v2/health/live")[0] == 200


def test_a_tenant_sees_its_models(world: World) -> None:
    named = json.loads(world.ask("alice", "GET", "/v1/models")[1])["models"]
    index = json.loads(world.ask("bob", "POST", "/v2/repository/index")[1])
    every = json.loads(world.ask("root", "GET", "/v1/models")[1])["models"]
    assert [each["name"] for each in named] == ["digits"]
    assert {each["name"] for each in index} == {"digits", "faces"}
    assert [each["name"] for each in every] == ["digits", "faces", "secret"]


def test_what_is_not_allowed_is_not_there_to_the_letter(world: World) -> None:
    """Every route, the same status, headers and text as for a name that nobody has."""
    for theirs, nobodys in zip(every_route("secret"), every_route("absent"), strict=True):
        (forbidden,), (missing,) = world.start("alice", *theirs), world.start("alice", *nobodys)
        as_missing = b"".join(forbidden.body).replace(b"secret", b"absent")
        assert (forbidden.status, forbidden.headers) == (missing.status, missing.headers)
        assert as_missing == b"".join(missing.body)
        assert b"faces" not in as_missing
        if "absent" in nobodys[1]:
            assert missing.status == 404
    assert world.calls == []


def test_a_version_of_what_is_not_allowed_is_not_there(world: World) -> None:
    for version in ("1", "7", "x"):
        found = {
            world.ask("alice", "POST", f"/v2/models/{name}/versions/{version}/infer", INFER)
            for name in ("secret", "absent")
        }
        assert len({(status, text.replace("secret", "absent")) for status, text in found}) == 1


def test_a_model_that_is_allowed_and_not_there_names_no_other(world: World) -> None:
    """The dispatcher's own words would name every model."""
    status, text = world.ask("alice", "POST", "/v2/models/planned/infer", INFER)
    assert status == 404
    assert "faces" not in text
    assert "serves: digits" in text


def test_a_model_that_goes_meanwhile_names_no_other(world: World) -> None:
    world.raises = RequestError("no model; there is: faces, secret", status=404)
    world.models.pop("digits")
    world.api.service.of_caller({b"x-api-key": key_of("alice")}, "x")._infos_at = 1e9
    status, text = world.ask("alice", "POST", "/v2/models/digits/infer", INFER)
    assert (status, "secret" in text) == (404, False)


def test_the_same_steps_for_both(world: World) -> None:
    """No class of time tells them apart: neither asks the dispatcher, nor looks longer."""
    took = {}
    for name in ("secret", "absent"):
        before = world.now
        world.ask("alice", "POST", f"/v2/models/{name}/infer", INFER)
        took[name] = world.now - before
    assert took["secret"] == took["absent"]


def test_metrics_are_for_whom_the_list_says(world: World) -> None:
    world.start("alice", "POST", "/v2/models/digits/infer", INFER)
    world.finish()
    for _ in range(3):
        world.ask("alice", "POST", "/v2/models/secret/infer", INFER)
        world.ask("eve", "POST", "/v2/models/secret/infer", INFER)
    status, text = world.ask("alice", "GET", "/metrics")
    assert (status, "secret" in text) == (403, False)
    status, text = world.ask("root", "GET", "/metrics")
    assert status == 200
    assert 'model="digits"' in text
    assert 'model="secret"' not in text  # nobody who may ask it did
    assert world.api.known.outcomes()[("alice", "accepted")] == 1
    assert world.api.known.failures()[("unknown_credentials",)] == 3


def test_a_request_is_its_tenant_s_whatever_its_connection(world: World) -> None:
    for who in ("alice", "bob", "alice"):
        world.start(who, "POST", "/v2/models/digits/infer", INFER)
    assert [call["tenant"] for call in world.calls] == ["alice", "bob", "alice"]


def test_answers_go_to_who_asked_whatever_ids_and_keys_say(world: World) -> None:
    """One id, one idempotency key, one connection: two tenants, two answers."""
    body = json.dumps({"id": "1", "inputs": [TENSOR]}).encode()
    same = {"idempotency_key": "ab" * 16}
    alice = world.start("alice", "POST", "/v2/models/digits/infer", body, **same)
    bob = world.start("bob", "POST", "/v2/models/digits/infer", body, **same)
    assert len(world.calls) == 2
    world.finish(1, value=2.0)
    assert (alice, len(bob)) == ([], 1)
    world.finish(0, value=1.0)
    data = [json.loads(b"".join(each[0].body))["outputs"][0]["data"] for each in (alice, bob)]
    assert data == [[1.0, 1.0], [2.0, 2.0]]


def test_each_limit_answers_429_with_its_word() -> None:
    world = World(rate_per_s=1.0, burst=4, max_open=1, quota=2)
    asked = ("bob", "POST", "/v2/models/digits/infer", INFER)
    assert world.start(*asked) == []
    refused = [world.start(*asked)[0]]
    world.finish()
    assert world.start(*asked) == []
    world.finish()
    refused += [world.start(*asked)[0], world.start("bob", "GET", "/v1/models")[0]]
    assert [json.loads(each.body[0])["code"] for each in refused] == [
        "too_many_open", "quota_exhausted", "rate_limited",
    ]  # fmt: skip
    assert all(each.status == 429 and b"Retry-After: " in each.headers for each in refused)
    assert world.start("alice", "POST", "/v2/models/digits/infer", INFER) == []


def test_no_tenant_takes_all_that_may_wait(world: World) -> None:
    """Of eight places one takes four, the next two; and all come back."""
    took = dict.fromkeys(("alice", "bob", "root"), 0)
    for who in took:
        while not world.start(who, "POST", "/v2/models/digits/infer", INFER):
            took[who] += 1
    assert took == {"alice": 4, "bob": 2, "root": 1}
    assert world.api.in_flight == 7
    for number in range(7):
        world.finish(number)
    assert world.api.in_flight == 0
    assert all(account.open == 0 for _, account in world.roster.accounts())


@pytest.mark.parametrize(
    "error", [QueueFull("full"), RequestError("no", status=503), KeyError("x")]
)
def test_what_is_not_accepted_holds_no_place(world: World, error: Exception) -> None:
    world.raises = error
    for _ in range(20):
        (response,) = world.start("alice", "POST", "/v2/models/digits/infer", INFER)
        assert response.status in (429, 503, 500)
        assert b"share_taken" not in response.body[0]
    assert world.api.in_flight == 0


def test_an_error_gives_the_place_back(world: World) -> None:
    world.start("alice", "POST", "/v2/models/digits/infer", INFER)
    world.start("alice", "POST", "/v1/models/digits:predict", ROWS)
    for call in world.calls:
        call["done"](Outcome(error=ConnectionLost("gone")))
    assert world.api.in_flight == 0


def test_a_key_that_is_taken_out_ends_at_once(world: World) -> None:
    before = world.api.service.of_caller({b"x-api-key": key_of("alice")}, "192.0.2.1")
    assert world.start("alice", "POST", "/v2/models/digits/infer", INFER) == []
    world.roster.adopt(verified(terms("bob", "faces"), now=world.clock.now, serial=2))
    assert world.ask("alice", "GET", "/v1/models")[0] == 401
    with pytest.raises(RequestError) as refused:  # a stream that began before
        before.submit(
            model="digits", version="", inputs={}, outputs=None, timeout_s=None, connection=1,
            done=print,
        )  # fmt: skip
    assert refused.value.status == 401
    world.finish()  # what was accepted is answered
    assert world.api.in_flight == 0


def test_terms_change_without_a_new_connection(world: World) -> None:
    assert world.ask("alice", "GET", "/v2/models/faces")[0] == 404
    world.roster.adopt(verified(terms("alice", "faces"), now=world.clock.now, serial=2))
    assert world.ask("alice", "GET", "/v2/models/faces")[0] == 200
    assert world.ask("alice", "GET", "/v2/models/digits")[0] == 404


def test_bytes_are_counted_of_the_inputs() -> None:
    world = World(max_bytes_per_s=8)
    asked = ("bob", "POST", "/v2/models/digits/infer", INFER)
    assert world.start(*asked) == []
    (response,) = world.start(*asked)
    assert json.loads(response.body[0])["code"] == "bytes_limited"
