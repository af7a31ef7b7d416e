"""What the certificates of every authority of a broker have in common: the mesh's and others'.

Names, times and uses stand here once, so that two authorities differ in what they say and in their
keys, and in nothing by mistake.
"""

from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wardian.crypto.tls_keys import TlsKey

CA_LIFE_S: Final = 10 * 365 * 24 * 3600
"""Of an authority that is its own root."""
SKEW_S: Final = 300
"""A certificate begins this much before its making, for peers whose clock is behind."""
SIMULATED: Final = "SIMULATED"


def ca_builder(
    subject: x509.Name, issuer: x509.Name, key: TlsKey, *, now: int, life_s: int, path_length: int
) -> x509.CertificateBuilder:
    """Return the certificate of an authority, but for its signature.

    Args:
        subject: its name.
        issuer: of whoever signs it.
        key: its own.
        now: Unix seconds.
        life_s: how long it is valid, seconds.
        path_length: how many authorities may stand below it.
    """
    return (
        builder(subject, issuer, key.private_key.public_key(), now=now, life_s=life_s)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(ca=True), critical=True)
    )


def leaf_builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    now: int,
    life_s: int,
    usages: list[x509.ObjectIdentifier],
    issued_by: TlsKey,
) -> x509.CertificateBuilder:
    """Return a process's certificate, but for what it says of the process, and its signature.

    Args:
        subject: its name.
        issuer: of the authority.
        key: the process's.
        now: Unix seconds.
        life_s: how long it is valid, seconds.
        usages: what TLS may use it for.
        issued_by: the authority's key.
    """
    return (
        builder(subject, issuer, key, now=now, life_s=life_s)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(key_of(issued_by), critical=False)
    )


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    now: int,
    life_s: int,
) -> x509.CertificateBuilder:
    """Return what every certificate has: names, key, serial number and times."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now - SKEW_S, UTC))
        .not_valid_after(datetime.fromtimestamp(now + life_s, UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def key_of(issuer: TlsKey) -> x509.AuthorityKeyIdentifier:
    """Return which key an authority signs with, for certificates that it issues."""
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.private_key.public_key())


def authority_name(common: str, *, mesh: str, units: list[str]) -> x509.Name:
    """Return the name of an authority, which every page shows.

    Args:
        common: what it is.
        mesh: whose.
        units: what a reader must not overlook, such as `SIMULATED` (DESIGN, I5).
    """
    parts = [common_name(common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, mesh)]
    parts += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]
    return x509.Name(parts)


def below(name: x509.Name, common: str) -> x509.Name:
    """Return the name of `common` below the authority `name`: of its mesh, with its units."""
    rest = (part for part in name if part.oid != NameOID.COMMON_NAME)
    return x509.Name([common_name(common), *rest])


def common_name(name: str) -> x509.NameAttribute[str]:
    """Return `name` as what a certificate is called."""
    return x509.NameAttribute(NameOID.COMMON_NAME, name)


def key_usage(*, ca: bool) -> x509.KeyUsage:
    """Return what a key may be used for: to sign certificates, or for TLS."""
    return x509.KeyUsage(
        digital_signature=True,  # the mesh CA signs message 4 of a release too
        key_cert_sign=ca,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
