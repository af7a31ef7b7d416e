"""The parts of the load generator that know neither sockets nor a clock."""

import json
import random
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from wardian.errors import (
    ConfigError,
    ConnectionLost,
    FormatError,
    PeerProtocolError,
)
from wardian.inference.dtypes import dtype_name
from wardian.serving.client.attempts import Moved
from wardian.serving.loadgen import histogram
from wardian.serving.loadgen.histogram import Histogram
from wardian.serving.loadgen.link import AnswerReader, Link
from wardian.serving.loadgen.load import Arrivals, ClosedLoad, OpenLoad, ramp
from wardian.serving.loadgen.payload import build_call, build_payload, load_inputs, make_inputs
from wardian.serving.loadgen.plot import draw_curve
from wardian.serving.loadgen.report import MAX_KINDS, Tally, build_report, render_reports

# The histogram


def test_percentiles_are_within_two_percent_of_the_sorted_values() -> None:
    generator = random.Random(4)
    values = [generator.lognormvariate(-6, 2) for _ in range(20_000)]
    counted = Histogram()
    for value in values:
        counted.record(value)
    values.sort()
    for percent in (0.1, 50, 90, 99, 99.9, 100):
        exact = values[max(0, -(-len(values) * percent // 100).__int__() - 1)]
        found = counted.percentile(percent)
        assert exact - 1e-6 <= found <= exact * 1.02 + 2e-6, percent
    assert counted.max_s == values[-1] == counted.percentile(100)


def test_every_microsecond_lies_in_the_bucket_that_says_so() -> None:
    at = [*range(5000), *(2**n + d for n in range(12, 32) for d in (-1, 0, 1))]
    for us in at:
        index = histogram._bucket(us)
        assert us < histogram._upper_us(index)
        assert index == 0 or us >= histogram._upper_us(index - 1)


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 1e9, float("inf")])
def test_memory_is_bounded_and_nothing_is_lost_at_the_ends(seconds: float) -> None:
    if seconds == float("inf"):
        with pytest.raises(OverflowError):
            Histogram().record(seconds)
        return
    counted = Histogram()
    counted.record(seconds)
    assert counted.count == 1
    assert counted.percentile(50) == max(seconds, 0.0)
    assert len(counted._counts) == histogram._BUCKETS


def test_an_empty_histogram_has_no_percentile_and_merging_adds_up() -> None:
    one, two = Histogram(), Histogram()
    assert one.percentile(99) is None
    one.record(0.001)
    two.record(1.0)
    one.merge(two)
    assert (one.count, one.max_s) == (2, 1.0)
    assert one.percentile(50) == pytest.approx(0.001, rel=0.02)


# Arrivals


def test_arrivals_are_poisson_and_the_same_for_a_seed() -> None:
    load = OpenLoad(rate=1000, seconds=20)
    due, missed = Arrivals(load).take(20, room=10**9)
    assert missed == 0
    assert Arrivals(load).take(20, room=10**9)[0] == due
    assert Arrivals(OpenLoad(rate=1000, seconds=20, seed=2)).take(20, room=10**9)[0] != due
    assert len(due) == pytest.approx(20_000, rel=0.03)
    gaps = np.diff(due)
    assert gaps.mean() == pytest.approx(1e-3, rel=0.03)
    assert gaps.std() == pytest.approx(1e-3, rel=0.05)  # exponential: deviation equals mean


def test_a_clock_that_jumps_forward_makes_no_list_longer_than_the_room() -> None:
    arrivals = Arrivals(OpenLoad(rate=10_000, seconds=60))
    due, missed = arrivals.take(30.0, room=100)
    assert len(due) == 100
    assert missed == pytest.approx(299_900, rel=0.01)
    assert due == sorted(due)
    assert due[0] < 0.01  # the oldest first: they have waited longest


def test_a_clock_that_jumps_back_makes_nothing_due_and_nothing_twice() -> None:
    arrivals = Arrivals(OpenLoad(rate=100, seconds=10))
    first, _ = arrivals.take(5.0, room=10**6)
    assert arrivals.take(-3.0, room=10**6) == ([], 0)
    assert arrivals.take(5.0, room=10**6) == ([], 0)
    rest, _ = arrivals.take(1e9, room=10**6)
    assert not set(first) & set(rest)
    assert arrivals.next_s is None
    assert max(rest) < 10


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 1e7])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="rate"):
        OpenLoad(rate=rate, seconds=1)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="seconds"):
        ClosedLoad(connections=1, seconds=seconds)
    with pytest.raises(ConfigError, match="connections"):
        ClosedLoad(connections=0, seconds=1)


