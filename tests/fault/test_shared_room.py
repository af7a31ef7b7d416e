"""Nobody takes what all need: connections, the memory of bodies, open streams.

Tenants and strangers against one front end over real TLS; further addresses are of 127.0.0.0/8.
"""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from simulators.front_end import HOST, FrontEnd, RawClient
from simulators.http2_client import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    PREFACE,
    WINDOW,
    Http2Client,
    Reset,
    frame,
    settings,
    u32,
)
from simulators.tenants import key_of, terms, verified

from wardian._internal.clock import monotonic, unix_time
from wardian.serving.http.server import ServerState
from wardian.serving.tenants.roster import Roster

MOST = 24
"""Connections of the front end."""
PREDICT = "/v1/models/digits:predict"
ROWS = json.dumps({"instances": np.zeros((1, 64)).tolist()}).encode()
LARGE = json.dumps({"instances": np.zeros((600, 64)).tolist()}).encode()  # about 190 KB
SENT = len(LARGE) - 9
"""Bytes of an upload that does not end."""
LIMITS = {
    "max_connections": MOST,
    "max_body_bytes": 250_000,
    "header_timeout_s": 20.0,
    "body_timeout_s": 20.0,
}


def bearer(name: str) -> str:
    return f"Bearer {key_of(name).decode()}"


def head_of(name: str | None, length: int, path: str = PREDICT) -> bytes:
    key = f"Authorization: {bearer(name)}\r\n" if name else ""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{key}\r\n".encode()


@pytest.fixture
def front() -> Iterator[FrontEnd]:
    """Serves alice and bob, and nobody else."""
    roster = Roster(now=unix_time, monotonic=monotonic)
    roster.adopt(verified(*(terms(name, max_open=1000) for name in ("alice", "bob"))))
    with FrontEnd(roster=roster, **LIMITS) as running:
        yield running


@pytest.fixture
def anybody() -> Iterator[FrontEnd]:
    """Serves whoever comes."""
    with FrontEnd(**LIMITS) as running:
        yield running


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def dial(front: FrontEnd, closing: ExitStack, *, source: str = HOST) -> socket.socket:
    """A TCP connection from `source`."""
    raw = socket.create_connection((HOST, front.port), timeout=10, source_address=(source, 0))
    return closing.enter_context(raw)


def connect(
    front: FrontEnd, closing: ExitStack, *, source: str = HOST, receive: int = 0
) -> RawClient:
    raw = socket.socket()
    if receive:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    raw.settimeout(10)
    closing.enter_context(raw)
    raw.bind((source, 0))
    raw.connect((HOST, front.port))
    context = ssl.create_default_context(cadata=front.ca.certificate)
    return RawClient(closing.enter_context(context.wrap_socket(raw, server_hostname="localhost")))


def status(client: RawClient, name: str | None, body: bytes = ROWS) -> int:
    return client.send(head_of(name, len(body)) + body).response()[0]


def served(front: FrontEnd, name: str | None, *, source: str = HOST) -> None:
    """A newcomer gets its answer."""
    with ExitStack() as stack:
        assert status(connect(front, stack, source=source), name) == 200


def is_open(client: RawClient) -> bool:
    """Whether the server has not closed it; nothing is due on it."""
    client.sock.settimeout(0.05)
    try:
        return client.sock.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False
    finally:
        client.sock.settimeout(10)


def answered(client: RawClient) -> int | None:
    """The status of an answer that came already."""
    client.sock.settimeout(0.1)
    try:
        return client.response()[0]
    except TimeoutError:
        return None
    finally:
        client.sock.settimeout(10)


@contextmanager
def room_for(front: FrontEnd, size: int) -> Iterator[ServerState]:
    """So many bytes of bodies."""
    state = front.frontend._server._state
    normal, state.max_buffered_bytes = state.max_buffered_bytes, size
    try:
        yield state
    finally:
        state.max_buffered_bytes = normal


def upload(
    front: FrontEnd, closing: ExitStack, name: str | None, *, after: int, source: str = HOST
) -> RawClient:
    """A large body without its last bytes, behind `after` others."""
    state = front.frontend._server._state
    client = connect(front, closing, source=source)
    client.send(head_of(name, len(LARGE)) + LARGE[:-9])
    front.wait_for(lambda: state.buffered_bytes >= (after + 1) * SENT)
    return client


# Connections


def test_idle_connections_of_one_tenant(front: FrontEnd, closing: ExitStack) -> None:
    for _ in range(MOST):
        assert status(connect(front, closing), "alice") == 200
    for _ in range(3):
        served(front, "bob")


