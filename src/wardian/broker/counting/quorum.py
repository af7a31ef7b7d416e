"""One monotonic counter over three or more platforms: no single host sets it back.

Each peer keeps one wide number, and advances it only from where the asker knows it to stand. In it
are three, so that a step that one peer takes is atomic:

    bits 95-126   promised: the highest turn that was promised here
    bits 63-94    accepted: the turn under which `value` was accepted
    bits  0-62    value: what the counter says

The algorithm is Paxos, with the turn as ballot. A process takes a turn once: it raises `promised`
at a quorum, learns what was accepted there, and has the newest of that accepted under its own turn
before it answers. From then on each advance is one step at a quorum. So a value counts when a
quorum accepted it. One that was begun, and may count, is finished by whoever comes next: its state
lies on the disk since before it was begun. Of two processes only the one that took the later turn
goes on. And what was accepted under an earlier turn, at a peer that was cut off since, never comes
back, however great it is as a number.

A quorum is more than half of the peers and of those that may have been put back: with `put_back`
of N peers, `(N + put_back) // 2 + 1`, so that two quorums share a peer that forgot nothing
(compare ROTE, Matetic et al., USENIX Security 2017). All peers are always asked.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from wardian._internal import wire
from wardian._internal.counter import MAX_COUNT, NOBODY, CounterKeeper, MonotonicCounter
from wardian._internal.log import event
from wardian.errors import (
    CounterLost,
    CounterUnavailable,
    LocalProtocolError,
    SealError,
    WardianError,
)

log = logging.getLogger(__name__)

MIN_PEERS: Final = 3
MAX_TURN: Final = 2**32 - 1
KEEPER_LABEL: Final = "wardian counter quorum v1"
_ATTEMPTS: Final = 3
"""How often a turn is tried for while others do too, and a step whose answer may have been lost."""

Step: TypeAlias = Callable[[], int]
"""What is done at one peer; the result is a vote."""
Together: TypeAlias = Callable[[Sequence[Step], int], Sequence[int | WardianError]]
"""Does steps at several peers, and returns for each its result, or why there is none. Once so many
gave a result it need not wait for the others: a step is safe to come late, or twice."""


class Vote(NamedTuple):
    """What one peer says."""

    promised: int
    accepted: int
    value: int

    @property
    def packed(self) -> int:
        """The vote as one number, which grows with every step."""
        return self.promised << 95 | self.accepted << 63 | self.value


MAX_PACKED: Final = Vote(MAX_TURN, MAX_TURN, MAX_COUNT).packed


def unpack(number: int) -> Vote:
    """Return the vote in `number`, 0 to 2**127 - 1."""
    return Vote(number >> 95, number >> 63 & MAX_TURN, number & MAX_COUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumPeer:
    """One keeper of the counter.

    Attributes:
        name: for the log.
        platform: the id of the machine that it runs on (PPID), from its verified evidence.
        counter: of this quorum alone, up to 2**127 - 1, advanced from where it was read alone.
    """

    name: str
    platform: bytes
    counter: MonotonicCounter


def in_threads(steps: Sequence[Step], _: int) -> Sequence[int | WardianError]:
    """Do all `steps` at once, each in a thread of its own, and wait for all."""
    with ThreadPoolExecutor(max_workers=len(steps), thread_name_prefix="quorum") as pool:
        return list(pool.map(outcome, steps))


class QuorumCounter:
    """A counter that a quorum of peers keeps. One process, one call at a time."""

    __slots__ = (
        "_away",
        "_begun",
        "_gone_back",
        "_kept_by",
        "_overtaken",
        "_peers",
        "_quorum",
        "_seen",
        "_together",
        "_turn",
        "_value",
    )

    def __init__(
        self, peers: Sequence[QuorumPeer], *, put_back: int, together: Together = in_threads
    ) -> None:
        """Count at `peers`, always the same ones for one counter.

        Args:
            peers: three or more, on distinct platforms, of distinct keepers.
            put_back: how many of them may show an older value than they had, because their hosts
                put them back or lost their state, while the carrier cuts off as many others as
                can be missed: N peers bear it from `3 * put_back + 1` on without a break. With 0,
                a majority counts, and it takes one such host and the carrier together to undo it;
                `kept_by` says so.
            together: how steps at several peers are done.

        Raises:
            LocalProtocolError: fewer than three, two on one platform or of one keeper, a keeper
                without an id, or a counter too narrow.
        """
        if len(peers) < MIN_PEERS or not 0 <= put_back < len(peers):
            raise LocalProtocolError("a quorum has three peers or more, and not all put back")
        if len({peer.platform for peer in peers}) != len(peers):
            raise LocalProtocolError("a quorum's peers run on distinct platforms")
        keepers = {peer.counter.keeper_id for peer in peers} - {NOBODY}
        if len(keepers) != len(peers):
            raise LocalProtocolError("a quorum's peers are distinct keepers, each with an id")
        if any(peer.counter.most < MAX_PACKED for peer in peers):
            raise LocalProtocolError("a quorum needs counters that hold up to 2**127 - 1")
        self._peers = tuple(peers)
        self._kept_by = CounterKeeper.QUORUM if put_back else CounterKeeper.MAJORITY
        self._quorum = (len(peers) + put_back) // 2 + 1
        self._together = together
        self._seen = [0] * len(peers)
        self._gone_back: set[int] = set()
        self._away: set[int] = set()
        self._turn = 0
        self._value = 0
        self._begun: int | None = None
        self._overtaken = False

    @property
    def quorum(self) -> int:
        """How many peers make a value count."""
        return self._quorum

    @property
    def gone_back(self) -> tuple[str, ...]:
        """Names of the peers that showed less than before; they are not asked any more."""
        return tuple(self._peers[at].name for at in sorted(self._gone_back))

    @property
    def seam(self) -> MonotonicCounter:
        """This counter for whoever counts with it."""
        keepers = sorted(peer.counter.keeper_id for peer in self._peers)
        return MonotonicCounter(
            read=self.read,
            look=self.look,
            advance=self.advance,
            kept_by=self._kept_by,
            keeper_id=hashlib.sha256(wire.fields(KEEPER_LABEL, *keepers)).digest(),
        )

    def read(self) -> int:
        """Return the newest value that counts; what was begun is finished first.

        The first call takes the counter over from any other process, which then cannot count.

        Raises:
            CounterUnavailable: too few peers answer (retryable).
            CounterLost: too few of them can ever answer.
            SealError: another process took the counter over.
        """
        self._refuse_overtaken()
        if not self._turn:
            self._take_turn()
        elif self._begun is not None:
            self._finish(self._begun)
        else:
            self._confirm()
        return self._value

    def look(self) -> int:
        """Return what was accepted last, counted or not, and disturb nobody: no turn is taken.

        A state that is older will never be the newest.

        Raises:
            CounterUnavailable, CounterLost: as `read`.
        """
        votes = self._ask({at: self._reads(at) for at in self._active()}, all_of_them=True)
        self._demand_quorum(votes)
        return max(votes.values(), key=lambda vote: (vote.accepted, vote.value)).value

    def advance(self, to: int) -> None:
        """Have a quorum accept `to`, 1 to 2**63 - 1.

        Raises:
            CounterUnavailable: too few peers answered. Whether it counts is unknown: `read` finds
                out, or finishes it.
            CounterLost, SealError: as `read`; also for a value that is not greater.
        """
        self._refuse_overtaken()
        if not self._turn:
            self._take_turn()
        if self._begun is not None:
            raise LocalProtocolError("an advance is in doubt: read the counter first")
        if not self._value < to <= MAX_COUNT:
            raise SealError(f"the counter stands at {self._value}: it only goes up")
        self._finish(to)

    # The algorithm

    def _take_turn(self) -> None:
        """Own the next turn at a quorum, and have what was newest there accepted under it."""
        for _ in range(_ATTEMPTS):
            # All are waited for: what one of them has may outweigh another that was put back.
            votes = self._ask({at: self._reads(at) for at in self._active()}, all_of_them=True)
            self._demand_quorum(votes)
            turn = 1 + max(vote.promised for vote in votes.values())
            if turn > MAX_TURN:
                raise SealError("the counter has used up its turns")
            # Only an advance that succeeded counts here: another process may have asked for the
            # same turn, so that finding it promised says nothing about to whom.
            granted = self._ask(
                {
                    at: self._advances(at, vote._replace(promised=turn))
                    for at, vote in votes.items()
                },
                all_of_them=True,
            )
            if len(granted) >= self._quorum:
                self._turn = turn
                # Heard is also who did not grant the turn: what was accepted under the latest turn
                # descends from whatever counts under an earlier one.
                newest = max(votes.values(), key=lambda vote: (vote.accepted, vote.value))
                self._finish(newest.value)
                return
        raise CounterUnavailable("the counter is being taken over by others: ask again")

    def _finish(self, value: int) -> None:
        """Have a quorum accept `value` under this process's turn."""
        self._begun = value
        mine = Vote(self._turn, self._turn, value)
        votes = self._ask({at: self._casts(at, mine) for at in self._active()})
        self._demand_own_turn(votes)
        self._demand_quorum(votes)
        self._value, self._begun = value, None

    def _confirm(self) -> None:
        """Return if a quorum has promised no later turn; bring up peers that are behind."""
        mine = Vote(self._turn, self._turn, self._value)
        votes = self._ask({at: self._reads(at) for at in self._active()})
        self._demand_own_turn(votes)
        self._demand_quorum(votes)
        behind = {at: self._casts(at, mine) for at, vote in votes.items() if vote < mine}
        if behind:
            self._ask(behind)

    def _demand_own_turn(self, votes: dict[int, Vote]) -> None:
        """Stop for good when another process took a later turn.

        One peer that says so is enough, whatever a quorum says: the others may have been put back
        to before they promised it.
        """
        if any(vote.promised > self._turn for vote in votes.values()):
            self._overtaken = True
            self._refuse_overtaken()

    def _demand_quorum(self, votes: dict[int, Vote]) -> None:
        """Refuse to go on without a quorum, and say which of the two reasons it is."""
        if len(votes) >= self._quorum:
            return
        if len(self._peers) - len(self._gone_back) < self._quorum:
            raise CounterLost(
                f"{len(self._gone_back)} of {len(self._peers)} peers lost what they had counted: "
                f"{', '.join(self.gone_back)}. Fewer than a quorum is left: the owners have to say "
                "which state is the newest (docs/reference/sealed-state.md)"
            )
        raise CounterUnavailable(
            f"{len(votes)} of {len(self._peers)} peers of the counter answer as they should, "
            f"{self._quorum} are needed: ask again"
        )

    def _refuse_overtaken(self) -> None:
        if self._overtaken:
            raise SealError("another process took this counter over: two of them run on one state")

    # Steps at one peer

    def _active(self) -> list[int]:
        return [at for at in range(len(self._peers)) if at not in self._gone_back]

    def _reads(self, at: int) -> Step:
        return self._peers[at].counter.read

    def _advances(self, at: int, to: Vote) -> Step:
        """Return the step that advances one peer from where it was read."""
        counter = self._peers[at].counter

        def advance() -> int:
            counter.advance(to.packed)
            return to.packed

        return advance

    def _casts(self, at: int, mine: Vote) -> Step:
        """Return the step that has one peer accept `mine`, unless it promised a later turn.

        The result is its vote afterwards. An answer may have been lost before; nobody else writes
        under this turn, so that to find `mine` there is to have it accepted.
        """
        counter, last = self._peers[at].counter, self._seen[at]

        def cast() -> int:
            for _ in range(_ATTEMPTS):
                try:
                    counter.advance(mine.packed)
                except CounterUnavailable:
                    raise
                except SealError:
                    found = counter.read()
                    if found < last or found >= mine.packed:  # mine, or of a later turn
                        return found
                else:
                    return mine.packed
            raise CounterUnavailable("the peer's counter does not stand still")

        return cast

    def _ask(self, steps: dict[int, Step], *, all_of_them: bool = False) -> dict[int, Vote]:
        """Return the votes of the peers that gave one; those that went back are left out for good.

        Args:
            steps: by peer.
            all_of_them: whether to wait for every peer, and not only for a quorum.

        Raises:
            LocalProtocolError: a bug of ours at one of them.
        """
        votes = {}
        enough = len(steps) if all_of_them else self._quorum
        results = self._together(list(steps.values()), enough) if steps else ()
        for at, result in zip(steps, results, strict=True):
            peer = self._peers[at].name
            if isinstance(result, LocalProtocolError):
                raise result
            if isinstance(result, WardianError):
                if at not in self._away:
                    event(log, "counter.peer-away", peer=peer, reason=str(result)[:300])
                self._away.add(at)
                continue
            self._away.discard(at)
            if result < self._seen[at]:
                self._gone_back.add(at)
                event(log, "counter.peer-went-back", level=logging.WARNING, peer=peer)
            else:
                self._seen[at] = result
                votes[at] = unpack(result)
        return votes


def outcome(step: Step) -> int | WardianError:
    """Return what `step` returns, or why it does not: one peer's trouble is not the others'."""
    try:
        return step()
    except WardianError as err:
        return err
