"""The end that asks, as a pure state machine: bytes in, bytes out, or an error.

No socket, no clock, no thread. Who answers is verified before this process's own evidence is made.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.refusal import decode_or_raise
from wardian.broker.session.form import SessionForm, Vouching
from wardian.broker.session.turns import State, Turns
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.tls_keys import verify_ecdsa
from wardian.errors import AuthenticationFailed

C = TypeVar("C", bound=wire.Message)
A = TypeVar("A", bound=Vouching)


class AskingEnd(ABC, Generic[C, A]):
    """The end that asks; each step once, in order. A kind of session names the steps.

    Makes its own HPKE key, which never leaves the process.
    """

    __slots__ = ("_attestation", "_challenge", "_form", "_hpke", "_nonce", "_request", "_turns")

    def __init__(self, form: SessionForm[C, A], *, nonce: bytes) -> None:
        """Prepare to ask in a session of the kind `form`, with 32 fresh random bytes `nonce`."""
        self._form, self._nonce = form, nonce
        self._hpke = HpkePrivateKey.generate()
        self._turns = Turns()
        self._request = self._challenge = self._attestation = b""

    @property
    @abstractmethod
    def ca_spki(self) -> bytes:
        """The mesh CA's key (DER) that the evidence in message 2 binds.

        Raises:
            LocalProtocolError: none has been verified.
        """

    def _ask(self, request: wire.Message) -> bytes:
        """Return `request` as message 1."""
        with self._turns.step(State.FRESH, State.ASKED):
            self._request = wire.encode(request)
        return self._request

    @contextmanager
    def _verifying(self, raw: bytes) -> Iterator[C]:
        """Give the block message 2, untrusted; a block that raises ends the session.

        Raises:
            PeerProtocolError: it is neither a challenge nor a refusal.
            PolicyDenied, EvidenceInvalid, TransportError: it is a refusal.
        """
        with self._turns.step(State.ASKED, State.CHALLENGED):
            yield decode_or_raise(raw, self._form.challenge, what=self._form.said(2))
            self._challenge = raw

    def attestation(self, evidence: Evidence) -> bytes:
        """Return message 3 with this process's `evidence`."""
        with self._turns.step(State.CHALLENGED, State.PROVED):
            self._attestation = wire.encode(self._vouching(evidence))
        return self._attestation

    def _vouching(self, evidence: Evidence) -> A:
        return self._form.attestation(evidence=evidence, hpke_public=self._hpke.public)

    def _open(self, raw: bytes) -> bytes:
        """Take message 4, untrusted, and return what is sealed in it.

        Raises:
            PeerProtocolError: it is neither a response nor a refusal.
            AuthenticationFailed: not signed by the CA key that the evidence binds, over this very
                session; or not sealed to this end.
            PolicyDenied, EvidenceInvalid, TransportError: it is a refusal.
        """
        with self._turns.step(State.PROVED, State.DONE):
            form = self._form
            message = decode_or_raise(raw, form.response, what=form.said(4))
            transcript = form.transcript(self._request, self._challenge, self._attestation)
            signed = form.signed_bytes(transcript, message.ciphertext)
            try:
                verify_ecdsa(self.ca_spki, message.signature, signed)
            except AuthenticationFailed as err:
                raise AuthenticationFailed(
                    f"the {form.names[2]} is not signed by the broker that was attested, for this "
                    "session"
                ) from err
            return self._hpke.open(message.ciphertext, info=form.info(transcript))
