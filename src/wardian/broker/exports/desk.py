"""The desk where jobs tell what they give out."""

from functools import partial

from typing_extensions import override

from wardian.attestation.results.result import AttestationResult
from wardian.broker.desk import Desk, Office
from wardian.broker.exports.broker_session import BrokerExportSession, ExportProof
from wardian.broker.exports.exports import Exports
from wardian.broker.exports.protocol import ExportRequest, Recorded
from wardian.broker.frames import FrameStream
from wardian.broker.limits import Place
from wardian.broker.session.desk import release_in
from wardian.broker.tables.asked import ROLE
from wardian.broker.tables.desk import plan_for_a_quote
from wardian.crypto.hpke import HpkePrivateKey


class ExportDesk(Desk[ExportRequest]):
    """Attests a job and writes down what it tells, if all that every owner said still holds."""

    __slots__ = ("_exports", "_office")

    def __init__(self, office: Office) -> None:
        """Write down what the authority of `office` holds."""
        self._office = office
        self._exports = Exports(office.authority, spend=office.spend_lines)

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: ExportRequest
    ) -> None:
        """Carry out one telling; a refusal is audited before it is told.

        No owner's policy is looked at before the job has shown evidence.
        """
        office, manifest = self._office, self._office.authority.manifest
        asked = plan_for_a_quote(first.plan, office, place)
        session = BrokerExportSession(
            asked, key=HpkePrivateKey.generate(), opened_at=office.ticks()
        )
        await release_in(
            session,
            stream,
            place,
            raw=raw,
            first=first,
            seen=first.seen,
            office=office,
            manifest=manifest,
            role=ROLE,
            release=partial(self._record, session),
            refuse=lambda err, evidence: office.refuse_rationed(
                err, role=ROLE, evidence=evidence, plan=asked.digest_hex
            ),
        )

    def _record(
        self, session: BrokerExportSession, proof: ExportProof, result: AttestationResult
    ) -> Recorded:
        """Return that the export is written down."""
        return self._exports.record(
            proof.evidence,
            told=session.told(proof),
            asked=session.asked,
            tee=session.request.tee,
            shown=session.manifest,
            logged=session.logged,
            result=result,
        )
