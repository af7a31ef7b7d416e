"""TLS over transports in memory: what each end tells the protocol above, whatever comes."""

import asyncio
import gc
import ssl
import warnings
import weakref

import pytest
from simulators.redis_server import InfrastructureCa

from wardian.serving.tls_stream import TlsStream

NAME = "front.wardian.test"


class Above(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self, *, echo: bool = False) -> None:
        self.got = bytearray()
        self.said: list[str] = []
        self.echo = echo
        self.on_data = lambda: None

    def connection_made(self, transport):
        self.said.append("made")
        self.transport = transport

    def data_received(self, data):
        assert self.said[-1] in ("made", "resume")
        self.got += data
        if self.echo:
            self.transport.write(data)
        self.on_data()

    def eof_received(self):
        self.said.append("eof")

    def pause_writing(self):
        self.said.append("pause")

    def resume_writing(self):
        self.said.append("resume")

    def connection_lost(self, exc):
        self.said.append("lost")


class Wire(asyncio.Transport):
    """One end of a connection in memory."""

    def __init__(self, own: TlsStream) -> None:
        super().__init__()
        self.own, self.other = own, None
        self.paused = self.ended = False
        self.held = bytearray()
        self.spoil = lambda data: data
        self.loop = asyncio.get_running_loop()

    def write(self, data):
        if not self.ended:
            self.loop.call_soon(self.other.arrive, self.spoil(bytes(data)))

    def arrive(self, data):
        if self.ended:
            return
        if self.paused:
            self.held += data
        else:
            self.own.data_received(data)

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False
        if self.held:
            data, self.held = bytes(self.held), bytearray()
            self.loop.call_soon(self.arrive, data)

    def close(self):
        self.loop.call_soon(self._end, None)

    def abort(self):
        self.loop.call_soon(self._end, None)

    def _end(self, exc):
        if self.ended:
            return
        self.ended = True
        self.own.connection_lost(exc)
        self.loop.call_soon(self.other.finish)

    def finish(self):
        """The other end sent its last byte."""
        if not self.ended and not self.own.eof_received():
            self._end(None)

    def get_write_buffer_size(self):
        return 7

    def get_extra_info(self, name, default=None):
        return {"peername": "here"}.get(name, default)


CA = InfrastructureCa()


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    for name, content in zip(("cert", "key"), CA.server(name=NAME), strict=True):
        (folder / name).write_bytes(content)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    server.num_tickets = 0
    server.load_cert_chain(folder / "cert", folder / "key")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=CA.der)
    return server, client


class Pair:
    """A client and a server, connected."""

    def __init__(self, server, client, *, name=NAME, handshake_s=5.0, shutdown_s=5.0, echo=False):
        times = {"handshake_s": handshake_s, "shutdown_s": shutdown_s}
        self.served, self.asked = Above(echo=echo), Above()
        self.server = TlsStream(self.served, server, **times)
        self.client = TlsStream(self.asked, client, server_hostname=name, **times)
        self.near, self.far = Wire(self.client), Wire(self.server)
        self.near.other, self.far.other = self.far, self.near

    def start(self) -> "Pair":
        self.server.connection_made(self.far)
        self.client.connection_made(self.near)
        return self

    async def open(self) -> "Pair":
        self.start()
        await asyncio.gather(self.server.opened(), self.client.opened())
        return self


async def until(true) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0)


async def test_what_is_written_arrives_in_order_and_of_any_size(contexts):
    pair = await Pair(*contexts, echo=True).open()
    sent = bytes(range(256)) * 4096
    for size in (1, 700, 16_384, 16_385, len(sent)):
        pair.asked.got.clear()
        pair.client.write(memoryview(sent)[:size])
        await until(lambda size=size: len(pair.asked.got) == size)
        assert pair.asked.got == sent[:size]
    pair.client.writelines([b"a", b"", b"b"])
    pair.client.write(b"")
    await until(lambda: pair.asked.got.endswith(b"ab"))
    assert pair.server.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert pair.server.get_extra_info("peername") == "here"
    assert pair.server.get_write_buffer_size() == 7
    assert pair.served.said == ["made"]


