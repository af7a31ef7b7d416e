"""Why `dcap-qvl` refused, as an error that a person understands.

The library says what went wrong as text, and for a certificate chain only that it did not verify.
What is found out here about the reason comes from unverified bytes: it words the refusal and
picks its class, and can never turn it into anything else.
"""

from typing import Final

from cryptography import x509

from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.attestation.collateral.bundle import Collateral
from wardian.attestation.quotes.quote import Quote
from wardian.errors import AttestationError, EvidenceInvalid, EvidenceStale, TcbUnacceptable

_PREFIX = "Verification failed: "
_STALE_TEXT = "the collateral is not valid now: fetch it anew, and check this machine's clock"
_KNOWN: Final[tuple[tuple[str, type[AttestationError], str], ...]] = (
    ("TCBInfo expired", EvidenceStale, _STALE_TEXT),
    ("QE Identity expired", EvidenceStale, _STALE_TEXT),
    ("CrlExpired", EvidenceStale, _STALE_TEXT),
    ("issue date is in the future", EvidenceStale, _STALE_TEXT),
    ("TCB status is invalid", TcbUnacceptable, "the platform's TCB status is Revoked"),
    (
        "No matching TCB level",
        TcbUnacceptable,
        "the platform is older than every TCB level that its vendor knows",
    ),
    (
        "below minimum required",
        TcbUnacceptable,
        "the quoting enclave is older than every TCB level that its vendor knows",
    ),
    (
        "TDX module TCB level check",
        TcbUnacceptable,
        "the vendor knows no TCB level of this TDX module",
    ),
    (
        "TEE_TCB_SVN2",
        TcbUnacceptable,
        "the vendor knows no TCB level of the TDX module that runs now",
    ),
    ("TDX module identity check", EvidenceInvalid, "the TDX module is not the vendor's"),
    (
        "SEPT_VE_DISABLE",
        TcbUnacceptable,
        "the trust domain lets its host inject exceptions: SEPT_VE_DISABLE is not set",
    ),
    (
        "TD migration",
        TcbUnacceptable,
        "the trust domain may be moved to another platform, which this quote does not describe",
    ),
    (
        "Invalid MR service TD",
        TcbUnacceptable,
        "a service TD is bound to the trust domain, and nothing here appraises it",
    ),
)
"""Signs in the library's texts, and what they mean."""


def refusal(text: str, quote: Quote, collateral: Collateral, *, now: int) -> AttestationError:
    """Return the error for `text`, what `dcap-qvl` 0.7 said about the quote and its collateral."""
    reason = text.removeprefix(_PREFIX)
    for sign, kind, meaning in _KNOWN:
        if sign in reason:
            return kind(meaning)
    if reason.startswith("Failed to verify certificate chain"):
        return _chain_refusal(quote, collateral, now=now)
    # What is left are texts of the library about structure and signatures: what the vendor signed
    # and public values of the quoting enclave, no content of the attester's.
    return EvidenceInvalid(f"the evidence does not verify: {reason[:120]}")


def _chain_refusal(quote: Quote, collateral: Collateral, *, now: int) -> AttestationError:
    """Return the likeliest reason for which one of the certificate chains does not verify."""
    try:
        crls = [x509.load_der_x509_crl(raw) for raw in (collateral.root_ca_crl, collateral.pck_crl)]
        issuers = (*collateral.tcb_info_issuers, *collateral.qe_identity_issuers)
        certificates = [x509.load_der_x509_certificate(der) for der in (*quote.chain, *issuers)]
        return _likeliest(crls, certificates, now)
    except X509_ERRORS:
        return EvidenceInvalid("a certificate or a revocation list does not parse")


def _likeliest(
    crls: list[x509.CertificateRevocationList], certificates: list[x509.Certificate], now: int
) -> AttestationError:
    if any(_ended(crl, now) for crl in crls):
        return EvidenceStale(_STALE_TEXT)
    if any(not _current(certificate, now) for certificate in certificates):
        return EvidenceStale("a certificate of the chain is not valid at this time")
    if any(_revoked(crl, certificate) for crl in crls for certificate in certificates):
        return TcbUnacceptable("a certificate of the platform was revoked by its vendor")
    return EvidenceInvalid("the certificate chain does not verify")


def _ended(crl: x509.CertificateRevocationList, now: int) -> bool:
    end = crl.next_update_utc
    return end is not None and end.timestamp() <= now  # the library takes none in its last second


def _current(certificate: x509.Certificate, now: int) -> bool:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return start.timestamp() <= now <= end.timestamp()


def _revoked(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    if crl.issuer != certificate.issuer:
        return False
    return crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
