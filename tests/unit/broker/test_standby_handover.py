"""A mesh that changes hands between codes: of the two at most one ever decides."""

import contextlib
import shutil
from pathlib import Path

import pytest
from toy_mesh import MASTER_KEY, NOW, Counter, digest

from wardian.broker.standby.handover import (
    FROM,
    TO,
    first_changes,
    handed_to,
    last_changes,
    refuse_own,
    took_over,
)
from wardian.broker.state.audit import AuditEntry, decode_line
from wardian.broker.state.new_life import begin_life
from wardian.broker.state.replica import Replica
from wardian.broker.state.store import Store
from wardian.errors import CounterLost, PolicyDenied, SealError, StateRolledBack

OLD, NEW, THIRD = digest("old"), digest("new"), digest("third")
ENTRY = AuditEntry(event="start", outcome="granted")


class Code:
    """A broker of one measurement: its files, and the counter that belongs to it."""

    def __init__(self, directory: Path, measurement: bytes) -> None:
        self.measurement, self.counter = measurement, Counter()
        self.path = directory / f"{measurement.hex()[:8]}.db"

    def open(self) -> contextlib.closing[Store]:
        return contextlib.closing(
            Store(self.path, master_key=MASTER_KEY, counter=self.counter.seam)
        )

    def decide(self, name: str) -> None:
        with self.open() as store:
            assert handed_to(store) is None
            store.commit({("t", name): b"1"}, audit=[ENTRY], now=NOW)

    def hand_over(self, to: "Code") -> bytes:
        """Do what the desk does; return the state that `to` is given."""
        with self.open() as store:
            refuse_own(self.measurement, to.measurement)
            store.commit(last_changes(self.measurement, to.measurement), audit=[ENTRY], now=NOW)
            store.retire()
        return self.path.read_bytes()

    def receive(self, state: bytes) -> None:
        self.path.write_bytes(state)

    def adopt(self, counter: Counter | None = None) -> None:
        """Do what `roles.broker_home` does."""
        counter = counter or self.counter
        with contextlib.closing(Replica(self.path, master_key=MASTER_KEY)) as state:
            changes = first_changes(state, own=self.measurement, counted=counter.read())
        begin_life(
            self.path,
            master_key=MASTER_KEY,
            counter=counter.seam,
            changes=changes,
            audit=[took_over(self.measurement)],
            now=NOW,
        )


@pytest.fixture
def old(tmp_path: Path) -> Code:
    old = Code(tmp_path, OLD)
    old.decide("first")
    return old


@pytest.fixture
def new(tmp_path: Path) -> Code:
    return Code(tmp_path, NEW)


def test_a_mesh_changes_hands_once(old: Code, new: Code) -> None:
    new.receive(old.hand_over(new))
    new.adopt()
    with new.open() as store:
        assert store.keys("t") == ("first",)
        assert (store.get(*TO), store.get(*FROM)) == (None, None)
        last = decode_line(store.audit_lines(limit=100)[-1]).entry
        assert (last.rule, last.measurement) == ("took-over", NEW.hex())
    new.decide("second")
    with old.open() as store:  # whenever it is started again
        assert handed_to(store) == NEW


def test_who_handed_over_decides_nothing_more(old: Code, new: Code) -> None:
    with old.open() as store:
        store.commit(last_changes(OLD, NEW), audit=[ENTRY], now=NOW)
        store.retire()
        for work in (lambda: store.commit(audit=[ENTRY], now=NOW), store.confirm):
            with pytest.raises(SealError, match="handed over"):
                work()
        assert store.usable
        assert list(store.snapshot()[1])
        store.abandon()
        assert not store.usable


def test_it_does_not_hand_over_to_itself() -> None:
    with pytest.raises(PolicyDenied) as caught:
        refuse_own(OLD, OLD)
    assert caught.value.rule == "handover-same"


def test_a_state_that_was_not_handed_over_begins_no_life(old: Code, new: Code) -> None:
    """A standby of other code, or a host with its copy: the counter of that code knows nothing."""
    new.receive(old.path.read_bytes())
    with pytest.raises(CounterLost):
        new.open()
    with pytest.raises(PolicyDenied) as caught:
        new.adopt()
    assert caught.value.rule == "handover-other"
    assert new.counter.value == 0