async def test_nothing_on_the_way_is_readable(contexts):
    pair = await Pair(*contexts, echo=True).open()
    seen = bytearray()
    for wire in (pair.near, pair.far):
        wire.spoil = lambda data: (seen.extend(data), data)[1]
    pair.client.write(b"canary" * 100)
    await until(lambda: len(pair.asked.got) == 600)
    assert len(seen) > 1200
    assert b"canary" not in seen


@pytest.mark.parametrize("closes", ["client", "server"])
async def test_a_goodbye_ends_both_once(contexts, closes):
    pair = await Pair(*contexts).open()
    one = getattr(pair, closes)
    one.write(b"last words")
    one.close()
    one.close()
    one.write(b"too late")
    assert one.is_closing()
    await until(lambda: pair.asked.said[-1] == pair.served.said[-1] == "lost")
    first, other = (pair.asked, pair.served) if closes == "client" else (pair.served, pair.asked)
    assert other.got == b"last words"
    assert first.said == ["made", "lost"]
    assert other.said == ["made", "eof", "lost"]


async def test_what_openssl_keeps_goes_with_the_connection(contexts):
    """At once: those who come and go do not fill the memory until somebody collects it."""
    pair = await Pair(*contexts).open()
    kept = [weakref.ref(each.get_extra_info("ssl_object")) for each in (pair.server, pair.client)]
    gc.disable()
    try:
        pair.client.write(b"bye")
        pair.client.close()
        await until(lambda: pair.asked.said[-1] == pair.served.said[-1] == "lost")
        assert [each() for each in kept] == [None, None]
    finally:
        gc.enable()
    for stream in (pair.server, pair.client):  # what may be asked all the same
        stream.close()
        stream.abort()
        stream.write(b"too late")
        stream.pause_reading()
        stream.resume_reading()
        stream.set_protocol(Above())
        assert stream.is_closing()
        assert stream.get_write_buffer_size() == 0
        assert stream.get_extra_info("ssl_object") is None
    await asyncio.sleep(0)


async def test_a_handshake_that_failed_keeps_nothing(contexts):
    pair = Pair(*contexts)
    pair.server.connection_made(pair.far)
    kept = weakref.ref(pair.server.get_extra_info("ssl_object"))
    gc.disable()
    try:
        pair.near.ended = True
        pair.server.data_received(b"GET / HTTP/1.1")
        with pytest.raises(ssl.SSLError):
            await pair.server.opened()
        await until(lambda: pair.far.ended)
        assert kept() is None
    finally:
        gc.enable()


async def test_what_comes_after_a_close_is_dropped(contexts):
    pair = await Pair(*contexts).open()
    pair.server.pause_reading()
    pair.client.write(b"x" * 100_000)
    await asyncio.sleep(0)
    pair.server.close()
    await until(lambda: pair.served.said[-1] == "lost")
    assert not pair.served.got


async def test_who_never_says_goodbye_is_cut_off(contexts):
    pair = await Pair(*contexts, shutdown_s=0.01).open()
    pair.near.paused = True  # the client hears nothing
    pair.server.close()
    await until(lambda: pair.served.said[-1] == "lost")
    assert pair.far.ended


async def test_a_connection_that_ends_without_a_goodbye_is_told(contexts):
    pair = await Pair(*contexts).open()
    pair.client.write(b"half of")
    await until(lambda: pair.served.got)
    pair.client.abort()
    pair.client.abort()
    await until(lambda: pair.served.said[-1] == "lost")
    assert pair.served.said == ["made", "eof", "lost"]
    assert pair.asked.said == ["made", "lost"]


async def test_while_reading_is_paused_nothing_is_told_and_then_all(contexts):
    pair = await Pair(*contexts).open()
    pair.served.on_data = pair.server.pause_reading  # after the first record, with more behind it
    pair.client.write(b"y" * 50_000)
    await until(lambda: pair.served.got)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(pair.served.got) == 16_384
    assert not pair.server.is_reading()
    pair.served.on_data = lambda: None
    pair.server.resume_reading()
    pair.server.resume_reading()
    await until(lambda: len(pair.served.got) == 50_000)


