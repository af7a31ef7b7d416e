"""Where the tenants list comes from: a file that the operator puts in place, looked at often.

The host may withhold it, or put an old one there: then less is served, or what the signers once
allowed is served until that list ends. It can neither make one nor bring one back that a newer one
replaced while this process runs.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wardian._internal import wire
from wardian._internal.agreed import Tenants
from wardian._internal.clock import UnixTime, unix_time
from wardian._internal.log import event
from wardian._internal.settings import read
from wardian.errors import WardianError
from wardian.serving.tenants.lists import MAX_SIGNED_BYTES, SignedTenants
from wardian.serving.tenants.roster import Roster
from wardian.serving.tenants.verify import verify_tenants

log = logging.getLogger(__name__)

POLL_S: Final = 2.0
"""How often the file is looked at."""


class FloorClock:
    """The host's clock, but never before what is known to have passed.

    A host that sets its clock back revives a list by no more than what a certificate has lasted:
    the broker, whose clock has a floor of its own, issued the certificate of this process.
    """

    __slots__ = ("_clock", "_floor")

    def __init__(self, floor: int, *, clock: UnixTime = unix_time) -> None:
        """Begin at `floor`, Unix seconds."""
        self._floor, self._clock = floor, clock

    def raise_to(self, floor: int) -> None:
        """It is at least `floor`."""
        self._floor = max(self._floor, floor)

    def __call__(self) -> int:
        """Return Unix seconds."""
        return max(self._floor, self._clock())


class TenantsFile:
    """Keeps a roster at what a file says, as far as that may be believed."""

    def __init__(self, path: str | None, roster: Roster, *, terms: Tenants, mesh: str) -> None:
        """Read nothing yet.

        Args:
            path: of the file; None: the operator named none, so nobody is served.
            roster: gets each list.
            terms: `[tenants]` of `wardian.toml`.
            mesh: the name of the mesh.
        """
        self._path = None if path is None else Path(path)
        self._roster, self._terms, self._mesh = roster, terms, mesh
        self._seen: tuple[int, ...] = ()
        self._told = ""

    def look(self) -> bool:
        """Take the file up if it changed; return whether another list is in force since.

        What cannot be taken up is told to the log, once, and what was in force stays so until its
        own end. It never raises, for the requests that are under way must not suffer.
        """
        if self._path is None:
            self._tell("operator.toml names no tenants list")
            return False
        try:
            found = os.stat(self._path)  # noqa: PTH116 (one call, many times)
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen == self._seen and not self._told:
                return self._note_end()
            raw = read(self._path, limit_bytes=MAX_SIGNED_BYTES)
            signed = wire.decode(raw, SignedTenants, what="signed tenants list")
            verified = verify_tenants(
                signed, terms=self._terms, mesh=self._mesh, now=self._roster.now()
            )
            changed = self._roster.adopt(verified)
        except OSError as err:
            self._tell(f"the tenants list cannot be read: {err.strerror}")
            return False
        except WardianError as err:
            self._tell(str(err)[:200])
            return False
        self._seen, self._told = seen, ""
        if changed:
            event(
                log,
                "tenants.in-force",
                serial=verified.tenants.serial,
                tenants=len(verified.tenants.tenants),
                left_s=self._roster.left_s,
            )
        return changed

    async def follow(self, changed: Callable[[], None], *, poll_s: float = POLL_S) -> None:
        """Look every `poll_s`, and call `changed` whenever another list is in force."""
        while True:
            await asyncio.sleep(poll_s)
            if self.look():
                changed()

    def _note_end(self) -> bool:
        """Tell the log if the list in force is over; return that nothing changed."""
        if not self._roster.in_force:
            self._tell("the tenants list is over, and there is no newer one")
        return False

    def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            event(
                log,
                "tenants.refused",
                level=logging.ERROR,
                reason=why,
                serial_in_force=self._roster.serial if self._roster.in_force else 0,
            )
