"""What a kind of session consists of: messages 2 to 4, and what is hashed, sealed to and signed.

1 request, 2 challenge with evidence of who answers, 3 attestation with evidence of who asks and an
HPKE key, 4 response: HPKE under that key, and a signature of the mesh CA. The transcript is over
the bytes of messages 1 to 3 exactly as they travelled, so nothing depends on how either side would
encode them. In place of message 2 or 4 there may be a `refusal.Refusal`, which nobody signs:
whoever carries it can refuse anyway.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

import msgspec

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.message_fields import Key32


class Vouching(wire.Message, frozen=True):
    """3. Evidence, and the key that it vouches for."""

    evidence: Evidence
    hpke_public: Key32


class SealedResponse(wire.Message, frozen=True):
    """4. What is given, sealed to that key, signed by the mesh CA key."""

    ciphertext: bytes
    """HPKE; `info` is `SessionForm.info(transcript)`."""
    signature: Annotated[bytes, msgspec.Meta(min_length=8, max_length=80)]
    """ECDSA P-256 SHA-256, DER, over `SessionForm.signed_bytes(transcript, ciphertext)`."""


C_co = TypeVar("C_co", bound=wire.Message, covariant=True)
A_co = TypeVar("A_co", bound=Vouching, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionForm(Generic[C_co, A_co]):
    """One kind of session. No label is another's: nothing of one passes for another (TRUST T24).

    Attributes:
        challenge: message 2.
        attestation: message 3.
        response: message 4.
        transcript_label: in the digest of messages 1 to 3.
        info_label: in the HPKE `info` of message 4.
        signed_label: in what the mesh CA key signs.
        of: what errors put before the names of messages.
        names: what errors call messages 2 to 4.
    """

    challenge: type[C_co]
    attestation: type[A_co]
    response: type[SealedResponse]
    transcript_label: str
    info_label: str
    signed_label: str
    of: str = ""
    names: tuple[str, str, str] = ("challenge", "attestation", "response")

    def said(self, number: int) -> str:
        """Return what errors call message `number`, 2 to 4."""
        return self.of + self.names[number - 2]

    def transcript(self, request: bytes, challenge: bytes, attestation: bytes) -> bytes:
        """Return SHA-256 (32 bytes) over messages 1 to 3, as they travelled."""
        whole = wire.fields(self.transcript_label, request, challenge, attestation)
        return hashlib.sha256(whole).digest()

    def info(self, transcript: bytes) -> bytes:
        """Return the HPKE `info` of message 4: it opens in this session and no other."""
        return wire.fields(self.info_label, transcript)

    def signed_bytes(self, transcript: bytes, ciphertext: bytes) -> bytes:
        """Return what the mesh CA key signs in message 4; HPKE base mode names no sender (T1)."""
        return wire.fields(self.signed_label, transcript, ciphertext)
