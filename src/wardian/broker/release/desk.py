"""The desk where workloads ask for their secrets."""

import secrets

from typing_extensions import override

from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FrameStream
from wardian.broker.limits import Place
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.release.broker_session import BrokerSession
from wardian.broker.release.policy import refuse_impossible
from wardian.broker.release.protocol import Request
from wardian.broker.release.releases import Releases
from wardian.broker.session.desk import release_in
from wardian.errors import PolicyDenied


class ReleaseDesk(Desk[Request]):
    """Attests a workload and gives it what its measurement may have."""

    __slots__ = ("_office", "_releases")

    def __init__(self, office: Office) -> None:
        """Release what the authority of `office` holds."""
        self._office = office
        self._releases = Releases(office.authority)

    @override
    async def serve(self, stream: FrameStream, place: Place, raw: bytes, first: Request) -> None:
        """Carry out one release; a refusal is audited before it is told.

        A renewal is refused in place of message 4 and not before: the process ends by it, so it
        has to know that nobody but the broker said so.
        """
        office, role, models = self._office, first.role, first.models
        manifest = office.authority.manifest
        try:
            if not first.renewal:
                refuse_impossible(manifest.manifest, role=role, models=models)
        except PolicyDenied as err:  # it cost no quote, hence is rationed by itself
            office.refuse_rationed(err, role=role, models=models)
            raise
        office.spend_quote(place.peer)
        session = BrokerSession(nonce=secrets.token_bytes(NONCE_BYTES), opened_at=office.ticks())
        await release_in(
            session,
            stream,
            place,
            raw=raw,
            first=first,
            seen=first.seen,
            office=office,
            manifest=manifest,
            role=role,
            release=lambda proof, result: self._releases.release(
                proof, request=first, shown=session.manifest, logged=session.logged, result=result
            ),
            refuse=lambda err, evidence: office.refuse_rationed(
                err, role=role, models=models, evidence=evidence
            ),
        )
