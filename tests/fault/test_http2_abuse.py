"""What a hostile client of HTTP/2 can do: end its own stream or connection, and disturb nobody."""

import asyncio
import json
import time
from collections.abc import Iterator

import hpack
import pytest
from simulators.front_end import FrontEnd, RawClient, make_manifest
from simulators.http2_client import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    GOOD,
    HEADERS,
    PING,
    PREDICT,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    STREAM_INFER,
    WINDOW,
    Ended,
    Http2Client,
    Reset,
    frame,
    open_tls,
    settings,
    u32,
)  # fmt: skip

from wardian._internal import metrics
from wardian.serving.grpc import wire
from wardian.serving.http import server as http_server
from wardian.serving.http.http2 import streams
from wardian.serving.http.http2.connection import MAX_STREAMS

MAX_BODY = 200_000
HELD = wire.field(1, b"held") + wire.element(
    5, wire.field(1, b"pixels") + wire.field(2, b"FP32") + wire.field(3, b"\1\x40")
) + wire.element(7, bytes(256))  # fmt: skip


@pytest.fixture(scope="module")
def front() -> Iterator[FrontEnd]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_server, "MAX_SWEEP_S", 0.04)
        patch.setattr(streams, "LINGER_QUIET_S", 0.1)
        with FrontEnd(
            max_body_bytes=MAX_BODY,
            header_timeout_s=1.0,
            body_timeout_s=1.0,
            idle_timeout_s=30.0,
            max_connections=24,
        ) as running:
            yield running


@pytest.fixture
def neighbour(front: FrontEnd) -> Iterator[Http2Client]:
    """Another client's connection; it is served during and after whatever the test does."""
    with Http2Client(front) as client:
        assert_served(client)
        yield client
        assert_served(client)


def assert_served(client: Http2Client) -> None:
    status, _, body = client.answer(client.request(PREDICT, GOOD))
    assert (status, list(json.loads(body))) == (200, ["predictions"])


def ends(front: FrontEnd, data: bytes, *, greet: bool = True) -> Ended:
    """How the server ends a connection on which it gets `data`."""
    with Http2Client(front, greet=greet) as attacker:
        attacker.send(data)
        return attacker.end()


def headers(
    *fields: tuple[str, str], stream: int = 1, flags: int = END_HEADERS | END_STREAM
) -> bytes:
    return frame(HEADERS, flags, stream, hpack.Encoder().encode(list(fields)))


USUAL = ((":method", "GET"), (":scheme", "https"), (":path", "/v2"), (":authority", "x"))


@pytest.mark.parametrize(
    ("data", "code", "why"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", PROTOCOL_ERROR, "preface"),
        (PREFACE[:-1] + b"x", PROTOCOL_ERROR, "preface"),
        (PREFACE + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR, "SETTINGS come first"),
        (PREFACE + frame(SETTINGS, ACK, 0), PROTOCOL_ERROR, "SETTINGS come first"),
    ],
)
def test_what_does_not_begin_as_http_2(
    front: FrontEnd, neighbour: Http2Client, data: bytes, code: int, why: str
) -> None:
    ended = ends(front, data, greet=False)
    assert (ended.code, why in ended.why) == (code, True), ended.why


