"""The desk where owners bring manifests, keys and secrets, orders, and consents."""

import asyncio
import secrets
from collections.abc import Callable
from typing import cast

from typing_extensions import override

from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FRAME_BYTES, FrameStream
from wardian.broker.limits import PeerBuckets, Place
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.owners.consents import Consents
from wardian.broker.owners.offers import Offers
from wardian.broker.owners.orders import Orders
from wardian.broker.owners.protocol import OwnerHello
from wardian.broker.owners.provisioning import (
    BrokerProvisioning,
    Opened,
    OpenedConsent,
    OpenedOrder,
)
from wardian.broker.owners.visits import Visit, Visits
from wardian.errors import PolicyDenied, QueueFull, TransportError


class OwnerDesk(Desk[OwnerHello]):
    """Shows owners which broker this is and puts in force what they sign."""

    __slots__ = ("_consents", "_offers", "_office", "_orders", "_signed", "_visits")

    def __init__(self, office: Office) -> None:
        """Change what the authority of `office` holds."""
        self._office = office
        self._offers, self._orders = Offers(office.authority), Orders(office.authority)
        self._consents = Consents(office.authority)
        limits = office.limits
        self._visits = Visits(limits.owners)
        self._signed = PeerBuckets(per_s=limits.visits_per_s, burst=limits.visit_burst)

    @override
    async def serve(self, stream: FrameStream, place: Place, raw: bytes, first: OwnerHello) -> None:
        """Carry out one owner's change; a refusal is audited before it is told.

        Raises:
            QueueFull: too many visits at once, or of this owner (retryable).
        """
        office = self._office
        if first.owner not in office.authority.owners:
            raise PolicyDenied("this is not an owner in wardian.toml", rule="owner-known")
        visit = Visit(place=place, leave=_cancel_this())
        self._visits.enter(visit)
        try:
            office.spend_quote(place.peer)
            receipt = await self._change(stream, place, raw, first)
        except (TransportError, QueueFull):
            raise  # the owner left, was slow or must come again: nothing was decided
        except Exception as err:
            self._audit(err, place, first)
            raise
        finally:
            self._visits.end(visit)
        await stream.send(receipt)

    def _audit(self, error: Exception, place: Place, hello: OwnerHello) -> None:
        """Write the line of a refusal. Where nobody signed, it is rationed and names no owner."""
        if place.firm:
            self._office.authority.refuse(error, role="owner", owner=hello.owner)
        else:
            self._office.refuse_rationed(error, role="owner")

    async def _change(
        self, stream: FrameStream, place: Place, raw: bytes, hello: OwnerHello
    ) -> bytes:
        """Return the signed receipt of what was done."""
        office, authority = self._office, self._office.authority
        session = BrokerProvisioning(raw, hello, nonce=secrets.token_bytes(NONCE_BYTES))
        report_data = session.report_data(
            ca_spki=authority.ca.spki, agreed_digest=authority.agreed_digest
        )
        evidence = await office.evidence(report_data)
        await stream.send(
            session.challenge(
                evidence,
                mesh_ca=authority.ca.certificate,
                agreed_digest=authority.agreed_digest,
                manifest_version=authority.manifest_version,
            )
        )
        opened = session.receive(await stream.receive(most=FRAME_BYTES))
        place.firm = True  # the owner signed this session
        self._spend(opened)
        if isinstance(opened, OpenedOrder):
            return session.receipt(self._orders.carry_out(opened), sign=authority.ca.sign)
        if isinstance(opened, OpenedConsent):
            return session.receipt(self._consents.accept(opened), sign=authority.ca.sign)
        offered = self._offers.verify_offer(opened.signed_manifest)
        # A manifest under which no workload would accept this broker must not come into force:
        # wrong measurement, or simulation and hardware mixed (TRUST T11).
        policy = appraisal_policy(offered.manifest, "broker")
        await office.verify(evidence, policy=policy, report_data=report_data)
        return session.receipt(self._offers.accept(opened, offered=offered), sign=authority.ca.sign)

    def _spend(self, opened: Opened) -> None:
        """Take one out of the visits that this owner may make: each turns keys or writes lines.

        Raises:
            QueueFull: there is none left for now (retryable).
        """
        if not self._signed.take(opened.owner, self._office.ticks()):
            raise QueueFull("this owner comes more often than it may: come back later")


def _cancel_this() -> Callable[[], object]:
    """Return what ends the task that runs now."""
    return cast("asyncio.Task[None]", asyncio.current_task()).cancel
