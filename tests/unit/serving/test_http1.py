"""One HTTP/1.1 connection without a socket: order, limits and endings."""

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian._internal.agreed import Limits
from wardian.errors import LocalProtocolError
from wardian.serving.http.connection import MAX_PIPELINED, Connection, ServerState
from wardian.serving.http.messages import (
    JOIN_BYTES,
    HttpRequest,
    HttpResponse,
    error_response,
    json_response,
    render,
)
from wardian.serving.http.outgoing import PIECE_BYTES
from wardian.serving.http.reader import BETWEEN, BODY, ENDED, HEADERS, Refused, RequestReader

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nhe\r\n3;e=1\r\nllo\r\n0\r\nX-T: y\r\n\r\n"
)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.state = "open"
        self.reading = True
        self.full_after: int | None = None  # writes until the client takes no more
        self.protocol: Any = None

    def is_closing(self) -> bool:
        return self.state != "open"

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        if self.full_after is not None:
            self.full_after -= 1
            if self.full_after == 0:
                self.protocol.pause_writing()

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Server:
    """A connection, its transport, and a handler that a test steers."""

    def __init__(
        self, *, at_once: bool = False, max_buffered_bytes: int = 1_000_000, **limits: Any
    ) -> None:
        self.requests: list[HttpRequest] = []
        self.waiting: list[Any] = []
        self.refusals: list[int] = []
        self.lost = 0
        self.at_once = at_once
        self.state = ServerState(
            handler=self.handle,
            limits=Limits(**limits),
            count_refusal=self.refusals.append,
            max_buffered_bytes=max_buffered_bytes,
            now=100.0,
        )
        self.wire = Wire()
        self.connection = Connection(
            self.state, tls_spki=b"spki", peer="192.0.2.1", on_lost=self.gone
        )
        self.wire.protocol = self.connection
        self.connection.connection_made(self.wire)

    def gone(self) -> None:
        self.lost += 1

    def handle(self, request: HttpRequest, respond: Any) -> None:
        self.requests.append(request)
        if self.at_once:
            respond(json_response(request.target.decode()))
        else:
            self.waiting.append(respond)

    def feed(self, data: bytes) -> "Server":
        self.connection.data_received(data)
        return self

    def answer(self, response: HttpResponse | None = None) -> None:
        self.waiting.pop(0)(response or json_response("ok"))

    def later(self, seconds: float) -> "Server":
        self.state.now += seconds
        self.connection.sweep()
        return self

    @property
    def statuses(self) -> list[int]:
        return [int(part[9:12]) for part in self.wire.written if part.startswith(b"HTTP/1.1 ")]


def read_all(pieces: list[bytes]) -> list[HttpRequest]:
    requests: list[HttpRequest] = []

    def deliver(request: HttpRequest, keep_alive: object) -> bool:
        requests.append(request)
        return True

    reader = RequestReader(
        max_body_bytes=100,
        tls_spki=b"",
        connection=1,
        peer="192.0.2.1",
        deliver=deliver,
        acquire=lambda size: True,
        send_continue=lambda: None,
    )
    for piece in pieces:
        reader.feed(piece)
    assert reader.phase == BETWEEN
    assert reader.truncation() is None
    return requests


@settings(max_examples=60)
@given(cuts=st.lists(st.integers(0, len(GET + POST + CHUNKED + GET)), max_size=12))
def test_requests_do_not_depend_on_how_their_bytes_are_cut(cuts: list[int]) -> None:
    data = GET + POST + CHUNKED + GET
    places = [0, *sorted(cuts), len(data)]
    got = read_all([data[a:b] for a, b in itertools.pairwise(places)])
    assert [(each.method, each.target, bytes(each.body)) for each in got] == [
        (b"GET", b"/a?b=c", b""),
        (b"POST", b"/p", b"hello"),
        (b"POST", b"/c", b"hello"),
        (b"GET", b"/a?b=c", b""),
    ]


def test_a_request_says_which_connection_it_came_on() -> None:
    (request,) = Server(at_once=True).feed(GET).requests
    assert (request.tls_spki, request.peer) == (b"spki", "192.0.2.1")


