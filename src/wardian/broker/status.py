"""What the broker tells anybody who asks: which code it is, what is in force, who got what.

Nothing here is secret, and only the head of the audit log is signed. Who knows the mesh CA's key
from evidence learns from the connection that it is the broker who tells the rest, too
(`transparency.sender`); who does not is told whatever suits whoever carries it. The head names the
manifest in force, and the audit lines have proofs (`transparency.proofs`).
"""

from typing import Annotated

import msgspec

from wardian._internal import wire
from wardian._internal.clock import UnixTime, unix_time
from wardian._internal.counter import CounterKeeper
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.mesh.fields import Hex32, Owner
from wardian.broker.refusal import decode_or_raise
from wardian.broker.state.audit import AuditHead
from wardian.broker.transparency.cosigning import WitnessedHead
from wardian.broker.transparency.proofs import Der
from wardian.broker.transparency.sender import demand_sender

NEWEST_LINES = 100
"""Audit lines that come with a status that asks for the newest."""
PAGE_LINES = 500
"""Audit lines that come at most, after a line that is named."""


class StatusRequest(wire.Message, frozen=True, tag_field="format", tag="wardian status request v1"):
    """Ask for the status and for audit lines: those behind line `after`, or else the newest."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None


class Governance(wire.Message, frozen=True):
    """Who decides in the mesh, as the measured `wardian.toml` says."""

    owners: tuple[Owner, ...]
    quorum: int
    """How many owners it takes now to change the mesh."""
    witnesses: tuple[Owner, ...]
    head_threshold: int
    """How many witnesses have to have seen the audit log before a process takes keys."""


class Keeping(wire.Message, frozen=True):
    """How the broker's state is kept."""

    counter: CounterKeeper
    """Who keeps the counter that tells the newest state from an older copy."""
    said: str
    """The same, for people."""
    standby: str
    """What becomes of the state when this broker's machine is lost; empty: there is no standby."""
    generation: int
    """How many commits there were."""


class Status(wire.Message, frozen=True, tag_field="format", tag="wardian status v1"):
    """The broker at a glance."""

    measurement: Hex32
    simulated: bool
    mesh: str
    manifest_version: int
    """0 where there is no manifest yet."""
    manifest_digest: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
    epoch: int
    epoch_began: int
    """Unix seconds; 0 before the first manifest."""
    lease_s: int
    """How long a certificate is valid."""
    time: int
    """Unix seconds, by the broker's clock."""
    missing: tuple[str, ...]
    """Models and secrets that their owners have not given yet."""
    uses: dict[str, int]
    """Releases so far of each secret that the manifest in force names, by owner, name and version;
    those that were never released are left out."""
    beacons: dict[str, int]
    """The time in each owner's newest beacon, Unix seconds."""
    collateral_expires: int | None
    """When the vendor's statements run out in the evidence that was accepted last, Unix seconds;
    None: nobody was accepted since this process started."""
    governance: Governance
    keeping: Keeping
    mesh_ca: Der
    issuing_ca: Der
    """Of the CA that issues under the manifest in force."""
    witnessed: WitnessedHead
    """The audit log's newest head, and what witnesses signed."""
    lines: tuple[bytes, ...]
    """Raw audit lines, in their order."""

    @property
    def audit(self) -> AuditHead:
        """Where the audit log ends, unverified."""
        return self.witnessed.head.audit


async def read_status(
    address: tuple[str, int],
    *,
    after: int | None = None,
    ca_spki: bytes | None = None,
    now: UnixTime = unix_time,
) -> Status:
    """Return what the process at `address` says of itself, **unverified** without `ca_spki`.

    Args:
        address: host and port.
        after: with the audit lines behind this one, up to 500; None for the newest 100.
        ca_spki: the mesh CA's key (DER) that somebody vouches for: then it is the broker of that CA
            who says so (`transparency.sender`). None: whoever answers there does.
        now: Unix seconds.

    Raises:
        TransportError: nobody answers there, or not as a broker, or as that broker, does.
        FormatError, AuthenticationFailed: it is the broker of another CA.
    """
    stream = await connect(address)
    try:
        await stream.send(wire.encode(StatusRequest(after=after)))
        status = decode_or_raise(await stream.receive(most=FRAME_BYTES), Status, what="status")
        demand_sender(
            stream,
            status.witnessed.head,
            mesh_ca=status.mesh_ca,
            issuing_ca=status.issuing_ca,
            ca_spki=ca_spki,
            now=now,
        )
        return status
    finally:
        await stream.close()
