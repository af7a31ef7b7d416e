"""The mesh CA's word for the key that signs attestation results, under a label of its own."""

from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.crypto.jose import PublicJwk, jwk_of
from wardian.crypto.tls_keys import verify_ecdsa
from wardian.errors import EvidenceStale, PolicyDenied

KEY_LABEL: Final = "wardian ear key v1"
KEY_LIFE_S: Final = 24 * 3600
SKEW_S: Final = 60
"""By how much a relying party's clock may lag behind the broker's."""

NAME_PATTERN: Final = r"\A[!-~]{1,200}\Z"
"""Of an issuer and of an audience."""

_Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
_Time = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class EarKeyStatement(wire.Message, frozen=True, tag_field="format", tag=KEY_LABEL):
    """The mesh CA's word that a key signs attestation results, and whose, and how long.

    Attributes:
        issuer: the only `iss` that the key may sign.
        spki: the key, DER SubjectPublicKeyInfo.
        manifest_digest: SHA-256 of the manifest whose policy the results are of, 32 bytes.
        starts, ends: Unix seconds.
        signature: ECDSA-SHA256 (DER) by the mesh CA over `content`.
    """

    issuer: _Name
    spki: Annotated[bytes, msgspec.Meta(max_length=200)]
    manifest_digest: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    starts: _Time
    ends: _Time
    signature: Annotated[bytes, msgspec.Meta(max_length=80)] = b""

    @property
    def content(self) -> bytes:
        """What is signed: every field but the signature, under the label."""
        times = self.starts.to_bytes(8, "big"), self.ends.to_bytes(8, "big")
        return wire.fields(KEY_LABEL, self.issuer.encode(), self.spki, self.manifest_digest, *times)


def parse_ear_key(raw: bytes) -> EarKeyStatement:
    """Return a statement as it travels, JSON, with nothing believed yet.

    Raises:
        FormatError: anything else.
    """
    return wire.decode(raw, EarKeyStatement, what="statement about the key of tokens")


def verify_ear_key(
    statement: EarKeyStatement, *, ca_spki: bytes, issuer: str, manifest_digest: bytes, now: int
) -> PublicJwk:
    """Return the key that signs the attestation results of `issuer` under one manifest.

    Args:
        statement: untrusted.
        ca_spki: the mesh CA's key (DER), known from verified evidence of the broker.
        issuer: whose results are wanted.
        manifest_digest: SHA-256 of the manifest that the relying party accepts.
        now: Unix seconds.

    Raises:
        AuthenticationFailed: not signed by this CA.
        PolicyDenied: of another issuer, or of another manifest.
        EvidenceStale: outside its time.
        FormatError: the key is not on P-256.
    """
    verify_ecdsa(ca_spki, statement.signature, statement.content)
    if statement.issuer != issuer:
        raise PolicyDenied("the key signs the results of another issuer", rule="issuer")
    if statement.manifest_digest != manifest_digest:
        raise PolicyDenied("the key signs results under another manifest", rule="manifest")
    if not statement.starts - SKEW_S <= now < statement.ends:
        raise EvidenceStale("the statement about the key of tokens is not valid at this time")
    return jwk_of(statement.spki)
