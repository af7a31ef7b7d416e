"""A counter over several hosts: no one of them sets it back, and no answer of theirs is lost."""

import dataclasses
import itertools
import logging
import random
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.counter_peers import Peer, in_turn, peers, process

from wardian._internal.counter import MAX_COUNT, NOBODY, CounterKeeper, count
from wardian.broker.counting.quorum import (
    MAX_PACKED,
    MAX_TURN,
    QuorumCounter,
    QuorumPeer,
    Step,
    Vote,
    in_threads,
    unpack,
)
from wardian.errors import (
    ConnectionLost,
    CounterLost,
    CounterUnavailable,
    LocalProtocolError,
    PolicyDenied,
    SealError,
    WardianError,
)


@pytest.fixture
def three() -> list[Peer]:
    return peers(3)


def away(*gone: Peer, of: list[Peer]) -> None:
    for peer in of:
        peer.away = peer in gone


# What it is made of


@pytest.mark.parametrize(
    "vote", [Vote(0, 0, 0), Vote(1, 0, 5), Vote(7, 7, MAX_COUNT), Vote(MAX_TURN, MAX_TURN, 1)]
)
def test_three_numbers_in_one(vote: Vote) -> None:
    assert unpack(vote.packed) == vote
    assert vote.packed <= MAX_PACKED == 2**127 - 1


def test_every_step_makes_the_number_greater() -> None:
    steps = [Vote(1, 0, 9), Vote(1, 1, 9), Vote(1, 1, 10), Vote(2, 1, 10), Vote(2, 2, 3)]
    assert [step.packed for step in steps] == sorted(step.packed for step in steps)


@pytest.mark.parametrize(
    ("count", "put_back", "quorum"),
    [(3, 0, 2), (4, 0, 3), (5, 0, 3), (4, 1, 3), (5, 1, 4), (7, 2, 5), (3, 1, 3), (3, 2, 3)],
)
def test_how_many_make_a_quorum(count: int, put_back: int, quorum: int) -> None:
    """Two quorums share more peers than may have been put back."""
    assert process(peers(count), put_back=put_back).quorum == quorum
    assert 2 * quorum - count > put_back


def test_what_makes_no_quorum(three: list[Peer]) -> None:
    made = [
        QuorumPeer(name=peer.name, platform=peer.name.encode(), counter=peer.counter())
        for peer in three
    ]
    with pytest.raises(LocalProtocolError, match="three peers or more"):
        QuorumCounter(made[:2], put_back=0)
    for put_back in (-1, 3):
        with pytest.raises(LocalProtocolError, match="not all put back"):
            QuorumCounter(made, put_back=put_back)
    twice = dataclasses.replace(made[2], platform=made[0].platform)
    with pytest.raises(LocalProtocolError, match="distinct platforms"):
        QuorumCounter([*made[:2], twice], put_back=0)
    narrow = dataclasses.replace(made[2].counter, most=MAX_COUNT)
    with pytest.raises(LocalProtocolError, match="hold up to"):
        QuorumCounter([*made[:2], dataclasses.replace(made[2], counter=narrow)], put_back=0)
    with pytest.raises(TypeError, match="put_back"):
        QuorumCounter(made)  # type: ignore[call-arg]


def test_one_keeper_under_several_platforms(three: list[Peer]) -> None:
    """One broker that says to be three would be a quorum by itself."""
    one = three[0]
    made = [
        QuorumPeer(name=f"{number}", platform=bytes([number]) * 16, counter=one.counter())
        for number in range(3)
    ]
    with pytest.raises(LocalProtocolError, match="distinct keepers"):
        QuorumCounter(made, put_back=0)


def test_a_keeper_that_is_nobody(three: list[Peer]) -> None:
    """A file of the host has no id, hence cannot be told from another one."""
    nobody = dataclasses.replace(three[2].counter(), keeper_id=NOBODY)
    made = [
        QuorumPeer(name=peer.name, platform=peer.name.encode(), counter=peer.counter())
        for peer in three
    ]
    with pytest.raises(LocalProtocolError, match="distinct keepers"):
        QuorumCounter([*made[:2], dataclasses.replace(made[2], counter=nobody)], put_back=0)


