"""What the network can do to a run: nothing but cost time. The model is the same, bit for bit."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest
from relayed import Relayed, at, hasten
from simulators.consortium import counting_app
from simulators.relay import Direction, Treat, Wire
from test_federated_run import expected

WAYS: tuple[Direction, Direction] = ("up", "down")
FIRST: dict[Direction, int] = {"up": 5, "down": 8}
"""The first record after both sides have proved themselves: `Here`, and the first `Ask`."""
CHANGE_CIPHER_SPEC = 20
LARGE = (700, 1000)
"""Three chunks, in 171 records."""


@pytest.fixture(autouse=True)
def nothing_is_a_bug(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever the network does is expected: nobody logs an error, nor a task that was lost."""
    yield
    found = [each for each in caplog.get_records("call") if each.levelno >= logging.ERROR]
    assert found == [], [(each.getMessage(), each.exc_info) for each in found]


async def undisturbed(place: Path, victim: str) -> list[tuple[Direction, int]]:
    """Return every place at which a run sends something to or from `victim`."""
    run = Relayed(place, victim)
    assert await run.model() == expected(("a", "b", "c"), 2)
    assert len(run.relay.wires) == 1
    counts = run.counts()
    return [(way, number) for way in WAYS for number in range(counts[way])]


def attended_once(run: Relayed, *parties: str) -> bool:
    here = [each["party"] for each in run.world.said if each["event"] == "party.here"]
    return all(here.count(party) == 1 for party in parties)


def cut(ending: Literal["FIN", "RST"], part: float) -> Treat:
    """Pass on `part` of a record, and then nothing more."""

    async def spoil(wire: Wire, _: Direction, record: bytes) -> Sequence[bytes]:
        wire.ending = ending
        return (record[: round(part * len(record))],)

    return spoil


@pytest.mark.parametrize(
    ("victim", "ending", "part"),
    [
        ("a", "FIN", 1.0),
        pytest.param("c", "RST", 1.0, marks=pytest.mark.slow),
        pytest.param("a", "RST", 1.0, marks=pytest.mark.slow),
        pytest.param("a", "FIN", 0.5, marks=pytest.mark.slow),
        pytest.param("c", "FIN", 0.5, marks=pytest.mark.slow),
    ],
)
async def test_a_connection_that_is_cut_at_any_place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    victim: str,
    ending: Literal["FIN", "RST"],
    part: float,
) -> None:
    hasten(monkeypatch)
    for way, number in await undisturbed(tmp_path / "undisturbed", victim):
        spoil = at(way, number, cut(ending, part))
        run = Relayed(tmp_path / f"{way}-{number}", victim, treat=spoil)
        assert await run.model() == expected(("a", "b", "c"), 2), (way, number)
        assert run.counts()[way] == number + 1
        assert attended_once(run, *{"a", "b", "c"} - {victim})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spilled", [False, True], ids=["memory", "disk"])
