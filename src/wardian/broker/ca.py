"""The mesh's certificate authority: its key, and the certificates that it issues.

One per mesh. The key is made in the broker and lives in its encrypted store; the broker's evidence
binds it, so that whoever verified the broker knows it. It signs two things: certificates, for
workloads that were attested, and message 4 of a release.
"""

from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wardian.broker.certificates import (
    BROKER,
    FRONTEND,
    MESH_IDENTITY_OID,
    CertificateRequest,
    MeshIdentity,
    verify_ca_certificate,
)
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import FormatError, PolicyDenied

CA_LIFE_S: Final = 10 * 365 * 24 * 3600
LEAF_LIFE_S: Final = 24 * 3600
SKEW_S: Final = 300
"""A certificate begins this much before its making, for peers whose clock is behind."""

_USAGES: Final = {
    BROKER: [ExtendedKeyUsageOID.SERVER_AUTH],
    FRONTEND: [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
}
_CLIENT_ONLY: Final = [ExtendedKeyUsageOID.CLIENT_AUTH]


class MeshCa:
    """The CA's key and certificate. One per mesh; it lives in the broker's encrypted store."""

    __slots__ = ("_certificate", "_key", "certificate")

    def __init__(self, *, key: TlsKey, certificate: bytes) -> None:
        """Hold a CA that `create` made before.

        Args:
            key: the CA's private key.
            certificate: its self-signed certificate, DER.

        Raises:
            FormatError: the certificate is not this key's.
        """
        if verify_ca_certificate(certificate) != key.spki:
            raise FormatError("mesh CA: the certificate is of another key")
        self._key = key
        self._certificate = x509.load_der_x509_certificate(certificate)
        self.certificate = certificate

    @classmethod
    def create(cls, *, mesh: str, simulated: bool, now: int) -> "MeshCa":
        """Return a new CA for `mesh`, valid for ten years from `now` (Unix seconds)."""
        key = TlsKey.generate()
        name = _subject("Wardian mesh CA", mesh=mesh, simulated=simulated)
        certificate = (
            _builder(name, name, key.private_key.public_key(), now=now, life_s=CA_LIFE_S)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(key.private_key, hashes.SHA256())
        )
        return cls(key=key, certificate=_der(certificate))

    @property
    def spki(self) -> bytes:
        """The CA's public key as DER SubjectPublicKeyInfo: what the broker's evidence binds."""
        return self._key.spki

    def to_secret(self) -> Secret:
        """Return the private key (PKCS #8 DER), for the store alone."""
        return self._key.to_secret()

    def sign(self, message: bytes) -> bytes:
        """Return the ECDSA-SHA256 signature (DER) over `message`, which carries its own label."""
        return self._key.sign(message)

    def issue(
        self, request: CertificateRequest, *, identity: MeshIdentity, now: int
    ) -> tuple[bytes, ...]:
        """Return a certificate for one day and the CA's, DER, the new one first.

        Raises:
            PolicyDenied: names are asked for by another role than the front end.
        """
        if request.names and identity.role != FRONTEND:
            raise PolicyDenied(
                f"a {identity.role} gets no server names in its certificate", rule="names"
            )
        issuer = self._certificate.subject
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, identity.role),
                *(part for part in issuer if part.oid != NameOID.COMMON_NAME),
            ]
        )
        extension = x509.UnrecognizedExtension(MESH_IDENTITY_OID, identity.to_der())
        usage = x509.ExtendedKeyUsage(_USAGES.get(identity.role, _CLIENT_ONLY))
        builder = (
            _builder(subject, issuer, request.public_key, now=now, life_s=LEAF_LIFE_S)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self._key.private_key.public_key()
                ),
                critical=False,
            )
            .add_extension(extension, critical=identity.role != FRONTEND)
        )
        if request.names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(request.names), critical=False
            )
        leaf = builder.sign(self._key.private_key, hashes.SHA256())
        return _der(leaf), self.certificate


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    now: int,
    life_s: int,
) -> x509.CertificateBuilder:
    """Return what every certificate of the mesh has in common."""
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


def _subject(common: str, *, mesh: str, simulated: bool) -> x509.Name:
    """Return the CA's name, which every page shows: a simulated mesh says so (DESIGN, I5)."""
    parts = [
        x509.NameAttribute(NameOID.COMMON_NAME, common),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, mesh),
    ]
    if simulated:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "SIMULATED"))
    return x509.Name(parts)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,  # the CA signs message 4 of a release too
        key_cert_sign=ca,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
