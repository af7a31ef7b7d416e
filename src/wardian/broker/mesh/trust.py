"""What vouches for the platforms of a mesh, and which code is which role."""

from typing import Annotated, Final, Literal

import msgspec

from wardian._internal import wire
from wardian.broker.mesh.fields import Hex16, Hex32, Measurements, Text

AcceptableTcb = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
]
"""Intel's words for a platform's state; `Revoked` cannot be written, let alone accepted."""
UNPROTECTED_ROLES: Final = frozenset({"zoo"})
"""Roles whose clients leave what they ask in the clear where the operator reads it (TRUST T17).

A mesh that has one is of one owner alone, who says so in `wardian.toml`."""
UNPROTECTED: Final = "UNPROTECTED"
"""The word that stands wherever such a role is shown."""
Seconds = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class RoleReference(wire.Message, frozen=True):
    """Reference values of one role: the measurements of code that may act as it."""

    measurements: Measurements


class TrustAnchor(wire.Message, frozen=True):
    """What vouches for the platforms of this mesh: all hardware, or all simulated (TRUST T11)."""

    simulation_root_sha256: Hex32 | None
    """SHA-256 of the one simulation root's DER; None means Intel's root and nothing else."""
    tcb_statuses: Annotated[tuple[AcceptableTcb, ...], msgspec.Meta(min_length=1, max_length=16)]
    advisories: Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)]
    """Advisories that the owners accept; any other that evidence carries is refused."""
    platforms: Annotated[tuple[Hex16, ...], msgspec.Meta(max_length=1024)] = ()
    """PPIDs of the machines whose keeper is known; nothing else is accepted where it is given.

    An attestation key that was taken out of some chip signs quotes that verify (TRUST T12), so on
    hardware the owners list the machines, or say the words in `any_platform`.
    """
    any_platform: Literal["risk accepted"] | None = None
    min_tcb_evaluation_number: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    """Collateral of a lower TCB evaluation data number is refused; 0 sets no bound.

    The host owns the clock, so "still valid" brings no revocation or TCB recovery in force against
    a host that stops it. This number is signed and only grows, whatever the clock says (TRUST T9).
    """
    out_of_date_grace_s: Seconds | None = None
    """How long a platform may stay out of date, seconds; see `OutOfDateWithin`. Only beside a
    status that accepts such platforms at all."""
    max_collateral_age_s: Seconds | None = None
    """How long ago collateral may have been issued, seconds, by the clock of whoever verifies."""