@pytest.mark.parametrize(
    ("data", "code", "why"),
    [
        (frame(SETTINGS, 0, 1), PROTOCOL_ERROR, "belong to the connection"),
        (frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR, "six bytes"),
        (frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE_ERROR, "empty"),
        (settings(_2=2), PROTOCOL_ERROR, "ENABLE_PUSH"),
        (settings(_4=2**31), FLOW_CONTROL_ERROR, "window"),
        (settings(_5=16383), PROTOCOL_ERROR, "MAX_FRAME_SIZE"),
        (settings(_5=2**24), PROTOCOL_ERROR, "MAX_FRAME_SIZE"),
        (frame(SETTINGS, 0, 0, bytes(6 * 33)), ENHANCE_YOUR_CALM, "too many settings"),
        (frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR, "PING"),
        (frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR, "eight bytes"),
        (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL_ERROR, "PRIORITY"),
        (frame(PUSH, END_HEADERS, 1, bytes(8)), PROTOCOL_ERROR, "pushes nothing"),
        (frame(GOAWAY, 0, 0, bytes(7)), PROTOCOL_ERROR, "GOAWAY"),
        (frame(WINDOW, 0, 0, bytes(3)), FRAME_SIZE_ERROR, "four bytes"),
        (frame(WINDOW, 0, 0, u32(0)), FLOW_CONTROL_ERROR, "window"),
        (frame(WINDOW, 0, 0, u32(2**31 - 1)), FLOW_CONTROL_ERROR, "window"),
        (frame(WINDOW, 0, 1, u32(1)), PROTOCOL_ERROR, "never opened"),
        (frame(RST_STREAM, 0, 1, u32(8)), PROTOCOL_ERROR, "never opened"),
        (frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR, "four bytes"),
        (frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR, "never opened"),
        (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR, "never opened"),
        (frame(DATA, 8, 1, b""), PROTOCOL_ERROR, "padding"),
        (frame(DATA, 8, 1, b"\5abc"), PROTOCOL_ERROR, "padding"),
        (frame(HEADERS, END_HEADERS, 2, b""), PROTOCOL_ERROR, "odd"),
        (frame(HEADERS, END_HEADERS, 0, b""), PROTOCOL_ERROR, "odd"),
        (frame(HEADERS, END_HEADERS | 0x20, 1, b"abc"), FRAME_SIZE_ERROR, "priority"),
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"), COMPRESSION_ERROR, "HPACK"),
        (frame(HEADERS, END_HEADERS, 1, b"\xc0"), COMPRESSION_ERROR, "HPACK"),
        (frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\xff\x03"), COMPRESSION_ERROR, "HPACK"),
        (frame(HEADERS, END_HEADERS, 1, b"\0\x85aaaaa\1b"), COMPRESSION_ERROR, "HPACK"),
        (frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR, "CONTINUATION of nothing"),
        (frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR, "interrupted"),
        (frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 4, 3), PROTOCOL_ERROR, "CONTINUATION of"),
        (b"\1\0\1" + frame(DATA, 0, 1)[3:], FRAME_SIZE_ERROR, "at most 65536"),
        (headers(*USUAL) + frame(DATA, 0, 1, b"x"), STREAM_CLOSED, ""),
        (headers(*USUAL) + headers(*USUAL), STREAM_CLOSED, ""),
        (headers(*USUAL, stream=5) + headers(*USUAL, stream=3), STREAM_CLOSED, ""),
    ],
)  # fmt: skip
def test_what_breaks_the_protocol_ends_the_connection(
    front: FrontEnd, neighbour: Http2Client, data: bytes, code: int, why: str
) -> None:
    ended = ends(front, data)
    assert (ended.code, why in ended.why) == (code, True), ended


@pytest.mark.parametrize(
    "fields",
    [
        ((":method", "GET"), (":path", "/v2"), (":authority", "x")),
        ((":scheme", "https"), (":path", "/v2"), (":authority", "x")),
        ((":method", "GET"), (":scheme", "https"), (":authority", "x")),
        ((":method", "GET"), (":scheme", "https"), (":path", "/v2")),
        ((":method", "GET"), (":scheme", "http"), (":path", "/v2"), (":authority", "x")),
        ((":method", "GET"), (":scheme", "https"), (":path", ""), (":authority", "x")),
        ((":method", "GET"), (":scheme", "https"), (":path", "v2"), (":authority", "x")),
        ((":method", "GET"), (":scheme", "https"), (":path", "/v2 HTTP/1.1"), (":authority", "x")),
        ((":method", "GET x"), (":scheme", "https"), (":path", "/v2"), (":authority", "x")),
        ((":method", "CONNECT"), (":authority", "x")),
        (*USUAL, (":path", "/v1")),
        (*USUAL, (":status", "200")),
        (*USUAL, ("a", "b"), (":method", "GET")),
        (*USUAL, ("host", "y")),
        (*USUAL, ("Upper", "x")),
        (*USUAL, ("sp ace", "x")),
        (*USUAL, ("a", "b\r\nx: y")),
        (*USUAL, ("a", "b\0")),
        (*USUAL, ("a", " b")),
        (*USUAL, ("connection", "close")),
        (*USUAL, ("transfer-encoding", "chunked")),
        (*USUAL, ("upgrade", "h2c")),
        (*USUAL, ("keep-alive", "1")),
        (*USUAL, ("te", "gzip")),
        (*USUAL, ("content-length", "5")),
        (*USUAL, ("content-length", "-5")),
        (*USUAL, ("content-length", "0"), ("content-length", "0")),
    ],
)
def test_malformed_requests_are_reset_and_the_connection_goes_on(
    front: FrontEnd, neighbour: Http2Client, fields: tuple[tuple[str, str], ...]
) -> None:
    """Pairs that two readers could read differently are smuggling's material (RFC 9113, 10.3)."""
    with Http2Client(front) as attacker:
        number, attacker.next_stream = attacker.next_stream, 3
        block = attacker.encoder.encode(list(fields))
        attacker.send(frame(HEADERS, END_HEADERS | END_STREAM, number, block))
        with pytest.raises(Reset) as caught:
            attacker.answer(number)
        assert caught.value.code == PROTOCOL_ERROR
        assert attacker.get() == 200


