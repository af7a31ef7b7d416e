"""A broker hands its mesh over to other code, for good: both ends' rules. Pure.

The old broker writes, as its last commit, to which measurement it hands over. From then on, and
after every restart, it decides nothing and gives the state to that measurement alone, as often as
it takes. The new one begins a life of its own counter on exactly this state. So of the two at most
one ever decides, and until the new one has begun, handing over can be repeated.

A counter belongs to code of one measurement. Where that code has counted before, it goes on only
from where it handed over itself: the state says so, in a row for each measurement that it had.
"""

from typing import Final

from wardian._internal.counter import generation_of
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.contents import Place
from wardian.broker.state.replica import Replica
from wardian.broker.state.store import Store
from wardian.errors import PolicyDenied, StateRolledBack

TO: Final[Place] = ("handover", "to")
FROM: Final[Place] = ("handover", "from")
COUNTED: Final = "counted"
"""Where the counters of earlier measurements stand, by measurement in hex."""


def handed_to(store: Store) -> bytes | None:
    """Return the measurement (32 bytes) that `store` was handed over to, None if it was not."""
    return store.get(*TO)


def refuse_own(own: bytes, other: bytes) -> None:
    """Return if a broker of measurement `own` may hand over to `other`.

    Raises:
        PolicyDenied: they are the same: that is what a standby is for (rule `handover-same`).
    """
    if own == other:
        raise PolicyDenied(
            "this is the same code: it follows as a standby, and takes over by the counter",
            rule="handover-same",
        )


def last_changes(own: bytes, other: bytes) -> dict[Place, bytes | None]:
    """Return the changes of the last commit of code `own`, which hands over to code `other`."""
    return {TO: other, FROM: own}


def first_changes(state: Replica, *, own: bytes, counted: int) -> dict[Place, bytes | None]:
    """Return the changes of the first commit of code `own` on a state that was handed to it.

    Args:
        state: whole, and under the key that was received.
        own: this code's measurement, 32 bytes.
        counted: what this code's counter shows.

    Raises:
        PolicyDenied: the state was not handed over to this code (rule `handover-other`).
        StateRolledBack: this code's counter has counted, and not up to where this state says that
            it did: an old state that was handed over is put back.
    """
    before = state.get(*FROM)
    if state.get(*TO) != own or before is None:
        raise PolicyDenied("this state was not handed over to this code", rule="handover-other")
    known = state.get(COUNTED, own.hex())
    if generation_of(counted) and (known is None or int.from_bytes(known, "big") != counted):
        raise StateRolledBack(
            "this state was handed over to this code before: its counter has gone on since"
        )
    return {TO: None, FROM: None, (COUNTED, before.hex()): state.stamp.to_bytes(8, "big")}


def took_over(own: bytes) -> AuditEntry:
    """Return the audit line of the first commit of code `own`."""
    return AuditEntry(event="standby", outcome="granted", rule="took-over", measurement=own.hex())
