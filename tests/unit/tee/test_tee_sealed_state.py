"""Sealed state with freshness: what the host can put there, and what comes back."""

import errno
import logging
import os
from dataclasses import replace as changed
from pathlib import Path

import pytest
from simulators.sealed_world import LABEL, FakeEnclave, World

from wardian._internal.counter import MAX_GENERATION, CounterKeeper, MonotonicCounter, stamp
from wardian.errors import (
    CounterLost,
    CounterUnavailable,
    LocalProtocolError,
    SealError,
    StateRolledBack,
)
from wardian.tee import sealed_state
from wardian.tee.backend import SealTo
from wardian.tee.launch.file_counters import FileCounters
from wardian.tee.sealed_state import SealedPlace, SealedState
from wardian.tee.state_file import HostDisk, fresh_name


@pytest.fixture
def counters(tmp_path: Path) -> FileCounters:
    return FileCounters(tmp_path / "counters")


@pytest.fixture
def place(tmp_path: Path, counters: FileCounters) -> SealedPlace:
    """A state on the real disk, counted by a real file counter."""
    return SealedPlace(
        path=tmp_path / "box",
        enclave=FakeEnclave(),  # type: ignore[arg-type]
        label=LABEL,
        counter=MonotonicCounter(
            read=lambda: counters.read("box"), advance=lambda to: counters.advance("box", to)
        ),
    )


def written(place: SealedPlace, *values: bytes) -> SealedState:
    state = SealedState.open(place)
    for value in values:
        state.write(value)
    return state


# What comes back


def test_nothing_was_ever_written(place: SealedPlace, counters: FileCounters) -> None:
    state = SealedState.open(place)
    assert (state.read(), state.generation) == (None, 0)
    assert not place.path.exists()
    assert counters.read("box") == 0


def test_the_newest_comes_back(place: SealedPlace) -> None:
    state = written(place, b"one", b"", b"three")
    assert (state.read(), state.generation) == (b"three", 3)
    again = SealedState.open(place)
    assert (again.read(), again.generation) == (b"three", 3)
    again.write(b"four")
    assert SealedState.open(place).read() == b"four"


def test_the_file_is_private_and_shows_nothing(place: SealedPlace) -> None:
    written(place, b"a very secret value")
    assert place.path.stat().st_mode & 0o777 == 0o600
    assert b"very secret" not in place.path.read_bytes()
    assert [path.name for path in place.path.parent.glob("box*")] == ["box"]


def test_a_state_that_is_too_large_is_our_bug(
    place: SealedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_state, "MAX_STATE_BYTES", 10)
    written(place, b"x" * 10)
    assert SealedState.open(place).read() == b"x" * 10
    with pytest.raises(LocalProtocolError, match="at most"):
        written(place, b"x" * 11)
    place.path.write_bytes(b"x" * 200)
    with pytest.raises(SealError, match="more than 82 bytes"):
        SealedState.open(place)


# What the host puts back


def test_an_older_copy(place: SealedPlace) -> None:
    state = written(place, b"one")
    old = place.path.read_bytes()
    state.write(b"two")
    place.path.write_bytes(old)
    with pytest.raises(StateRolledBack, match="generation 1 was found, generation 2 was counted"):
        SealedState.open(place)


def test_the_state_is_taken_away(place: SealedPlace) -> None:
    written(place, b"one")
    place.path.unlink()
    with pytest.raises(StateRolledBack, match="taken away"):
        SealedState.open(place)


@pytest.mark.parametrize("content", [b"", b"x", bytes(200), b"WRDNSEAL" + bytes(192)])
def test_something_else_lies_there(place: SealedPlace, content: bytes) -> None:
    written(place, b"one")
    place.path.write_bytes(content)
    with pytest.raises(SealError):
        SealedState.open(place)


def test_every_byte_counts(place: SealedPlace, counters: FileCounters) -> None:
    written(place, b"one")
    good = place.path.read_bytes()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1
        place.path.write_bytes(bad)
        with pytest.raises(SealError):
            SealedState.open(place)


def test_a_newer_generation_is_not_made_by_editing_the_header(place: SealedPlace) -> None:
    state = written(place, b"one")
    old = place.path.read_bytes()
    state.write(b"two")
    for generation in (2, 3):
        place.path.write_bytes(old[:8] + generation.to_bytes(8, "big") + old[16:])
        with pytest.raises(SealError, match="altered"):
            SealedState.open(place)


def test_another_enclave_label_or_seal(place: SealedPlace) -> None:
    written(place, b"one")
    for other in (
        changed(place, enclave=FakeEnclave(measurement=b"o" * 32)),
        changed(place, label="another"),
        changed(place, to=SealTo.SIGNER),
    ):
        with pytest.raises(SealError):
            SealedState.open(other)


