"""Whom the vendor's signatures come from: certificate chains, revocation lists, raw ECDSA.

`dcap-qvl` verifies all of this with a quote, and its verdict is the one that counts. What is
verified here is what has to be known before or without a quote: whose statements lie in a cache,
and which platform somebody claims to be before a service is asked about it. Nothing here looks at
a clock: that a statement is genuine does not end, so an ended one still says how far back nobody
may go.
"""

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.errors import EvidenceInvalid

_SIGNATURE_BYTES: Final = 64
_ERRORS: Final[tuple[type[Exception], ...]] = (InvalidSignature, *X509_ERRORS)


def verify_chain(
    chain: Sequence[bytes], *, root_sha256: bytes, what: str
) -> tuple[x509.Certificate, ...]:
    """Return the certificates of `chain`, each issued by the next, up to one given root.

    Args:
        chain: DER, untrusted: the signer first, the root last.
        root_sha256: SHA-256 of the only root that counts, 32 bytes.
        what: the name of the chain for the error message.

    Raises:
        EvidenceInvalid: another root, a signature that does not verify, an issuer that is no CA,
            or a certificate that does not parse.
    """
    if not chain or hashlib.sha256(chain[-1]).digest() != root_sha256:
        raise EvidenceInvalid(f"{what}: the certificate chain ends in another root certificate")
    try:
        certificates = tuple(x509.load_der_x509_certificate(der) for der in chain)
        for issued, issuer in pairwise(certificates):
            issued.verify_directly_issued_by(issuer)
        authorities = all(_is_authority(issuer) for issuer in certificates[1:])
    except _ERRORS as err:
        raise EvidenceInvalid(f"{what}: the certificate chain does not verify") from err
    if not authorities:
        raise EvidenceInvalid(f"{what}: an issuer in the certificate chain is no authority")
    return certificates


def verify_crl(
    der: bytes, issuer: x509.Certificate, *, what: str
) -> x509.CertificateRevocationList:
    """Return the revocation list in `der`, which `issuer` signed.

    Raises:
        EvidenceInvalid: it does not parse, or is somebody else's.
    """
    try:
        crl = x509.load_der_x509_crl(der)
        genuine = crl.issuer == issuer.subject and crl.is_signature_valid(_key_of(issuer))
    except X509_ERRORS as err:
        raise EvidenceInvalid(f"{what}: the revocation list does not parse") from err
    if not genuine:
        raise EvidenceInvalid(f"{what}: the revocation list is not its issuer's")
    return crl


def verify_statement(
    statement: str, signature: bytes, signer: x509.Certificate, *, what: str
) -> None:
    """Return if `signer` signed exactly the bytes of `statement`.

    Args:
        statement: JSON in the bytes that were signed.
        signature: r || s, 64 bytes, big endian (PCS API v4, "TCB Info", field `signature`).
        signer: the certificate of a P-256 key.
        what: the name of the statement for the error message.

    Raises:
        EvidenceInvalid: it did not.
    """
    if len(signature) != _SIGNATURE_BYTES:
        raise EvidenceInvalid(f"{what}: a signature has {_SIGNATURE_BYTES} bytes")
    halves = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        key = _key_of(signer)
        key.verify(encode_dss_signature(*halves), statement.encode(), ec.ECDSA(hashes.SHA256()))
    except _ERRORS as err:
        raise EvidenceInvalid(f"{what}: the signature does not verify") from err


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    return constraints.value.ca


def _key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """Return the certificate's key: all of the vendor's are of P-256.

    Raises:
        TypeError: it is of another kind. One of `X509_ERRORS`.
    """
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TypeError("not a key of P-256")
    return key
