"""An answer in parts on one HTTP/1.1 connection without a socket: order, pressure, endings."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from wardian._internal.agreed import Limits
from wardian.serving.http.connection import Connection
from wardian.serving.http.messages import HttpRequest, HttpResponse, Source, json_response
from wardian.serving.http.sharing import STALLED
from wardian.serving.http.state import ServerState

POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET /g HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"X-A: b\r\n\r\n"
)


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.state = "open"

    def is_closing(self) -> bool:
        return self.state != "open"

    def write(self, data: Any) -> None:
        assert self.state == "open"
        self.written += bytes(data)

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def read(self) -> bytes:
        """What was written since it was read last."""
        read, self.written = self.written, b""
        return read


class Parts(Source):
    """Sends what a test says."""

    def __init__(self) -> None:
        self.outlet: Any = None
        self.told: list[str] = []

    def begin(self, outlet: Any) -> None:
        self.outlet = outlet

    def taken(self) -> None:
        self.told.append("taken")

    def gone(self, rest: Callable[[], None]) -> None:
        self.told.append("gone")
        rest()


class Server:
    def __init__(self) -> None:
        self.responds: list[Callable[[HttpResponse], None]] = []
        self.state = ServerState(
            handler=self.handle,
            limits=Limits(body_timeout_s=30.0),
            count_refusal=lambda _: None,
            max_buffered_bytes=1000,
            now=100.0,
        )
        self.wire = Wire()
        self.connection = Connection(self.state, tls_spki=b"", peer="::1", on_lost=lambda: None)
        self.connection.connection_made(self.wire)

    def handle(self, request: HttpRequest, respond: Callable[[HttpResponse], None]) -> None:
        del request
        self.responds.append(respond)

    def begin(self, **more: Any) -> Parts:
        parts = Parts()
        response = HttpResponse(
            content_type=b"text/event-stream", headers=b"X-A: b\r\n", source=parts, **more
        )
        self.responds.pop(0)(response)
        return parts

    def later(self, seconds: float) -> None:
        self.state.now += seconds
        self.connection.sweep()


@pytest.fixture
def server() -> Server:
    made = Server()
    made.connection.data_received(POST)
    return made


def test_head_parts_end_and_the_next_request(server: Server) -> None:
    parts = server.begin()
    assert server.wire.read() == HEAD
    assert parts.outlet.send(b"0123456789abcdef\n")
    assert server.wire.read() == b"11\r\n0123456789abcdef\n\r\n"
    server.connection.data_received(GET)
    assert not server.responds  # it waits for its turn
    server.later(1000.0)  # whoever answers keeps the time
    parts.outlet.end()
    assert server.wire.read() == b"0\r\n\r\n"
    server.responds.pop(0)(json_response("ok"))
    assert server.wire.read().startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.wire.state == "open"
    assert parts.told == []
    assert server.state.buffered_bytes == 0


def test_a_client_that_does_not_read_holds_one_part_and_is_cut_off(server: Server) -> None:
    parts = server.begin()
    server.connection.pause_writing()
    server.wire.read()
    assert parts.outlet.send(b"one") is False
    assert server.wire.read() == b""
    assert server.state.buffered_bytes == len(b"3\r\none\r\n")
    server.connection.resume_writing()
    assert server.wire.read() == b"3\r\none\r\n"
    assert (parts.told, server.state.buffered_bytes) == (["taken"], 0)
    server.connection.pause_writing()
    assert parts.outlet.send(b"two") is False
    server.later(29.0)
    assert server.wire.state == "open"
    server.later(2.0)
    assert server.wire.state == "aborted"
    server.connection.connection_lost(None)
    assert parts.told == ["taken", "gone"]
    assert server.state.buffered_bytes == 0
    assert parts.outlet.send(b"three") is False  # of no use, and no harm
    parts.outlet.end()


def test_the_memory_of_all_connections_cuts_off_who_does_not_read(server: Server) -> None:
    parts = server.begin()
    server.connection.pause_writing()
    parts.outlet.send(b"x" * 900)
    assert [claim.standing for claim in server.connection.claims()][-1] == STALLED
    assert server.state.take(200, {}, "192.0.2.9")
    assert server.wire.state == "aborted"


def test_the_end_while_the_client_does_not_read(server: Server) -> None:
    server.connection.data_received(GET)
    parts = server.begin()
    server.wire.read()
    server.connection.pause_writing()
    parts.outlet.send(b"one")
    parts.outlet.end()
    assert server.wire.read() == b""
    assert not server.responds
    server.connection.resume_writing()
    assert server.wire.read() == b"3\r\none\r\n0\r\n\r\n"
    assert len(server.responds) == 1


def test_who_has_gone_before_or_within(server: Server) -> None:
    server.connection.connection_lost(None)
    assert server.begin().told == ["gone"]
    other = Server()
    other.connection.data_received(POST)
    parts = other.begin()
    other.connection.connection_lost(None)
    assert parts.told == ["gone"]
    assert other.state.buffered_bytes == 0


def test_a_transport_that_closes_takes_nothing(server: Server) -> None:
    server.wire.state = "closed"
    assert server.begin().told == ["gone"]
    assert server.wire.read() == b""


@pytest.mark.parametrize("way", ["drain", "retire", "response", "client"])
def test_the_last_answer_of_a_connection(way: str) -> None:
    server = Server()
    close = b"Connection: close\r\n" if way == "client" else b""
    server.connection.data_received(POST.replace(b"Host: x\r\n", b"Host: x\r\n" + close))
    if way == "retire":
        server.connection.retire()
    parts = server.begin(close=way == "response")
    head = server.wire.read()
    assert (b"Connection: close" in head) is (way in ("response", "client"))
    assert b"chunked" in head
    if way == "drain":
        server.state.draining = True
        server.connection.drain()
        assert server.wire.state == "open"
    parts.outlet.send(b"one")
    parts.outlet.end()
    assert server.wire.read() == b"3\r\none\r\n0\r\n\r\n"
    assert server.wire.state == "closed"


def test_http_1_0_ends_with_the_connection() -> None:
    server = Server()
    server.connection.data_received(POST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    parts = server.begin()
    assert b"Transfer-Encoding" not in server.wire.read()
    parts.outlet.send(b"one")
    parts.outlet.end()
    assert server.wire.read() == b"one"
    assert server.wire.state == "closed"


def test_nonsense_behind_a_stream_is_refused_in_its_turn(server: Server) -> None:
    parts = server.begin()
    server.wire.read()
    server.connection.data_received(b"\x00nonsense\r\n\r\n")
    parts.outlet.send(b"one")
    assert server.wire.read() == b"3\r\none\r\n"
    parts.outlet.end()
    assert server.wire.read().startswith(b"0\r\n\r\nHTTP/1.1 400 ")