def test_a_ramp_ends_at_the_capacity() -> None:
    assert ramp(1000)[0] == 100
    assert ramp(1000)[-1] == 1000
    for nothing in (0.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="nothing was answered"):
            ramp(nothing)


# The report

OPEN = OpenLoad(rate=100, seconds=10)


def test_no_answer_at_all_is_a_report_without_percentiles() -> None:
    tally = Tally()
    for _ in range(7):
        tally.start(0.0)
        tally.fail("ConnectionLost", held_s=0.1)
    report = build_report(tally, OPEN, seconds=10, stopped=False)
    assert (report.answered, report.errors, report.goodput) == (0, {"ConnectionLost": 7}, 0.0)
    assert report.p50_ms is report.max_ms is report.mean_ms is None
    shown = render_reports([report])
    assert "ConnectionLost 7" in shown
    assert " - " in shown
    assert build_report(Tally(), OPEN, seconds=0, stopped=True).goodput == 0.0


def test_errors_have_no_part_in_latency_and_kinds_are_bounded() -> None:
    tally = Tally()
    tally.answer(0.002, held_s=0.002, within=True)
    for number in range(10_000):
        tally.fail(f"kind {number}", held_s=30.0)
    report = build_report(tally, OPEN, seconds=10, stopped=False)
    assert report.max_ms == 2.0
    assert report.longest_ms == 30_000
    assert len(report.errors) == MAX_KINDS + 1
    assert report.failed == 10_000


def test_the_report_says_what_a_reader_must_know() -> None:
    tally = Tally(not_started=3, retried=2, unasked=1, unfinished=4, lag_s=0.2)
    shown = render_reports([build_report(tally, OPEN, seconds=2.5, stopped=True)])
    for words in ("retries", "nobody had asked for", "stopped after 2.5 s, 4", "200 ms late"):
        assert words in shown


# Payloads


def test_a_payload_is_one_request_whose_key_is_put_in_later() -> None:
    call = build_call(
        "digits", {"x": np.ones((1, 2), "f4")}, version=2, timeout_s=1, encoding="binary"
    )
    payload = build_payload(call, authority="host:1")
    whole = payload.before + b"K" + payload.after
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/digits/versions/2/infer HTTP/1.1\r\nHost: host:1\r\n")
    assert b"\r\nIdempotency-Key: K\r\n" in head
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert body.endswith(np.ones(2, "<f4").tobytes())


def test_json_says_the_same_and_refuses_what_has_no_text() -> None:
    inputs = {"x": np.arange(4, dtype="f4").reshape(2, 2)}
    call = build_call("m", inputs, version=None, timeout_s=2, encoding="json")
    document = json.loads(call.body)
    assert document["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [0.0, 1.0, 2.0, 3.0]}
    ]
    assert document["parameters"] == {"timeout": 2_000_000}
    with pytest.raises(ConfigError, match="no JSON form"):
        build_call("m", {"x": np.ones(2, "f2")}, version=None, timeout_s=1, encoding="json")
    with pytest.raises((ConfigError, FormatError)):
        build_call(
            "m", {"x": np.array([b"\xff"], object)}, version=None, timeout_s=1, encoding="json"
        )