def test_a_host_collects_states_that_were_never_counted() -> None:
    """It kills the process between file and counter, and chooses later among the files."""
    world = World()
    written(world.place(), b"one")
    before = world.content
    spare = []
    for value in (b"spare 1", b"spare 2", b"spare 3"):
        world.put_back(before)
        world.restart()
        state = SealedState.open(world.place())
        world.fail_next = "counter half advanced"
        with pytest.raises(CounterUnavailable):
            state.write(value)
        spare.append(world.content)
    world.restart()
    world.put_back(spare[1])
    assert SealedState.open(world.place()).read() == b"spare 2"
    for other in (before, spare[0], spare[2]):
        world.put_back(other)
        with pytest.raises(StateRolledBack):
            SealedState.open(world.place())


# Files of another life of the counter


def lives(place: SealedPlace, first: int, second: int) -> tuple[list[bytes], SealedState]:
    """Let a state live twice, with a counter that is lost in between; return the first's files."""
    copies = []
    state = SealedState.open(place)
    for number in range(first):
        state.write(b"first life %d" % number)
        copies.append(place.path.read_bytes())
    (place.path.parent / "counters" / "box").unlink()
    place.path.unlink()  # "to begin anew, move the file away"
    return copies, written(place, *(b"second life %d" % number for number in range(second)))


@pytest.mark.parametrize("second", range(1, 5))
def test_a_file_of_an_earlier_life_returns(place: SealedPlace, second: int) -> None:
    """It is authentic, and for one of them the generation is the next one, too."""
    copies, state = lives(place, 8, second)
    newest = place.path.read_bytes()
    for copy in copies:
        place.path.write_bytes(copy)
        with pytest.raises((CounterLost, StateRolledBack)):
            SealedState.open(place)
    place.path.write_bytes(newest)
    assert SealedState.open(place).read() == state.read()


def test_a_first_file_of_an_earlier_life_returns(place: SealedPlace, counters) -> None:
    """The second life was killed before its first file: nothing but its name is counted."""
    copies, _ = lives(place, 2, 0)
    counters.advance("box", 77)
    assert SealedState.open(place).read() is None
    for copy in copies:
        place.path.write_bytes(copy)
        with pytest.raises(CounterLost):
            SealedState.open(place)
    place.path.unlink()
    written(place, b"second life")
    assert SealedState.open(place).read() == b"second life"


def test_a_file_that_was_sealed_to_the_signer_under_the_old_code(
    place: SealedPlace, counters: FileCounters
) -> None:
    """The new code counts with another counter, which begins at 0; nothing was lost."""
    old_code = changed(place, to=SealTo.SIGNER)
    state, copies = SealedState.open(old_code), []
    for number in range(8):
        state.write(b"old code %d" % number)
        copies.append(place.path.read_bytes())
    place.path.unlink()
    new_code = changed(
        old_code,
        enclave=FakeEnclave(measurement=b"n" * 32),
        counter=MonotonicCounter(
            read=lambda: counters.read("new"), advance=lambda to: counters.advance("new", to)
        ),
    )
    written(new_code, b"new code 1", b"new code 2", b"new code 3")
    for copy in copies:
        place.path.write_bytes(copy)
        with pytest.raises((CounterLost, StateRolledBack)):
            SealedState.open(new_code)


def test_what_a_file_follows_is_not_edited(place: SealedPlace, counters: FileCounters) -> None:
    copies, _ = lives(place, 4, 2)
    follows = counters.read("box").to_bytes(8, "big")
    place.path.write_bytes(copies[2][:16] + follows + copies[2][24:])
    with pytest.raises(SealError, match="altered"):
        SealedState.open(place)


def test_every_life_has_a_name_of_its_own() -> None:
    names = set()
    for _ in range(20):
        world = World()
        world.fail_next = "half written"
        with pytest.raises(SealError):
            SealedState.open(world.place()).write(b"one")
        names.add(world.count)
    assert len(names) == 20
    assert all(0 < name < 1 << 32 for name in names)


def test_a_life_keeps_its_name_when_the_answer_is_lost() -> None:
    """The counter's contract: what is in doubt is advanced to that same value and to no other."""
    for lost in ("counter half advanced", "counter advanced"):
        world = World()
        state = SealedState.open(world.place())
        world.fail_next = lost
        with pytest.raises(CounterUnavailable):
            state.write(b"one")
        state.write(b"one")
        assert SealedState.open(world.place()).read() == b"one"


# The counter


def test_a_state_beside_a_counter_at_zero(place: SealedPlace, counters: FileCounters) -> None:
    written(place, b"one")
    (counters._directory / "box").unlink()
    with pytest.raises(CounterLost, match=r"counter stands at 0.*owners.*begin anew"):
        SealedState.open(place)


@pytest.mark.parametrize("value", [1, (1 << 32) - 1, 1 << 32, (2 << 32) - 1, 2 << 32])
def test_a_counter_that_was_set_back(
    place: SealedPlace, counters: FileCounters, value: int
) -> None:
    written(place, b"one", b"two", b"three")
    (counters._directory / "box").write_text(str(value))
    with pytest.raises(CounterLost, match="lost or set back"):
        SealedState.open(place)


def test_a_counter_that_cannot_be_reached() -> None:
    """Nothing is written, and what was read stays readable."""
    world = World()
    state = written(world.place(), b"one")
    content = world.content
    world.fail_next = "counter read"
    with pytest.raises(CounterUnavailable) as caught:
        state.write(b"two")
    assert caught.value.retryable
    assert state.read() == b"one"
    assert world.content == content
    world.fail_next = "counter read"
    with pytest.raises(CounterUnavailable):
        SealedState.open(world.place())
    state.write(b"three")
    assert SealedState.open(world.place()).read() == b"three"


