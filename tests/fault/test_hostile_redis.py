"""A Redis of the enemy's: whatever it does, no wrong answer is given and nothing clear is seen."""

import asyncio
import contextlib
import dataclasses
import logging
import ssl

import numpy as np
import pytest
from simulators import hostile_redis as hostile
from simulators.data_plane import LANE, LANES, Collector, image, is_answer, sender
from simulators.redis_plane import RedisPlane
from simulators.redis_server import (
    NAME,
    PASSWORDS,
    InfrastructureCa,
    RedisServer,
    access,
    free_port,
)

from wardian.crypto.tls_keys import TlsKey
from wardian.errors import JobFailed, PeerProtocolError, Timeout, TransportError
from wardian.serving.dispatch import Dispatcher
from wardian.serving.queue.redis_front import RedisFrontQueue
from wardian.serving.queue.redis_link import BlockingLink
from wardian.serving.queue.redis_wire import command
from wardian.serving.queue.redis_worker import RedisWorkerQueue


@pytest.fixture(scope="module")
def server(need_program, tmp_path_factory):
    server = RedisServer(need_program("redis-server"), tmp_path_factory.mktemp("redis"))
    yield server.start()
    server.close()


@pytest.fixture
async def plane(server):
    plane = await RedisPlane(server).start()
    yield plane
    plane.relay.play(hostile.Trick())
    await plane.close()


def events(caplog) -> set[str]:
    """Return the events that were logged, with the reason where it is of a closed set."""
    return {
        record.getMessage() + ":" + str(getattr(record, "fields", {}).get("why", ""))
        for record in caplog.records
    }


# What each trick is noticed by: an event with its reason, or the error that its requests end in.
REFUSED = "queue.answer_refused:"
HANDED_BACK = "queue.message_refused:"
NOTICED = {
    "flips requests": {HANDED_BACK},
    "flips answers": {REFUSED + "not authentic"},
    "truncates": {REFUSED + "unknown", REFUSED + "not authentic"},
    "drops": {Timeout},
    "duplicates": {REFUSED + "unknown"},
    "replays": {REFUSED + "unknown"},
    "forges before the true message": {REFUSED + "not authentic", REFUSED + "unknown"},
    "swaps answers": {REFUSED + "unknown"},
    "reflects": {REFUSED + "not authentic"},
    "answers for others": {REFUSED + "not authentic", REFUSED + "unknown"},
    "says it is another front end's": {Timeout},
    "reorders": {Timeout, REFUSED + "not authentic"},
    "claims refusals": {REFUSED + "unknown"},
    "breaks off": {"queue.redis_lost:Redis: the connection was closed"},
}
SERVED = {"duplicates", "reflects", "forges before the true message", "answers for others"}
"""Tricks that cost nobody an answer."""


@pytest.mark.parametrize("name", NOTICED)
async def test_a_trick_costs_service_at_most_and_is_noticed(plane, caplog, name):
    caplog.set_level(logging.INFO)
    await plane.worker()
    plane.relay.play(hostile.TRICKS[name]())
    for value in range(60):
        plane.requests.submit(value, image(value), deadline_s=1.5)
        if value % 4 == 0:
            await asyncio.sleep(0.004)
    outcomes = await plane.requests.all_done()
    for value, outcome in outcomes.items():
        assert outcome.error is not None or is_answer(outcome, value)
    assert plane.requests.errors() <= {Timeout, JobFailed}
    if name in SERVED:
        assert plane.requests.errors() == set()
    noticed = events(caplog) | plane.requests.errors()
    assert NOTICED[name] & noticed, (noticed, plane.queue.refusals)
    # Honest again, service is back.
    plane.relay.play(hostile.Trick())
    assert await plane.answer(1000)


async def test_nothing_clear_passes_through_redis(plane):
    """A canary in the input, which the model's answer repeats."""
    await plane.worker()
    canary = 1234567.0
    for _ in range(20):
        assert await plane.answer(canary)
    seen = b"".join(plane.relay.seen)
    assert b"XADD" in seen  # it does read what passes
    for value in (canary, 2 * canary, 4 * canary):
        assert np.float32(value).tobytes() not in seen
    assert b"doubles" not in seen
    assert b"image" not in seen