def test_half_sent_heads_of_one_tenant(front: FrontEnd, closing: ExitStack) -> None:
    for _ in range(MOST):
        client = connect(front, closing)
        assert status(client, "alice") == 200
        client.send(head_of("alice", 10)[:-2])
    front.wait_for(lambda: front.open_connections == MOST)
    for _ in range(3):
        served(front, "bob")


def test_half_sent_bodies_of_one_tenant(front: FrontEnd, closing: ExitStack) -> None:
    for _ in range(MOST):
        connect(front, closing).send(head_of("alice", 100) + b"[")
    front.wait_for(lambda: front.frontend._server._state.buffered_bytes == MOST)
    served(front, "bob")


def test_requests_under_way_of_one_tenant(front: FrontEnd, closing: ExitStack) -> None:
    """It has more than its part: one of its requests is cut off for a neighbour's connection."""
    hold = head_of("alice", len(ROWS), "/v1/models/held:predict") + ROWS
    held = [connect(front, closing).send(hold) for _ in range(MOST)]
    front.wait_for(lambda: len(front.dispatcher.held) == MOST)
    served(front, "bob")
    front.release()
    assert sum(is_open(client) for client in held) == MOST - 1


def test_handshakes_that_never_end(front: FrontEnd, closing: ExitStack) -> None:
    """From an address of its own, bob finds a place at once."""
    for _ in range(MOST):
        dial(front, closing, source="127.0.0.2")
    front.wait_for(lambda: front.open_connections == MOST)
    for _ in range(3):
        served(front, "bob")
    assert front.open_connections <= MOST