def test_a_majority_says_that_it_is_one(three: list[Peer]) -> None:
    """A status must not promise what one host and the carrier can undo together."""
    seam = process(three, put_back=0).seam
    assert seam.kept_by is CounterKeeper.MAJORITY
    assert "one of their hosts and the carrier together" in seam.kept_by.said
    assert process(peers(4), put_back=1).seam.kept_by is CounterKeeper.QUORUM


def test_who_keeps_it(three: list[Peer]) -> None:
    seam = process(three, put_back=1).seam
    assert seam.kept_by is CounterKeeper.QUORUM
    assert len(seam.keeper_id) == 32
    assert process(three[::-1]).seam.keeper_id == seam.keeper_id
    assert process([*three[:2], Peer("new")]).seam.keeper_id != seam.keeper_id


# Counting


@pytest.mark.parametrize("together", [in_turn, in_threads])
def test_it_counts_and_the_next_process_knows(three: list[Peer], together) -> None:
    counter = process(three, together=together).seam
    assert counter.read() == 0
    for at, to in itertools.pairwise((0, 1, 5, MAX_COUNT)):
        count(counter, at=at, to=to)
        assert counter.read() == to
    assert process(three, together=together).seam.read() == MAX_COUNT


@pytest.mark.parametrize("to", [-1, 0, 4, 5, MAX_COUNT + 1])
def test_it_only_goes_up(three: list[Peer], to: int) -> None:
    counter = process(three)
    counter.advance(5)
    with pytest.raises(SealError, match="only goes up"):
        counter.advance(to)
    assert counter.read() == 5


@pytest.mark.parametrize("gone", range(3))
def test_one_of_three_may_be_away(three: list[Peer], gone: int) -> None:
    away(three[gone], of=three)
    counter = process(three)
    counter.advance(5)
    away(three[(gone + 1) % 3], of=three)
    assert counter.read() == 5
    assert process(three).read() == 5


def test_without_a_majority_it_says_so_and_recovers(three: list[Peer]) -> None:
    counter = process(three)
    counter.advance(5)
    away(*three[:2], of=three)
    for _ in range(2):
        with pytest.raises(CounterUnavailable, match="1 of 3 peers.*2 are needed") as caught:
            counter.read()
        assert caught.value.retryable
    with pytest.raises(CounterUnavailable):
        counter.advance(6)
    with pytest.raises(LocalProtocolError, match="read the counter first"):
        counter.advance(7)
    with pytest.raises(CounterUnavailable):
        process(three).read()
    away(of=three)
    assert counter.read() == 6  # finished, because it was begun
    counter.advance(7)
    assert process(three).read() == 7


def test_a_value_that_one_peer_has_is_finished_before_it_is_told(three: list[Peer]) -> None:
    counter = process(three)
    counter.advance(5)
    away(*three[1:], of=three)
    with pytest.raises(CounterUnavailable):
        counter.advance(6)
    away(of=three)
    assert process(three).read() == 6
    for pair in itertools.combinations(three, 2):  # whoever is asked from now on, it is there
        away(*(peer for peer in three if peer not in pair), of=three)
        assert process(three).read() == 6


def test_a_lost_answer_is_no_lost_value(three: list[Peer]) -> None:
    counter = process(three)
    counter.advance(5)
    away(*three[1:], of=three)
    for peer in three[1:]:
        peer.lose = lambda: True
    with pytest.raises(CounterUnavailable):
        counter.advance(6)
    assert [unpack(peer.value).value for peer in three] == [6, 6, 6]
    away(of=three)
    assert counter.read() == 6
    counter.advance(7)
    assert counter.read() == 7


