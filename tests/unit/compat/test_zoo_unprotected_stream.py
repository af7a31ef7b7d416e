"""Records and results of a stream, over a Redis in memory: nothing is lost, nothing else touched."""

import threading
from typing import Any

import pytest
from simulators.memory_redis import MemoryRedis

from wardian.compat.zoo.unprotected import stream as stream_module
from wardian.compat.zoo.unprotected.connection import BlockingRedis
from wardian.compat.zoo.unprotected.place import RedisPlace
from wardian.compat.zoo.unprotected.stream import Stream
from wardian.errors import (
    ConfigError,
    ConnectionLost,
    PeerProtocolError,
    QueueFull,
    RequestError,
    Timeout,
    TransportError,
)

KEY = "cluster-serving_serving_stream:"


class Clock:
    """Time goes on where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class World:
    def __init__(self, redis: MemoryRedis | None = None, name: str = "serving_stream") -> None:
        self.redis, self.clock = redis or MemoryRedis(), Clock()
        self.link = BlockingRedis(
            RedisPlace(host="127.0.0.1", port=1), open_wire=self.redis.open, clock=self.clock
        )
        self.stream = Stream(self.link, name, timeout_s=5, clock=self.clock, sleep=self.clock.sleep)


@pytest.fixture
def world() -> World:
    return World()


def test_a_record_is_an_entry_as_their_client_writes_it(world: World) -> None:
    world.stream.put([("u:r i/1", b"ZGF0YQ==")])
    assert world.redis.records() == [{b"uri": b"u:r i/1", b"data": b"ZGF0YQ=="}]
    assert world.redis.seen[-1][:3] == [b"XADD", b"serving_stream", b"*"]


def test_a_thousand_records_are_one_transaction_and_two_exchanges(world: World) -> None:
    world.stream.put([(f"{n}", b"x") for n in range(1000)])
    assert [each[b"uri"] for each in world.redis.records()] == [b"%d" % n for n in range(1000)]
    names = world.redis.names()
    assert names[:3] == [b"PING", b"INFO", b"MULTI"]
    assert names.count(b"XADD") == 1000
    world.stream.put([])
    assert len(world.redis.names()) == len(names)


def test_too_many_for_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MAX_RECORDS", 3)
    with pytest.raises(RequestError, match="at most 3"):
        world.stream.put([("u", b"x")] * 4)
    monkeypatch.setattr(stream_module, "MAX_BATCH_BYTES", 10)
    with pytest.raises(RequestError, match="10 bytes"):
        world.stream.put([("u", b"x" * 11)])
    assert world.redis.records() == []


@pytest.mark.parametrize(("used", "full"), [(59, False), (60, True), (100, True)])
def test_a_redis_that_is_full_is_an_error_and_nothing_is_enqueued(
    world: World, used: int, full: bool
) -> None:
    world.redis.used, world.redis.maxmemory = used, 100
    if full:
        with pytest.raises(QueueFull, match="60 %"):
            world.stream.put([("u", b"x")])
        assert world.redis.records() == []
    else:
        world.stream.put([("u", b"x")])
        assert len(world.redis.records()) == 1


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("code", [b"OOM command not allowed", b"MISCONF Errors writing"])
def test_refused_for_want_of_room(world: World, count: int, code: bytes) -> None:
    world.redis.refuse[b"XADD"] = code
    with pytest.raises(QueueFull):
        world.stream.put([(f"{n}", b"x") for n in range(count)])
    assert world.redis.records() == []
    world.redis.refuse.clear()
    world.stream.put([("again", b"x")])
    assert len(world.redis.records()) == 1
    assert world.redis.opened == 1  # a refusal breaks nothing


def test_the_end_of_a_transaction_is_refused_for_want_of_room(world: World) -> None:
    text = b"-EXECABORT Transaction discarded because of: OOM command not allowed\r\n"

    def full(words: list[bytes]) -> None:
        if words[0] == b"EXEC":
            world.redis.wires[-1]._exec = lambda: text  # type: ignore[method-assign]

    world.redis.before = full
    with pytest.raises(QueueFull):
        world.stream.put([("1", b"x"), ("2", b"x")])
    assert world.redis.records() == []


@pytest.mark.parametrize(
    ("refusal", "kind", "retryable"),
    [
        (b"LOADING Redis is loading the dataset in memory", TransportError, True),
        (b"READONLY You can't write against a read only replica.", TransportError, True),
        (b"NOPERM this user has no permissions", PeerProtocolError, False),
        (b"?", PeerProtocolError, False),
    ],
)
def test_refusals_have_their_types(
    world: World, refusal: bytes, kind: type[TransportError], retryable: bool
) -> None:
    world.redis.refuse[b"XADD"] = refusal
    with pytest.raises(kind) as caught:
        world.stream.put([("u", b"x")])
    assert caught.value.retryable is retryable
    assert "permissions" not in str(caught.value)  # the host's own words


def test_who_may_not_ask_how_full_it_is_enqueues(world: World) -> None:
    world.redis.refuse[b"INFO"] = b"NOPERM no"
    world.stream.put([("u", b"x")])
    assert len(world.redis.records()) == 1
    world.redis.refuse[b"INFO"] = b"LOADING yes"
    with pytest.raises(TransportError):
        world.stream.put([("u", b"x")])


def test_a_key_that_is_no_stream_and_one_that_is_no_result(world: World) -> None:
    world.redis.put("serving_stream", b"x")
    with pytest.raises(PeerProtocolError, match="WRONGTYPE"):
        world.stream.put([("u", b"x")])
    world.redis.keys[f"{KEY}u".encode()] = [{b"value": b"x"}]
    for look in (world.stream.find, world.stream.take):
        if look == world.stream.find:
            with pytest.raises(PeerProtocolError, match="WRONGTYPE"):
                look("u")
        else:
            assert look("u") is None
    assert world.stream.take_all() == {}
    assert f"{KEY}u".encode() in world.redis.keys  # it was not returned, so it is there


def test_find_and_take(world: World) -> None:
    assert world.stream.find("u:r i") is None
    assert world.stream.take("u:r i") is None
    world.redis.put(f"{KEY}u:r i", b"NaN")
    assert world.stream.find("u:r i") == b"NaN"
    assert world.stream.take("u:r i") == b"NaN"
    assert world.stream.find("u:r i") is None
    assert world.redis.keys == {}


def test_take_leaves_what_is_no_result(world: World) -> None:
    world.redis.put(f"{KEY}u", b"NaN")
    world.redis.put(f"{KEY}u", b"theirs", field=b"note")
    assert world.stream.take("u") == b"NaN"
    assert world.redis.keys == {f"{KEY}u".encode(): {b"note": b"theirs"}}


@pytest.mark.parametrize("way", ["take", "take_all"])
def test_a_result_that_arrives_in_between_is_returned_or_kept(world: World, way: str) -> None:
    world.redis.put(f"{KEY}u", b"old")
    newer = [b"new"]

    def another_client(words: list[bytes]) -> None:
        if words[0] == b"MULTI" and newer:
            world.redis.put(f"{KEY}u", newer.pop())

    world.redis.before = another_client
    got = world.stream.take("u") if way == "take" else world.stream.take_all()["u"]
    assert got == b"new"
    assert world.redis.keys == {}


def test_results_that_never_stop_arriving_are_still_there(world: World) -> None:
    world.redis.put(f"{KEY}u", b"0")

    def another_client(words: list[bytes]) -> None:
        if words[0] == b"MULTI":
            world.redis.put(f"{KEY}u", b"next")

    world.redis.before = another_client
    assert world.stream.take_all() == {}
    world.redis.before = lambda words: None
    assert world.stream.take_all() == {"u": b"next"}


def test_everything_is_taken_by_pages_and_nothing_of_another_stream(world: World) -> None:
    for n in range(1000):
        world.redis.put(f"{KEY}{n}", b"%d" % n)
    others = {"cluster-serving_serving_stream2:1", "cluster-serving_other:1", "x", f"x{KEY}1"}
    for key in others:
        world.redis.put(key, b"theirs")
    taken: dict[str, bytes] = {}
    while some := world.stream.take_all():  # as with any cursor: what moves meanwhile comes later
        taken |= some
    assert taken == {f"{n}": b"%d" % n for n in range(1000)}
    assert {key.decode() for key in world.redis.keys} == others
    assert b"KEYS" not in world.redis.names()
    assert not any(key.encode() in words for words in world.redis.seen for key in others)


def test_any_uri_is_a_uri(world: World) -> None:
    uris = ["", "a:b:c", "[x]*?\\", "ö\n\0", "\udcff\udc80"]
    for uri in uris:
        world.redis.keys[KEY.encode() + uri.encode("utf-8", "surrogateescape")] = {b"value": b"1"}
    assert set(world.stream.take_all()) == set(uris)
    world.stream.put([("\udcff", b"x")])
    assert world.redis.records()[0][b"uri"] == b"\xff"
    for uri in ("x" * 4097, "\ud800"):
        with pytest.raises(RequestError):
            world.stream.put([(uri, b"x")])
        with pytest.raises(RequestError):
            world.stream.find(uri)
    assert len(world.redis.records()) == 1


@pytest.mark.parametrize("name", ["", "a:b", "a*", "x" * 129, "ö", "a\n"])
def test_a_name_that_could_be_another_streams_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        World(name=name)


def test_what_was_read_is_returned_though_redis_goes_away(world: World) -> None:
    world.redis.page = 300
    for n in range(600):
        world.redis.put(f"{KEY}{n}", b"1")
    execs = iter((False, True))

    def goes(words: list[bytes]) -> None:
        if words[0] == b"EXEC" and next(execs, False):
            world.redis.down = world.redis.wires[-1].closed = True

    world.redis.before = goes
    taken = world.stream.take_all()
    assert len(taken) == 128  # what was read when it went, too
    with pytest.raises(ConnectionLost):
        world.stream.take_all()
    world.redis.down = False
    again = world.stream.take_all()
    while some := world.stream.take_all():
        again |= some
    assert taken.keys() | again.keys() == {f"{n}" for n in range(600)}


def test_so_is_one_that_was_to_be_deleted(world: World) -> None:
    world.redis.put(f"{KEY}u", b"1")

    def goes(words: list[bytes]) -> None:
        if words[0] == b"EXEC":
            world.redis.wires[-1].silent = True

    world.redis.before = goes
    assert world.stream.take("u") == b"1"
    assert world.redis.wires[-1].closed


def test_keys_that_were_not_asked_for_are_not_touched(world: World) -> None:
    world.redis.put("theirs", b"1")
    world.redis.put(f"{KEY}u", b"1")
    theirs = b"$6\r\ntheirs\r\n"
    ours = b"$%d\r\n%b\r\n" % (len(KEY) + 1, KEY.encode() + b"u")
    page = b"*2\r\n$1\r\n0\r\n*5\r\n" + theirs + ours + b":7\r\n$-1\r\n" + ours
    world.redis.scan = lambda *_: page  # type: ignore[method-assign]
    assert world.stream.take_all() == {"u": b"1"}
    assert world.redis.keys == {b"theirs": {b"value": b"1"}}


def test_a_page_that_is_none(world: World) -> None:
    world.redis.scan = lambda *_: b"*1\r\n$1\r\n0\r\n"  # type: ignore[method-assign]
    with pytest.raises(PeerProtocolError, match="page"):
        world.stream.take_all()


def test_no_more_is_taken_than_fits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MAX_TAKEN", 20)
    for n in range(100):
        world.redis.put(f"{KEY}{n}", b"1")
    assert len(world.stream.take_all()) == 20
    assert len(world.redis.keys) == 80


def test_an_answer_is_waited_for_and_taken(world: World) -> None:
    def serve(words: list[bytes]) -> None:
        if world.clock.now > 100.5 and world.redis.records():
            uri = world.redis.records().pop()[b"uri"].decode()
            world.redis.put(f"{KEY}{uri}", b"answer")

    world.redis.before = serve
    assert world.stream.ask(b"x", timeout_s=5) == b"answer"
    assert world.redis.keys == {b"serving_stream": []}
    assert world.clock.now < 101
    assert world.clock.slept[0] == stream_module.FIRST_LOOK_S
    assert max(world.clock.slept) <= stream_module.SELDOM_S


def test_the_timeout_is_in_seconds(world: World) -> None:
    with pytest.raises(Timeout):
        world.stream.ask(b"x", timeout_s=3)
    assert world.clock.now == pytest.approx(103)
    assert world.stream.find("u") is None
    assert world.redis.opened == 1  # no answer is no error of the connection
    with pytest.raises(Timeout):
        world.stream.ask(b"x", timeout_s=0)
    assert world.clock.now == pytest.approx(103)


def test_an_answer_in_hand_is_returned_though_it_cannot_be_deleted(world: World) -> None:
    def serve(words: list[bytes]) -> None:
        if words[0] == b"HGET" and world.redis.records():
            uri = world.redis.records().pop()[b"uri"].decode()
            world.redis.put(f"{KEY}{uri}", b"answer")
        if words[0] == b"WATCH":
            world.redis.wires[-1].closed = True

    world.redis.before = serve
    assert world.stream.ask(b"x", timeout_s=3) == b"answer"


def test_after_an_error_the_next_call_connects_again(world: World) -> None:
    world.stream.put([("1", b"x")])
    world.redis.wires[-1].closed = True
    with pytest.raises(ConnectionLost):
        world.stream.put([("2", b"x")])
    world.redis.down = True
    with pytest.raises(ConnectionLost):
        world.stream.find("1")
    world.redis.down = False
    world.stream.put([("3", b"x")])
    assert [each[b"uri"] for each in world.redis.records()] == [b"1", b"3"]
    world.redis.wires[-1].silent = True
    with pytest.raises(Timeout):
        world.stream.find("1")
    assert world.redis.wires[-1].closed  # its late answer would be taken for another's
    assert world.stream.find("1") is None


def test_many_threads_get_their_own_answers(world: World) -> None:
    for n in range(64):
        world.redis.put(f"{KEY}{n}", b"%d" % n)
    wrong: list[Any] = []

    def look(n: int) -> None:
        found = [world.stream.find(f"{n}") for _ in range(20)] + [world.stream.take(f"{n}")]
        if set(found) != {b"%d" % n}:
            wrong.append(found)

    threads = [threading.Thread(target=look, args=(n,)) for n in range(64)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []
    assert world.redis.keys == {}
    assert world.redis.opened == 1
