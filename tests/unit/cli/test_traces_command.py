"""Lines of a log to OTLP: what is a span, what a request says, what is sent again and what is not."""

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from wardian._internal.log import JsonLines
from wardian.cli.traces.collector import Answer, Endpoint, _seconds, parse_endpoint
from wardian.cli.traces.lines import MAX_LINE_BYTES, Span, parse_span
from wardian.cli.traces.otlp import Rejected, encode_spans, parse_response
from wardian.cli.traces.reading import Piece, Reader, Tail, read_pieces
from wardian.cli.traces.sending import Sender
from wardian.cli.traces.waiting import AGE_S, BATCH, Waiting
from wardian.errors import ConfigError, ConnectionLost, FormatError

TRACE, SPAN, PARENT = "4b" * 16, "0a" * 8, "b7" * 8
REQUEST = {
    "time": 1.5, "level": "info", "role": "frontend", "event": "span", "name": "request",
    "trace": TRACE, "span": SPAN, "parent": PARENT, "start_ns": 1_800_000_000_123_456_789,
    "duration_ns": 2_000_001, "route": "infer", "model": "digits", "version": 3, "status": 200,
}  # fmt: skip
QUEUE = {key: value for key, value in REQUEST.items() if key not in ("route", "model", "version",
         "status")} | {"name": "queue"}  # fmt: skip


def line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def span(number: int = 1) -> Span:
    found = parse_span(line(QUEUE | {"span": f"{number:016x}"}))
    assert found is not None
    return found


def test_what_a_front_end_logs_is_read() -> None:
    record = logging.LogRecord("wardian.serving.traces", logging.INFO, "", 0, "span", None, None)
    record.fields = {key: REQUEST[key] for key in list(REQUEST)[4:]}
    found = parse_span(JsonLines(role="frontend").format(record).encode())
    assert found is not None
    assert (found.name, found.start_ns, found.status) == ("request", REQUEST["start_ns"], 200)


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"\n",
        b"span\n",
        b'"span"\n',
        b'["span"]\n',
        b'{"span": "span"}\n',
        b'{"event": "worker.admitted", "why": "span"}\n',
        b'{"event": ["span"]}\n',
        b'{"event": "span"',
        b'{"event": "span", "x": ' + b"[" * 4000 + b"\n",
        bytes(range(256)),
    ],
)
def test_what_is_no_span_passes_by(other: bytes) -> None:
    assert parse_span(other) is None


WRONG: list[dict[str, Any]] = [
    {"extra": 1},
    {"name": "other"},
    {"trace": TRACE.upper()},
    {"trace": TRACE + "0"},
    {"trace": TRACE + "\n"},
    {"trace": "0" * 32},
    {"span": "0" * 16},
    {"parent": "0" * 16},
    {"parent": None},
    {"start_ns": -1},
    {"start_ns": 2**62 + 1},
    {"start_ns": 2**80},
    {"start_ns": 1.5},
    {"start_ns": "1"},
    {"duration_ns": -1},
    {"duration_ns": True},
    {"route": "/v2/models"},
    {"route": None},
    {"model": "x\x1b[2J"},
    {"model": "x" * 65},
    {"model": None},
    {"version": -1},
    {"version": None},
    {"status": 99},
    {"status": 600},
    {"status": None},
    {"role": "front end"},
    {"name": "queue"},  # with what a request alone tells
]


@pytest.mark.parametrize("change", WRONG)
def test_what_says_it_is_a_span_and_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_span(line(REQUEST | change))


@pytest.mark.parametrize("missing", [key for key in REQUEST if key != "event"])
def test_a_span_has_all_its_fields(missing: str) -> None:
    with pytest.raises(FormatError):
        parse_span(line({key: value for key, value in REQUEST.items() if key != missing}))