async def test_who_aborts_within_is_told_nothing_more(contexts):
    pair = await Pair(*contexts).open()
    pair.served.on_data = pair.server.abort
    pair.client.write(b"z" * 50_000)
    await until(lambda: pair.served.said[-1] == "lost")
    assert len(pair.served.got) == 16_384


@pytest.mark.parametrize("at", [0, 3, 5, 30, -1])
async def test_a_record_that_was_changed_ends_the_connection(contexts, at):
    pair = await Pair(*contexts).open()

    def flip(data: bytes) -> bytes:
        spoilt = bytearray(data)
        spoilt[at] ^= 1
        return bytes(spoilt)

    pair.near.spoil = flip
    pair.client.write(b"k" * 700)
    pair.near.spoil = lambda data: data
    pair.client.write(b"and more" * 2000)  # whatever length the record claims
    await until(lambda: pair.served.said[-1] == "lost")
    assert not pair.served.got


async def test_pressure_is_told_above(contexts):
    pair = await Pair(*contexts).open()
    pair.server.pause_writing()
    pair.server.resume_writing()
    assert pair.served.said == ["made", "pause", "resume"]
    pair.server.close()
    pair.server.pause_writing()
    pair.server.resume_writing()
    assert pair.served.said == ["made", "pause", "resume"]


@pytest.mark.parametrize("which", ["another name", "another authority", "an old protocol"])
async def test_a_handshake_that_fails_is_never_told_above(contexts, which):
    server, client = contexts
    name = NAME
    if which == "another name":
        name = "other.wardian.test"
    elif which == "another authority":
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(cadata=InfrastructureCa().der)
    else:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(cadata=CA.der)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            client.maximum_version = ssl.TLSVersion.TLSv1_2
    pair = Pair(server, client, name=name).start()
    outcomes = await asyncio.gather(
        pair.server.opened(), pair.client.opened(), return_exceptions=True
    )
    assert isinstance(outcomes[1], ssl.SSLError)
    if which == "an old protocol":
        assert isinstance(outcomes[0], ssl.SSLError)
    await until(lambda: pair.near.ended and pair.far.ended)
    assert pair.asked.said == []
    # In TLS 1.3 the client is done before the server hears that it was refused.
    assert pair.served.said in ([], ["made", "lost"], ["made", "eof", "lost"])


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\x16\x03\x01\xff\xff"])
async def test_garbage_is_no_handshake(contexts, garbage):
    pair = Pair(*contexts, handshake_s=0.05)
    pair.server.connection_made(pair.far)
    pair.near.ended = True
    pair.server.data_received(garbage)
    with pytest.raises(OSError, match=r"."):
        await pair.server.opened()
    await until(lambda: pair.far.ended)
    assert pair.served.said == []


async def test_a_handshake_has_its_time(contexts):
    pair = Pair(*contexts, handshake_s=0.01)
    pair.server.connection_made(pair.far)
    with pytest.raises(TimeoutError):
        await pair.server.opened()
    await until(lambda: pair.far.ended)
    assert pair.served.said == []


async def test_a_peer_that_goes_within_the_handshake(contexts):
    pair = Pair(*contexts)
    pair.server.connection_made(pair.far)
    pair.far.finish()
    with pytest.raises(ConnectionResetError):
        await pair.server.opened()
    assert pair.served.said == []


async def test_who_stops_waiting_for_a_handshake_ends_it(contexts):
    pair = Pair(*contexts)
    pair.server.connection_made(pair.far)
    waiting = asyncio.ensure_future(pair.server.opened())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: pair.far.ended)
    assert pair.served.said == []


async def test_a_stream_that_is_closed_in_its_handshake(contexts):
    pair = Pair(*contexts)
    pair.server.abort()  # there is no transport yet
    pair = Pair(*contexts).start()
    pair.server.close()
    with pytest.raises(ConnectionAbortedError):
        await pair.server.opened()
    await until(lambda: pair.far.ended)
    assert pair.served.said == []