GARBAGE = {
    "noise": bytes(range(256)) * 40,
    "a nest": b"*1\r\n" * 5000,
    "a giant array": b"*4000000000\r\n",
    "many arrays": b"*20\r\n" + b"*1500\r\n" * 20,
    "a giant string": b"$900000000000\r\n",
    "an endless line": b"+" + b"x" * 4096,
    "no number": b"$1e9\r\n",
    "a negative": b"*-7\r\n",
    "resp3": b"%1\r\n+a\r\n:1\r\n",
    "http": b"HTTP/1.1 200 OK\r\n\r\n",
    "a string that does not end": b"$3\r\nabcdefgh\r\n",
    "another stream": b"*1\r\n*2\r\n$5\r\nother\r\n*0\r\n",
    "no fields": b"*1\r\n*2\r\n$3\r\nx:y\r\n*1\r\n*1\r\n$3\r\n1-1\r\n",
    "answers nobody asked for": b":1\r\n" * 50,
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_what_is_no_reply_costs_the_connection_and_no_more(plane, name, caplog):
    caplog.set_level(logging.INFO)
    await plane.worker()
    plane.relay.play(hostile.Say(GARBAGE[name], times=3))
    for value in range(10):
        assert await plane.answer(value)
    lost = [each for each in events(caplog) if "queue.redis_lost" in each or "presence" in each]
    assert lost
    assert all(": Redis: " in each or ":Redis: " in each for each in lost)


@pytest.mark.slow
async def test_a_thousand_mutated_replies_end_in_answers_or_typed_errors(plane):
    """Bits, lengths and types of true replies, changed at random."""

    class Mutate(hostile.Trick):
        def reply(self, reply):
            raw = hostile.encode(reply)
            if self.random.random() < 0.05:
                return hostile.Raw(hostile.flipped(raw, self.random))
            return reply

    await plane.worker()
    plane.relay.play(Mutate())
    for value in range(100):
        plane.requests.submit(value, image(value), deadline_s=2)
        await asyncio.sleep(0.01)
    outcomes = await plane.requests.all_done()
    for value, outcome in outcomes.items():
        assert outcome.error is not None or is_answer(outcome, value)
    plane.relay.play(hostile.Trick())
    assert await plane.answer(7)


@pytest.mark.slow
async def test_invented_workers_are_bounded_and_get_nothing(plane):
    await plane.worker()
    names = [b"%032x" % number for number in range(2000)]
    plane.relay.inject([b"SADD", b"{wardian:test}:w:digits:1", *names])
    for name in names:
        plane.relay.inject([b"SET", b"{wardian:test}:p:" + name, b"9", b"PX", b"60000"])
    while len(plane.queue._work.workers) < 200:
        await asyncio.sleep(0.01)
    for value in range(10):
        assert await plane.answer(value)
    assert len(plane.queue._work.workers) <= 256
    assert plane.queue.room(LANE) == 1
    for key in (b"{wardian:test}:w:digits:1", *[b"{wardian:test}:p:" + name for name in names]):
        plane.relay.inject([b"DEL", key])


# TLS: who is not the mesh's Redis gets neither password nor message


class Listener:
    """A server of the test's making at a port of its own, in a thread; keeps what it was told."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.context = context
        self.heard = b""

    async def start(self) -> int:
        async def accept(reader, writer) -> None:
            self.heard += await reader.read(65536)
            writer.close()

        self.server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=self.context)
        return self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self.server.close()
        await self.server.wait_closed()


def server_context(tmp_path, chain: bytes, key: bytes, version=ssl.TLSVersion.TLSv1_3):
    (tmp_path / "c.pem").write_bytes(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem")
    context.minimum_version = min(version, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = version
    return context


def impostors(ca: InfrastructureCa):
    return {
        "TLS 1.2": (*ca.server(), ssl.TLSVersion.TLSv1_2),
        "expired": (*ca.server(hours=(-9, -1)),),
        "not yet valid": (*ca.server(hours=(5, 9)),),
        "another name": (*ca.server(name="other.test"),),
        "another CA": (*InfrastructureCa().server(),),
        "its own CA's certificate": (*InfrastructureCa().server(name=NAME),),
    }


IMPOSTORS = ["TLS 1.2", "expired", "not yet valid", "another name", "another CA", "no TLS"]


@pytest.mark.parametrize("name", IMPOSTORS)
async def test_an_impostor_is_told_nothing(tmp_path, caplog, name):
    caplog.set_level(logging.DEBUG)
    ca = InfrastructureCa()
    context = None if name == "no TLS" else server_context(tmp_path, *impostors(ca)[name])
    listener = Listener(context)
    port = await listener.start()
    front = RedisFrontQueue(access(ca, port))
    front.attach(None)
    await front.start()
    worker = RedisWorkerQueue(access(ca, port, role="worker"), lane=LANE)
    taking = asyncio.ensure_future(asyncio.to_thread(worker.take))
    while not {"queue.redis_unreachable", "queue.redis_lost"} <= {
        record.getMessage() for record in caplog.records
    }:
        await asyncio.sleep(0.02)
    assert not front.connected
    assert front.room(LANE) == 0
    worker.stop()
    assert await taking is None
    worker.close()
    await front.close()
    await listener.close()
    for password in PASSWORDS.values():
        assert password.encode() not in listener.heard
        assert password not in caplog.text + repr([vars(record) for record in caplog.records])
    assert b"AUTH" not in listener.heard


async def test_the_real_server_lets_in_only_whom_it_should(server):
    """TLS with a client certificate of the CA, and then the user's password."""
    ours = server.access("frontend")
    stranger = TlsKey.generate()
    foreign = dataclasses.replace(
        ours, certificate_chain_pem=InfrastructureCa().chain(stranger, "frontend"), key=stranger
    )
    wrong = dataclasses.replace(ours, password=server.access("worker").password)
    for bad in (foreign, wrong):
        with pytest.raises(TransportError):
            await asyncio.to_thread(opened, bad, HARMLESS)


def opened(how, first: bytes) -> BlockingLink:
    return BlockingLink.open(how, how.tls(), first=first, max_reply_bytes=2**20)


HARMLESS = command(b"EXPIRE", b"{wardian:test}:nothing", 1)
"""What every role may say."""
FORBIDDEN = {
    "frontend": ["CONFIG GET *", "FLUSHALL", "SET {wardian:test}:x 1", "KEYS *", "XTRIM x MAXLEN 0",
                 "XADD {wardian:other}:q:a:1 * a b", "EVAL 0 0", "ACL LIST", "SUBSCRIBE a"],
    "worker": ["CONFIG GET *", "FLUSHALL", "SMEMBERS {wardian:test}:l", "GET {wardian:test}:p:a",
               "XREAD STREAMS {wardian:test}:r:a 0", "XADD {wardian:other}:q:a:1 * a b", "INFO"],
}  # fmt: skip


@pytest.mark.parametrize("role", FORBIDDEN)
async def test_a_role_has_the_commands_that_it_needs_and_no_more(server, role):
    link = await asyncio.to_thread(opened, server.access(role), HARMLESS)
    with contextlib.closing(link):
        for line in FORBIDDEN[role]:
            link.write(command(*line.encode().split()))
            assert link.read().code == "NOPERM", line


def test_the_access_shows_no_secret(server):
    shown = repr(server.access("frontend"))
    assert PASSWORDS["frontend"] not in shown
    assert "PRIVATE" not in shown


# Sentinel and Cluster: addresses are the host's word


class Scripted(hostile.Trick):
    """Answers one command with something of its own."""

    def __init__(self, word: bytes, data: bytes, times: int = 1) -> None:
        super().__init__()
        self.word, self.data, self.times = word, data, times
        self.due = 0

    def command(self, words):
        if words[0] == self.word and self.times:
            self.times -= 1
            self.due = 1
            return [b"EXISTS", b"{wardian:test}:nothing"]
        return words

    def reply(self, reply):
        if self.due and reply == 0:
            self.due = 0
            return hostile.Raw(self.data)
        return reply


@pytest.fixture
async def relay(server):
    relay = hostile.HostileRedis(server)
    await relay.start()
    yield relay
    await relay.close()


async def test_a_cluster_node_sends_on_to_the_one_with_the_keys(server, relay):
    relay.play(Scripted(b"EXISTS", b"-MOVED 123 127.0.0.1:%d\r\n" % server.port))
    how = server.access(port=relay.port)
    link = await asyncio.to_thread(opened, how, command(b"EXISTS", b"{wardian:test}:l"))
    assert link._socket.getpeername()[1] == server.port
    link.close()


async def test_a_sentinel_names_the_master(server, relay):
    port = b"%d" % server.port
    answer = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%b\r\n" % (len(port), port)
    relay.play(Scripted(b"SENTINEL", answer))
    how = access(server.ca, free_port(), relay.port, sentinel="mymaster")
    link = await asyncio.to_thread(opened, how, command(b"EXISTS", b"{wardian:test}:l"))
    assert link._socket.getpeername()[1] == server.port
    link.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"-MOVED 1 evil.example:1\r\n", b"-MOVED 1 127.0.0.1:99999\r\n", b"-MOVED\r\n",
        b"-MOVED 1 ::::::1\r\n", b"-MOVED 1 127.0.0.1:0\r\n",
    ],
)  # fmt: skip
async def test_an_address_that_is_none_is_not_gone_to(server, relay, answer):
    relay.play(Scripted(b"EXISTS", answer))
    how = server.access(port=relay.port)
    with pytest.raises(PeerProtocolError):
        await asyncio.to_thread(opened, how, command(b"EXISTS", b"{wardian:test}:l"))