def test_inputs_are_made_up_from_metadata() -> None:
    described = {
        "name": "m",
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "b", "datatype": "INT64", "shape": [2]},
            {"name": "c", "datatype": "BOOL", "shape": []},
            {"name": "d", "datatype": "BF16", "shape": [-1, 2]},
        ],
    }
    made = make_inputs(described, rows=4)
    assert {name: (array.shape, array.dtype.str) for name, array in made.items()} == {
        "a": ((4, 3), "<f4"),
        "b": ((2,), "<i8"),
        "c": ((), "|b1"),
        "d": ((4, 2), "|V2"),
    }
    assert dtype_name(made["d"].dtype) == "BF16"
    np.testing.assert_array_equal(made["a"], make_inputs(described, rows=4)["a"])


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([], "no worker has described"),
        ([{"name": "a", "datatype": "FP32", "shape": [-1, -1]}], r"\.npz"),
        ([{"name": "a", "datatype": "BYTES", "shape": [1]}], r"\.npz"),
        ([{"name": "a", "datatype": "FP33", "shape": [1]}], r"\.npz"),
        ([{"name": "a", "datatype": "FP32", "shape": [10**9, 10**9]}], "larger than"),
        ([{"name": "a", "shape": [1]}], "does not describe"),
        ([{"name": "a", "datatype": "FP32", "shape": ["x"]}], "does not describe"),
        ("nonsense", "does not describe"),
    ],
)
def test_metadata_of_which_nothing_can_be_made_is_told(inputs, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_inputs({"name": "m", "inputs": inputs})


def test_a_file_of_inputs_is_read_and_never_unpickled(tmp_path) -> None:
    path = tmp_path / "in.npz"
    np.savez(path, x=np.ones((1, 2), "f4"))
    assert list(load_inputs(path)) == ["x"]
    np.savez(path, x=np.array([object()]))
    with pytest.raises(ConfigError, match="plain arrays"):
        load_inputs(path)
    for content in (b"", b"PK\x03\x04 not a zip", b"\x80\x04pickle"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="in.npz"):
            load_inputs(path)
    single = tmp_path / "one.npy"
    np.save(single, np.ones(3))
    with pytest.raises(ConfigError, match="one array"):
        load_inputs(single)
    np.savez(path)
    with pytest.raises(ConfigError, match="no array"):
        load_inputs(path)


# Answers on the wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"


@pytest.mark.parametrize("step", [1, 2, 7, len(OK)])
def test_an_answer_is_read_however_it_is_cut(step: int) -> None:
    reader = AnswerReader()
    for _ in range(2):
        found = [reader.receive(OK[at : at + step]) for at in range(0, len(OK), step)]
        assert found[:-1] == [None] * (len(found) - 1)
        assert (found[-1].status, found[-1].body, found[-1].headers[b"x"]) == (200, b"hello", b"y")


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"H",  # an answer to nothing, behind the one that was asked for
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
    ],
)
def test_what_is_no_answer_is_never_taken_for_one(raw: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        AnswerReader().receive(raw)


def test_a_front_end_that_moved_is_told_from_one_that_failed() -> None:
    with pytest.raises(Moved):
        AnswerReader().receive(b"HTTP/1.1 421 Misdirected\r\nContent-Length: 0\r\n\r\n")
    reader = AnswerReader()
    assert reader.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n")
    assert reader.closes


# The picture


def open_report(rate: float, latency_s: float | None, errors: int = 0):
    tally = Tally()
    if latency_s is not None:
        tally.answer(latency_s, held_s=latency_s, within=True)
    for _ in range(errors):
        tally.fail("Timeout", held_s=1)
    return build_report(tally, OpenLoad(rate=rate, seconds=1), seconds=1, stopped=False)


def test_a_curve_is_well_formed_and_every_point_lies_inside() -> None:
    reports = [open_report(10, 1e-7), open_report(5000, 0.5), open_report(9000, 40.0, errors=3)]
    root = ET.fromstring(draw_curve(reports, title='<a&b> "quoted"'))
    space = "{http://www.w3.org/2000/svg}"
    dots = root.findall(f".//{space}circle")
    assert len(dots) == 9
    assert all(0 < float(dot.get("cx")) < 720 and 0 < float(dot.get("cy")) < 420 for dot in dots)
    assert root.find(f"{space}title").text == '<a&b> "quoted"'
    assert "not every request" in "".join(root.itertext())
    style = root.find(f"{space}style").text
    assert "prefers-color-scheme:dark" in style


def test_a_load_without_an_answer_is_a_cross_and_no_point() -> None:
    drawn = draw_curve([open_report(10, 0.01), open_report(20, None, errors=5)], title="t")
    assert drawn.count("<circle") == 3
    assert "5 not answered" in drawn


def test_nothing_answered_is_no_picture() -> None:
    for reports in ([], [open_report(10, None, errors=1)]):
        with pytest.raises(ConfigError, match="no curve"):
            draw_curve(reports, title="t")


def _luminance(colour: str) -> float:
    digits = colour * 2 if len(colour) == 3 else colour
    if len(colour) == 3:
        digits = "".join(2 * c for c in colour)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("ground", "colours"),
    [("fff", ("0b63ce", "a05a00", "b3261e")), ("14181f", ("6fb1ff", "f0b35a", "ff8a80"))],
)
def test_the_lines_can_be_told_from_their_ground(ground: str, colours: tuple[str, ...]) -> None:
    drawn = draw_curve([open_report(10, 0.01)], title="t")
    for colour in colours:
        assert f"stroke:#{colour}" in drawn
        low, high = sorted((_luminance(ground), _luminance(colour)))
        assert (high + 0.05) / (low + 0.05) >= 3  # WCAG 2.2, 1.4.11