def test_the_request_exactly() -> None:
    request, queue = parse_span(line(REQUEST)), parse_span(line(QUEUE))
    assert request is not None
    assert queue is not None
    told = json.loads(encode_spans([request, queue], service="front"))
    (resource,) = told.pop("resourceSpans")
    assert told == {}
    service = {"key": "service.name", "value": {"stringValue": "front"}}
    assert resource["resource"] == {"attributes": [service]}
    (scoped,) = resource["scopeSpans"]
    assert scoped["scope"]["name"] == "wardian"
    assert scoped["spans"] == [
        {
            "traceId": TRACE, "spanId": SPAN, "parentSpanId": PARENT, "name": "infer digits",
            "kind": 2, "startTimeUnixNano": "1800000000123456789",
            "endTimeUnixNano": "1800000000125456790",
            "attributes": [
                {"key": "wardian.route", "value": {"stringValue": "infer"}},
                {"key": "wardian.model", "value": {"stringValue": "digits"}},
                {"key": "wardian.model_version", "value": {"intValue": "3"}},
                {"key": "http.response.status_code", "value": {"intValue": "200"}},
            ],
            "status": {},
        },
        {
            "traceId": TRACE, "spanId": SPAN, "parentSpanId": PARENT, "name": "queue", "kind": 1,
            "startTimeUnixNano": "1800000000123456789",
            "endTimeUnixNano": "1800000000125456790", "attributes": [], "status": {},
        },
    ]  # fmt: skip


def test_the_frozen_vector() -> None:
    vector = Path(__file__).parents[2] / "vectors" / "spans"
    spans = [parse_span(each) for each in (vector / "log.jsonl").read_bytes().splitlines()]
    made = json.loads(encode_spans([each for each in spans if each is not None], service="front"))
    del made["resourceSpans"][0]["scopeSpans"][0]["scope"]["version"]
    assert made == json.loads((vector / "otlp.json").read_bytes())


@pytest.mark.parametrize(("status", "told"), [(499, {}), (500, {"code": 2}), (504, {"code": 2})])
def test_an_error_is_one_of_ours(status: int, told: dict[str, int]) -> None:
    found = parse_span(line(REQUEST | {"status": status, "model": ""}))
    assert found is not None
    sent = json.loads(encode_spans([found], service="x"))["resourceSpans"][0]["scopeSpans"][0]
    assert (sent["spans"][0]["status"], sent["spans"][0]["name"]) == (told, "infer")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", Rejected(0, "")),
        (b"{}", Rejected(0, "")),
        (b'{"partialSuccess":{}}', Rejected(0, "")),
        (b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"a\\u001b"}}', Rejected(2, "a?")),
        (b'{"partialSuccess":{"rejectedSpans":3}}', Rejected(3, "")),
        (b'{"partialSuccess":{"rejectedSpans":99}}', Rejected(5, "")),
        (b'{"partialSuccess":{"rejectedSpans":-9}}', Rejected(0, "")),
        (b'{"partialSuccess":{"rejectedSpans":"x"}}', Rejected(0, "")),
        (b'{"partialSuccess":{"rejectedSpans":"' + b"9" * 5000 + b'"}}', Rejected(0, "")),
        (b'{"partialSuccess":7}', Rejected(0, "")),
        (b"\x0a\x00", Rejected(0, "")),
        (b"[" * 5000, Rejected(0, "")),
        (b"\xff" * 10, Rejected(0, "")),
    ],
)
def test_what_a_collector_says_of_a_part(body: bytes, told: Rejected) -> None:
    assert parse_response(body, sent=5) == told


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("http://localhost:4318/v1/traces", (False, "localhost", 4318, "/v1/traces")),
        ("http://localhost:4318", (False, "localhost", 4318, "/v1/traces")),
        ("https://otel.example/", (True, "otel.example", 443, "/v1/traces")),
        ("https://[::1]:1/a/b", (True, "::1", 1, "/a/b")),
    ],
)
def test_endpoints(text: str, where: tuple[bool, str, int, str]) -> None:
    tls, host, port, path = where
    assert parse_endpoint(text) == Endpoint(tls=tls, host=host, port=port, path=path)


@pytest.mark.parametrize(
    "text",
    [
        "", "localhost:4318", "ftp://x", "http://", "http:///v1/traces", "http://x:0", "http://x:no",
        "http://x:70000", "http://[::1", "http://x/a b", "http://x/\r\nHost: y", "http://x/?q",
        "http://x/#f", "http://x?", "http://\u00e9", "file:///etc/passwd", "grpc://x:4317",
    ],
)  # fmt: skip
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_endpoint(text)