async def test_nodes_that_send_round_in_circles_are_left(server, relay):
    moved = b"-MOVED 1 127.0.0.1:%d\r\n" % relay.port
    relay.play(Scripted(b"EXISTS", moved, times=100))
    how = server.access(port=relay.port)
    with pytest.raises(PeerProtocolError, match="one node to the next"):
        await asyncio.to_thread(opened, how, command(b"EXISTS", b"{wardian:test}:l"))


async def test_two_front_ends_and_two_workers_get_each_their_own(plane, server):
    await plane.worker()
    await plane.worker()
    other = RedisFrontQueue(server.access(port=plane.relay.port), look_s=0.05)
    dispatcher = Dispatcher(queue=other, codecs={"digits": sender()}, lanes=LANES, max_waiting=999)
    requests = Collector(dispatcher)
    await other.start()
    while not dispatcher.catalog()["digits"].ready:
        await asyncio.sleep(0.01)
    for value in range(300):
        plane.requests.submit(value, image(value))
        requests.submit(value, image(value + 1000))
        if value % 9 == 0:
            await asyncio.sleep(0.002)
    mine, theirs = await plane.requests.all_done(), await requests.all_done()
    assert all(is_answer(mine[value], value) for value in range(300))
    assert all(is_answer(theirs[value], value + 1000) for value in range(300))
    dispatcher.close()
    await other.close()