def test_handshakes_from_everywhere_take_nothing_of_tenants(
    front: FrontEnd, closing: ExitStack
) -> None:
    """Strangers have one small part, however many addresses they have."""
    tenants = [connect(front, closing) for _ in range(MOST // 2)]
    for number, client in enumerate(tenants):
        assert status(client, "alice" if number % 2 else "bob") == 200
    for number in range(3 * MOST):
        dial(front, closing, source=f"127.0.1.{number + 1}")
    served(front, "bob", source="127.0.2.1")
    assert [status(client, "alice") for client in tenants] == [200] * len(tenants)


def test_strangers_with_a_wrong_key_give_way_first(front: FrontEnd, closing: ExitStack) -> None:
    for number in range(MOST):
        client = connect(front, closing, source=f"127.0.1.{number % 8 + 1}")
        assert status(client, "eve") == 401
        client.send(head_of("eve", 10)[:-2])
    for _ in range(3):
        served(front, "bob")


def test_one_address_where_everybody_is_unknown(anybody: FrontEnd, closing: ExitStack) -> None:
    greedy = [connect(anybody, closing, source="127.0.0.2") for _ in range(MOST)]
    for client in greedy:
        client.send(head_of(None, 100) + b"[")
    anybody.wait_for(lambda: anybody.open_connections == MOST)
    mine = [connect(anybody, closing, source="127.0.0.3") for _ in range(3)]
    assert [status(client, None) for client in mine] == [200] * 3
    assert sum(is_open(client) for client in greedy) == MOST - 3


def test_nobody_gets_more_than_the_others_by_coming_again(
    anybody: FrontEnd, closing: ExitStack
) -> None:
    hold = head_of(None, len(ROWS), "/v1/models/held:predict") + ROWS
    first = [connect(anybody, closing, source="127.0.0.2").send(hold) for _ in range(MOST // 2)]
    for _ in range(2 * MOST):
        with ExitStack() as refused:  # at its part it is refused, for all of it is under way
            try:
                client = connect(anybody, refused, source="127.0.0.3")
                client.send(hold)
                closing.push(refused.pop_all())
            except (OSError, ssl.SSLError):
                continue
    anybody.release()
    assert sum(client.response()[0] == 200 for client in first) == MOST // 2


def test_streams_of_one_tenant_on_all_connections(front: FrontEnd, closing: ExitStack) -> None:
    for _ in range(MOST):
        client = closing.enter_context(Http2Client(front))
        for number in range(1, 254, 2):
            block = client.block(
                path=PREDICT, method="POST", content_length="10", authorization=bearer("alice")
            )
            client.send(frame(HEADERS, END_HEADERS, number, block))
        client.next_stream = 255
        assert client.get() == 200
    assert front.open_connections == MOST
    for _ in range(3):
        served(front, "bob")


def test_inferences_of_one_tenant_on_all_connections(front: FrontEnd, closing: ExitStack) -> None:
    for _ in range(MOST):
        client = closing.enter_context(Http2Client(front))
        for _ in range(100):
            client.request("/v1/models/held:predict", ROWS, authorization=bearer("alice"))
    front.wait_for(lambda: len(front.dispatcher.held) == 1000)  # `max_open`
    for _ in range(3):
        served(front, "bob")
    front.release()


# The memory of bodies


def test_uploads_that_trickle(front: FrontEnd, closing: ExitStack) -> None:
    with room_for(front, 1_000_000) as state:
        slow = [upload(front, closing, "alice", after=number) for number in range(5)]
        for _ in range(2):
            with ExitStack() as stack:
                assert status(connect(front, stack), "bob", LARGE) == 200
        told = [answered(client) for client in slow]
        assert sorted(told, key=str) == [503, None, None, None, None]  # one had to go, and knows
        del slow[told.index(503)]
        slow.append(upload(front, closing, "alice", after=4))
        with ExitStack() as stack:  # who holds most gets no more
            assert status(connect(front, stack), "alice", LARGE) == 503
        for client in slow:
            assert client.send(LARGE[-9:]).response()[0] == 200
        assert state.buffered_bytes == 0


def test_uploads_that_trickle_on_streams(front: FrontEnd, closing: ExitStack) -> None:
    with room_for(front, 1_000_000) as state:
        client = closing.enter_context(Http2Client(front))
        slow = [
            client.request(PREDICT, LARGE[:-9], end=False, authorization=bearer("alice"))
            for _ in range(5)
        ]
        front.wait_for(lambda: state.buffered_bytes == 5 * SENT)
        with ExitStack() as stack:
            assert status(connect(front, stack), "bob", LARGE) == 200
        with pytest.raises(Reset) as reset:
            client.answer(slow[0])
        assert reset.value.code == ENHANCE_YOUR_CALM
        for number in slow[1:]:
            client.send(frame(DATA, END_STREAM, number, LARGE[-9:]))
            assert client.answer(number)[0] == 200
        front.wait_for(lambda: state.buffered_bytes == 0)


def test_uploads_that_trickle_from_one_address(anybody: FrontEnd, closing: ExitStack) -> None:
    with room_for(anybody, 1_000_000):
        for number in range(5):
            upload(anybody, closing, None, after=number, source="127.0.0.2")
        served(anybody, None, source="127.0.0.2")  # what fits is taken
        assert status(connect(anybody, closing, source="127.0.0.2"), None, LARGE) == 503
        assert status(connect(anybody, closing, source="127.0.0.3"), None, LARGE) == 200


def test_answers_that_one_tenant_does_not_take(front: FrontEnd, closing: ExitStack) -> None:
    """Whoever holds most gives way, not who was slow first."""
    with room_for(front, 1_000_000) as state:
        slow = unread(front, closing)
        mine = slow.request(PREDICT, LARGE, authorization=bearer("bob"))
        front.wait_for(lambda: len(front.dispatcher.seen) == 1 and 0 < state.buffered_bytes < SENT)
        size = state.buffered_bytes  # of an answer that waits
        asked, held = list[tuple[Http2Client, int]](), size
        while held + len(LARGE) <= 1_000_000:  # one by one: bodies that come together are refused
            if len(asked) % 4 == 0:  # few on a connection, whose own window is bounded, too
                client = unread(front, closing)
            asked.append((client, client.request(PREDICT, LARGE, authorization=bearer("alice"))))
            held += size
            front.wait_for(lambda held=held: state.buffered_bytes == held)
        with ExitStack() as stack:
            assert status(connect(front, stack), "bob", LARGE) == 200
        assert take(slow, mine) == 200
        outcomes = [take(client, number) for client, number in asked]
        assert set(outcomes) == {200, CANCEL}
        assert outcomes.count(CANCEL) < 3  # what was wanted, and no more


def take(client: Http2Client, number: int) -> int:
    """The status of an answer that is taken now, or the code with which it was given up."""
    client.send(frame(WINDOW, 0, 0, u32(2**20)) + frame(WINDOW, 0, number, u32(2**20)))
    try:
        return client.answer(number)[0]
    except Reset as reset:
        return reset.code


def unread(front: FrontEnd, closing: ExitStack) -> Http2Client:
    """A client that takes nothing of any answer."""
    client = closing.enter_context(Http2Client(front, greet=False))
    client.send(PREFACE + settings(_4=0))
    return client