@pytest.mark.parametrize(("said", "sent"), [(5, b"abc"), (2, b"abc"), (0, b"abc"), (3, b"")])
def test_a_body_of_another_length_than_said_is_reset(
    front: FrontEnd, neighbour: Http2Client, said: int, sent: bytes
) -> None:
    with Http2Client(front) as attacker:
        number = attacker.request(PREDICT, sent, content_length=str(said))
        with pytest.raises(Reset) as caught:
            attacker.answer(number)
        assert caught.value.code == PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("block", "flags"),
    [
        ([(":path", "/x")], END_HEADERS | END_STREAM),
        ([("connection", "close")], END_HEADERS | END_STREAM),
        ([("a", "b")], END_HEADERS),
    ],
)
def test_trailers_that_are_none_reset_the_stream(
    front: FrontEnd, block: list[tuple[str, str]], flags: int
) -> None:
    with Http2Client(front) as attacker:
        number = attacker.request(PREDICT, GOOD, end=False)
        attacker.send(frame(HEADERS, flags, number, attacker.encoder.encode(block)))
        with pytest.raises(Reset):
            attacker.answer(number)
        number = attacker.request(PREDICT, GOOD, end=False)
        attacker.send(
            frame(HEADERS, END_HEADERS | END_STREAM, number, attacker.encoder.encode([("x", "y")]))
        )
        assert attacker.answer(number)[0] == 200


# -- limits on sizes ------------------------------------------------------------------------------


def test_an_hpack_bomb_ends_the_connection(front: FrontEnd, neighbour: Http2Client) -> None:
    """One large field in the dynamic table, then one byte for each further copy of it."""
    encoder = hpack.Encoder()
    block = encoder.encode([*USUAL, ("bomb", "x" * 4000)])
    block += b"\xbe" * 1000  # index 62: the newest entry of the dynamic table
    ended = ends(front, frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert (ended.code, "larger than 32768" in ended.why) == (ENHANCE_YOUR_CALM, True)


def test_a_continuation_flood_ends_the_connection(front: FrontEnd, neighbour: Http2Client) -> None:
    """CVE-2024-27316: a field block that never ends; large parts, and empty ones."""
    large = frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, bytes(16384)) * 3
    assert ends(front, large).code == ENHANCE_YOUR_CALM
    empty = frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1) * 4000
    ended = ends(front, empty)
    assert (ended.code, "serve nothing" in ended.why) == (ENHANCE_YOUR_CALM, True)


def test_too_many_fields_are_431_and_the_connection_goes_on(front: FrontEnd) -> None:
    with Http2Client(front) as client:
        status, _, body = client.answer(
            client.request(**{f"x-{index}": "y" for index in range(101)})
        )
        assert (status, "more than 100" in json.loads(body)["error"]) == (431, True)
        assert client.answer(client.request("/" + "a" * 9000))[0] == 414
        assert client.get() == 200


