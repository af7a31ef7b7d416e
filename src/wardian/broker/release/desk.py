"""The desk where workloads ask for their secrets."""

import secrets

from typing_extensions import override

from wardian.broker.desk import Desk, Office
from wardian.broker.frames import ATTESTATION_FRAME_BYTES, FrameStream
from wardian.broker.limits import Place
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.release.broker_session import BrokerSession
from wardian.broker.release.policy import refuse_impossible
from wardian.broker.release.protocol import Request
from wardian.broker.release.releases import Releases
from wardian.errors import PolicyDenied, TransportError


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
        report_data = session.begin(
            raw,
            first,
            manifest=manifest,
            ca_certificate=office.authority.ca.certificate,
            issuing_certificate=office.authority.issuer.certificate,
        )
        try:
            response = await self._decide(stream, place, session, report_data)
        except TransportError:
            raise  # the peer left, was slow or must ask again: nothing was decided
        except Exception as err:
            self._audit(err, session)
            raise
        await stream.send(response)

    def _audit(self, error: Exception, session: BrokerSession) -> None:
        """Write the line of a refusal, within the ration of those who presented as much."""
        request = session.request
        self._office.refuse_rationed(
            error, role=request.role, models=request.models, evidence=session.presented
        )

    async def _decide(
        self, stream: FrameStream, place: Place, session: BrokerSession, report_data: bytes
    ) -> bytes:
        """Return message 4."""
        office, request, manifest = self._office, session.request, session.manifest
        evidence = await office.evidence(report_data)
        log = office.authority.transparency.show(request.seen)
        await stream.send(session.challenge(evidence, log=log))
        place.since = office.ticks()  # the next step is the workload's
        proof = session.receive(
            await stream.receive(most=ATTESTATION_FRAME_BYTES), now=office.ticks()
        )
        place.firm = True
        result = await office.verify(
            proof.evidence,
            policy=appraisal_policy(manifest.manifest, request.role),
            report_data=proof.report_data,
        )
        release = self._releases.release(
            proof, request=request, shown=manifest, logged=session.logged, result=result
        )
        return session.respond(release, sign=office.authority.ca.sign, now=office.ticks())
