"""Our queues in the clear over a real redis-server that is killed, full, or shared."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from simulators.zoo_redis import JOB, PlainRedis, TheirClient

from wardian.compat.zoo.unprotected import InputQueue, OutputQueue
from wardian.errors import ConnectionLost, PeerProtocolError, QueueFull, Timeout, TransportError
from wardian.serving.zoo.results import encode_result

ROW = np.arange(4, dtype=np.float32)
KEY = "cluster-serving_serving_stream:"


@pytest.fixture
def redis(need_program, tmp_path: Path) -> Iterator[PlainRedis]:
    server = PlainRedis(need_program("redis-server"), tmp_path / "redis").start()
    yield server
    server.kill()


@pytest.fixture
def client(redis: PlainRedis) -> Iterator[TheirClient]:
    made = redis.client()
    yield made
    made.close()


def test_killed_in_between(redis: PlainRedis) -> None:
    with InputQueue(port=redis.port) as ask, OutputQueue(port=redis.port) as read:
        ask.enqueue("before", t=ROW)
        redis.kill()
        for call in (lambda: ask.enqueue("lost", t=ROW), lambda: ask.predict(ROW)):
            with pytest.raises(ConnectionLost):
                call()
        for call in (lambda: read.query("before"), read.dequeue):
            with pytest.raises(ConnectionLost):
                call()
        redis.start()
        ask.enqueue("after", t=ROW)
        assert read.query("after") == "[]"
        client = redis.client()
        entries = client("XRANGE", JOB, "-", "+")
        client.close()
    assert isinstance(entries, list)
    assert [fields[1] for _, fields in entries] == [b"before", b"after"]


def test_killed_while_an_answer_is_waited_for(redis: PlainRedis) -> None:
    with InputQueue(port=redis.port) as ask:
        timer = threading.Timer(0.3, redis.kill)
        timer.start()
        with pytest.raises(TransportError):
            ask.predict(ROW, timeout=20)
        timer.join()


def test_the_timeout_is_real(redis: PlainRedis) -> None:
    with InputQueue(port=redis.port) as ask, pytest.raises(Timeout):
        ask.predict(ROW, timeout=0.2)


@pytest.mark.parametrize("many", [False, True])
def test_its_memory_is_full(redis: PlainRedis, client: TheirClient, many: bool) -> None:
    with InputQueue(port=redis.port) as ask:
        client("SET", "ballast", b"x" * 2**20)
        for limit in (b"1500000", b"1"):  # 60 % of it are used; all of it is
            client("CONFIG", "SET", "maxmemory", limit)
            with pytest.raises(QueueFull):
                if many:
                    ask.enqueue_many({f"{n}": {"t": ROW} for n in range(10)})
                else:
                    ask.enqueue("u", t=ROW)
            assert client("EXISTS", JOB) == 0
        client("CONFIG", "SET", "maxmemory", 0)
        ask.enqueue("u", t=ROW)
        assert client("XLEN", JOB) == 1


@pytest.mark.parametrize("many", [False, True])
def test_who_may_not_ask_how_full_it_is_is_refused_by_redis_itself(
    redis: PlainRedis, client: TheirClient, many: bool
) -> None:
    client("ACL", "SETUSER", "default", "-info")
    client("SET", "ballast", b"x" * 2**20)
    client("CONFIG", "SET", "maxmemory", 1)
    with InputQueue(port=redis.port) as ask:
        with pytest.raises(QueueFull):
            if many:
                ask.enqueue_many({f"{n}": {"t": ROW} for n in range(10)})
            else:
                ask.enqueue("u", t=ROW)
        assert client("EXISTS", JOB) == 0


def test_a_full_page_is_taken_and_nothing_else(redis: PlainRedis, client: TheirClient) -> None:
    value = encode_result([ROW])
    client.pipeline([("HSET", f"{KEY}{n}", "value", value) for n in range(3000)])
    client.pipeline([("HSET", f"cluster-serving_other:{n}", "value", value) for n in range(50)])
    client("XADD", f"{KEY}a stream", "*", "value", "x")
    client("HSET", f"{KEY}not whole", "another", "x")
    with OutputQueue(port=redis.port) as read:
        found = read.dequeue()
        assert found.keys() == {f"{n}" for n in range(3000)}
        assert read.dequeue() == {}
        with pytest.raises(PeerProtocolError, match="WRONGTYPE"):
            read.query("a stream")
    assert client("DBSIZE") == 52
    calls = client("INFO", "commandstats")
    assert isinstance(calls, bytes)
    assert b"cmdstat_keys" not in calls


def test_readers_share_results_and_lose_none(redis: PlainRedis, client: TheirClient) -> None:
    stop = threading.Event()
    taken: list[dict] = []

    def read() -> None:
        with OutputQueue(port=redis.port) as queue:
            while not stop.is_set():
                taken.append(queue.dequeue())
            taken.append(queue.dequeue())

    threads = [threading.Thread(target=read) for _ in range(3)]
    for each in threads:
        each.start()
    for turn in range(20):
        client.pipeline(
            [("HSET", f"{KEY}{n}", "value", encode_result([ROW + 100 * turn])) for n in range(50)]
        )
    stop.set()
    for each in threads:
        each.join()
    seen = {uri: [part[uri][0] for part in taken if uri in part] for uri in map(str, range(50))}
    for values in seen.values():  # a later one replaces one that nobody read; the last is there
        assert max(values) == 100 * 19
        assert len(values) == len(set(values))
    assert client("DBSIZE") == 0


def test_no_thread_is_left(redis: PlainRedis) -> None:
    before = threading.active_count()
    with InputQueue(port=redis.port) as ask, OutputQueue(port=redis.port) as read:
        ask.enqueue("u", t=ROW)
        assert read.dequeue() == {}
        assert threading.active_count() == before
