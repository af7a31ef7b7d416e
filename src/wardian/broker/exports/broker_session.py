"""The broker's end of an export's four messages. What it decides is in `exports`."""

from dataclasses import dataclass

from typing_extensions import override

from wardian._internal import wire
from wardian.broker.exports.protocol import (
    EXPORT_SESSION,
    ExportAttestation,
    ExportRequest,
    Recorded,
    broker_export_report_data,
    export_report_data,
    key_info,
)
from wardian.broker.exports.statement import Told, decode_statement, statement_digest
from wardian.broker.joint.masked import MODEL_KEY_BYTES
from wardian.broker.session.answering import Proof
from wardian.broker.session.releasing import ReleasingEnd
from wardian.broker.tables.asked import AskedPlan
from wardian.crypto.hpke import HpkePrivateKey
from wardian.errors import AuthenticationFailed, FormatError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportProof(Proof):
    """Message 3, parsed; nothing in it is believed yet."""

    statement: bytes
    sealed_key: bytes


class BrokerExportSession(ReleasingEnd[ExportRequest, ExportAttestation, ExportProof, Recorded]):
    """The broker's end: `begin`, `challenge`, `receive`, `told`, `respond`, in this order.

    Makes its own HPKE key, whose public half is its nonce.
    """

    __slots__ = ("_own", "asked")

    asked: AskedPlan
    """The plan of message 1."""

    def __init__(self, asked: AskedPlan, *, key: HpkePrivateKey, opened_at: float) -> None:
        """Open a session about the plan `asked`, of `read_asked`.

        Args:
            asked: the plan.
            key: fresh, for this session alone.
            opened_at: seconds of a clock that never goes back.
        """
        super().__init__(EXPORT_SESSION, nonce=key.public, opened_at=opened_at)
        self._own, self.asked = key, asked

    @override
    def _own_report_data(self, ca_spki: bytes) -> bytes:
        return broker_export_report_data(
            job_nonce=self.request.nonce,
            broker_nonce=self._nonce,
            ca_spki=ca_spki,
            digest=self.manifest.digest,
            version=self.manifest.manifest.version,
            plan_digest=self.asked.digest,
            statement=bytes.fromhex(self.request.statement),
        )

    @override
    def _proof(self, message: ExportAttestation) -> ExportProof:
        statement = statement_digest(message.statement)
        if statement.hex() != self.request.statement:
            raise AuthenticationFailed("the export is not the one that was announced")
        return ExportProof(
            evidence=message.evidence,
            report_data=export_report_data(
                broker_nonce=self._nonce,
                hpke_public=message.hpke_public,
                digest=self.manifest.digest,
                plan_digest=self.asked.digest,
                statement=statement,
                sealed_key=message.sealed_key,
            ),
            statement=message.statement,
            sealed_key=message.sealed_key,
        )

    def told(self, proof: ExportProof) -> Told:
        """Return what the job tells, once its evidence was verified.

        Raises:
            FormatError: it is no statement, or what is sealed is no key.
            AuthenticationFailed: the key is not sealed to this session.
        """
        statement = decode_statement(proof.statement)
        if not proof.sealed_key:
            return Told(statement=statement, key=None)
        info = key_info(
            job_nonce=self.request.nonce,
            broker_nonce=self._nonce,
            digest=self.manifest.digest,
            plan_digest=self.asked.digest,
            statement=bytes.fromhex(self.request.statement),
        )
        masked = self._own.open(proof.sealed_key, info=info)
        if len(masked) != MODEL_KEY_BYTES:
            raise FormatError("the key of a model has 32 bytes")
        return Told(statement=statement, key=masked)

    @override
    def _encode(self, release: Recorded) -> bytes:
        return wire.encode(release)
