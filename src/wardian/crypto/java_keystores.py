"""Keystores and truststores that Java reads, without `keytool`: PKCS #12 under AES-256.

RFC 7292, with PBES2 and HMAC-SHA-256 (RFC 8018), which Java reads from 8u301, 11.0.12 and 17 on.
A truststore here holds certificates of single peers and not their CA: what Java trusts is then
these, and not whatever else the CA has signed. But a server names the subjects of its truststore to
its clients, and a client of Java shows its certificate only where that names its issuer. So beside
a peer stands a certificate with the name of its issuer and with a key that nobody has, which
verifies nothing.
"""

import datetime as dt
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    KeySerializationEncryption,
    PrivateFormat,
    pkcs12,
)

from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import FormatError

ROUNDS: Final = 10_000
"""Of PBKDF2: the password is 256 bits at random, which no number of rounds makes better."""


def keystore(key: TlsKey, *, certificate: bytes, password: str, ca: bytes | None = None) -> Secret:
    """Return a PKCS #12 keystore of `key` with its certificate, as the entry `wardian`.

    Args:
        key: private; in the result it stands encrypted.
        certificate: of that key, DER.
        password: of the store and of the key in it.
        ca: what signed the certificate (DER), to be shown with it.

    Raises:
        FormatError: something is no certificate, or the certificate is of another key.
    """
    leaf = _certificate(certificate)
    if leaf.public_key() != key.private_key.public_key():
        raise FormatError("keystore: the certificate is of another key")
    return Secret(
        pkcs12.serialize_key_and_certificates(
            b"wardian",
            key.private_key,
            leaf,
            None if ca is None else [_certificate(ca)],
            _encryption(password),
        )
    )


def truststore(*certificates: bytes, password: str) -> bytes:
    """Return a PKCS #12 truststore of `certificates` (DER), each an anchor by itself.

    Args:
        certificates: at least one: Java trusts nobody with an empty one, and says so at start.
        password: keeps it whole; certificates are no secret.

    Raises:
        FormatError: something is no certificate.
    """
    peers = [_certificate(each) for each in certificates]
    if not peers:
        raise FormatError("truststore: without a certificate")
    issued = [peer for peer in peers if peer.issuer != peer.subject]
    entries = [
        pkcs12.PKCS12Certificate(certificate, f"{kind}-{number}".encode())
        for kind, some in (("peer", peers), ("issuer", [_stand_in(peer) for peer in issued]))
        for number, certificate in enumerate(some, 1)
    ]
    return pkcs12.serialize_java_truststore(entries, _encryption(password))


def _certificate(raw: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(raw)
    except (ValueError, TypeError) as err:
        raise FormatError("keystore: not a certificate in DER") from err


def _stand_in(peer: x509.Certificate) -> x509.Certificate:
    """Return a certificate with the name of who issued `peer`, whose key is thrown away here."""
    key = ec.generate_private_key(ec.SECP256R1())
    return (
        x509.CertificateBuilder()
        .subject_name(peer.issuer)
        .issuer_name(peer.issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(peer.not_valid_before_utc)
        .not_valid_after(peer.not_valid_before_utc + dt.timedelta(seconds=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _encryption(password: str) -> KeySerializationEncryption:
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.encode())
    )
