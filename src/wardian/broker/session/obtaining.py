"""The end that something is released to, as a pure state machine: bytes in, bytes out, or an error.

The broker is verified before this process's own evidence is made: its evidence against the
manifest, the manifest against the owners in the measured `wardian.toml`.
"""

from abc import abstractmethod
from typing import Generic, TypeVar

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.session.asking import A, AskingEnd
from wardian.broker.session.form import SessionForm
from wardian.broker.session.shown import (
    KnownBroker,
    MeshChallenge,
    ShownBroker,
    verify_broker,
)
from wardian.broker.state.audit import AuditHead
from wardian.errors import AdmissionRefused, LocalProtocolError, PolicyDenied

G = TypeVar("G")


class ObtainingEnd(AskingEnd[MeshChallenge, A], Generic[A, G]):
    """The end that asks: `request`, `receive_challenge`, `attestation`, `receive_response`."""

    __slots__ = ("_agreed", "_known", "_seen", "_shown")

    def __init__(
        self,
        form: SessionForm[MeshChallenge, A],
        *,
        agreed: Agreed,
        nonce: bytes,
        seen: AuditHead | None,
        known: KnownBroker | None = None,
    ) -> None:
        """Prepare to ask a broker that `agreed` trusts, whose audit log ended at `seen`, if at all.

        `form` is the kind of session, `nonce` 32 fresh random bytes. If a broker is `known`, no
        other one is asked, and its log goes on from where it ended then.
        """
        super().__init__(form, nonce=nonce)
        self._agreed, self._known = agreed, known
        self._seen = seen if known is None else known.audit
        self._shown: ShownBroker | None = None

    def request(self, *, tee: str) -> bytes:
        """Return message 1; `tee` is the kind of TEE, for the broker's log."""
        return self._ask(self._wanted(tee, 0 if self._seen is None else self._seen.count))

    def receive_challenge(self, raw: bytes, *, now: int) -> bytes:
        """Take message 2 and return the report data (64 bytes) for this process's evidence.

        The broker is trusted from here on: its evidence is fresh for our nonce, of a measurement
        that the owners in `wardian.toml` signed, and binds the CA key, exactly this manifest, and
        what this kind of session has besides. Its audit log goes on from the one seen before and is
        witnessed as `wardian.toml` demands.

        Args:
            raw: message 2, untrusted.
            now: Unix seconds, for the validity of the collateral.

        Raises:
            PeerProtocolError: it is neither a challenge nor a refusal.
            PolicyDenied: the manifest, or the broker's evidence, is not acceptable; or it is
                another broker than the one that is known.
            AttestationError: the broker's evidence is not genuine, not current, or binds something
                else than it shows and was asked.
            AuthenticationFailed: a signature in the manifest is wrong, or the audit log forked.
            Timeout: too few witnesses have seen the log lately: ask again when they have.
            EvidenceStale: the issuing CA's certificate is over.
            FormatError: the manifest, a CA's certificate or the evidence does not parse.
        """
        with self._verifying(raw) as message:
            nonce = message.nonce
            shown = verify_broker(
                message,
                report_data=lambda spki, shown: self._broker_report_data(nonce, spki, shown),
                agreed=self._agreed,
                seen=self._seen,
                now=now,
            )
            if self._known is not None:
                self._known.refuse_other(shown)
            self._shown = shown
        return self._own_report_data(nonce, shown.manifest)

    @property
    def shown(self) -> ShownBroker:
        """The broker of this session.

        Raises:
            LocalProtocolError: none has been verified.
        """
        if self._shown is None:
            raise LocalProtocolError("no broker has been verified in this session")
        return self._shown

    @property
    @override
    def ca_spki(self) -> bytes:
        return self.shown.ca_spki

    def receive_response(self, raw: bytes, *, now: int) -> G:
        """Take message 4 and return what was released.

        Args:
            raw: message 4, untrusted.
            now: Unix seconds, for what is valid then.

        Raises:
            PeerProtocolError: it is neither a response nor a refusal, or releases something else
                than was asked for.
            AuthenticationFailed: not signed by the CA key that the evidence binds, over this very
                session; or not sealed to this process.
            AdmissionRefused: the broker, which was verified before it was shown any evidence,
                refuses; the text says why.
            EvidenceInvalid, TransportError: it refuses for now; the text says why.
        """
        try:
            plaintext = self._open(raw)
        except PolicyDenied as err:
            raise AdmissionRefused(str(err), rule=err.rule) from err
        return self._verify(plaintext, self.shown, now=now)

    @abstractmethod
    def _wanted(self, tee: str, seen: int) -> wire.Message:
        """Return message 1, of who has seen that many lines of the audit log."""

    @abstractmethod
    def _broker_report_data(
        self, broker_nonce: bytes, ca_spki: bytes, manifest: VerifiedManifest
    ) -> bytes:
        """Return the 64 bytes that the broker's evidence must bind."""

    @abstractmethod
    def _own_report_data(self, broker_nonce: bytes, manifest: VerifiedManifest) -> bytes:
        """Return the 64 bytes that this process's evidence must bind."""

    @abstractmethod
    def _verify(self, plaintext: bytes, shown: ShownBroker, *, now: int) -> G:
        """Return what message 4 holds, opened and authentic, if it is what was asked for."""
