"""PKCS #12 files as operators of Cluster Serving have them, and certificates for them."""

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

PASSWORD = b"1234qwer"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LONG = dt.timedelta(days=36500)
_SIGNS = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False,
    key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
    decipher_only=False,
)  # fmt: skip


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def certify(
    key: Any,
    subject: str = "localhost",
    *,
    by: tuple[Any, str] | None = None,
    start: dt.datetime = START,
    lasts: dt.timedelta = LONG,
    ca: bool = False,
) -> x509.Certificate:
    """Return a certificate of `key`, signed by that key, or `by` a key with the name of its CA."""
    signer, issuer = by or (key, subject)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    of_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    of_signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    built = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lasts)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(of_key, critical=False)
        .add_extension(of_signer, critical=False)
    )
    if ca:
        built = built.add_extension(_SIGNS, critical=True)
    return built.sign(signer, hashes.SHA256())


def quick(password: bytes = PASSWORD, *, rounds: int = 1) -> Any:
    """Return an encryption that takes no time."""
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(rounds)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password)
    )


def keystore(
    key: Any,
    certificate: x509.Certificate | None,
    others: list[x509.Certificate] | None = None,
    *,
    encryption: Any = None,
) -> bytes:
    return pkcs12.serialize_key_and_certificates(
        b"zoo", key, certificate, others, encryption or quick()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def write_keystore(directory: Path, raw: bytes, password: bytes = PASSWORD) -> tuple[Path, Path]:
    """Write a keystore and its password as an operator does; return where they lie."""
    paths = (directory / "zoo" / "keystore.pkcs12", directory / "zoo-keystore" / "password")
    for path, content in zip(paths, (raw, password + b"\n"), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    return paths
