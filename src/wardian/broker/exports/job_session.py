"""The job's end of an export's four messages: what it tells, and what it lets pass as an answer."""

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian.attestation.evidence import Evidence
from wardian.broker.exports.exported import Exported, verify_exported
from wardian.broker.exports.protocol import (
    EXPORT_SESSION,
    ExportAttestation,
    ExportRequest,
    Recorded,
    broker_export_report_data,
    export_report_data,
    key_info,
)
from wardian.broker.exports.statement import (
    ExportStatement,
    encode_statement,
    statement_digest,
)
from wardian.broker.jobs.plan import JobPlan, encode_plan, plan_digest
from wardian.broker.joint.masked import MaskedKey
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.session.obtaining import ObtainingEnd
from wardian.broker.session.shown import KnownBroker, ShownBroker
from wardian.crypto.hpke import hpke_seal
from wardian.errors import LocalProtocolError


class ExportSession(ObtainingEnd[ExportAttestation, Exported]):
    """The job's end: `request`, `receive_challenge`, `attestation`, `receive_response`."""

    __slots__ = ("_digest", "_key", "_plan", "_raw", "_sealed_key", "_statement")

    def __init__(
        self,
        plan: JobPlan,
        statement: ExportStatement,
        *,
        key: MaskedKey | None,
        agreed: Agreed,
        nonce: bytes,
        known: KnownBroker,
    ) -> None:
        """Prepare to tell what comes out of `plan`.

        Args:
            plan: that this process ran.
            statement: what comes out, of which nothing has left yet.
            key: of the model that is served, masked; None where none is.
            agreed: the measured `wardian.toml`, whose owners decide which broker is trusted.
            nonce: 32 fresh random bytes.
            known: the broker that the tables came from. It is told, and no other: it is given a
                key, and says whether owners' words still stand.

        Raises:
            LocalProtocolError: the key is not the one that the statement names.
        """
        named = None if statement.served is None else statement.served.key_id
        if named != (None if key is None else key.key_id):
            raise LocalProtocolError("the key of a served model is not the one that is told of")
        super().__init__(EXPORT_SESSION, agreed=agreed, nonce=nonce, seen=None, known=known)
        self._plan, self._digest = plan, plan_digest(plan)
        self._statement, self._raw = statement, encode_statement(statement)
        self._key, self._sealed_key = key, b""

    @property
    def _told(self) -> bytes:
        return statement_digest(self._raw)

    @override
    def _wanted(self, tee: str, seen: int) -> ExportRequest:
        return ExportRequest(
            tee=tee,
            plan=encode_plan(self._plan),
            statement=self._told.hex(),
            nonce=self._nonce,
            seen=seen,
        )

    @override
    def _broker_report_data(
        self, broker_nonce: bytes, ca_spki: bytes, manifest: VerifiedManifest
    ) -> bytes:
        return broker_export_report_data(
            job_nonce=self._nonce,
            broker_nonce=broker_nonce,
            ca_spki=ca_spki,
            digest=manifest.digest,
            version=manifest.manifest.version,
            plan_digest=self._digest,
            statement=self._told,
        )

    @override
    def _own_report_data(self, broker_nonce: bytes, manifest: VerifiedManifest) -> bytes:
        """Return what this evidence binds: the model's key, too, sealed to a verified broker."""
        if self._key is not None:
            info = key_info(
                job_nonce=self._nonce,
                broker_nonce=broker_nonce,
                digest=manifest.digest,
                plan_digest=self._digest,
                statement=self._told,
            )
            self._sealed_key = hpke_seal(broker_nonce, self._key.masked, info=info)
        return export_report_data(
            broker_nonce=broker_nonce,
            hpke_public=self._hpke.public,
            digest=manifest.digest,
            plan_digest=self._digest,
            statement=self._told,
            sealed_key=self._sealed_key,
        )

    @override
    def _vouching(self, evidence: Evidence) -> ExportAttestation:
        return ExportAttestation(
            evidence=evidence,
            hpke_public=self._hpke.public,
            statement=self._raw,
            sealed_key=self._sealed_key,
        )

    @override
    def _verify(self, plaintext: bytes, shown: ShownBroker, *, now: int) -> Exported:
        return verify_exported(
            wire.decode(plaintext, Recorded, what="export recorded"),
            statement=self._statement,
            digest=self._told,
            shown=shown,
            now=now,
        )
