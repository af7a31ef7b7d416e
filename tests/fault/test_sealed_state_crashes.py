"""Sealed state under crashes: at every step, of the process and of the whole machine.

Whatever happens, what comes back is the old state or the new one, never none and never a refusal;
and no older copy is accepted afterwards.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulators.counter_peers import Peer, peers, process
from simulators.sealed_world import Killed, World

from wardian.errors import CounterUnavailable, SealError, StateRolledBack
from wardian.tee.sealed_state import SealedPlace, SealedState

MAX_STEPS = 200


class Machine:
    """A world, and the counter that a process finds in it: one number, or a quorum of three."""

    def __init__(self, counter: str, *, directory_sync: bool = True) -> None:
        self.world = World(directory_sync=directory_sync)
        self.peers: list[Peer] = peers(3) if counter == "quorum" else []
        for peer in self.peers:
            peer.before = lambda: self.world.step("counter peer")

    def place(self) -> SealedPlace:
        """Return the state's place as a process sees it that was just started."""
        counter = process(self.peers).seam if self.peers else None
        return self.world.place(counter=counter)

    def history(self, *values: bytes) -> None:
        """Let these be written, on the disk for good."""
        state = SealedState.open(self.place())
        for value in values:
            state.write(value)
        if self.world.files:
            self.world.put_back(self.world.content)
            self.world.pending = []
        self.world.restart()

    def run(self, work: Callable[[], object], *, kill_at: int) -> bool:
        """Do `work` in a process that is killed at its step `kill_at`; return whether it was."""
        self.world.restart()
        self.world.kill_at = kill_at
        try:
            work()
        except Killed:
            return True
        return False


KINDS = [
    pytest.param(counter, directory_sync, id=f"{counter}-{'sync' if directory_sync else 'lazy'}")
    for counter in ("single", "quorum")
    for directory_sync in (True, False)
]
BEFORE = [(), (b"one",), (b"one", b"two")]
"""What was written before: nothing, hence this is the first write, or something."""


def aftermaths(world: World) -> Iterator[Callable[[], None]]:
    """Yield what may be left after the crash: all, if the machine went on; else what was synced."""
    yield lambda: None
    for renamings in range(len(world.pending) + 1):
        for unsynced in (0.0, 0.5, 1.0):
            yield lambda renamings=renamings, unsynced=unsynced: world.power_cut(
                renamings=renamings, unsynced=unsynced
            )


def come_back(machine: Machine, *, old: bytes | None, new: bytes) -> bytes | None:
    """Start again; what is there is the old state or the new one, and it can be written on."""
    world = machine.world
    world.restart()
    state = SealedState.open(machine.place())
    found = state.read()
    assert found in (old, new)
    state.write(b"after")
    assert SealedState.open(machine.place()).read() == b"after"
    newest = world.content
    for copy in {*world.copies} - {newest}:
        world.put_back(copy)
        with pytest.raises(StateRolledBack):
            SealedState.open(machine.place())
    world.put_back(newest)
    assert SealedState.open(machine.place()).read() == b"after"
    return found


def writing(machine: Machine, value: bytes) -> Callable[[], None]:
    return lambda: SealedState.open(machine.place()).write(value)


@pytest.mark.parametrize("before", BEFORE, ids=len)
@pytest.mark.parametrize(("counter", "directory_sync"), KINDS)
def test_a_crash_at_every_step_of_a_write(
    counter: str, directory_sync: bool, before: tuple[bytes, ...]
) -> None:
    old = before[-1] if before else None
    outcomes, steps = set(), []
    for kill_at in range(MAX_STEPS):
        for aftermath in range(MAX_STEPS):
            machine = Machine(counter, directory_sync=directory_sync)
            machine.history(*before)
            killed = machine.run(writing(machine, b"new"), kill_at=kill_at)
            steps = machine.world.names
            ways = list(aftermaths(machine.world))
            if aftermath == len(ways):
                break
            ways[aftermath]()
            outcomes.add(come_back(machine, old=old, new=b"new"))
        if not killed:
            break
    assert outcomes == {old, b"new"}
    assert {"create", "half written", "written", "sync", "close", "rename", "sync directory"} < set(
        steps
    )
    assert sum(step.startswith("counter") for step in steps) >= 5


@pytest.mark.parametrize("before", BEFORE[:2], ids=len)
@pytest.mark.parametrize(("counter", "directory_sync"), KINDS)
def test_what_was_acknowledged_is_never_the_old_one(
    counter: str, directory_sync: bool, before: tuple[bytes, ...]
) -> None:
    """The write returned, and then the power went."""
    for aftermath in range(MAX_STEPS):
        machine = Machine(counter, directory_sync=directory_sync)
        machine.history(*before)
        writing(machine, b"new")()
        ways = list(aftermaths(machine.world))
        if aftermath == len(ways):
            break
        ways[aftermath]()
        assert come_back(machine, old=b"new", new=b"new") == b"new"


