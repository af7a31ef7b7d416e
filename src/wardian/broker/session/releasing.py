"""The broker's end of a session that releases something under the manifest in force. Pure."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.session.answering import A, AnsweringEnd, P
from wardian.broker.session.shown import MeshChallenge
from wardian.broker.transparency.following import ShownLog

R = TypeVar("R")
G = TypeVar("G")


class ReleasingEnd(AnsweringEnd[MeshChallenge, A, P], Generic[R, A, P, G]):
    """The broker's end: `begin`, `challenge`, `receive`, `respond`, in this order, once each."""

    __slots__ = ("_ca_certificate", "_issuing_certificate", "logged", "manifest", "request")

    logged: int
    """How many lines of the audit log message 2 showed; set by `challenge`."""
    manifest: VerifiedManifest
    """What message 2 shows; set by `begin`, as is `request`, message 1."""
    request: R

    def begin(
        self,
        raw: bytes,
        request: R,
        *,
        manifest: VerifiedManifest,
        ca_certificate: bytes,
        issuing_certificate: bytes,
    ) -> bytes:
        """Take message 1 and return the report data (64 bytes) for the broker's evidence.

        Args:
            raw: message 1 as it travelled.
            request: the same, decoded.
            manifest: the one in force.
            ca_certificate: the mesh CA's, DER.
            issuing_certificate: of the CA that issues under that manifest, DER.
        """
        self._begin(raw)
        self.request, self.manifest = request, manifest
        self._ca_certificate, self._issuing_certificate = ca_certificate, issuing_certificate
        return self._own_report_data(verify_ca_certificate(ca_certificate))

    def challenge(self, evidence: Evidence, *, log: ShownLog) -> bytes:
        """Return message 2.

        Args:
            evidence: the broker's own.
            log: the audit log as it is now, shown to who asked.
        """
        message = self._show(
            lambda: self._form.challenge(
                nonce=self._nonce,
                signed_manifest=self.manifest.signed,
                mesh_ca=self._ca_certificate,
                issuing_ca=self._issuing_certificate,
                evidence=evidence,
                log=log,
            )
        )
        self.logged = log.witnessed.head.audit.count
        return message

    def respond(self, release: G, *, sign: Callable[[bytes], bytes], now: float) -> bytes:
        """Return message 4: `release`, which was decided after the evidence was verified.

        Args, Raises: as in `AnsweringEnd._seal`.
        """
        return self._seal(lambda: self._encode(release), sign=sign, now=now)

    @abstractmethod
    def _own_report_data(self, ca_spki: bytes) -> bytes:
        """Return the 64 bytes that the broker's evidence binds, beside the mesh CA's key."""

    @abstractmethod
    def _encode(self, release: G) -> bytes:
        """Return the plaintext of message 4; it is sealed at once."""
