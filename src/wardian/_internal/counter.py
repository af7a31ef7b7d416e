"""A number outside the state that only grows, and how a state on a disk is held against it.

A host that owns the disk can put an older copy of a state back. A monotonic counter that the host
cannot set back tells: each write of the state is a generation, and the counter says which one is
the newest. Who keeps the counter is a seam (`MonotonicCounter`).

The counter holds `generation * 2**32 + mark`. The mark is four bytes of an HMAC over the state's
sealed bytes. A host that kills a process between writing and counting collects several states of
one generation, none of them acted upon; the mark tells which of them was counted. It is keyed, so
that nobody outside can look for two states with the same mark.

Each state says, authenticated, which value it follows. One that is not counted yet is the newest
only beside that very value: its number alone would also fit a file of another life of the counter,
or of a branch that was given up. So the counter begins each life with a name (`name_life`), which
the first state follows.
"""

import enum
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wardian._internal.log import event
from wardian.errors import CounterLost, SealError, StateRolledBack

MAX_COUNT: Final = 2**63 - 1
"""The highest value that every counter can hold."""

MAX_GENERATION: Final = 2**31 - 1
MARK_BITS: Final = 32

NOBODY: Final = bytes(32)
"""The id of a keeper that has none: a file of the host."""


class CounterKeeper(enum.StrEnum):
    """Who keeps a counter, and hence could set it back. Statuses and logs say it."""

    HOST = "host-file"
    BROKER = "broker"
    MAJORITY = "majority"
    QUORUM = "quorum"

    @property
    def said(self) -> str:
        """What a status says of it, for people."""
        return _SAID[self]


_SAID: Final = {
    CounterKeeper.HOST: "development: a file counter, the host can set it back",
    CounterKeeper.BROKER: "kept by the mesh's key broker",
    CounterKeeper.MAJORITY: (
        "kept by a majority of attested peers (put_back 0): one of their hosts and the carrier "
        "together can set it back"
    ),
    CounterKeeper.QUORUM: "kept by a quorum of attested peers",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MonotonicCounter:
    """A number outside the state that only grows. One process counts with it, one call at a time.

    Attributes:
        read: returns the value, 0 if it was never advanced. Raises `CounterUnavailable` when
            nobody can say now (ask again), `CounterLost` when the keepers lost it, and another
            `SealError` or a `TransportError` when it cannot be had at all.
        advance: sets it to a greater value, durably by the time that it returns. Raises
            `SealError` when the value is not greater, or when another process advanced it since
            this one read it last; then nothing changed. Raises `CounterUnavailable` when it is
            unknown whether it was advanced: read it, then advance it to that same value and no
            other.
        look: returns what was counted last, or may count yet, and disturbs nobody: for counters
            whose `read` takes them over from whoever counts. None where `read` does that anyway.
        kept_by: who keeps it. Where nobody says so it counts as a file of the host.
        keeper_id: 32 bytes that name the keeper; another keeper has another id.
        most: the highest value that it holds.
    """

    read: Callable[[], int]
    advance: Callable[[int], None]
    look: Callable[[], int] | None = None
    kept_by: CounterKeeper = CounterKeeper.HOST
    keeper_id: bytes = NOBODY
    most: int = MAX_COUNT


class Standing(enum.Enum):
    """How an authentic state stands to its counter."""

    COUNTED = enum.auto()
    """It is the newest."""
    AHEAD = enum.auto()
    """Written, not yet counted, hence never acted upon: count it, then it is the newest."""


def tell_keeper(log: logging.Logger, counter: MonotonicCounter, *, state: str) -> None:
    """Log who keeps the counter of `state`: a warning where its host could set it back."""
    weak = counter.kept_by is CounterKeeper.HOST
    level = logging.WARNING if weak else logging.INFO
    event(log, "state.counter", level=level, state=state, counter=counter.kept_by.said)


def stamp(content: bytes, *, generation: int, key: bytes) -> int:
    """Return the counter's value that vouches for `content` as the state of `generation`.

    Args:
        content: the state as it lies on the disk, sealed.
        generation: 1 to `MAX_GENERATION`.
        key: of this state alone, known to nobody outside the enclave.

    Raises:
        SealError: the generations are used up.
    """
    if not 1 <= generation <= MAX_GENERATION:
        raise SealError("the state has used up its generations: it can be read, not written")
    mark = hmac.digest(key, content, "sha256")[: MARK_BITS // 8]
    return generation << MARK_BITS | int.from_bytes(mark, "big")


def name_life() -> int:
    """Return what a counter shows before its first state: random, 1 to 2**32 - 1, generation 0.

    No state ever has generation 0, so a state beside a counter at 0 means that it was lost.
    """
    return 1 + secrets.randbelow(2**MARK_BITS - 1)


def generation_of(value: int) -> int:
    """Return the generation in a counter's value, 0 if no state was ever counted."""
    return value >> MARK_BITS


def standing(stamped: int, *, follows: int, counted: int, what: str) -> Standing:
    """Return how the authentic state with `stamped` stands to the counter's value `counted`.

    Args:
        stamped: of `stamp`, over the bytes that were found.
        follows: the counter's value that it was written on, as the state itself says.
        counted: what the counter says.
        what: the state, for messages, for example "the broker's state".

    Raises:
        StateRolledBack: it is older than what was counted, or another one of that generation.
        CounterLost: it is newer than what was counted, and was not written on that.
    """
    found, newest = generation_of(stamped), generation_of(counted)
    if stamped == counted:
        return Standing.COUNTED
    if found == newest + 1 and follows == counted:
        return Standing.AHEAD
    if found > newest:
        raise CounterLost(
            f"{what} is of generation {found} and does not follow what its counter shows, "
            f"generation {newest} (value {counted}): the counter was lost or set back, or this is "
            "a state of before. If it is the newest one, the owners can say so in a signed "
            "recovery (docs/reference/sealed-state.md)"
        )
    raise StateRolledBack(
        f"{what} is not the newest: generation {found} was found, generation {newest} was counted. "
        "An older copy was put in its place; put the newest one back"
    )


def count(counter: MonotonicCounter, *, at: int, to: int) -> None:
    """Advance `counter` from `at` to `to`; if an earlier try of this process did so, that is fine.

    Raises:
        SealError: another process advanced it meanwhile, or it does not count.
        CounterUnavailable: unknown; the same call may be repeated.
    """
    found = counter.read()
    if found == to:
        return
    if found != at:
        raise SealError("another process counted in this one's place: two of them run on one state")
    count_on(counter, to=to)


def count_on(counter: MonotonicCounter, *, to: int) -> None:
    """Advance `counter` to `to` from where this process read it last, and see that it did.

    Raises:
        SealError, CounterUnavailable: as `count`.
    """
    counter.advance(to)
    if counter.read() != to:
        raise SealError("the monotonic counter did not take the new value")
