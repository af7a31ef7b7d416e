"""Whom a front end knows: the tenants list, where `wardian.toml` demands one."""

from dataclasses import dataclass
from typing import Self

from wardian._internal.agreed import Agreed
from wardian._internal.clock import monotonic
from wardian.broker.release.admission import Admission
from wardian.roles.host import HostSettings
from wardian.serving.tenants.roster import Roster
from wardian.serving.tenants.source import FloorClock, TenantsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTenants:
    """The list in force, the file that it comes from, and the clock that it ends by."""

    roster: Roster
    file: TenantsFile
    clock: FloorClock
    lease_s: int

    @classmethod
    def of(cls, host: HostSettings, agreed: Agreed, admission: Admission) -> Self | None:
        """Return whom a front end knows that `admission` admitted; None: it serves whoever asks.

        What the host names is read once: a list that is there is in force before anybody connects.
        """
        if agreed.tenants is None:
            return None
        lease_s = agreed.mesh.lease_s
        clock = FloorClock(admission.valid_until - lease_s)
        roster = Roster(now=clock, monotonic=monotonic)
        file = TenantsFile(host.tenants, roster, terms=agreed.tenants, mesh=agreed.mesh.name)
        file.look()
        return cls(roster=roster, file=file, clock=clock, lease_s=lease_s)

    def admitted(self, admission: Admission) -> None:
        """The broker issued another certificate: it is at least as late as that says."""
        self.clock.raise_to(admission.valid_until - self.lease_s)