def test_a_state_that_was_handed_to_others(old: Code, new: Code, tmp_path: Path) -> None:
    third = Code(tmp_path, THIRD)
    state = old.hand_over(new)
    third.receive(state)
    with pytest.raises(PolicyDenied) as caught:
        third.adopt()
    assert caught.value.rule == "handover-other"


def test_two_of_the_new_code_do_not_both_begin(old: Code, new: Code, tmp_path: Path) -> None:
    """They share the counter of their measurement."""
    state = old.hand_over(new)
    (tmp_path / "b").mkdir()
    twin = Code(tmp_path / "b", NEW)
    twin.counter = new.counter
    for each in (new, twin):
        each.receive(state)
    new.adopt()
    with pytest.raises(StateRolledBack):
        twin.adopt()
    new.decide("second")
    with pytest.raises((StateRolledBack, CounterLost)):
        twin.open()


def test_the_handed_over_state_put_back_does_not_begin_again(old: Code, new: Code) -> None:
    state = old.hand_over(new)
    new.receive(state)
    new.adopt()
    new.decide("second")
    new.receive(state)
    with pytest.raises((StateRolledBack, CounterLost)):
        new.open()
    with pytest.raises(StateRolledBack, match="gone on since"):
        new.adopt()


def test_there_and_back_and_there_again(old: Code, new: Code) -> None:
    """Each time on the state of then, and on none of before."""
    states = []
    holder, other = old, new
    for number in range(5):
        holder.decide(f"turn-{number}")
        states.append(holder.hand_over(other))
        for state in states[:-1]:
            other.receive(state)
            with pytest.raises((StateRolledBack, PolicyDenied)):
                other.adopt()
        other.receive(states[-1])
        other.adopt()
        with holder.open() as store:
            assert handed_to(store) == other.measurement
        holder, other = other, holder
    with holder.open() as store:
        assert len(store.keys("t")) == 6
        assert set(store.keys("counted")) == {OLD.hex(), NEW.hex()}


def test_a_crash_at_every_step(old: Code, new: Code, tmp_path: Path) -> None:
    """Of the old one's last commit, of the transfer, and of the new one's first commit."""
    before = old.path.read_bytes(), old.counter.value
    outcomes = set()
    for kill_at in range(40):
        old.path.write_bytes(before[0])
        old.counter.value, new.counter.value = before[1], 0
        new.path.unlink(missing_ok=True)
        steps = 0

        class Killed(BaseException):
            pass

        def step(killed=Killed, kill_at=kill_at) -> None:
            nonlocal steps
            steps += 1
            if steps > kill_at:
                raise killed

        class Stepping(Counter):
            def __init__(self, counter: Counter, step=step) -> None:
                self.counter, self.step = counter, step

            @property
            def value(self) -> int:  # type: ignore[override]
                return self.counter.value

            def read(self) -> int:
                self.step()
                return self.counter.value

            def advance(self, to: int) -> None:
                self.step()
                self.counter.advance(to)
                self.step()

        counters = old.counter, new.counter
        done = False
        try:
            old.counter, new.counter = Stepping(counters[0]), Stepping(counters[1])
            state = old.hand_over(new)
            step()
            new.receive(state)
            step()
            new.adopt()
            done = True
        except Killed:
            pass
        finally:
            old.counter, new.counter = counters
        outcomes.add(recovered(old, new))
        if done:
            break
    assert outcomes == {"old", "new"}


def recovered(old: Code, new: Code) -> str:
    """Start both again; return who decides. The other one does not, and never does."""
    with old.open() as store:
        handed = handed_to(store) is not None
    if not handed:
        with contextlib.suppress(SealError, PolicyDenied):
            new.adopt()
            raise AssertionError("both decide")
        old.decide("after")
        return "old"
    state = old.path.read_bytes()  # given again, as often as it takes
    try:
        with new.open() as store:
            assert handed_to(store) is None
    except SealError:
        shutil.rmtree(new.path, ignore_errors=True)
        new.path.unlink(missing_ok=True)
        new.receive(state)
        new.adopt()
    new.decide("after")
    return "new"