def test_a_body_over_the_limit_is_413(front: FrontEnd, neighbour: Http2Client) -> None:
    with Http2Client(front) as client:
        said = client.request(PREDICT, b"", end=False, content_length=str(MAX_BODY + 1))
        assert client.answer(said)[0] == 413
        sent = client.request(PREDICT, b"a" * (MAX_BODY + 1), end=False)
        assert client.answer(sent)[0] == 413
        assert client.get() == 200
        assert client.resets[sent] == 0  # NO_ERROR: the rest need not be sent


def test_more_data_than_the_window_ends_the_connection(
    front: FrontEnd, neighbour: Http2Client
) -> None:
    """A stream call takes 32 requests at a time, so that the window of its stream stays shut."""
    with Http2Client(front) as attacker:
        number = attacker.grpc(STREAM_INFER, HELD, end=False)
        piece = (b"\0" + u32(len(HELD)) + HELD) * (16384 // (len(HELD) + 5))
        try:
            for _ in range(100):
                attacker.send(frame(DATA, 0, number, piece))
            assert attacker.end().code == FLOW_CONTROL_ERROR
        finally:
            front.wait_for(lambda: len(front.dispatcher.held) == 32)
            front.release()


# -- floods ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, 0, 0, bytes(8)),
        settings(_4=70000),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(0xAB, 0, 0, b"unknown"),
        frame(SETTINGS, ACK, 0),
        frame(WINDOW, 0, 0, u32(1)),
    ],
    ids=["ping", "settings", "priority", "unknown", "acknowledgements", "window"],
)
def test_floods_of_frames_end_in_enhance_your_calm(
    front: FrontEnd, neighbour: Http2Client, flood: bytes
) -> None:
    ended = ends(front, flood * 6000)
    assert (ended.code, "serve nothing" in ended.why) == (ENHANCE_YOUR_CALM, True)


def test_a_flood_of_empty_data_ends_in_enhance_your_calm(
    front: FrontEnd, neighbour: Http2Client
) -> None:
    """CVE-2019-9518."""
    with Http2Client(front) as attacker:
        number = attacker.request(PREDICT, b"", end=False)
        attacker.send(frame(DATA, 0, number) * 6000)
        assert attacker.end().code == ENHANCE_YOUR_CALM


def test_rapid_reset_ends_in_enhance_your_calm_and_starts_little(
    front: FrontEnd, neighbour: Http2Client
) -> None:
    """CVE-2023-44487: streams are opened and reset in one go, faster than any is answered."""
    before = len(front.dispatcher.seen)
    held = GOOD
    with Http2Client(front) as attacker:
        out = []
        for _ in range(5000):
            number, attacker.next_stream = attacker.next_stream, attacker.next_stream + 2
            block = attacker.block(path="/v1/models/held:predict", method="POST")
            out.append(frame(HEADERS, END_HEADERS, number, block))
            out.append(frame(DATA, END_STREAM, number, held))
            out.append(frame(RST_STREAM, 0, number, u32(CANCEL)))
        attacker.send(b"".join(out))
        assert attacker.end().code == ENHANCE_YOUR_CALM
    # Work goes on although its client is gone; it counts as streams that are open.
    assert len(front.dispatcher.seen) - before <= MAX_STREAMS
    front.release()


def test_streams_over_the_limit_are_refused_unseen(front: FrontEnd, neighbour: Http2Client) -> None:
    before = len(front.dispatcher.seen)
    with Http2Client(front) as client:
        numbers = [client.request("/v1/models/held:predict", GOOD) for _ in range(MAX_STREAMS + 3)]
        assert client.settings == {} or client.settings[3] == MAX_STREAMS
        for number in numbers[MAX_STREAMS:]:
            with pytest.raises(Reset) as caught:
                client.answer(number)
            assert caught.value.code == REFUSED_STREAM
        assert len(front.dispatcher.seen) - before == MAX_STREAMS
        front.release()
        assert all(client.answer(number)[0] == 200 for number in numbers[:MAX_STREAMS])
        assert client.get() == 200


