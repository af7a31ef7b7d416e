"""Why `dcap-qvl` refused, as an error that a person understands.

The library says what went wrong as text, and for a certificate chain only that it did not verify.
What is found out here about the reason comes from unverified bytes: it words the refusal and
picks its class, and can never turn it into anything else.
"""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from wardian.attestation.collateral import Collateral
from wardian.attestation.quote_sgx import SgxQuote
from wardian.errors import AttestationError, EvidenceInvalid, EvidenceStale, TcbUnacceptable

X509_ERRORS: Final[tuple[type[Exception], ...]] = (
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.AttributeNotFound,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,
)
"""What `cryptography` may raise on hostile X.509, when it loads and later: names, times, keys and
extensions are parsed when they are read. Its errors have no common base. The warning is about
certificates that a later version will not load at all; a filter may make an error of it."""

_PREFIX = "Verification failed: "
_STALE = ("TCBInfo expired", "QE Identity expired", "CrlExpired", "issue date is in the future")
_STALE_TEXT = "the collateral is not valid now: fetch it anew, and check this machine's clock"
_REVOKED_TEXT = "the platform's TCB status is Revoked"
_DEBUG_TEXT = "the enclave runs in debug mode: its host can read its memory"


def refusal(text: str, quote: SgxQuote, collateral: Collateral, *, now: int) -> AttestationError:
    """Return the error for `text`, what `dcap-qvl` 0.7 said about the quote and its collateral."""
    reason = text.removeprefix(_PREFIX)
    if reason.startswith("Debug mode"):
        return TcbUnacceptable(_DEBUG_TEXT)
    if reason.startswith("TCB status is invalid"):
        return TcbUnacceptable(_REVOKED_TEXT)
    if "No matching TCB level" in reason:
        return TcbUnacceptable("the platform is older than every TCB level that its vendor knows")
    if any(sign in reason for sign in _STALE):
        return EvidenceStale(_STALE_TEXT)
    if reason.startswith("Failed to verify certificate chain"):
        return _chain_refusal(quote, collateral, now=now)
    # What is left are fixed texts of the library about structure and signatures: no content.
    return EvidenceInvalid(f"the evidence does not verify: {reason[:120]}")


def _chain_refusal(quote: SgxQuote, collateral: Collateral, *, now: int) -> AttestationError:
    """Return the likeliest reason for which one of the certificate chains does not verify."""
    try:
        crls = [
            x509.load_der_x509_crl(bytes.fromhex(raw))
            for raw in (collateral.root_ca_crl, collateral.pck_crl)
        ]
        issuers = (collateral.tcb_info_issuer_chain + collateral.pck_crl_issuer_chain).encode()
        certificates = [x509.load_der_x509_certificate(der) for der in quote.chain]
        certificates += x509.load_pem_x509_certificates(issuers)
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
    return end is not None and end.timestamp() < now


def _current(certificate: x509.Certificate, now: int) -> bool:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return start.timestamp() <= now <= end.timestamp()


def _revoked(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    if crl.issuer != certificate.issuer:
        return False
    return crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