@pytest.mark.parametrize("counter", ["single", "quorum"])
def test_a_crash_at_every_step_of_coming_back(counter: str) -> None:
    """Killed while writing, killed again while what was written is counted, or put in place."""
    outcomes = set()
    for directory_sync in (True, False):
        first = 0
        while True:
            for second in range(MAX_STEPS):
                machine = Machine(counter, directory_sync=directory_sync)
                machine.history(b"one")
                killed = machine.run(writing(machine, b"new"), kill_at=first)
                machine.world.power_cut(renamings=0, unsynced=0.5)
                again = machine.run(lambda: SealedState.open(machine.place()), kill_at=second)  # noqa: B023
                machine.world.power_cut(renamings=1, unsynced=0.0)
                outcomes.add(come_back(machine, old=b"one", new=b"new"))
                if not again:
                    break
            first += 1
            if not killed:
                break
    assert outcomes == {b"one", b"new"}


@pytest.mark.parametrize("before", BEFORE, ids=len)
@pytest.mark.parametrize("counter", ["single", "quorum"])
def test_a_failure_at_every_step_and_the_process_goes_on(
    counter: str, before: tuple[bytes, ...]
) -> None:
    """The disk refuses once, or the counter cannot be reached once."""
    old = before[-1] if before else None
    failures = set()
    for fail_at in range(MAX_STEPS):
        machine = Machine(counter)
        machine.history(*before)
        state = SealedState.open(machine.place())
        machine.world.fail_at = len(machine.world.names) + fail_at
        try:
            state.write(b"new")
        except SealError as err:
            failures.add(type(err))
            assert state.read() == old
            state.write(b"new")
        done = len(machine.world.names) <= machine.world.fail_at
        assert state.read() == b"new"
        assert come_back(machine, old=b"new", new=b"new") == b"new"
        if done:
            break
    # One peer of three that cannot be reached is no failure at all.
    assert failures == ({SealError, CounterUnavailable} if counter == "single" else {SealError})


@pytest.mark.parametrize("counter", ["single", "quorum"])
def test_a_host_that_kills_again_and_again_gets_no_second_future(counter: str) -> None:
    """Each time between file and counter, each time with another new state; then it chooses."""
    killed, kill_at, most = True, -1, 0
    while killed:
        kill_at += 1
        machine = Machine(counter)
        machine.history(b"one")
        before, futures = machine.world.content, []
        for number in range(3):
            machine.world.put_back(before)
            try:
                killed = machine.run(writing(machine, b"future %d" % number), kill_at=kill_at)
            except StateRolledBack:  # the one before was counted
                break
            finally:
                machine.world.restart()
            futures.append(machine.world.content)
        chosen = accepted(machine, [*futures, before])[0]
        assert set(accepted(machine, [before, *futures])) == {chosen}
        most = max(most, len(set(futures) - {before}))
    assert most == 3


def accepted(machine: Machine, contents: list[bytes]) -> list[bytes | None]:
    """Return what comes back, of what the host puts there one after the other."""
    found = []
    for content in contents:
        machine.world.put_back(content)
        try:
            found.append(SealedState.open(machine.place()).read())
        except StateRolledBack:
            continue
    return found


# The model of the disk itself


def lose_something(machine: Machine, change: Callable[[World], None]) -> bool:
    """Return whether some crash loses the state on a disk that `change` made worse."""
    for kill_at in range(MAX_STEPS):
        for aftermath in range(MAX_STEPS):
            machine = Machine("single", directory_sync=machine.world.directory_sync)
            machine.history(b"one")
            change(machine.world)
            killed = machine.run(writing(machine, b"new"), kill_at=kill_at)
            ways = list(aftermaths(machine.world))
            if aftermath == len(ways):
                break
            ways[aftermath]()
            machine.world.restart()
            try:
                SealedState.open(machine.place())
            except SealError:
                return True
        if not killed:
            return False
    raise AssertionError("a write that never ends")


def test_the_disk_that_is_played_loses_what_is_not_synced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the tests above would prove nothing."""
    assert not lose_something(Machine("single"), lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr("simulators.sealed_world.PlayedDisk.sync", lambda *_: None)
        assert lose_something(Machine("single"), lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr("simulators.sealed_world.PlayedDisk.sync_directory", lambda *_: None)
        patch.setattr("wardian.tee.sealed_state.SealedState._accept_unrenamed", lambda _: False)
        assert lose_something(Machine("single"), lambda _: None)


# A real process on a real disk

WRITER = """
import sys
from pathlib import Path
from wardian._internal.counter import MonotonicCounter
from wardian.crypto.secret import Secret
from wardian.tee.launch.file_counters import FileCounters
from wardian.tee.sealed_state import SealedPlace, SealedState

class Enclave:
    def sealing_key(self, to=None):
        return Secret(b"m" * 32)

counters = FileCounters(Path(sys.argv[1]) / "counters")
state = SealedState.open(SealedPlace(
    path=Path(sys.argv[1]) / "box", enclave=Enclave(), label="test state",
    counter=MonotonicCounter(
        read=lambda: counters.read("box"), advance=lambda to: counters.advance("box", to)
    ),
))
number = int(state.read() or 0)
print(number, flush=True)
while True:
    number += 1
    state.write(str(number).encode().ljust(50_000))
    print(number, flush=True)
"""


def test_a_process_that_is_killed_any_time(tmp_path: Path) -> None:
    """What it said it wrote is there when it starts again, or one more."""
    said = 0
    for round_ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdout is not None
            first = int(child.stdout.readline())
            assert first in (said, said + 1)
            child.stdout.readline()
            time.sleep(0.013 * (round_ + 1))
            os.kill(child.pid, signal.SIGKILL)
            lines = child.stdout.read().splitlines()
            said = max([first + 1, *(int(line) for line in lines if line)])
    assert said > 6
