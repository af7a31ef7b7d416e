"""Which collateral a quote needs: the vendor signs about models of platforms, not about each one.

The answer is read from the platform's certificate (PCK), and only after its chain verified up to a
root that the caller accepts. So nobody makes us ask a service about a model that no vendor built.
"""

import enum
import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID
from typing_extensions import override

from wardian.attestation.certificates.vendor_chain import verify_chain
from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.attestation.claims import TeeKind
from wardian.attestation.quotes.quote import Quote
from wardian.errors import EvidenceInvalid

FMSPC_BYTES: Final = 6

_SGX_EXTENSION: Final = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
# SEQUENCE { OID of the extension and .4, OCTET STRING of six bytes } ("SGX PCK Certificate and CRL
# Profile Specification", table 2), from the OID on.
_FMSPC: Final = re.compile(
    re.escape(bytes.fromhex("060a2a864886f84d010d01040406")) + rb"(.{6})", re.DOTALL
)


class PckCa(enum.StrEnum):
    """Which of the vendor's two authorities issued a platform's certificate.

    Source: PCS API v4, "Get Revocation List", parameter `ca`.
    """

    PROCESSOR = "processor"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformModel:
    """What two quotes have in common if the same collateral verifies both.

    Attributes:
        kind: SGX or TDX.
        fmspc: family, model, stepping, platform type and custom SKU, 6 bytes.
        ca: who issued the platform's certificate.
        root_sha256: SHA-256 of the vendor's root certificate, 32 bytes; simulations differ in it.
    """

    kind: TeeKind
    fmspc: bytes
    ca: PckCa
    root_sha256: bytes

    @override
    def __str__(self) -> str:
        """Return the model for a person or a log."""
        return f"{self.kind.value} {self.fmspc.hex()} {self.ca.value}"


def verify_model(quote: Quote, *, roots: frozenset[bytes]) -> PlatformModel:
    """Return the model of the platform that `quote` says it comes from.

    True afterwards: a platform of this model exists, and its certificate is in the quote. Not that
    it made the quote, nor that its certificate was not revoked: `verifier` finds that out.

    Args:
        quote: untrusted.
        roots: SHA-256 of each root that counts, 32 bytes each.

    Raises:
        EvidenceInvalid: the chain does not end in one of `roots`, does not verify, or its
            certificates do not say which model it is.
    """
    if quote.root_sha256 not in roots:
        raise EvidenceInvalid("quote: the certificate chain ends in another root certificate")
    leaf, issuer, *_ = verify_chain(quote.chain, root_sha256=quote.root_sha256, what="quote")
    return PlatformModel(
        kind=quote.report.kind,
        fmspc=_fmspc_of(leaf),
        ca=ca_of(issuer),
        root_sha256=quote.root_sha256,
    )


def ca_of(issuer: x509.Certificate) -> PckCa:
    """Return which authority `issuer`, whose own chain verified, is.

    Raises:
        EvidenceInvalid: it is neither.
    """
    try:
        names = issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except X509_ERRORS as err:
        raise EvidenceInvalid("the name of the platform's authority does not parse") from err
    said = {ca for ca in PckCa for name in names if ca.value in str(name.value).lower()}
    if len(said) != 1:
        raise EvidenceInvalid("the platform's certificate was issued by an unknown authority")
    return said.pop()


def _fmspc_of(leaf: x509.Certificate) -> bytes:
    try:
        extension = leaf.extensions.get_extension_for_oid(_SGX_EXTENSION).value
    except X509_ERRORS as err:
        raise EvidenceInvalid("the platform's certificate has no SGX extension") from err
    found = _FMSPC.findall(extension.public_bytes())
    if len(found) != 1:
        raise EvidenceInvalid("the platform's certificate names no model, or more than one")
    return bytes(found[0])