def test_a_password_in_an_endpoint_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_endpoint("https://user:hunter2@otel.example/v1/traces")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("7", 7), ("9999999", 300), ("9" * 5000, 0), ("-1", 0), ("\u0667", 0),
     ("Fri, 31 Dec 1999 23:59:59 GMT", 0)],
)  # fmt: skip
def test_retry_after(text: str, seconds: int) -> None:
    assert _seconds(text) == seconds


def pieces_of(raw: bytes) -> list[Piece]:
    at = 0

    def read_line(most: int) -> bytes:
        nonlocal at
        end = raw.find(b"\n", at) + 1 or len(raw)
        start, at = at, min(end, at + most)
        return raw[start:at]

    return list(read_pieces(read_line))


def test_long_lines_pass_in_pieces_and_are_no_spans() -> None:
    hidden = b"x" * MAX_LINE_BYTES + line(REQUEST)  # a span behind what fits
    raw = b"one\n" + hidden + b"two\n\n" + b"y" * (3 * MAX_LINE_BYTES) + b"\n" + line(QUEUE)[:-1]
    pieces = pieces_of(raw)
    assert b"".join(each.raw for each in pieces) == raw
    assert [each.raw for each in pieces if each.whole] == [
        b"one\n", b"two\n", b"\n", line(QUEUE)[:-1],
    ]  # fmt: skip


def test_a_reader_parts_spans_from_the_rest() -> None:
    spans: list[Span] = []
    others: list[bytes] = []
    bad = line(REQUEST | {"extra": 1})
    lines = [b"a\n", line(QUEUE), bad, b"\xff\xfe\n", line(REQUEST), b""]
    reader = Reader(spans.append, others=others.append)
    reader.read(lambda _most: lines.pop(0))
    assert [each.name for each in spans] == ["queue", "request"]
    assert others == [b"a\n", bad, b"\xff\xfe\n"]
    assert reader.malformed == 1


class Growing:
    """What happens to a file while a `Tail` waits for it."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)

    def sleep(self, _seconds: float) -> None:
        self.steps.pop(0)()


def test_a_file_is_followed_past_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "frontend.jsonl"
    path.write_bytes(b"before\n")

    def write(text: bytes) -> Any:
        def step() -> None:
            with path.open("ab") as file:
                file.write(text)

        return step

    def rotate() -> None:
        path.rename(tmp_path / "old")

    growing = Growing(
        write(b"hal"), write(b"f\n"), rotate, write(b"new\n"), lambda: path.write_bytes(b"cut\n")
    )
    with Tail(path, sleep=growing.sleep) as tail:
        told = [tail.read_line(100) for _ in range(2)]
        path.write_bytes(b"")
        told.append(tail.read_line(100))
    assert told == [b"half\n", b"new\n", b"cut\n"]
    assert growing.steps == []


def test_a_file_that_is_not_there_yet_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "later"
    with Tail(path, sleep=Growing(lambda: path.write_bytes(b"0123456789\n")).sleep) as tail:
        assert [tail.read_line(4) for _ in range(3)] == [b"0123", b"4567", b"89\n"]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_full_line_lets_go_of_the_oldest() -> None:
    waiting = Waiting(drops=True, most=3, clock=Clock())
    for number in range(1, 11):
        waiting.put(span(number))
    waiting.close()
    assert [int(each.span, 16) for each in waiting.take()] == [8, 9, 10]
    assert (waiting.dropped, waiting.take()) == (7, [])


class Late(Clock):
    """Each look is a batch's age later."""

    def __call__(self) -> float:
        self.now += AGE_S
        return self.now


def test_a_file_waits_for_room() -> None:
    waiting = Waiting(drops=False, most=2, clock=Late())
    writer = threading.Thread(target=lambda: [waiting.put(span(n)) for n in range(1, 6)])
    writer.start()
    taken: list[int] = []
    while len(taken) < 5:
        taken += [int(each.span, 16) for each in waiting.take()]
    writer.join()
    assert (taken, waiting.dropped) == ([1, 2, 3, 4, 5], 0)


