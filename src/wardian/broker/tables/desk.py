"""The desk where jobs ask for the keys of owners' tables."""

import secrets

from typing_extensions import override

from wardian.broker.desk import Desk, Office
from wardian.broker.frames import ATTESTATION_FRAME_BYTES, FrameStream
from wardian.broker.limits import Place
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.tables.asked import ROLE, AskedPlan, read_asked
from wardian.broker.tables.broker_session import BrokerJobSession
from wardian.broker.tables.protocol import JobRequest
from wardian.broker.tables.releases import TableReleases
from wardian.errors import FormatError, PolicyDenied, TransportError


class JobDesk(Desk[JobRequest]):
    """Attests a job and gives it the tables of its plan, if every owner allows it."""

    __slots__ = ("_office", "_releases")

    def __init__(self, office: Office) -> None:
        """Release what the authority of `office` holds."""
        self._office = office
        self._releases = TableReleases(office.authority)

    @override
    async def serve(self, stream: FrameStream, place: Place, raw: bytes, first: JobRequest) -> None:
        """Carry out one release; a refusal is audited before it is told.

        No owner's policy is looked at before the job has shown evidence: strangers learn nothing of
        what is in them.
        """
        office, manifest = self._office, self._office.authority.manifest
        try:
            asked = read_asked(first.plan, office.authority)
        except (PolicyDenied, FormatError) as err:  # it cost no quote, hence is rationed by itself
            office.refuse_rationed(err, role=ROLE)
            raise
        office.spend_quote(place.peer)
        session = BrokerJobSession(nonce=secrets.token_bytes(NONCE_BYTES), opened_at=office.ticks())
        report_data = session.begin(
            raw,
            first,
            asked=asked,
            manifest=manifest,
            ca_certificate=office.authority.ca.certificate,
            issuing_certificate=office.authority.issuer.certificate,
        )
        try:
            response = await self._decide(stream, place, session, report_data)
        except TransportError:
            raise  # the peer left, was slow or must ask again: nothing was decided
        except Exception as err:
            self._audit(err, session, asked)
            raise
        await stream.send(response)

    def _audit(self, error: Exception, session: BrokerJobSession, asked: AskedPlan) -> None:
        """Write the line of a refusal, within the ration of those who presented as much."""
        self._office.refuse_rationed(
            error, role=ROLE, evidence=session.presented, plan=asked.digest_hex
        )

    async def _decide(
        self, stream: FrameStream, place: Place, session: BrokerJobSession, report_data: bytes
    ) -> bytes:
        """Return message 4."""
        office, manifest = self._office, session.manifest
        evidence = await office.evidence(report_data)
        log = office.authority.transparency.show(session.request.seen)
        await stream.send(session.challenge(evidence, log=log))
        place.since = office.ticks()  # the next step is the job's
        proof = session.receive(
            await stream.receive(most=ATTESTATION_FRAME_BYTES), now=office.ticks()
        )
        place.firm = True
        result = await office.verify(
            proof.evidence,
            policy=appraisal_policy(manifest.manifest, ROLE),
            report_data=proof.report_data,
        )
        release = self._releases.release(
            proof.evidence,
            request=session.request,
            asked=session.asked,
            shown=manifest,
            logged=session.logged,
            result=result,
        )
        return session.respond(release, sign=office.authority.ca.sign, now=office.ticks())