def test_a_peer_that_was_away_is_brought_up(three: list[Peer]) -> None:
    away(three[0], of=three)
    counter = process(three)
    counter.advance(5)
    away(of=three)
    counter.read()
    assert three[0].value == three[1].value


def test_a_peer_may_refuse_for_any_reason(
    three: list[Peer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for error in (
        ConnectionLost("gone"),
        PolicyDenied("no", rule="counter-room"),
        SealError("old"),
    ):

        def refuse(*_: object, error: Exception = error) -> int:
            raise error

        made = [
            QuorumPeer(name=peer.name, platform=peer.name.encode(), counter=peer.counter())
            for peer in three
        ]
        bad = dataclasses.replace(made[1].counter, read=refuse, advance=refuse)
        made[1] = dataclasses.replace(made[1], counter=bad)
        counter = QuorumCounter(made, put_back=0, together=in_turn)
        counter.advance(counter.read() + 1)
    told = [record.fields for record in caplog.records if record.msg == "counter.peer-away"]
    assert {each["reason"] for each in told} == {"gone", "no", "old"}
    assert {each["peer"] for each in told} == {"peer 1"}


def test_a_peer_that_stays_away_is_told_once(
    three: list[Peer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    counter = process(three)
    for gone in (three[:1], [], three[:1]):
        away(*gone, of=three)
        for _ in range(3):
            counter.read()
    told = [record.fields["peer"] for record in caplog.records if "away" in record.getMessage()]
    assert told == ["peer 0", "peer 0"]


def test_a_bug_is_no_refusal(three: list[Peer]) -> None:
    def bug() -> int:
        raise LocalProtocolError("ours")

    counter = process(three)
    broken = dataclasses.replace(counter._peers[0].counter, read=bug)
    counter._peers = (
        dataclasses.replace(counter._peers[0], counter=broken),
        *counter._peers[1:],
    )
    with pytest.raises(LocalProtocolError, match="ours"):
        counter.read()


# Attacks


def test_a_value_of_an_earlier_turn_does_not_come_back(three: list[Peer]) -> None:
    """The host kills a process in the middle, keeps its peer away, and lets another state count.

    Both are of one generation, and the first is the greater number. Acting on the second must not
    be undone when the peer comes back.
    """
    process(three).advance(10)
    first = process(three)
    assert first.read() == 10
    away(*three[1:], of=three)
    with pytest.raises(CounterUnavailable):
        first.advance(29)
    away(three[0], of=three)
    second = process(three)
    assert second.read() == 10
    second.advance(21)
    for pair in itertools.combinations(three, 2):
        away(*(peer for peer in three if peer not in pair), of=three)
        assert process(three).read() == 21
    away(of=three)
    assert process(three).read() == 21
    with pytest.raises(SealError, match="another process took this counter over"):
        first.read()


def test_two_processes_on_one_state(three: list[Peer]) -> None:
    """A clone takes over; who was there before does not count any more, and does not come back."""
    first = process(three)
    first.advance(5)
    second = process(three)
    assert second.read() == 5
    for attempt in (first.read, lambda: first.advance(6), first.read):
        with pytest.raises(SealError, match="another process took this counter over"):
            attempt()
    second.advance(7)
    assert process(three).read() == 7


def test_two_processes_that_ask_for_one_turn(three: list[Peer]) -> None:
    """Both read before either asks: finding one's wish fulfilled is not to have been granted it.

    The second stops between promise and acceptance, while the first, which wants the same, goes on.
    """
    first, second = process(three), process(three)
    steps: dict[int, int] = {}
    stopped, go_on, outcome = threading.Event(), threading.Event(), []

    def second_counts() -> None:
        try:
            second.advance(9)
        except SealError as err:
            outcome.append(str(err))

    thread = threading.Thread(target=second_counts)

    def interleave() -> None:
        me = threading.get_ident()
        steps[me] = steps.get(me, 0) + 1
        if me == thread.ident and steps[me] == 7:  # three votes read, three promises given
            stopped.set()
            assert go_on.wait(10)
        if me != thread.ident and steps[me] == 4:  # three votes read
            thread.start()
            assert stopped.wait(10)

    for peer in three:
        peer.before = interleave
    first.advance(5)
    go_on.set()
    thread.join(10)
    assert "another process took this counter over" in outcome[0]
    assert process(three).read() == 5


def test_a_peer_that_is_away_is_asked_once_for_each_step(three: list[Peer]) -> None:
    """Each time may cost as long as it takes to give up."""
    counter, asked = process(three), []
    counter.advance(5)
    away(three[0], of=three)
    three[0].before = lambda: asked.append(1)
    counter.read()
    counter.advance(6)
    assert len(asked) == 2


def test_a_counter_that_everybody_wants(three: list[Peer]) -> None:
    """Taken over again and again in the middle of being taken over: give up, ask again."""
    depth = [0]

    def interleave() -> None:
        if depth[0] == 0:
            depth[0] = 1
            process(three).read()
            depth[0] = 0

    for peer in three:
        peer.before = interleave
    with pytest.raises(CounterUnavailable, match="taken over by others"):
        process(three).read()
    for peer in three:
        peer.before = lambda: None
    assert process(three).read() == 0


def test_a_peer_that_goes_back_is_left_out(
    three: list[Peer], caplog: pytest.LogCaptureFixture
) -> None:
    counter = process(three)
    counter.advance(5)
    counter.advance(6)
    three[1].put_back(1)
    assert counter.read() == 6
    assert counter.gone_back == ("peer 1",)
    told = [record.fields for record in caplog.records if "went-back" in record.getMessage()]
    assert told == [{"peer": "peer 1"}]
    counter.advance(7)
    assert unpack(three[1].value).value == 5  # it is not asked any more
    assert process(three).read() == 7


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_a_majority_that_went_back_is_a_lost_counter(three: list[Peer], steps: int) -> None:
    counter = process(three)
    counter.advance(5)
    counter.advance(6)
    for peer in three[:2]:
        peer.put_back(steps)
    with pytest.raises(CounterLost, match=r"2 of 3 peers lost.*peer 0, peer 1.*owners") as caught:
        counter.read()
    assert not caught.value.retryable
    with pytest.raises(CounterLost):
        counter.read()


def test_a_peer_that_goes_back_while_it_is_written_to(three: list[Peer]) -> None:
    counter = process(three)
    counter.advance(5)
    counter.advance(6)
    three[1].put_back(1)
    counter.advance(7)
    assert counter.gone_back == ("peer 1",)


@pytest.mark.parametrize("gone", range(3))
def test_a_minority_put_back_while_nobody_counts(three: list[Peer], gone: int) -> None:
    process(three).advance(5)
    three[gone].put_back(100)
    assert process(three).read() == 5
    assert all(unpack(peer.value).value == 5 for peer in three)


def test_a_peer_put_back_and_one_that_does_not_grant_the_turn(three: list[Peer]) -> None:
    """A process that is killed in the middle keeps the one peer that knows from granting a turn."""
    counter = process(three)
    away(three[2], of=three)
    counter.advance(5)
    away(of=three)
    three[1].put_back(1)
    steps = itertools.count()

    def interleave() -> None:
        if next(steps) == 3:  # the votes are read
            vote = unpack(three[0].value)
            three[0].history.append(vote._replace(promised=vote.promised + 1).packed)

    for peer in three:
        peer.before = interleave
    assert process(three).read() == 5


@pytest.mark.parametrize("act", ["read", "advance"])
def test_a_peer_put_back_to_before_another_took_over(three: list[Peer], act: str) -> None:
    """Two peers know of no later turn, and are a majority; the third tells."""
    first = process(three)
    first.advance(5)
    away(three[2], of=three)
    second = process(three)
    second.advance(6)
    away(of=three)
    three[1].put_back(3)
    assert unpack(three[1].value).promised == unpack(three[2].value).promised == 1
    with pytest.raises(SealError, match="another process took this counter over"):
        first.read() if act == "read" else first.advance(7)
    assert process(three).read() == 6


def collude(at: list[Peer], *, put_back: int) -> int:
    """One host of a peer and the carrier work together; return what a new process then reads.

    The value counts at a quorum. One peer of it is put back, and of the others the carrier cuts
    off as many as can be missed.
    """
    counter = process(at, put_back=put_back)
    counter.advance(5)
    spare = len(at) - counter.quorum
    away(*at[:spare], of=at)
    counter.advance(6)
    victim = at[spare]
    victim.put_back(1)
    others = [peer for peer in at[spare:] if peer is not victim]
    away(*others[:spare], of=at)
    return process(at, put_back=put_back).read()


def test_a_put_back_peer_and_the_carrier_together() -> None:
    """A majority of three cannot bear both; four that allow for one peer put back do."""
    assert collude(peers(3), put_back=0) == 5, "the limit that the documentation states has moved"
    assert collude(peers(4), put_back=1) == 6
    assert collude(peers(7), put_back=2) == 6


def test_the_turns_are_finite(three: list[Peer]) -> None:
    for peer in three:
        peer.history.append(Vote(MAX_TURN, 1, 5).packed)
    with pytest.raises(SealError, match="used up its turns"):
        process(three).read()


def test_a_peer_whose_counter_does_not_stand_still(three: list[Peer]) -> None:
    """It refuses every step and never says why: it counts as away."""
    counter = process(three)
    counter.advance(5)
    stubborn = dataclasses.replace(
        counter._peers[0].counter,
        advance=lambda to: (_ for _ in ()).throw(SealError("elsewhere")),
    )
    counter._peers = (
        dataclasses.replace(counter._peers[0], counter=stubborn),
        *counter._peers[1:],
    )
    counter.advance(6)
    assert counter.read() == 6
    away(three[1], of=three)
    with pytest.raises(CounterUnavailable):
        counter.advance(7)


# Whatever happens, in whatever order


class Killed(BaseException):
    """The process is gone."""


class History:
    """Processes come, count, are killed; peers are cut off, lose answers, are put back.

    Every value remembers from which one it was advanced. What was acknowledged stays an ancestor of
    whatever any process is told later: nothing is undone, nothing forks.
    """

    def __init__(self, *, count: int, put_back: int, chance: random.Random) -> None:
        self.peers, self.put_back, self.chance = peers(count), put_back, chance
        self.processes = [self.start()]
        self.busy: list[QuorumCounter] = []
        self.parents: dict[int, int] = {0: -1}
        self.told = 0
        self.cut: set[Peer] = set()
        self.behind: dict[Peer, int] = {}
        for peer in self.peers:
            peer.before = self.between_steps
            peer.lose = lambda: chance.random() < 0.5
        self.turbulence = 0.0

    def start(self) -> QuorumCounter:
        return process(self.peers, put_back=self.put_back)

    def bearable(self, cut: set[Peer], behind: set[Peer]) -> bool:
        """What the counter is made to bear; without peers put back, any number may be cut off."""
        if self.put_back or not behind:
            return len(behind) <= self.put_back
        return len(cut | behind) <= (len(self.peers) - 1) // 2

    def between_steps(self) -> None:
        """Kill the process that works, or let another do all of its work, or cut somebody off."""
        what = self.chance.random()
        if what < self.turbulence * 0.5:
            raise Killed
        if what < self.turbulence and len(self.busy) < 3:
            self.one_works()

    def one_works(self) -> None:
        """Let a process read, and count one further or not. It does one thing at a time."""
        if self.chance.random() < 0.4:
            self.processes = [*self.processes[-2:], self.start()]
        counter = self.chance.choice(self.processes)
        if counter in self.busy:
            return
        self.busy.append(counter)
        try:
            self.read_and_count(counter, counts=self.chance.random() < 0.8)
        except SealError:
            pass
        except Killed:
            self.processes = [each for each in self.processes if each is not counter]
            self.processes.append(self.start())
        finally:
            self.busy.remove(counter)
        for peer, before in list(self.behind.items()):
            now, then = unpack(peer.value), unpack(before)
            if (now.accepted, now.value) >= (then.promised, then.value):  # it knows all again
                del self.behind[peer]

    def read_and_count(self, counter: QuorumCounter, *, counts: bool) -> None:
        known = self.told
        value = counter.read()
        self.note(value, after=known)
        if counts:
            to = value + self.chance.randrange(1, 1000)
            while to in self.parents:
                to += 1
            self.parents[to] = value
            known = self.told
            counter.advance(to)
            self.note(to, after=known)

    def note(self, value: int, *, after: int) -> None:
        """A process was told `value`; `after` had been told to somebody before it asked."""
        assert after in self.line(value), "what was acknowledged is lost"
        if self.told in self.line(value):
            self.told = value
        assert value in self.line(self.told), "two values of one generation were acknowledged"

    def line(self, value: int) -> set[int]:
        """Return `value` and all that it was advanced from."""
        found = set()
        while value != -1:
            found.add(value)
            value = self.parents[value]
        return found

    def cut_off(self) -> None:
        cut = {peer for peer in self.peers if self.chance.random() < 0.4}
        if self.bearable(cut, set(self.behind)):
            self.cut = cut
            for peer in self.peers:
                peer.away = peer in cut

    def put_one_back(self) -> None:
        peer = self.chance.choice(self.peers)
        if self.bearable(self.cut, {peer, *self.behind}):
            self.behind.setdefault(peer, peer.value)
            peer.put_back(self.chance.randrange(1, 8))

    def happens(self) -> None:
        """Let one thing happen."""
        self.turbulence = self.chance.choice([0.0, 0.0, 0.15, 0.4])
        what = self.chance.random()
        if what < 0.3:
            self.cut_off()
        elif what < 0.45:
            self.put_one_back()
        else:
            self.one_works()

    def ends_well(self) -> None:
        """Nothing that happened keeps a new process from counting once all peers are there."""
        self.turbulence, before = 0.0, self.told
        for peer in self.peers:
            peer.away = False
        newest = self.start()
        self.read_and_count(newest, counts=True)
        assert before in self.line(self.told)
        assert before != self.told


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([(3, 0), (4, 0), (5, 0), (4, 1), (5, 1), (7, 2)]),
    seed=st.integers(0, 2**64),
)
def test_whatever_happens_nothing_acknowledged_is_lost(kind: tuple[int, int], seed: int) -> None:
    history = History(count=kind[0], put_back=kind[1], chance=random.Random(seed))
    for _ in range(200):
        history.happens()
    history.ends_well()


def test_who_looks_disturbs_nobody(three: list[Peer]) -> None:
    counting, looking = process(three), process(three)
    counting.advance(5)
    assert looking.look() == 5
    counting.advance(6)  # it still has the turn
    three[0].lose = lambda: True
    away(three[0], of=three)
    assert looking.look() == 6
    away(three[0], three[1], of=three)
    with pytest.raises(CounterUnavailable):
        looking.look()


def test_who_takes_a_turn_waits_for_all_and_who_counts_for_enough(three: list[Peer]) -> None:
    waited: list[tuple[int, int]] = []

    def together(steps: Sequence[Step], enough: int) -> Sequence[int | WardianError]:
        waited.append((len(steps), enough))
        return in_turn(steps, enough)

    peers = [
        QuorumPeer(name=peer.name, platform=peer.name.encode(), counter=peer.counter())
        for peer in three
    ]
    counter = QuorumCounter(peers, put_back=0, together=together)
    counter.read()
    assert waited == [(3, 3), (3, 3), (3, 2)]
    waited.clear()
    counter.advance(1)
    counter.read()
    assert waited == [(3, 2), (3, 2)]