# A connection


class Transport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = ""

    def writelines(self, parts) -> None:
        self.sent.append(b"".join(parts))

    def abort(self) -> None:
        self.closed = "abort"

    def close(self) -> None:
        self.closed = self.closed or "close"


@pytest.fixture
async def connection():
    unasked: list[int] = []
    link = Link(unasked=lambda: unasked.append(1))
    transport = Transport()
    link.connection_made(transport)
    return link, transport, unasked


async def test_a_request_has_one_answer(connection) -> None:
    link, transport, unasked = connection
    outcomes: list[object] = []
    link.send((b"GET ", b"/"), outcomes.append)
    assert not link.usable
    link.data_received(OK[:20])
    link.data_received(OK[20:])
    assert [each.body for each in outcomes] == [b"hello"]
    assert link.usable
    assert (transport.sent, transport.closed, unasked) == ([b"GET /"], "", [])


async def test_an_answer_to_nothing_is_counted_and_ends_the_connection(connection) -> None:
    link, transport, unasked = connection
    outcomes: list[object] = []
    link.send((b"GET /",), outcomes.append)
    link.data_received(OK)
    link.data_received(OK)
    link.data_received(OK)
    assert len(outcomes) == 1
    assert unasked == [1]  # the rest comes on a connection that is over
    assert transport.closed == "abort"
    assert not link.usable


async def test_two_answers_to_one_request_are_no_answer(connection) -> None:
    link, transport, _ = connection
    outcomes: list[object] = []
    link.send((b"GET /",), outcomes.append)
    link.data_received(OK + OK)
    assert [type(each) for each in outcomes] == [PeerProtocolError]
    assert transport.closed == "abort"


async def test_a_lost_connection_ends_what_is_under_way_once(connection) -> None:
    link, _, _ = connection
    outcomes: list[object] = []
    link.send((b"GET /",), outcomes.append)
    link.connection_lost(OSError("reset"))
    link.connection_lost(None)
    assert [type(each) for each in outcomes] == [ConnectionLost]
    assert not link.usable


async def test_what_was_given_up_is_not_answered_later(connection) -> None:
    link, transport, _ = connection
    outcomes: list[object] = []
    link.send((b"GET /",), outcomes.append)
    link.abort()
    link.data_received(OK)
    link.connection_lost(None)
    assert outcomes == []
    assert transport.closed == "abort"


async def test_a_connection_whose_lease_is_over_is_not_used(connection) -> None:
    link, transport, _ = connection
    link.fresh = lambda: False
    assert not link.usable
    link.fresh = lambda: True
    link.send((b"GET /",), lambda _: None)
    link.data_received(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert not link.usable
    assert transport.closed == "close"


def test_a_header_that_comes_again_is_read_as_the_first_time():
    reader = AnswerReader()

    def answer(length: int, body: bytes, more: bytes = b"") -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (length, more) + body

    for body, more in (
        (b"ab", b""), (b"cd", b""), (b"e", b""), (b"fg", b""), (b"hi", b"X: y\r\n"), (b"jk", b"")
    ):  # fmt: skip
        for piece in (bytes([each]) for each in answer(len(body), body, more)[:-1]):
            assert reader.receive(piece) is None
        found = reader.receive(body[-1:])
        assert found is not None
        assert found.body == body
        assert (b"x" in found.headers) == bool(more)
        assert not reader.closes
    reader.receive(answer(2, b"lm", b"Connection: close\r\n"))
    assert reader.closes