def test_the_phases_of_a_request() -> None:
    reader = RequestReader(
        max_body_bytes=100,
        tls_spki=b"",
        connection=1,
        peer="192.0.2.1",
        deliver=lambda request, keep: True,
        acquire=lambda size: True,
        send_continue=lambda: None,
    )
    marks = [(reader.phase, reader.mark)]
    for piece in (b"POST /", b"p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", b"he", b"llo"):
        reader.feed(piece)
        marks.append((reader.phase, reader.mark))
    assert marks == [(BETWEEN, 0), (HEADERS, 1), (BODY, 2), (BODY, 2), (BETWEEN, 3)]
    reader.stop()
    assert reader.phase == ENDED
    with pytest.raises(Refused) as caught:
        reader.feed(GET)
    assert caught.value.response is None


def test_a_request_as_the_handler_sees_it() -> None:
    server = Server().feed(
        b"POST https://host/x/y?z=1 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 2\r\n\r\nhi"
    )
    (request,) = server.requests
    assert request.target == b"/x/y?z=1"
    assert request.headers == {b"host": b"h", b"x-a": b"1, 2", b"content-length": b"2"}
    assert (request.body, request.tls_spki) == (b"hi", b"spki")
    assert Server().feed(b"GET https://host HTTP/1.1\r\nHost: h\r\n\r\n").requests[0].target == b"/"


def test_an_answer_is_one_write() -> None:
    server = Server().feed(GET)
    server.answer(HttpResponse(body=(b"ab", b"c"), headers=b"X-Y: z\r\n"))
    assert server.wire.written == [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\nX-Y: z\r\n\r\nabc"
    ]


def test_a_large_answer_is_not_copied() -> None:
    large = bytes(JOIN_BYTES + 1)
    parts = render(HttpResponse(body=(b"a", large)), keep_alive=True, head_only=False)
    assert parts[1:] == [b"a", large]
    server = Server().feed(GET)
    server.answer(HttpResponse(body=(large,)))
    assert b"".join(server.wire.written[1:]) == large


