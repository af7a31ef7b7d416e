"""A lifeline is over when its other end closes, or is silent for too long; never before."""

import os

import pytest

from wardian.errors import ConfigError
from wardian.tee.launch import lifeline as module
from wardian.tee.launch.lifeline import Lifeline


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_it_is_over_when_the_other_end_closes(pipe) -> None:
    line = Lifeline.parse(str(pipe[0]))
    assert not line.over()
    assert line.wait_s() is None
    os.write(pipe[1], b".")
    assert not line.over()
    os.close(pipe[1])
    assert line.over()


def test_what_came_before_the_end_does_not_hide_it(pipe) -> None:
    line = Lifeline.parse(str(pipe[0]))
    os.write(pipe[1], b"." * 4096)
    os.close(pipe[1])
    assert line.over()


def test_silence_is_the_end(pipe, clock: list[float]) -> None:
    line = Lifeline.parse(f"{pipe[0]}:20")
    assert line.wait_s() == 20.0
    clock[0] += 19.9
    assert not line.over()
    os.write(pipe[1], b".")
    assert not line.over()
    assert line.wait_s() == 20.0
    clock[0] += 20.0
    assert line.over()


def test_without_a_time_it_may_be_silent_for_ever(pipe, clock: list[float]) -> None:
    line = Lifeline.parse(str(pipe[0]))
    clock[0] += 1e9
    assert not line.over()


def test_a_descriptor_that_was_closed_is_the_end(pipe) -> None:
    line = Lifeline.parse(str(pipe[0]))
    os.close(pipe[0])
    assert line.over()


@pytest.mark.parametrize("text", ["", "x", "-1", "3:", "3:x", "3:1:2", "3.0", " 3", "99999999"])
def test_what_names_no_descriptor_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--lifeline"):
        Lifeline.parse(text)


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    with pytest.raises(ConfigError, match="--lifeline 9999"):
        Lifeline.parse("9999")
