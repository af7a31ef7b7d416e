"""Which inferences are traced, and what stands in the log of them: times, and nothing else."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from simulators.data_plane import LANES, MemoryQueue, Pipe, ToyModel, fails_on, sender

from wardian._internal.log import JsonLines
from wardian._internal.metrics import TRACES, Metrics
from wardian.serving import traces
from wardian.serving.api.routes import Api
from wardian.serving.dispatch import Dispatcher, Outcome
from wardian.serving.http.messages import HttpRequest, HttpResponse
from wardian.serving.traces import RATE_PER_S, Trace, TraceParent, Tracer, parse_traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01".encode()
CANARY = "canary-7f3a"


@pytest.mark.parametrize("flags", [b"01", b"03", b"ff"])
def test_a_sampled_traceparent(flags: bytes) -> None:
    assert parse_traceparent(GOOD[:-2] + flags) == TraceParent(TRACE, PARENT)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        GOOD[:-2] + b"00",  # not sampled
        GOOD[:-2] + b"02",
        GOOD[:-1],
        GOOD + b"-",
        GOOD + b"0",
        GOOD + b"\n",
        b" " + GOOD,
        GOOD.upper(),
        b"01" + GOOD[2:],
        b"ff" + GOOD[2:],
        GOOD + b", " + GOOD,  # given twice
        GOOD.replace(b"-", b"_"),
        GOOD.replace(TRACE.encode(), b"0" * 32),
        GOOD.replace(PARENT.encode(), b"0" * 16),
        GOOD.replace(b"4b", b"\xd9\xa4b"),  # a digit, elsewhere
        b"00-" + b"a" * 10_000,
        bytes(range(256)),
    ],
)
def test_whatever_else_is_as_if_it_were_not_there(value: bytes) -> None:
    assert parse_traceparent(value) is None


@pytest.mark.parametrize("at", range(len(GOOD)))
def test_a_flipped_bit_is_another_id_or_nothing(at: int) -> None:
    for bit in range(8):
        flipped = bytearray(GOOD)
        flipped[at] ^= 1 << bit
        found = parse_traceparent(bytes(flipped))
        assert found is None or f"00-{found.trace}-{found.parent}-".encode() == flipped[:-2]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def unix_ns(self) -> int:
        return 1_800_000_000_000_000_000 + int((self.now - 1000) * 1e9)


def spans_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == "span"]  # type: ignore[attr-defined]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_nobody_floods_the_log(log: pytest.LogCaptureFixture) -> None:
    clock, metrics = Clock(), Metrics()
    tracer = Tracer(metrics=metrics, clock=clock)
    begun = [tracer.begin(GOOD) for _ in range(1000)]
    assert sum(each is not None for each in begun) == RATE_PER_S
    clock.now += 0.1
    assert sum(tracer.begin(GOOD) is not None for _ in range(1000)) == RATE_PER_S // 10
    clock.now += 3600  # nothing is saved up
    assert sum(tracer.begin(GOOD) is not None for _ in range(1000)) == RATE_PER_S
    text = metrics.render().decode()
    assert f'{TRACES}{{outcome="written"}} 105.0' in text
    assert f'{TRACES}{{outcome="limited"}} 2895.0' in text


def test_where_spans_are_not_logged_nothing_is_traced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    metrics = Metrics()
    assert Tracer(metrics=metrics).begin(GOOD) is None
    assert f"{TRACES}{{" not in metrics.render().decode()


def begin(clock: Clock) -> Trace:
    trace = Tracer(metrics=Metrics(), clock=clock, unix_ns=clock.unix_ns).begin(GOOD)
    assert trace is not None
    return trace


def test_the_lines_exactly(log: pytest.LogCaptureFixture) -> None:
    clock, outcomes = Clock(), list[Outcome]()
    trace = begin(clock)
    done = trace.through(outcomes.append)
    done.note(accepted=1000.25, sent=1000.5, ended=1001.5)
    outcome = Outcome(outputs={}, version=3)
    done(outcome)
    clock.now = 1002.0
    trace.end(route="infer", model="digits", status=200, started=1000.0)
    assert outcomes == [outcome]
    request, queue, worker = spans_of(log)
    start = 1_800_000_000_000_000_000
    root = request.pop("span")
    assert request == {
        "name": "request", "trace": TRACE, "parent": PARENT, "start_ns": start,
        "duration_ns": 2_000_000_000, "route": "infer", "model": "digits", "version": 3,
        "status": 200,
    }  # fmt: skip
    ids = {root, queue.pop("span"), worker.pop("span")}
    assert len(ids) == 3
    assert all(len(each) == 16 and int(each, 16) for each in ids)
    assert queue == {
        "name": "queue", "trace": TRACE, "parent": root, "start_ns": start + 250_000_000,
        "duration_ns": 250_000_000,
    }  # fmt: skip
    assert worker == {
        "name": "worker", "trace": TRACE, "parent": root, "start_ns": start + 500_000_000,
        "duration_ns": 1_000_000_000,
    }  # fmt: skip


def test_what_was_never_sent_has_no_span_of_a_worker(log: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    trace = begin(clock)
    trace.note(accepted=1000.0, sent=0.0, ended=1001.0)
    clock.now = 1001.0
    trace.end(route="infer", model="digits", status=504, started=1000.0)
    assert [(each["name"], each["duration_ns"]) for each in spans_of(log)] == [
        ("request", 1_000_000_000),
        ("queue", 1_000_000_000),
    ]


def test_the_lines_are_those_of_the_frozen_vector(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(("5d1c2a7be0934f68", "5d1c2a7be0934f69", "5d1c2a7be0934f6a"))
    monkeypatch.setattr(traces.secrets, "token_hex", lambda _size: next(ids))
    clock = Clock()
    trace = begin(clock)
    trace.through(lambda _: None).note(accepted=1000.25, sent=1000.5, ended=1001.5)
    trace(Outcome(outputs={}, version=3))
    clock.now = 1002.0
    trace.end(route="infer", model="digits", status=200, started=1000.0)
    written = b""
    for record in log.records:
        record.created = 1_800_000_002.0
        written += JsonLines(role="frontend").format(record).encode() + b"\n"
    vector = Path(__file__).parents[2] / "vectors" / "spans" / "log.jsonl"
    assert written == vector.read_bytes()


class Served:
    """The whole API over a real dispatcher, a queue in memory and a worker with a toy model."""

    def __init__(self) -> None:
        self.queue = MemoryQueue()
        self.dispatcher = Dispatcher(
            queue=self.queue, codecs={"digits": sender()}, lanes=LANES, max_waiting=100
        )
        self.metrics = Metrics()
        self.api = Api(
            dispatcher=self.dispatcher,
            desk=self,  # type: ignore[arg-type]
            metrics=self.metrics,
            deadline_s=10,
            serves=lambda _: True,
        )
        self.answers: list[HttpResponse] = []

    async def worker(self, model: Any = None) -> Pipe:
        pipe = Pipe(self.queue.connect(), model)
        await pipe.step()
        return pipe

    def ask(self, *, value: object = 7, target: str | None = None, **headers: bytes) -> None:
        tensor = {"name": "image", "shape": [1, 4], "datatype": "FP32", "data": [value] * 4}
        named = {name.replace("_", "-").encode(): given for name, given in headers.items()}
        request = HttpRequest(
            b"POST",
            (target or "/v2/models/digits/infer").encode(),
            named,
            json.dumps({"id": CANARY, "inputs": [tensor]}).encode(),
            b"spki",
            7,
            "203.0.113.77",
        )
        self.api.handle(request, self.answers.append)

    async def until_answered(self) -> HttpResponse:
        while not self.answers:
            await asyncio.sleep(0)
        return self.answers[0]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    yield served
    served.dispatcher.close()


async def test_a_traced_inference(served: Served, log: pytest.LogCaptureFixture) -> None:
    pipe = await served.worker()
    served.ask(traceparent=GOOD, x_secret=CANARY.encode())
    with pipe.serving():
        assert (await served.until_answered()).status == 200
    request, queue, worker = spans_of(log)
    assert [request["name"], queue["name"], worker["name"]] == ["request", "queue", "worker"]
    assert {each["trace"] for each in (request, queue, worker)} == {TRACE}
    assert request["parent"] == PARENT
    assert {queue["parent"], worker["parent"]} == {request["span"]}
    ends = [each["start_ns"] + each["duration_ns"] for each in (request, queue, worker)]
    assert request["start_ns"] <= queue["start_ns"]
    assert ends[1] == worker["start_ns"]
    assert worker["start_ns"] < ends[2] <= ends[0]
    assert (request["route"], request["model"], request["version"], request["status"]) == (
        "infer", "digits", 1, 200,
    )  # fmt: skip


async def test_plain_json_is_traced_too(served: Served, log: pytest.LogCaptureFixture) -> None:
    pipe = await served.worker()
    body = json.dumps({"instances": [[1, 2, 3, 4]]}).encode()
    request = HttpRequest(
        b"POST", b"/v1/models/digits:predict", {b"traceparent": GOOD}, body, b"", 1, "::1"
    )
    served.api.handle(request, served.answers.append)
    with pipe.serving():
        assert (await served.until_answered()).status == 200
    assert [each["name"] for each in spans_of(log)] == ["request", "queue", "worker"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"traceparent": GOOD[:-1] + b"0"}, {"traceparent": b"x"}, {"tracestate": GOOD}],
)
async def test_others_are_not(
    served: Served, headers: dict[str, bytes], log: pytest.LogCaptureFixture
) -> None:
    pipe = await served.worker()
    log.clear()
    served.ask(**headers)
    with pipe.serving():
        assert (await served.until_answered()).status == 200
    assert log.records == []


async def test_nothing_of_a_request_is_in_its_spans(
    served: Served, log: pytest.LogCaptureFixture
) -> None:
    pipe = await served.worker()
    refusals = (
        {"target": f"/v2/models/{CANARY}/infer"},
        {"target": f"/v2/models/digits/infer?{CANARY}"},
        {"target": f"/v2/models/digits/versions/{CANARY}/infer"},
        {"value": CANARY},
        {"value": 7.123456789},
        {"content_type": CANARY.encode()},
    )
    with pipe.serving():
        for each in refusals:
            served.answers.clear()
            served.ask(traceparent=GOOD, authorization=CANARY.encode(), **each)
            await served.until_answered()
    spans = spans_of(log)
    assert len([each for each in spans if each["name"] == "request"]) == len(refusals)
    told = json.dumps(spans)
    for secret in (CANARY, "7.123", "203.0.113", "image", "sum", "/v2"):
        assert secret not in told, secret
    unknown = spans[0]
    assert (unknown["status"], unknown["model"], unknown["version"]) == (404, "", 0)


async def test_a_lost_worker_is_time_in_the_queue(
    served: Served, log: pytest.LogCaptureFixture
) -> None:
    """The worker's span is of the one that answered; none of a request that waits again."""
    first = await served.worker()
    served.ask(traceparent=GOOD)
    await asyncio.sleep(0)
    first.end.vanish()
    served.dispatcher.close()
    assert (await served.until_answered()).status == 503
    assert [each["name"] for each in spans_of(log)] == ["request", "queue"]


async def test_a_model_that_fails(served: Served, log: pytest.LogCaptureFixture) -> None:
    pipe = await served.worker(ToyModel(fails_on(7)))
    served.ask(traceparent=GOOD)
    with pipe.serving():
        assert (await served.until_answered()).status == 500
    request, *children = spans_of(log)
    assert (request["status"], request["version"]) == (500, 0)
    assert [each["name"] for each in children] == ["queue", "worker"]
