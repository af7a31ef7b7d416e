"""The broker's time: the host's clock, above a floor that only rises.

An enclave has no clock of its own. What the broker knows is that it is later than some moments that
others vouch for: the vendor, who dates what it signs about platforms, and owners, who sign the time
(`beacon`). The latest such moment is the floor. It is kept in the store, so a host that sets the
clock back, or starts the broker anew, revives nothing that had ended before the floor (TRUST T9).

A host that stops every clock and keeps owners away stops the broker's time too. Nothing in here
changes that: counts, epochs and the owners' evaluation numbers do not ask what time it is.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from wardian._internal.clock import UnixTime
from wardian.broker.state.store import Place, Store

MAX_BEACON_AHEAD_S: Final = 300
"""How far ahead of the broker's time a beacon may be: no further than certificates allow clocks to
differ. A floor never comes down again, so an owner's mistaken clock must not move it far."""
MAX_INSISTED_AHEAD_S: Final = 31 * 24 * 3600
"""Likewise where the owner insists, because it is the host's clock that is wrong. One that was
stopped for longer is caught up with in steps."""

_FLOOR: Final[Place] = ("clock", "floor")
_BEACON: Final = "beacon"
Changes: TypeAlias = dict[Place, bytes | None]


class FlooredClock:
    """Tells Unix seconds; never less than its floor."""

    __slots__ = ("_floor", "_host", "_store")

    def __init__(self, host: UnixTime, *, store: Store) -> None:
        """Go on from the floor in `store`; `host` is the host's clock."""
        self._host, self._store = host, store
        self._floor = _decode(store.get(*_FLOOR))

    def __call__(self) -> int:
        """Return the time, Unix seconds."""
        return max(self._host(), self._floor)

    @property
    def floor(self) -> int:
        """The latest moment that is known to be past, Unix seconds; 0 before the first."""
        return self._floor

    def raise_to(self, moment: int) -> None:
        """Let time never be before `moment` again; it holds at once, and is kept with `unkept`.

        Args:
            moment: Unix seconds, vouched for by somebody whose word counts for all of the mesh.
        """
        self._floor = max(self._floor, moment)

    def unkept(self) -> Changes:
        """Return what the next commit has to write for the floor to last; empty if it does."""
        return self.raised(self._floor)

    def raised(self, moment: int) -> Changes:
        """Return what a commit has to write for the floor to last and to be at `moment` or later.

        Where the moment itself has to be written down first, `raise_to` it after that commit.
        """
        floor = max(self._floor, moment)
        return {} if floor <= _decode(self._store.get(*_FLOOR)) else {_FLOOR: _encode(floor)}

    def beacon_of(self, owner: str) -> int | None:
        """Return the time in the newest beacon of `owner`; None if there was none."""
        raw = self._store.get(_BEACON, owner)
        return None if raw is None else _decode(raw)

    def beacons(self) -> dict[str, int]:
        """Return the time in the newest beacon of each owner who ever sent one."""
        return {
            owner: _decode(self._store.get(_BEACON, owner)) for owner in self._store.keys(_BEACON)
        }


def beacon_change(owner: str, time: int) -> Changes:
    """Return the change that makes `time` the newest beacon of `owner`."""
    return {(_BEACON, owner): _encode(time)}


def agreed_time(beacons: Mapping[str, int], *, quorum: int) -> int | None:
    """Return the latest time that at least `quorum` owners have vouched for; None if too few did.

    One owner alone, in a mesh that more than one has to sign for, cannot move the time of all.

    Args:
        beacons: the newest of each owner, Unix seconds.
        quorum: how many owners it takes to change the mesh.
    """
    latest = sorted(beacons.values(), reverse=True)
    return latest[quorum - 1] if len(latest) >= quorum else None


def _encode(moment: int) -> bytes:
    return moment.to_bytes(8, "big")


def _decode(raw: bytes | None) -> int:
    return int.from_bytes(raw or b"", "big")
