"""`InputQueue` and `OutputQueue` in the clear: asked for by name, said once, and as theirs."""

import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from simulators.memory_redis import MemoryRedis

from wardian.compat import zoo
from wardian.compat.zoo import unprotected
from wardian.compat.zoo.unprotected import InputQueue, OutputQueue, connection, queues
from wardian.errors import ConfigError, ConnectionLost, JobFailed, QueueFull, RequestError
from wardian.serving.zoo.arrow import parse_columns
from wardian.serving.zoo.columns import Dense
from wardian.serving.zoo.results import encode_result

KEY = "cluster-serving_serving_stream:"
ROW = np.arange(4.0)


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> MemoryRedis:
    made = MemoryRedis()
    monkeypatch.setattr(connection, "open_socket", made.open)
    return made


def double(redis: MemoryRedis) -> Callable[[list[bytes]], None]:
    """Return what answers each record by twice its tensor, as a server does in between."""

    def serve(words: list[bytes]) -> None:
        if words[0] not in {b"HGET", b"SCAN"}:
            return
        while redis.records():
            record = redis.records().pop()
            (column,) = parse_columns(record[b"data"]).values()
            assert isinstance(column, Dense)
            known = column.array.size == 4
            value = encode_result([column.array * 2]) if known else b"NaN"
            redis.put(KEY + record[b"uri"].decode(), value)

    return serve


def test_the_protected_one_does_not_go_there_and_says_where_it_is_asked_for() -> None:
    for settings in ({"host": "localhost", "port": 6379}, {"host": "localhost"}, {}):
        with pytest.raises(ConfigError, match=r"wardian\.compat\.zoo\.unprotected import"):
            zoo.InputQueue(**settings)
    with pytest.raises(ConfigError, match=r"wardian\.compat\.zoo\.unprotected import"):
        zoo.OutputQueue(host="localhost", port=6379)
    assert "UNPROTECTED" in (unprotected.__doc__ or "")


def test_no_setting_of_the_name_weakens_anything() -> None:
    for kind in (zoo.InputQueue, zoo.OutputQueue):
        assert not {"unprotected", "insecure"} & set(inspect.signature(kind).parameters)


def test_said_once_in_a_process(
    redis: MemoryRedis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "_warned", threading.Lock())
    with caplog.at_level(logging.WARNING):
        for kind in (InputQueue, OutputQueue, InputQueue):
            kind().close()
    (said,) = [each for each in caplog.records if each.getMessage() == "zoo.unprotected"]
    assert said.levelno == logging.WARNING
    assert "UNPROTECTED" in said.fields["said"]  # type: ignore[attr-defined]


def test_a_front_end_is_not_asked_from_here(redis: MemoryRedis) -> None:
    with pytest.raises(ConfigError, match=r"wardian\.compat\.zoo\.InputQueue"):
        InputQueue("https://localhost:8443")
    with pytest.raises(ConfigError):
        InputQueue(frontend_url="https://localhost:8443", host="localhost")
    assert redis.opened == 0


def test_their_signatures(redis: MemoryRedis) -> None:
    with (
        InputQueue(host="localhost", port="6379", name="serving_stream") as ask,
        OutputQueue(host="localhost", port="6379", name="serving_stream") as read,
    ):
        assert read.query("u") == "[]"
        ask.enqueue("u", t=ROW)
        assert read.query("u") == "[]"
        redis.put(f"{KEY}u", encode_result([ROW]))
        np.testing.assert_array_equal(read.query("u", *[False]), ROW)
        np.testing.assert_array_equal(read.query("u", delete=False), ROW)
        np.testing.assert_array_equal(read.query_and_delete("u"), ROW)
        assert read.query("u", *[True]) == "[]"
        assert read.dequeue() == {}
    assert all(each.closed for each in redis.wires)


def test_what_a_reader_gets(redis: MemoryRedis, caplog: pytest.LogCaptureFixture) -> None:
    values = {
        "array": encode_result([ROW.reshape(2, 2)]),
        "scalar": encode_result([np.float32(3)]),
        "several": encode_result([ROW, ROW[:1]]),
        "none": b"NaN",
        "top": b"[[3,0.5][1,0.25]]",
        "garbage": b"AAAA",
        "not text": b"[\xff]",
    }
    for uri, value in values.items():
        redis.put(KEY + uri, value)
    redis.page = 100
    with OutputQueue() as read, caplog.at_level(logging.WARNING):
        queried = {uri: read.query(uri) for uri in values}
        why = {uri: read.why(uri) for uri in [*values, "absent"]}
        taken = read.dequeue()
    for got in (queried, taken):
        np.testing.assert_array_equal(got["array"], [[0, 1], [2, 3]])
        assert got["scalar"].shape == ()
        assert [each.tolist() for each in got["several"]] == [[0, 1, 2, 3], [0]]
        assert got["none"] == "NaN"
        assert got["top"] == "[[3,0.5][1,0.25]]"
        assert got["garbage"] == got["not text"] == "NaN"
    assert {uri for uri, said in why.items() if said} == {"none", "garbage", "not text"}
    assert "does not parse" in why["garbage"]
    assert "zoo.result_unreadable" in {each.getMessage() for each in caplog.records}
    assert redis.keys == {}


def test_predict(redis: MemoryRedis) -> None:
    redis.before = double(redis)
    with InputQueue() as ask:
        for request in ({"t": ROW}, ROW, '{"instances": [{"t": [0, 1, 2, 3]}]}'):
            got = ask.predict(request, timeout=20)
            assert isinstance(got, np.ndarray)
            np.testing.assert_array_equal(got, 2 * ROW)
        with pytest.raises(JobFailed, match="no answer"):
            ask.predict(ROW[:3], timeout=20)
        with pytest.raises(TypeError):
            ask.predict({"t": None})
        with pytest.raises(RequestError):
            ask.predict({})
    assert redis.keys == {b"serving_stream": []}


def test_a_thousand_at_once(redis: MemoryRedis) -> None:
    redis.before = double(redis)
    redis.page = 10_000
    with InputQueue() as ask, OutputQueue() as read:
        ask.enqueue_many({f"record {n}": {"t": ROW + n} for n in range(1000)})
        found = read.dequeue()
    assert len(found) == 1000
    for n in range(1000):
        np.testing.assert_array_equal(found[f"record {n}"], 2 * (ROW + n))


def test_nothing_is_dropped_in_silence(redis: MemoryRedis) -> None:
    with InputQueue() as ask:
        redis.maxmemory = 10
        for enqueue in (
            lambda: ask.enqueue("u", t=ROW),
            lambda: ask.enqueue_many({"u": {"t": ROW}, "v": {"t": ROW}}),
            lambda: ask.predict(ROW),
        ):
            with pytest.raises(QueueFull):
                enqueue()
        redis.maxmemory = 0
        for bad in ({"u": {"t": None}}, {"u": {"t": ROW}, "v": {"t": object()}}):
            with pytest.raises(TypeError):
                ask.enqueue_many(bad)
        redis.wires[-1].closed = True
        with pytest.raises(ConnectionLost):
            ask.enqueue("u", t=ROW)
        assert redis.records() == []
        ask.enqueue("u", t=ROW)
        assert len(redis.records()) == 1


@pytest.mark.parametrize("kind", [InputQueue, OutputQueue])
def test_a_redis_that_is_not_there_is_said_at_once(redis: MemoryRedis, kind: Any) -> None:
    redis.down = True
    with pytest.raises(ConnectionLost):
        kind()
    redis.down = False
    with pytest.raises(ConfigError, match="name"):
        kind(name="a:b")
    with pytest.raises(TypeError):
        kind(ssl=True)