def test_head_has_everything_but_the_body() -> None:
    server = Server(at_once=True).feed(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    first, second = server.wire.written
    assert first.endswith(b"Content-Length: 4\r\nCache-Control: no-store\r\n\r\n")
    assert second.endswith(b'"/a?b=c"')


def test_requests_take_turns() -> None:
    server = Server().feed(GET * 3)
    assert len(server.requests) == 1
    assert not server.wire.reading  # nothing more is read while requests wait
    server.answer()
    server.answer()
    assert len(server.requests) == 3
    assert server.wire.reading
    server.answer()
    assert server.statuses == [200] * 3


def test_a_long_pipeline_that_is_answered_at_once_does_not_recurse() -> None:
    server = Server().feed(GET * MAX_PIPELINED)
    server.at_once = True
    server.answer()
    assert server.statuses == [200] * MAX_PIPELINED


def test_a_pipeline_that_is_too_long_ends_with_its_last_accepted_request() -> None:
    server = Server().feed(GET * 500)
    server.at_once = True
    server.answer()
    assert server.statuses == [200] * (MAX_PIPELINED + 1)
    assert b"Connection: close" in server.wire.written[-1]
    assert b"Connection: close" not in server.wire.written[-2]
    assert server.later(1).wire.state == "closed"


def test_nothing_is_served_while_the_client_does_not_read() -> None:
    server = Server(at_once=True, body_timeout_s=5)
    server.connection.pause_writing()
    assert not server.wire.reading
    server.feed(GET * 2)
    assert server.requests == []
    server.later(4).connection.resume_writing()
    assert server.statuses == [200, 200]
    server.connection.pause_writing()
    assert server.later(4).wire.state == "open"
    assert server.later(2).wire.state == "aborted"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_the_last_request_of_a_connection(request_: bytes, *, at_once: bool) -> None:
    server = Server(at_once=at_once).feed(request_ + GET)
    if not at_once:
        server.answer()
    assert len(server.requests) == 1
    assert b"Connection: close\r\n" in server.wire.written[0]
    assert len(server.wire.written) == 1
    assert server.later(1).wire.state == "closed"


def test_a_handler_may_close() -> None:
    server = Server().feed(GET * 2)
    server.answer(error_response(503, "stopping", close=True))
    assert (server.statuses, server.wire.state) == ([503], "closed")
    assert len(server.requests) == 1


def test_a_refusal_waits_for_its_turn() -> None:
    server = Server().feed(GET + b"BAD\r\n\r\n")
    assert server.statuses == []
    server.answer()
    assert server.statuses == [200, 400]
    assert server.refusals == [400]
    assert server.wire.reading  # what the client still sends is read and forgotten
    server.feed(GET)
    assert len(server.requests) == 1
    assert server.wire.state == "open"
    assert server.later(1).wire.state == "closed"


def test_lingering_ends_however_much_is_sent() -> None:
    server = Server().feed(b"BAD\r\n\r\n")
    for _ in range(13):
        server.feed(b"more").later(0.4)
    assert server.wire.state == "closed"


def test_answering_twice_is_our_own_mistake() -> None:
    server = Server().feed(GET)
    respond = server.waiting[0]
    respond(json_response("ok"))
    with pytest.raises(LocalProtocolError, match="twice"):
        respond(json_response("ok"))


def test_an_answer_for_a_client_that_has_gone_is_dropped() -> None:
    server = Server().feed(POST + POST)
    assert server.state.buffered_bytes == 10
    server.connection.connection_lost(None)
    # One request is still in the dispatcher's hands: its memory is not free because nobody listens.
    assert (server.lost, server.state.buffered_bytes, server.state.connections) == (1, 5, set())
    server.answer()
    assert server.state.buffered_bytes == 0
    assert server.wire.written == []
    assert len(server.requests) == 1


def test_bodies_are_accounted_for_until_they_are_answered() -> None:
    server = Server().feed(POST)
    assert server.state.buffered_bytes == 5
    server.answer()
    assert server.state.buffered_bytes == 0


def test_more_bodies_than_there_is_room_for() -> None:
    server = Server(max_buffered_bytes=1000)
    server.state.buffered_bytes = 996
    server.feed(POST)
    assert server.statuses == [503]
    assert b"Retry-After: 1" in server.wire.written[0]
    server.connection.connection_lost(None)
    assert server.state.buffered_bytes == 996


def test_a_body_of_many_parts_is_one_buffer() -> None:
    server = Server().feed(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n")
    for _ in range(3):
        server.feed(b"ab")
    assert server.requests[0].body == b"ababab"


def test_continue_waits_for_the_answers_before_it() -> None:
    server = Server().feed(
        GET + b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert server.wire.written == []
    server.answer()
    assert server.wire.written[1:] == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    server.feed(b"hi").answer()
    assert server.requests[1].body == b"hi"


def test_continue_that_is_no_longer_needed_is_not_sent() -> None:
    server = Server().feed(
        GET + b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"
    )
    server.answer()
    server.answer()
    assert server.statuses == [200, 200]


TIMES = {"header_timeout_s": 2, "body_timeout_s": 3, "idle_timeout_s": 10}


def test_a_connection_that_asks_nothing() -> None:
    server = Server(**TIMES)
    assert server.connection.idle_since == 100
    assert server.later(1.9).wire.state == "open"
    assert server.later(0.2).wire.state == "closed"
    assert server.wire.written == []


def test_a_connection_that_asked_may_be_idle_for_longer() -> None:
    server = Server(**TIMES, at_once=True).feed(GET)
    assert server.later(9.9).wire.state == "open"
    assert server.later(0.2).wire.state == "closed"


def test_late_headers_and_late_bodies() -> None:
    server = Server(**TIMES).feed(b"GET / HT")
    assert server.connection.idle_since is None
    server.later(1.5).feed(b"TP/1.1\r\n").later(0.6)
    assert json.loads(server.wire.written[0].partition(b"\r\n\r\n")[2]) == {
        "error": "the headers did not arrive within 2 s",
        "code": "request_timeout",
    }
    server = Server(**TIMES).feed(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    assert server.later(2.9).statuses == []
    assert server.feed(b"a").later(0.2).statuses == [408]
    assert server.refusals == [408]


def test_a_request_that_is_being_served_has_its_own_deadline() -> None:
    server = Server(**TIMES).feed(GET)
    assert server.later(1000).wire.state == "open"
    server.answer()
    assert server.statuses == [200]


LARGE = HttpResponse(body=(b"a" * (3 * PIECE_BYTES),))


def test_a_large_last_answer_is_handed_over_whole_before_the_connection_closes() -> None:
    """The TLS transport drops what it still holds a while after `close`."""
    server = Server().feed(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    server.wire.full_after = 2
    server.answer(LARGE)
    assert (len(server.wire.written), server.wire.state) == (2, "open")
    server.wire.full_after = None
    server.connection.resume_writing()
    assert b"".join(server.wire.written).endswith(b"\r\n\r\n" + LARGE.body[0])
    assert server.wire.state == "closed"


def test_draining_does_not_cut_an_answer() -> None:
    server = Server(body_timeout_s=5).feed(GET)
    server.wire.full_after = 1
    server.answer(LARGE)
    server.connection.drain()
    assert server.later(4).wire.state == "open"
    assert server.later(2).wire.state == "aborted"


def test_who_closes_and_takes_nothing_is_cut_off_however_much_it_sends() -> None:
    server = Server(body_timeout_s=5).feed(GET + b"BAD\r\n\r\n")
    server.wire.full_after = 1
    server.answer(LARGE)
    for _ in range(6):
        server.feed(b"more").later(1)
    assert server.wire.state == "aborted"


def test_answers_that_nobody_takes_are_in_the_memory_budget() -> None:
    """Beyond it the client that has taken nothing for the longest time loses its connection."""
    first, _, third = servers = [Server() for _ in range(3)]
    state = first.state
    state.max_buffered_bytes = 8 * PIECE_BYTES
    for server in servers:
        server.connection = Connection(state, tls_spki=b"", peer="192.0.2.1", on_lost=server.gone)
        server.wire.protocol = server.connection
        server.connection.connection_made(server.wire)
        server.wire.full_after = 1
        server.connection.data_received(GET)
    for number in (1, 0, 2):
        state.now += 1
        servers[number].connection.respond(LARGE)
    assert [server.wire.state for server in servers] == ["open", "aborted", "open"]
    assert 6 * PIECE_BYTES < state.buffered_bytes < 7 * PIECE_BYTES
    assert first.refusals == [503]
    first.wire.full_after = None
    first.connection.resume_writing()
    third.connection.connection_lost(None)
    assert state.buffered_bytes == 0


def test_a_body_displaces_an_answer_that_nobody_takes() -> None:
    server = Server().feed(GET)
    server.wire.full_after = 1
    server.state.max_buffered_bytes = 4 * PIECE_BYTES
    server.answer(LARGE)
    assert server.state.buffered_bytes > len(LARGE.body[0])
    assert server.state.take(2 * PIECE_BYTES, {}, "192.0.2.2")
    assert (server.wire.state, server.state.buffered_bytes) == ("aborted", 2 * PIECE_BYTES)


def test_requests_of_a_client_that_takes_no_answer_are_displaced_too() -> None:
    server = Server(max_buffered_bytes=8).feed(GET + POST)
    server.connection.pause_writing()
    assert server.state.buffered_bytes == 5
    assert server.state.take(5, {}, "192.0.2.2")
    assert (server.wire.state, server.state.buffered_bytes) == ("aborted", 5)
    server.answer()
    server.connection.connection_lost(None)
    assert (server.wire.written, server.state.buffered_bytes) == ([], 5)


def test_nothing_is_written_to_a_transport_that_closes() -> None:
    server = Server().feed(GET)
    server.wire.state = "closed"
    server.answer()
    assert server.wire.written == []


def test_each_connection_has_a_number_of_its_own() -> None:
    one, other = Server().feed(GET + GET), Server().feed(GET)
    one.answer()
    numbers = [request.connection for request in one.requests + other.requests]
    assert numbers[0] == numbers[1] != numbers[2]


def test_draining() -> None:
    idle = Server()
    idle.connection.drain()
    assert idle.wire.state == "closed"
    busy = Server().feed(GET)
    busy.state.draining = True
    busy.connection.drain()
    assert busy.wire.state == "open"
    busy.answer()
    assert (b"Connection: close" in busy.wire.written[0], busy.wire.state) == (True, "closed")


def test_a_handler_that_raises_ends_its_connection_alone() -> None:
    def explode(request: HttpRequest, respond: Any) -> None:
        raise RuntimeError("secret")

    server = Server()
    server.state.handler = explode
    server.feed(GET)
    assert server.statuses == [500]
    assert b"secret" not in server.wire.written[0]
    assert server.wire.state == "closed"


def test_a_handler_that_raises_after_it_answered() -> None:
    def explode(request: HttpRequest, respond: Any) -> None:
        respond(json_response("ok"))
        raise RuntimeError("secret")

    server = Server()
    server.state.handler = explode
    server.feed(GET + GET)
    assert (server.statuses, server.wire.state) == ([200], "closed")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHos", POST[:-1]])
def test_the_end_in_the_middle_is_told(data: bytes) -> None:
    server = Server().feed(data)
    server.connection.eof_received()
    assert server.statuses == [400]
    quiet = Server(at_once=True).feed(GET)
    quiet.connection.eof_received()
    assert quiet.statuses == [200]
