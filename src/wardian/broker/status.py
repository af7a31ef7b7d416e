"""What the broker tells anybody who asks: which code it is, what is in force, who got what.

Nothing here is secret and nothing is authenticated: a status is for an operator's screen. Whoever
wants to rely on it verifies evidence first, and checks the audit lines with `audit.verify_chain`.
"""

from typing import Annotated

import msgspec

from wardian._internal import wire
from wardian.broker.audit import AuditHead
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.refusal import decode_or_raise


class StatusRequest(wire.Message, frozen=True, tag_field="format", tag="wardian status request v1"):
    """Ask for the status and for audit lines: those behind line `after`, or else the newest."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None


class Status(wire.Message, frozen=True, tag_field="format", tag="wardian status v1"):
    """The broker at a glance."""

    measurement: str
    simulated: bool
    mesh: str
    manifest_version: int
    """0 where there is no manifest yet."""
    manifest_digest: str
    epoch: int
    missing: tuple[str, ...]
    """Models whose keys their owners have not given yet."""
    counter: str
    """Who keeps the counter of the broker's state."""
    audit: AuditHead
    lines: tuple[bytes, ...]
    """Up to 100 raw audit lines, in their order."""


async def read_status(address: tuple[str, int], *, after: int | None = None) -> Status:
    """Return what the process at `address` says of itself, **unverified**.

    Args:
        address: host and port.
        after: with the audit lines behind this one, up to 100; None for the newest 100.

    Raises:
        TransportError: nobody answers there, or not as a broker does.
    """
    stream = await connect(address)
    try:
        await stream.send(wire.encode(StatusRequest(after=after)))
        return decode_or_raise(await stream.receive(most=FRAME_BYTES), Status, what="status")
    finally:
        await stream.close()