def test_a_batch_is_full_or_old() -> None:
    clock = Clock()
    waiting = Waiting(drops=True, clock=clock)
    for number in range(1, BATCH + 3):
        waiting.put(span(number))
    assert len(waiting.take()) == BATCH
    clock.now = AGE_S
    assert len(waiting.take()) == 2


def test_what_was_read_comes_before_why_reading_failed() -> None:
    waiting = Waiting(drops=True)
    waiting.put(span())
    waiting.close(OSError("gone"))
    waiting.put(span(2))  # too late
    assert len(waiting.take()) == 1
    with pytest.raises(OSError, match="gone"):
        waiting.take()


class Sending:
    """A sender whose collector answers as told, in a time of its own."""

    def __init__(self, *answers: Answer | BaseException, patience_s: float | None = 60) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.said: list[str] = []
        self.slept: list[float] = []
        self.clock = Clock()
        self.sender = Sender(
            self.post, service="x", say=self.said.append, patience_s=patience_s, sleep=self.sleep,
            clock=self.clock,
        )  # fmt: skip
        self.waiting = Waiting(drops=True)

    def post(self, body: bytes) -> Answer:
        self.bodies.append(body)
        answer = self.answers.pop(0) if self.answers else Answer(200, 0, b"{}")
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.now += seconds

    def run(self, spans: int = 3) -> tuple[int, int, int]:
        for number in range(1, spans + 1):
            self.waiting.put(span(number))
        self.waiting.close()
        self.sender.send(self.waiting)
        return self.counts

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.sender.sent, self.sender.refused, self.sender.lost


def test_everything_is_sent_in_batches() -> None:
    sending = Sending()
    assert sending.run(2 * BATCH + 1) == (2 * BATCH + 1, 0, 0)
    assert len(sending.bodies) == 3
    assert sending.said == []


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_be_sent_again_is(status: int) -> None:
    sending = Sending(Answer(status, 0, b""), ConnectionLost("refused"), Answer(status, 40, b""))
    assert sending.run() == (3, 0, 0)
    assert len(set(sending.bodies)) == 1
    assert len(sending.bodies) == 4
    assert sending.slept[2] == 40
    assert sending.said == [
        f"collector: it answers {status}; spans wait",
        "collector: refused; spans wait",
        f"collector: it answers {status}; spans wait",
        "collector: it is there",
    ]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500, 501, 505])
def test_what_is_refused_for_good_is_sent_once(status: int) -> None:
    sending = Sending(Answer(status, 0, b""))
    assert sending.run(BATCH + 1) == (1, BATCH, 0)
    assert len(sending.bodies) == 2
    assert f"refused {BATCH} spans with the status {status}" in sending.said[0]


def test_a_part_that_is_rejected_is_not_sent_again() -> None:
    said = b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}'
    sending = Sending(Answer(200, 0, said))
    assert sending.run() == (1, 2, 0)
    assert sending.said == ["collector: refused 2 spans: too old"]


def test_patience_ends_and_pauses_grow() -> None:
    sending = Sending(*[ConnectionLost("away")] * 100)
    with pytest.raises(ConnectionLost, match="away"):
        sending.run()
    assert sending.counts == (0, 0, 3)
    assert 60 <= sending.clock.now < 91
    assert 4 <= len(sending.slept) < 12
    assert all(1 <= pause <= 30 for pause in sending.slept)
    assert sending.said == ["collector: away; spans wait"]  # once an outage


def test_whoever_follows_waits_for_ever() -> None:
    sending = Sending(*[ConnectionLost("away")] * 500, patience_s=None)
    assert sending.run() == (3, 0, 0)
    assert sending.clock.now > 3600


def test_an_end_by_a_signal_tries_once_more() -> None:
    sending = Sending(KeyboardInterrupt(), patience_s=None)
    with pytest.raises(KeyboardInterrupt):
        sending.run(BATCH + 2)
    sending.sender.finish(sending.waiting)
    assert sending.counts == (BATCH + 2, 0, 0)

    away = Sending(KeyboardInterrupt(), *[ConnectionLost("away")] * 9, patience_s=None)
    with pytest.raises(KeyboardInterrupt):
        away.run(BATCH + 2)
    away.sender.finish(away.waiting)
    assert away.counts == (0, 0, BATCH + 2)
    assert len(away.bodies) == 2
