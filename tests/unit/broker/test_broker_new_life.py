"""A state that begins another life of a counter: once, and nothing of before opens after it."""

import contextlib
import shutil
from pathlib import Path

import pytest
from toy_mesh import MASTER_KEY, NOW, Counter

from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.database import Database
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.new_life import begin_life
from wardian.broker.state.store import Store
from wardian.errors import CounterLost, SealError, StateRolledBack

START = AuditEntry(event="start", outcome="granted")
RECOVERED = AuditEntry(event="recovery", outcome="granted", rule="recovered")


class State:
    def __init__(self, path: Path) -> None:
        self.path, self.counter = path, Counter()
        with self.open() as store:
            for number in range(3):
                store.commit({("t", "n"): b"%d" % number}, audit=[START], now=NOW)

    def open(self, counter: Counter | None = None) -> contextlib.closing[Store]:
        seam = (counter or self.counter).seam
        return contextlib.closing(Store(self.path, master_key=MASTER_KEY, counter=seam))

    def begin(self, counter: Counter, *, key: MasterKey = MASTER_KEY) -> None:
        begin_life(
            self.path,
            master_key=key,
            counter=counter.seam,
            changes={("t", "new"): b"life"},
            audit=[RECOVERED],
            now=NOW,
        )


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state.db")


def test_a_state_goes_on_under_a_fresh_counter(state: State) -> None:
    fresh = Counter()
    with pytest.raises(CounterLost):
        state.open(fresh)
    state.begin(fresh)
    with state.open(fresh) as store:
        assert (store.get("t", "n"), store.get("t", "new")) == (b"2", b"life")
        assert (store.generation, store.audit_head.count) == (1, 4)
        store.commit(audit=[START], now=NOW)


def test_no_copy_of_before_opens_after_it(state: State, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(state.path, copy)
    fresh = Counter()
    state.begin(fresh)
    for _ in range(5):  # past the generation of the copy, and through it
        shutil.copy(state.path, tmp_path / "newest.db")
        shutil.copy(copy, state.path)
        with pytest.raises((CounterLost, StateRolledBack)):
            state.open(fresh)
        shutil.copy(tmp_path / "newest.db", state.path)
        with state.open(fresh) as store:
            store.commit(audit=[START], now=NOW)


def test_an_older_copy_goes_on_where_the_counter_knows_more(state: State, tmp_path: Path) -> None:
    """The newest file is lost on this very platform: the owners say that the older one it is."""
    copy = tmp_path / "copy.db"
    shutil.copy(state.path, copy)
    with state.open() as store:
        store.commit(audit=[START], now=NOW)
    lost = state.path.read_bytes()
    shutil.copy(copy, state.path)
    with pytest.raises(StateRolledBack):
        state.open()
    state.begin(state.counter)
    with state.open() as store:
        assert store.generation == 6
    state.path.write_bytes(lost)
    with pytest.raises(StateRolledBack):
        state.open()


def test_a_life_that_another_one_began_is_not_taken(state: State) -> None:
    fresh = Counter()
    seam, reads = fresh.seam, []

    def read() -> int:
        reads.append(fresh.value)
        if len(reads) == 4:  # named, and its file is written: somebody else counts
            fresh.value += 1 << 32
        return fresh.value

    with pytest.raises(SealError, match="another process counted"):
        begin_life(
            state.path,
            master_key=MASTER_KEY,
            counter=type(seam)(read=read, advance=seam.advance),
            changes={},
            audit=[RECOVERED],
            now=NOW,
        )


def test_a_crash_at_every_step_leaves_a_state_that_opens_or_begins_again(state: State) -> None:
    before, opened = state.path.read_bytes(), 0
    for kill_at in range(20):
        state.path.write_bytes(before)
        fresh, steps = Counter(), []

        class Killed(BaseException):
            pass

        def step(fresh=fresh, steps=steps, kill_at=kill_at, killed=Killed) -> None:
            steps.append(1)
            if len(steps) > kill_at:
                raise killed

        def read(fresh=fresh, step=step) -> int:
            step()
            return fresh.value

        def advance(to: int, fresh=fresh, step=step) -> None:
            step()
            fresh.advance(to)
            step()

        seam = type(fresh.seam)(read=read, advance=advance)
        try:
            begin_life(
                state.path,
                master_key=MASTER_KEY,
                counter=seam,
                changes={("t", "new"): b"life"},
                audit=[RECOVERED],
                now=NOW,
            )
            done = True
        except Killed:
            done = False
        try:
            with state.open(fresh) as store:
                opened += 1
                assert store.get("t", "new") == b"life"
        except CounterLost:
            assert not done
            state.begin(fresh)
            with state.open(fresh) as store:
                assert (store.get("t", "n"), store.get("t", "new")) == (b"2", b"life")
        if done:
            break
    assert opened > 1


def test_what_is_not_whole_begins_nothing(state: State) -> None:
    fresh = Counter()
    with pytest.raises(SealError):
        state.begin(fresh, key=MasterKey.random())
    assert fresh.value == 0
    state.path.unlink()
    Database(state.path).close()
    with pytest.raises(SealError):
        state.begin(fresh)
    assert fresh.value == 0