# -- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", PREFACE[:10], PREFACE, PREFACE + settings() + frame(HEADERS, 0, 1, b"")],
    ids=["silence", "half a preface", "no settings", "half a field block"],
)
def test_a_slow_beginning_is_ended(front: FrontEnd, neighbour: Http2Client, data: bytes) -> None:
    ended = ends(front, data, greet=False)
    assert (ended.code, "in time" in ended.why) == (ENHANCE_YOUR_CALM, True)


def test_a_trickle_of_continuations_is_ended(front: FrontEnd, neighbour: Http2Client) -> None:
    """Slowloris: each frame is in time, the block is not."""
    with Http2Client(front) as attacker:
        attacker.send(frame(HEADERS, 0, 1, b""))
        end = time.monotonic() + 10
        while attacker.ended is None and time.monotonic() < end:
            try:
                attacker.send(frame(CONTINUATION, 0, 1, b""))
                attacker.sock.settimeout(0.1)
                attacker.read()
            except TimeoutError:
                continue
            except (OSError, EOFError):
                break
        assert attacker.ended is not None
        assert attacker.ended.code == ENHANCE_YOUR_CALM


def test_a_body_that_trickles_is_408_and_the_connection_goes_on(
    front: FrontEnd, neighbour: Http2Client
) -> None:
    with Http2Client(front) as attacker:
        number = attacker.request(PREDICT, GOOD[:10], end=False)
        assert attacker.answer(number)[0] == 408
        assert attacker.get() == 200


def test_an_answer_that_is_not_taken_is_reset(front: FrontEnd, neighbour: Http2Client) -> None:
    """A window of zero: memory is not held for ever (CVE-2019-9511)."""
    with Http2Client(front, greet=False) as attacker:
        attacker.send(PREFACE + settings(_4=0))
        number = attacker.request(PREDICT, GOOD)
        with pytest.raises(Reset) as caught:
            attacker.answer(number)
        assert caught.value.code == CANCEL
        front.wait_for(lambda: front.frontend._server._state.buffered_bytes == 0)


def test_an_answer_goes_out_as_its_windows_open(front: FrontEnd) -> None:
    with Http2Client(front, greet=False) as client:
        client.grants = False
        client.send(PREFACE + settings(_4=7))
        number = client.request(PREDICT, GOOD)
        while len(client.bodies.get(number, b"")) < 7:
            client.read()
        client.send(settings(_4=3))  # the window is now negative (6.9.2)
        client.send(frame(WINDOW, 0, number, u32(4)) + frame(WINDOW, 0, number, u32(5)))
        while len(client.bodies[number]) < 12:
            client.read()
        assert len(client.bodies[number]) == 12
        client.send(frame(WINDOW, 0, number, u32(100_000)))
        assert len(json.loads(client.answer(number)[2])["predictions"]) == 1


@pytest.mark.parametrize("more", [0, 2**31 - 1])
def test_a_window_that_cannot_be_resets_the_stream(front: FrontEnd, more: int) -> None:
    with Http2Client(front) as client:
        number = client.request("/v1/models/held:predict", GOOD)
        client.send(frame(WINDOW, 0, number, u32(more)))
        with pytest.raises(Reset) as caught:
            client.answer(number)
        assert caught.value.code == FLOW_CONTROL_ERROR
        assert client.get() == 200
    front.release()


def test_a_client_that_reads_nothing_is_cut_off(front: FrontEnd, neighbour: Http2Client) -> None:
    """Acknowledgements do not pile up: while nothing is taken, nothing is read."""
    with Http2Client(front, receive_bytes=4096) as attacker:
        attacker.grants = False
        attacker.sock.settimeout(5)
        body = json.dumps({"instances": [[0.0] * 64] * 500}).encode()
        with pytest.raises(OSError):
            for _ in range(400):
                attacker.request(PREDICT, body)
        assert front.frontend._server._state.buffered_bytes < 128 * MAX_BODY
    front.wait_for(lambda: front.frontend._server._state.buffered_bytes == 0)


def test_an_idle_connection_says_goodbye() -> None:
    with FrontEnd(header_timeout_s=0.3, idle_timeout_s=0.3) as front, Http2Client(front) as client:
        assert client.get() == 200
        assert client.end().code == 0


