"""The desk that tells anybody which broker this is and what is in force."""

from typing_extensions import override

from wardian._internal import wire
from wardian.broker.authority import Authority
from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FrameStream
from wardian.broker.limits import Bucket, Place
from wardian.broker.release.grants import USES
from wardian.broker.state.store import Store
from wardian.broker.status import (
    NEWEST_LINES,
    PAGE_LINES,
    Governance,
    Keeping,
    Status,
    StatusRequest,
)


class StatusDesk(Desk[StatusRequest]):
    """Answers who asks; nothing secret is in it."""

    __slots__ = ("_office", "_statuses")

    def __init__(self, office: Office) -> None:
        """Tell what the authority of `office` holds."""
        self._office = office
        limits = office.limits
        self._statuses = Bucket(
            per_s=limits.statuses_per_s, burst=limits.status_burst, now=office.ticks()
        )

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: StatusRequest
    ) -> None:
        """Answer with the status, if this broker's state is still the newest."""
        self._office.spend(self._statuses, "status than it can give")
        office = self._office
        office.authority.store.confirm()
        told = tell_status(office.authority, first, collateral_expires=office.collateral_expires)
        await stream.send(wire.encode(told))


def tell_status(
    authority: Authority, request: StatusRequest, *, collateral_expires: int | None = None
) -> Status:
    """Return what anybody may know: names, digests and the audit log, no secret.

    Args:
        authority: what is in force.
        request: which audit lines go with it.
        collateral_expires: of the evidence that was accepted last.
    """
    store, clock = authority.store, authority.clock
    return Status(
        measurement=authority.measurement.hex(),
        simulated=authority.simulated,
        mesh=authority.mesh,
        manifest_version=authority.manifest_version,
        manifest_digest=authority.manifest_digest.hex(),
        epoch=authority.epoch,
        epoch_began=authority.epoch_began,
        lease_s=authority.lease_s,
        time=clock(),
        missing=authority.missing(),
        uses=_uses(authority),
        beacons=clock.beacons(),
        collateral_expires=collateral_expires,
        governance=Governance(
            owners=tuple(sorted(authority.owners)),
            quorum=authority.quorum,
            witnesses=authority.transparency.witnesses,
            head_threshold=authority.transparency.threshold,
        ),
        keeping=Keeping(
            counter=store.kept_by,
            said=store.kept_by.said,
            standby=store.replicas.said,
            generation=store.generation,
        ),
        mesh_ca=authority.ca.certificate,
        issuing_ca=authority.issuer.certificate,
        witnessed=authority.transparency.witnessed(),
        lines=_lines(store, request),
    )


def _lines(store: Store, request: StatusRequest) -> tuple[bytes, ...]:
    """Return the newest audit lines, or those after the one that is named."""
    if request.after is not None:
        return store.audit_lines(after=request.after, limit=PAGE_LINES)
    newest = max(0, store.audit_head.count - NEWEST_LINES)
    return store.audit_lines(after=newest, limit=NEWEST_LINES)


def _uses(authority: Authority) -> dict[str, int]:
    """Return how often each secret of the manifest in force was released.

    Counts are kept for good, of lines that are gone too: all of them would outgrow a message.
    """
    if authority.in_force is None:
        return {}
    places = (line.place for line in authority.in_force.manifest.owned_lines)
    found = ((place, authority.store.get(USES, place)) for place in places)
    return {place: int.from_bytes(raw, "big") for place, raw in found if raw is not None}
