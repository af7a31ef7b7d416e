"""The desk of an open broker for owners whose own secrets are still locked.

So they are after a recovery, or a handover to other code, in which such an owner had no part. The
owner verifies the broker, and brings the key of its secrets; nothing else of the package is told.
"""

from typing_extensions import override

from wardian._internal import wire
from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FIRST_FRAME_BYTES, FrameStream
from wardian.broker.limits import Place
from wardian.broker.recovery.keeper import former_part
from wardian.broker.recovery.protocol import RecoveryHello, RecoveryReceipt
from wardian.broker.recovery.sessions import BrokerVisit
from wardian.broker.state.sealer import unlock_owned
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, PolicyDenied, SealError, TransportError


class RecoveryDesk(Desk[RecoveryHello]):
    """Unlocks what an owner gave for itself, when that owner comes with its key."""

    __slots__ = ("_office",)

    def __init__(self, office: Office) -> None:
        """Unlock in the state of `office`."""
        self._office = office

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: RecoveryHello
    ) -> None:
        """Carry out one owner's visit; a refusal is audited before it is told."""
        office, authority, owner = self._office, self._office.authority, first.owner
        if owner not in authority.owners:
            raise PolicyDenied("this is not an owner in wardian.toml", rule="owner-known")
        package = former_part(authority, owner)
        if package is None:
            raise PolicyDenied(
                "nothing of this owner's is locked, or no package has its key",
                rule="recovery-nothing",
            )
        office.spend_quote(place.peer)
        visit = BrokerVisit(
            raw, first, package=package, agreed_digest=authority.agreed_digest, waits=False
        )
        try:
            await stream.send(visit.challenge(await office.evidence(visit.report_data())))
            brought = visit.receive(await stream.receive(most=FIRST_FRAME_BYTES))
            place.firm = True  # the owner signed this session
            self._unlock(owner, brought.owner_key)
        except TransportError:
            raise
        except Exception as err:
            if place.firm:
                authority.refuse(err, role="owner", owner=owner)
            else:  # nobody signed: it is rationed, and names no owner
                office.refuse_rationed(err, role="owner")
            raise
        receipt = RecoveryReceipt(have=0, threshold=package.threshold, recovered=True)
        await stream.send(wire.encode(receipt))

    def _unlock(self, owner: str, owner_key: Secret) -> None:
        """Keep what `owner_key` opens under the key that this broker has for `owner` now.

        Raises:
            AuthenticationFailed: it opens nothing.
            SealError: it cannot be made durable.
        """
        authority = self._office.authority
        opened: dict[tuple[str, str], bytes | None] = {}
        for (place, key), locked in authority.store.locked(owner).items():
            try:
                opened[place, key] = unlock_owned(locked, place, key, owner_key=owner_key)
            except SealError:  # of yet another package
                continue
        if not opened:
            raise AuthenticationFailed("this key opens none of the owner's secrets")
        entry = authority.entry(
            event="recovery", outcome="granted", owner=owner, rule="unlocked", count=len(opened)
        )
        authority.record([entry], opened)
