"""What the role `zoo` says to their Redis, and what it makes of what comes back: anybody's bytes."""

import pytest

from wardian.errors import PeerProtocolError
from wardian.serving.queue.redis_wire import Refusal, command
from wardian.serving.zoo.stream import commands
from wardian.serving.zoo.stream.commands import Pending, Result
from wardian.serving.zoo.stream.counts import Counts
from wardian.serving.zoo.stream.window import FIRST, Window

JOB = b"serving_stream"
REFUSED = Refusal("NOGROUP", b"NOGROUP no such group")


def test_results_and_records_go_together() -> None:
    results = [Result(b"1-0", b"key", b"value"), Result(b"2-0", None, None)]
    pieces = commands.write_results(JOB, results, ttl_s=60)
    assert pieces == [
        command(b"MULTI"),
        command(b"HSET", b"key", b"value", b"value"),
        command(b"EXPIRE", b"key", 60),
        command(b"XACK", JOB, b"serving", b"1-0", b"2-0"),
        command(b"XDEL", JOB, b"1-0", b"2-0"),
        command(b"EXEC"),
    ]


def test_what_a_transaction_says() -> None:
    assert commands.refused_writes([1, 1, 2, 2]) == 0
    assert commands.refused_writes([Refusal("WRONGTYPE", b""), 1, 2, 2]) == 1
    assert commands.refused_writes(Refusal("EXECABORT", b"")) is None
    for other in (None, b"OK", 1):
        with pytest.raises(PeerProtocolError):
            commands.refused_writes(other)


def test_records_that_were_deleted_while_they_were_pending() -> None:
    reply = [[b"1-0", [b"uri", b"a"]], None, [b"3-0", None]]
    assert [(each.id, each.fields) for each in commands.parse_claimed(reply, JOB)] == [
        (b"1-0", [b"uri", b"a"]),
        (b"3-0", []),
    ]


@pytest.mark.parametrize("reply", [REFUSED, b"OK", 1, None, [b"x"], [[b"x", []]], [[b"1-0"]]])
def test_no_list_of_claimed_records(reply) -> None:
    with pytest.raises(PeerProtocolError):
        commands.parse_claimed(reply, JOB)


@pytest.mark.parametrize("reply", [REFUSED, b"OK", [[b"another", []]], [[JOB, [[b"1-0"]]]]])
def test_no_list_of_new_records(reply) -> None:
    with pytest.raises(PeerProtocolError):
        commands.parse_new(reply, JOB)
    assert commands.parse_new(None, JOB) == []


def test_pending_records() -> None:
    rows = [[b"1-0", b"c", 5, 1], [b"2-0", b"c", 0, 9]]
    found = commands.parse_pending(rows, after=b"0-0")
    assert found == [Pending(b"1-0", 5, 1), Pending(b"2-0", 0, 9)]
    assert commands.parse_pending(rows, after=b"1-0") == found
    assert commands.parse_pending([], after=b"0-0") == []


@pytest.mark.parametrize(
    "reply", [REFUSED, None, 1, [1], [[b"1-0", b"c", 5]], [[b"x", b"c", 5, 1]],
              [[b"1-0", b"c", b"5", 1]], [[b"1-0", b"c", 5, None]]],
)  # fmt: skip
def test_no_list_of_pending_records(reply) -> None:
    with pytest.raises(PeerProtocolError):
        commands.parse_pending(reply, after=b"0-0")


@pytest.mark.parametrize(
    "ids",
    [
        (b"5-0",),
        (b"9-0", b"9-0"),
        (b"10-0", b"9-5"),
        (b"7-3", b"7-2"),
        (b"18446744073709551616-0",),
    ],
)
def test_a_list_of_pending_records_that_goes_back_has_no_end(ids: tuple[bytes, ...]) -> None:
    with pytest.raises(PeerProtocolError, match="order"):
        commands.parse_pending([[each, b"c", 5, 1] for each in ids], after=b"6-0")


def test_the_id_after_another() -> None:
    last = b"18446744073709551615"
    assert commands.next_id(b"7-9") == b"7-10"
    assert commands.next_id(b"7-" + last) == b"8-0"
    assert commands.next_id(last + b"-" + last) is None


def test_consumers() -> None:
    assert commands.parse_consumers([b"a", 1, None, b"b"]) == [b"a", b"b"]
    for reply in (REFUSED, None, b"a"):
        with pytest.raises(PeerProtocolError):
            commands.parse_consumers(reply)


def test_the_window_grows_while_it_is_full_and_is_halved_once_a_jam() -> None:
    window = Window(most=100, pause_s=10)
    window.answered(held=FIRST - 1)
    assert window.size == FIRST
    for _ in range(200):
        window.answered(held=window.size)
    assert window.size == 100
    for now in (0, 1, 9.9):
        window.late(now=now)
    assert window.size == 50
    window.late(now=10)
    assert window.size == 25
    for now in range(20, 200, 10):
        window.late(now=now)
    assert window.size == 1
    assert Window(most=3, pause_s=1).size == 3


def test_counts_name_reasons_alone() -> None:
    counts = Counts()
    counts.nan["late"] += 2
    counts.dropped["no-uri"] += 1
    assert counts.fields() == {
        "read": 0, "answered": 0, "claimed": 0, "repeated": 0, "nan_late": 2, "dropped_no-uri": 1,
    }  # fmt: skip