def test_a_write_in_doubt_is_settled_before_the_next() -> None:
    """The answer of the counter is lost: a second file of that generation must not come up."""
    for lost in ("counter half advanced", "counter advanced"):
        world = World()
        state = written(world.place(), b"one")
        state.write(b"two")
        world.fail_next = lost
        with pytest.raises(CounterUnavailable):
            state.write(b"three")
        assert state.read() == b"two"
        state.write(b"four")
        assert (state.read(), state.generation) == (b"four", 4)
        assert SealedState.open(world.place()).read() == b"four"


def test_two_processes_on_one_state(place: SealedPlace) -> None:
    one, other = written(place, b"one"), SealedState.open(place)
    one.write(b"two")
    with pytest.raises(SealError, match="another process counted"):
        other.write(b"three")
    assert SealedState.open(place).read() == b"two"


def test_a_counter_that_does_not_count(place: SealedPlace) -> None:
    lazy = changed(place, counter=MonotonicCounter(read=lambda: 0, advance=lambda to: None))
    with pytest.raises(SealError, match="did not take"):
        written(lazy, b"one")


def test_the_generations_are_finite(place: SealedPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    state = written(place, b"one")
    monkeypatch.setattr(sealed_state, "MAX_GENERATION", 1)
    with pytest.raises(SealError, match="used up"):
        state.write(b"two")
    with pytest.raises(SealError, match="used up"):
        stamp(b"", generation=MAX_GENERATION + 1, key=b"k")
    assert SealedState.open(place).read() == b"one"


def test_who_keeps_the_counter_is_told(
    place: SealedPlace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert "the host can set it back" in SealedState.open(place).kept_by.said
    kept = changed(place, counter=changed(place.counter, kept_by=CounterKeeper.QUORUM))
    assert "quorum" in SealedState.open(kept).kept_by.said
    told = [
        (record.levelname, record.fields["counter"])  # type: ignore[attr-defined]
        for record in caplog.records
        if record.getMessage() == "state.counter"
    ]
    assert told == [
        ("WARNING", "development: a file counter, the host can set it back"),
        ("INFO", "kept by a quorum of attested peers"),
    ]


# To the signer


def test_to_the_signer_outlives_the_measurement(place: SealedPlace) -> None:
    signed = changed(place, to=SealTo.SIGNER)
    written(signed, b"one")
    after = changed(signed, enclave=FakeEnclave(measurement=b"n" * 32))
    assert SealedState.open(after).read() == b"one"
    other = changed(signed, enclave=FakeEnclave(signer=b"t" * 32))
    with pytest.raises(SealError, match="another signer or role"):
        SealedState.open(other)


def test_sealed_to_the_signer_where_the_measurement_is_due(place: SealedPlace) -> None:
    """A malicious enclave of the signer writes what the broker would read."""
    written(changed(place, to=SealTo.SIGNER), b"planted")
    with pytest.raises(SealError, match="not sealed to the measurement"):
        SealedState.open(place)


# The disk


def test_a_disk_that_refuses(place: SealedPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    state = written(place, b"one")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(SealError, match="cannot be written: No space left"):
            state.write(b"two")
    assert not fresh_name(place.path).exists()
    assert state.read() == b"one"
    state.write(b"three")
    assert SealedState.open(place).read() == b"three"


def test_a_place_that_cannot_be_used(place: SealedPlace, tmp_path: Path) -> None:
    nowhere = changed(place, path=tmp_path / "missing" / "box")
    with pytest.raises(SealError, match="cannot be written"):
        written(nowhere, b"one")
    place.path.mkdir()
    with pytest.raises(SealError, match="cannot be read"):
        SealedState.open(place)


def test_a_disk_that_writes_a_little_at_a_time(tmp_path: Path, monkeypatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    disk = HostDisk()
    descriptor = disk.create(tmp_path / "file")
    disk.write(descriptor, b"0123456789" * 10)
    disk.close(descriptor)
    assert disk.read(tmp_path / "file", most=1000) == b"0123456789" * 10
    assert disk.read(tmp_path / "file", most=5) == b"01234"


def test_an_unrenamed_state_that_cannot_be_put_in_place(
    place: SealedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = written(place, b"one")
    old = place.path.read_bytes()
    state.write(b"two")
    place.path.rename(fresh_name(place.path))
    place.path.write_bytes(old)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(SealError, match="put in place"):
            SealedState.open(place)
    assert SealedState.open(place).read() == b"two"
    assert not fresh_name(place.path).exists()


def test_an_older_state_under_the_first_name_is_no_way_back(place: SealedPlace) -> None:
    state = written(place, b"one")
    old = place.path.read_bytes()
    state.write(b"two")
    place.path.write_bytes(old)
    for unrenamed in (old, b"junk"):
        fresh_name(place.path).write_bytes(unrenamed)
        with pytest.raises(StateRolledBack):
            SealedState.open(place)
