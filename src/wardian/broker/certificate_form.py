"""The one form of a certificate of the mesh: how it parses, and how it is signed.

A certificate's digest stands in keys and logs, so nobody may have a second encoding of the same
one. What X.509 and its parsers leave open is closed here: the algorithm's name, whole bytes, and
which of its two values `s` has (ECDSA has a twin signature with n - s; SEC 1, 4.1.4 accepts both).
"""

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.crypto.tls_keys import TlsKey, verify_ecdsa
from wardian.errors import AuthenticationFailed, FormatError

MAX_CERTIFICATE_BYTES: Final = 16 * 1024

_ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
"""AlgorithmIdentifier, without parameters (RFC 5758, 3.2)."""
_MAX_SIGNATURE_BYTES: Final = 72
"""Of ECDSA on P-256, in DER."""
_VERSION_3: Final = bytes.fromhex("a003020102")
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""FIPS 186-5 and SP 800-186, 3.2.1.3."""


def load_certificate(raw: bytes, *, what: str) -> x509.Certificate:
    """Return the certificate in `raw` with every extension parsed.

    Args:
        raw: DER, untrusted.
        what: the name of the thing for messages.

    Raises:
        FormatError: it does not parse.
    """
    if len(raw) > MAX_CERTIFICATE_BYTES:
        raise FormatError(f"{what}: more than {MAX_CERTIFICATE_BYTES} bytes")
    try:
        certificate = x509.load_der_x509_certificate(raw)
        list(certificate.extensions)
        serial = certificate.serial_number
    except X509_ERRORS as err:
        raise FormatError(f"{what}: does not parse") from err
    if serial < 1:
        raise FormatError(f"{what}: the serial number is not positive")
    return certificate


def sign_certificate(builder: x509.CertificateBuilder, key: TlsKey) -> bytes:
    """Return the certificate (DER) that `key` signs, in the one form that is accepted.

    Every second signature has the greater `s`: then it is signed again, with another nonce.
    """
    while True:
        certificate = builder.sign(key.private_key, hashes.SHA256())
        if _has_low_s(certificate.signature):
            return certificate.public_bytes(serialization.Encoding.DER)


def verify_signed_by(certificate: x509.Certificate, spki: bytes, *, what: str, by: str) -> None:
    """Return if the holder of `spki` signed the certificate, with ECDSA and SHA-256.

    What the signature does not cover has one form: the algorithm's name, which is the one inside
    (RFC 5280, 4.1.1.2), and a signature of whole bytes (X.690, 8.6.2.2) with the lesser `s`.

    Args:
        certificate: parsed, not believed.
        spki: DER SubjectPublicKeyInfo of a P-256 key, already trusted.
        what: the name of the thing for messages.
        by: whose key that is, for messages.

    Raises:
        FormatError: another algorithm, or not in the one form.
        AuthenticationFailed: not signed by that key.
    """
    content = certificate.tbs_certificate_bytes
    raw = certificate.public_bytes(serialization.Encoding.DER)
    signature = b"\0" + certificate.signature[:_MAX_SIGNATURE_BYTES]
    if not raw.endswith(content + _ECDSA_SHA256 + element(0x03, signature)):
        raise FormatError(f"{what}: not signed with ECDSA and SHA-256, in whole bytes")
    if not _after_serial_number(content).startswith(_ECDSA_SHA256):
        raise FormatError(
            f"{what}: not of version 3, or names another algorithm than its signature"
        )
    try:
        verify_ecdsa(spki, certificate.signature, content)
    except AuthenticationFailed as err:
        raise AuthenticationFailed(f"{what}: not signed by {by}") from err
    if not _has_low_s(certificate.signature):
        raise FormatError(f"{what}: signed in the other of two forms (s is above n / 2)")


def basic_constraints(
    certificate: x509.Certificate, *, what: str
) -> x509.Extension[x509.BasicConstraints]:
    """Return what the certificate says on whether it is a CA's.

    Raises:
        FormatError: nothing.
    """
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound as err:
        raise FormatError(f"{what}: does not say whether it is a CA's") from err


def public_key_of(certificate: x509.Certificate, *, what: str) -> bytes:
    """Return the SubjectPublicKeyInfo (DER) of a P-256 key; a certificate loads without it.

    Raises:
        FormatError: the key does not parse, or is another.
    """
    try:
        return spki_bytes(demand_p256(certificate.public_key(), what=what))
    except X509_ERRORS as err:
        raise FormatError(f"{what}: its key does not parse") from err


def demand_p256(key: object, *, what: str) -> ec.EllipticCurvePublicKey:
    """Return `key` if it is on P-256.

    Raises:
        FormatError: it is not.
    """
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FormatError(f"{what}: the key is not on the curve P-256")
    return key


def spki_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo of `key`."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def element(tag: int, content: bytes) -> bytes:
    """Return one DER element of at most 255 bytes (X.690, 8.1.3)."""
    length = len(content)
    return bytes((tag, length) if length < 128 else (tag, 0x81, length)) + content


def _has_low_s(signature: bytes) -> bool:
    """Return whether `s` of a well-formed ECDSA signature (DER) is the lesser of its two values."""
    _, s = decode_dss_signature(signature)
    return s <= _P256_ORDER // 2


def _after_serial_number(content: bytes) -> bytes:
    """Return what follows version 3 and serial number in a TBSCertificate that parsed, or b""."""
    start = 2 if content[1] < 128 else 2 + (content[1] & 0x7F)
    rest = content[start:]
    if not rest.startswith(_VERSION_3):
        return b""
    number = rest[len(_VERSION_3) :]
    return number[2 + number[1] :]  # INTEGER, which the parser bounds at 20 bytes or so