async def test_a_connection_that_is_cut_in_the_middle_of_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Direction, spilled: bool
) -> None:
    hasten(monkeypatch)
    if spilled:
        monkeypatch.setattr("wardian.learning.coordinator.run.IN_MEMORY_BYTES", 1024)

    def run(name: str, **more: Treat) -> Relayed:
        return Relayed(tmp_path / name, app=lambda: counting_app(LARGE), evaluate_every=0, **more)

    whole = run("undisturbed")
    model = await whole.model()
    last = whole.counts()[way] - 1
    for number in (FIRST[way] + 20, last // 2, 2 * last // 3, last - 5):
        spoiled = run(f"{number}", treat=at(way, number, cut("RST", 0.5)))
        assert await spoiled.model() == model, number
        assert len(spoiled.relay.wires) == 2
        assert list((spoiled.world.place / "answers").iterdir()) == []


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
async def test_one_direction_that_stalls_while_the_other_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    hasten(monkeypatch, still_s=0.05)

    async def stall(wire: Wire, way: Direction, record: bytes) -> Sequence[bytes]:
        other = wire.records["down" if way == "up" else "up"]
        before = len(other)
        while len(other) < before + 3:  # until then it said three times that it is there
            await asyncio.sleep(0.01)
        return (record,)

    places = await undisturbed(tmp_path / "undisturbed", "a")
    for way, number in [each for each in places if FIRST[each[0]] < each[1] < 11][::step]:
        run = Relayed(tmp_path / f"{way}-{number}", treat=at(way, number, stall))
        assert await run.model() == expected(("a", "b", "c"), 2), (way, number)
        assert len(run.relay.wires) == 1


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
async def test_a_connection_that_swallows_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    hasten(monkeypatch, silent_s=0.5, still_s=0.1)

    async def swallow(wire: Wire, _: Direction, record: bytes) -> Sequence[bytes]:
        wire.silent = True
        return ()

    places = await undisturbed(tmp_path / "undisturbed", "a")
    for way, number in [each for each in places if FIRST[each[0]] <= each[1]][::step]:
        run = Relayed(tmp_path / f"{way}-{number}", treat=at(way, number, swallow))
        assert await run.model() == expected(("a", "b", "c"), 2), (way, number)
        assert attended_once(run, "b", "c")


async def altered(_: Wire, __: Direction, record: bytes) -> Sequence[bytes]:
    return (record[:-1] + bytes([record[-1] ^ 1]),)


async def of_another_kind(_: Wire, __: Direction, record: bytes) -> Sequence[bytes]:
    return (bytes([record[0] ^ 1]) + record[1:],)


async def twice(_: Wire, __: Direction, record: bytes) -> Sequence[bytes]:
    return (record, record)


async def again(wire: Wire, way: Direction, record: bytes) -> Sequence[bytes]:
    """Pass on an earlier record after this one."""
    before = [each for each in wire.records[way] if each[0] != CHANGE_CIPHER_SPEC]
    return (record, before[-2] if len(before) > 1 else before[0])


def overtaken(way: Direction, number: int) -> Treat:
    """Let the next record overtake record `number` of the first connection."""

    async def treat(wire: Wire, direction: Direction, record: bytes) -> Sequence[bytes]:
        come = wire.records[way]
        if wire.number == 0 and direction == way and len(come) in {number + 1, number + 2}:
            return () if len(come) == number + 1 else (record, come[number])
        return (record,)

    return treat


@pytest.mark.parametrize(
    "spoil",
    [
        altered,
        pytest.param(twice, marks=pytest.mark.slow),
        pytest.param(of_another_kind, marks=pytest.mark.slow),
        pytest.param(again, marks=pytest.mark.slow),
        pytest.param(None, id="overtaken"),
    ],
)
async def test_records_that_are_altered_doubled_or_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Treat | None
) -> None:
    """Each ends its connection, and nothing else."""
    hasten(monkeypatch, still_s=0.05 if spoil is None else 10.0)
    places = await undisturbed(tmp_path / "undisturbed", "a")
    ends = {way: max(number for each, number in places if each == way) for way in WAYS}
    for way, number in places:
        if number == ends[way] or (spoil is None and not FIRST[way] <= number < FIRST[way] + 5):
            continue  # after the farewell nothing comes
        treat = overtaken(way, number) if spoil is None else at(way, number, spoil)
        run = Relayed(tmp_path / f"{way}-{number}", treat=treat)
        assert await run.model() == expected(("a", "b", "c"), 2), (way, number)
        assert attended_once(run, "b", "c")
        kind = run.relay.wires[0].records[way][number][0]
        known = way == "up" and number == ends["up"] - 1  # the party has its model then
        if kind != CHANGE_CIPHER_SPEC and not known:  # of which TLS 1.3 takes no notice
            assert len(run.relay.wires) == 2, (way, number)


async def test_a_connection_that_is_played_twice_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte of the party goes to the coordinator a second time, on another connection."""
    hasten(monkeypatch)
    twin: list[asyncio.StreamWriter] = []
    got: list[bytes] = []
    hearing: list[asyncio.Task[None]] = []

    async def hear(reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(65_536):
                got.append(more)

    async def double(wire: Wire, way: Direction, record: bytes) -> Sequence[bytes]:
        if way == "up" and wire.number == 0:
            if not twin:
                reader, writer = await asyncio.open_connection("127.0.0.1", run.world.port)
                twin.append(writer)
                hearing.append(asyncio.create_task(hear(reader)))
            twin[0].write(record)
        return (record,)

    run = Relayed(tmp_path, treat=double)
    assert await run.model() == expected(("a", "b", "c"), 2)
    await hearing[0]
    twin[0].transport.abort()
    assert 0 < len(b"".join(got)) < 1500  # half a handshake: no challenge, and no proof
    assert attended_once(run, "a", "b", "c")
    assert len(run.relay.wires) == 1
