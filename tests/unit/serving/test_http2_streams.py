"""Accounting of one HTTP/2 connection, without a socket: what is taken is given back, once."""

import asyncio

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian._internal.agreed import Limits
from wardian.serving.http.http2 import frames
from wardian.serving.http.http2.connection import Http2Connection
from wardian.serving.http.messages import HttpRequest, HttpResponse
from wardian.serving.http.state import Respond, ServerState


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closing = False

    def write(self, data) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self.closing = True

    abort = close


class Fixture:
    """One connection over a fake transport; requests wait in `asked` until they are answered."""

    def __init__(self, max_buffered_bytes: int = 10**6) -> None:
        self.asked: list[tuple[HttpRequest, Respond]] = []
        self.refusals: list[int] = []
        self.state = ServerState(
            handler=lambda request, respond: self.asked.append((request, respond)),
            limits=Limits(max_body_bytes=5000, header_timeout_s=1, body_timeout_s=1),
            count_refusal=self.refusals.append,
            max_buffered_bytes=max_buffered_bytes,
            now=0.0,
        )
        self.transport = FakeTransport()
        self.lost = 0
        self.connection = Http2Connection(
            self.state, tls_spki=b"key", peer="::1", on_lost=self.on_lost, accept=lambda _: None
        )
        self.encoder = hpack.Encoder()
        self.connection.connection_made(self.transport)
        self.feed(frames.PREFACE + frames.settings({}))

    def on_lost(self) -> None:
        self.lost += 1

    def feed(self, data: bytes) -> None:
        self.connection.data_received(data)

    def head(self, number: int, *, end: bool = False) -> None:
        fields = [(":method", "POST"), (":scheme", "https"), (":path", "/x"), (":authority", "a")]
        block = self.encoder.encode(fields)
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        self.feed(frames.frame(frames.HEADERS, flags, number, block))

    def body(self, number: int, size: int, *, end: bool = True) -> None:
        flags = frames.END_STREAM if end else 0
        self.feed(frames.frame(frames.DATA, flags, number, bytes(size)))

    def sweep(self, now: float) -> None:
        self.state.now = now
        self.connection.sweep()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "part", "end", "reset", "answer", "large", "window", "sweep"]),
        st.integers(0, 7),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_whatever_happens_all_memory_is_given_back(steps) -> None:
    async def run() -> None:
        made = Fixture()
        opened = 0
        for step, which in steps:
            number = 2 * (which % max(1, opened)) + 1
            live = number in made.connection._streams
            if made.connection.over:
                break
            if step == "open":
                opened += 1
                made.head(2 * opened - 1)
            elif (
                step in ("part", "end")
                and live
                and not made.connection._streams[number].remote_ended
            ):
                made.body(number, 100 * which, end=step == "end")
            elif step == "reset" and opened:
                made.feed(frames.rst_stream(number, frames.ErrorCode.CANCEL))
            elif step in ("answer", "large") and made.asked:
                _, respond = made.asked.pop(which % len(made.asked))
                respond(HttpResponse(body=(bytes(100_000 if step == "large" else 10),)))
            elif step == "window" and live:
                made.feed(frames.window_update(number, 1 + 10_000 * which))
            elif step == "sweep":
                made.sweep(made.state.now + 0.3)
            await asyncio.sleep(0)
        for _, respond in made.asked:
            respond(HttpResponse())
        made.connection.connection_lost(None)
        assert made.state.buffered_bytes == 0
        assert not made.state.connections
        assert (made.connection._streams, made.connection._working) == ({}, set())
        assert made.lost == 1

    asyncio.run(run())


async def test_a_client_that_takes_nothing_makes_room_for_others() -> None:
    made = Fixture(max_buffered_bytes=150_000)
    made.head(1, end=True)
    made.asked.pop()[1](HttpResponse(body=(bytes(300_000),)))
    await asyncio.sleep(0)
    reset = frames.rst_stream(1, frames.ErrorCode.CANCEL)
    assert reset in made.transport.written  # it was the one that held most, and took nothing
    assert not made.transport.closing  # its neighbours go on
    assert made.state.buffered_bytes == 0
    assert 503 in made.refusals


async def test_a_lost_client_leaves_its_body_with_the_work() -> None:
    made = Fixture()
    made.head(1)
    made.body(1, 1000)
    made.feed(frames.rst_stream(1, frames.ErrorCode.CANCEL))
    assert made.state.buffered_bytes == 1000
    assert made.connection.idle_since is None
    made.asked.pop()[1](HttpResponse())
    assert made.state.buffered_bytes == 0
    assert made.connection.idle_since is not None


async def test_what_one_turn_of_the_loop_brings_is_one_write() -> None:
    made = Fixture()
    for number in (1, 3, 5):
        made.head(number, end=True)
    writes = []
    made.transport.write = writes.append
    for _, respond in made.asked:
        respond(HttpResponse(body=(b"answer",)))
    await asyncio.sleep(0)
    assert len(writes) == 1
    found = list(frames.FrameReader(max_payload=100).feed(writes[0]))
    assert [each.stream for each in found if each.kind == frames.HEADERS] == [1, 3, 5]


async def test_streams_take_turns() -> None:
    made = Fixture()
    made.feed(frames.settings({frames.INITIAL_WINDOW_SIZE: 10**6}) + frames.window_update(0, 10**6))
    for number in (1, 3):
        made.head(number, end=True)
    made.transport.written.clear()
    for _, respond in made.asked:
        respond(HttpResponse(body=(bytes(60_000),)))
    await asyncio.sleep(0)
    found = list(frames.FrameReader(max_payload=10**6).feed(bytes(made.transport.written)))
    order = [each.stream for each in found if each.kind == frames.DATA]
    assert order == [1, 3] * 4