# -- one port, two protocols ----------------------------------------------------------------------


def test_the_client_chooses_by_alpn_alone(front: FrontEnd) -> None:
    for offered, agreed in (
        (("h2", "http/1.1"), "h2"),
        (("http/1.1", "h2"), "h2"),
        (("http/1.1",), "http/1.1"),
        (("h2c", "spdy/3"), None),
        ((), None),
    ):
        with open_tls(front, *offered) as sock:
            assert sock.selected_alpn_protocol() == agreed
            if agreed != "h2":
                assert RawClient(sock).get("/v2/health/live")[0] == 200


@pytest.mark.parametrize("offered", [(), ("http/1.1",)])
def test_prior_knowledge_without_alpn_is_refused(
    front: FrontEnd, neighbour: Http2Client, offered: tuple[str, ...]
) -> None:
    with open_tls(front, *offered) as sock:
        client = RawClient(sock).send(PREFACE + settings())
        status, _, body = client.response()
        assert (status, "not an HTTP/1.1 request" in json.loads(body)["error"]) == (400, True)
        assert client.ended()


def test_an_upgrade_to_h2c_is_not_taken(front: FrontEnd, neighbour: Http2Client) -> None:
    """RFC 9113 section 3.1: it is obsolete, and behind TLS it never was."""
    lines = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    with front.raw() as client:
        client.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
        status, fields, _ = client.send(PREFACE + settings()).response()
        assert (status, fields["connection"]) == (200, "close")
        assert client.ended()


def test_http_1_on_an_h2_connection_is_refused(front: FrontEnd, neighbour: Http2Client) -> None:
    ended = ends(
        front, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", greet=False
    )
    assert ended.code == PROTOCOL_ERROR


# -- the end --------------------------------------------------------------------------------------


def test_a_drain_answers_what_was_taken_and_names_the_last_stream() -> None:
    with FrontEnd() as front, Http2Client(front) as client:
        taken = client.request("/v1/models/held:predict", GOOD)
        front.wait_for(lambda: bool(front.dispatcher.held))
        stopped = asyncio.run_coroutine_threadsafe(front.frontend.stop(drain_s=5), front.loop)
        while client.ended is None:
            client.read()
        assert (client.ended.code, client.ended.last) == (0, taken)
        late = client.request()  # may be repeated elsewhere: the server never looked at it
        front.release()
        assert client.answer(taken)[0] == 200
        client.end()
        assert late not in client.headers
        stopped.result(20)


def test_another_manifest_ends_connections_of_the_one_before() -> None:
    with FrontEnd() as front, Http2Client(front) as client:
        assert client.get() == 200
        front.put_in_force(make_manifest(front.platform, version=4))
        assert client.end().code == 0


def test_refusals_are_counted(front: FrontEnd) -> None:
    def counted(status: str) -> int:
        return front.frontend.metrics._counts[metrics.REFUSALS].get((status,), 0)

    before = counted("429"), counted("400")
    ends(front, frame(PING, 0, 0, bytes(8)) * 6000)
    ends(front, frame(PUSH, END_HEADERS, 1, bytes(8)))
    assert (counted("429"), counted("400")) == (before[0] + 1, before[1] + 1)


def test_requests_do_not_depend_on_how_their_bytes_are_cut(front: FrontEnd) -> None:
    with Http2Client(front, greet=False) as client:
        out = bytearray(PREFACE + settings(_4=100_000))
        sock, client.sock = client.sock, _Into(out)
        numbers = [client.request(PREDICT, GOOD, content_length=str(len(GOOD))) for _ in range(3)]
        client.sock = sock
        for at in range(0, len(out), 7):
            sock.sendall(out[at : at + 7])
        answers = [client.answer(number) for number in numbers]
        assert [status for status, _, _ in answers] == [200] * 3
        assert len({body for _, _, body in answers}) == 1


class _Into:
    """Takes what a client sends."""

    def __init__(self, out: bytearray) -> None:
        self.out = out

    def sendall(self, data: bytes) -> None:
        self.out += data
