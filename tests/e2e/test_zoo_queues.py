"""`InputQueue` and `OutputQueue` against a front end over real TLS."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from simulators.front_end import FrontEnd, digits

from wardian.compat.zoo import InputQueue, OutputQueue, mailbox
from wardian.errors import ConfigError, JobFailed, QueueFull, RequestError, Timeout

ROW = np.random.default_rng(3).random(64, dtype="f4")


@pytest.fixture(scope="module")
def front() -> Iterator[FrontEnd]:
    with FrontEnd() as running:
        yield running


def queue(front: FrontEnd, model: str, **more: Any) -> InputQueue:
    settings = {"name": model, **more}
    return InputQueue(front.url, policy=front.policy(), model=model, **settings)


def settled(read: OutputQueue, uri: str) -> Any:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        value = read.query(uri)
        if not isinstance(value, str) or value != "[]":
            return value
        time.sleep(0.005)
    raise AssertionError(f"{uri} has no result")


def test_enqueue_and_query(front: FrontEnd) -> None:
    with queue(front, "digits") as ask:
        read = OutputQueue(name="digits")
        assert read.query("u:r i/1") == "[]"
        ask.enqueue("u:r i/1", t=ROW)
        np.testing.assert_array_equal(settled(read, "u:r i/1"), digits(ROW[None])[0])
        np.testing.assert_array_equal(read.query_and_delete("u:r i/1"), digits(ROW[None])[0])
        assert read.query("u:r i/1") == "[]"
        np.testing.assert_array_equal(ask.predict({"pixels": ROW}), digits(ROW[None])[0])


def test_a_thousand_records_have_a_thousand_results(front: FrontEnd) -> None:
    rows = np.random.default_rng(4).random((1000, 64), dtype="f4")
    with queue(front, "digits", name="many") as ask:
        for number, row in enumerate(rows):
            ask.enqueue(f"record {number}", t=row)
    found = OutputQueue(name="many").dequeue()
    assert len(found) == 1000
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(found[f"record {number}"], digits(row[None])[0])


def test_several_inputs_and_outputs(front: FrontEnd) -> None:
    with queue(front, "pair") as ask:
        got = ask.predict({"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])})
    assert [each.tolist() for each in got] == [[4.0, 6.0], 3]


@pytest.mark.parametrize(
    ("model", "data", "why"),
    [
        ("digits", {"t": np.zeros(9)}, "expected FP32"),
        ("digits", {"a": ROW, "b": ROW}, "expected the inputs"),
        ("broken", {"t": ROW}, "the model failed"),
        ("late", {"t": ROW}, "no answer within"),
    ],
)
def test_what_has_no_answer_is_nan_and_says_why(
    front: FrontEnd, model: str, data: dict[str, Any], why: str
) -> None:
    with queue(front, model, name=f"nan {model}") as ask:
        read = OutputQueue(name=f"nan {model}")
        ask.enqueue("u", **data)
        assert settled(read, "u") == "NaN"
        assert why in read.why("u")
        assert read.why("another") == ""


def test_predict_raises(front: FrontEnd) -> None:
    with queue(front, "broken") as ask, pytest.raises(JobFailed):
        ask.predict({"t": ROW})
    with queue(front, "digits") as ask, pytest.raises(TypeError):
        ask.predict({"t": None})
    with queue(front, "digits") as ask, pytest.raises(RequestError):
        ask.predict({"t": np.zeros(3)})


def test_the_timeout_is_in_seconds(front: FrontEnd) -> None:
    with queue(front, "held") as ask:
        began = time.monotonic()
        with pytest.raises(Timeout):
            ask.predict({"t": ROW}, timeout=0.3)
        assert time.monotonic() - began >= 0.3


def test_a_full_front_end_is_asked_again(front: FrontEnd) -> None:
    with queue(front, "full") as ask, pytest.raises(QueueFull):
        ask.predict({"t": ROW}, timeout=1)  # it says to come back in 3 s
    assert sum(each["model"] == "full" for each in front.dispatcher.seen) == 1


def test_nothing_is_dropped_in_silence(front: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAX_PENDING", 1)
    with queue(front, "late", name="one at a time") as ask:
        gate = threading.Event()
        monkeypatch.setattr(ask, "_infer", lambda *_: gate.wait(20))
        ask.enqueue("first", t=ROW)
        with pytest.raises(QueueFull):
            ask.enqueue("second", t=ROW)
        gate.set()
        assert settled(OutputQueue(name="one at a time"), "first") is True
        ask.enqueue("second", t=ROW)


def test_a_value_of_no_kind_is_an_error_at_once(front: FrontEnd) -> None:
    with queue(front, "digits", name="kinds") as ask:
        with pytest.raises(TypeError):
            ask.enqueue("u", t=object())
        ask.enqueue("u", t=ROW)  # and it cost nothing
        assert not isinstance(settled(OutputQueue(name="kinds"), "u"), str)


def test_the_original_s_settings_are_refused_with_what_to_do(front: FrontEnd) -> None:
    for settings in ({}, {"host": "localhost", "port": "6379"}, {"frontend_url": front.url}):
        with pytest.raises(ConfigError, match="frontend_url"):
            InputQueue(**settings)
    with pytest.raises(ConfigError, match="name one with model="):
        InputQueue(front.url, policy=front.policy())
