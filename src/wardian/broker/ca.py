"""The mesh's certificate authorities: the mesh CA, and one issuing CA for each manifest.

The mesh CA is one per mesh. Its key is made in the broker and lives in the broker's encrypted
store; the broker's evidence binds it, so that whoever verified the broker knows it. It signs
message 4 of a release, receipts and audit heads, and the certificates of issuing CAs.

An issuing CA issues the certificates of processes that were attested under one manifest. Its key is
made in the same commit that puts the manifest in force, and its predecessor's is deleted with it.
"""

from dataclasses import dataclass, field
from typing import Final, Self

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from wardian.broker.certificate_builder import (
    CA_LIFE_S,
    SIMULATED,
    authority_name,
    below,
    ca_builder,
    key_of,
    leaf_builder,
)
from wardian.broker.certificate_form import sign_certificate
from wardian.broker.certificates import (
    BROKER,
    FRONTEND,
    ISSUING_MANIFEST_OID,
    MESH_IDENTITY_OID,
    CertificateRequest,
    MeshIdentity,
    issuing_manifest_der,
    valid_until,
    verify_ca_certificate,
    verify_issuing_certificate,
)
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import FormatError, LocalProtocolError, PolicyDenied

ISSUING_LIFE_S: Final = 400 * 24 * 3600
"""Of an issuing CA, whose manifest may stay in force longer: see `IssuingCa.due`."""

_USAGES: Final = {
    BROKER: [ExtendedKeyUsageOID.SERVER_AUTH],
    FRONTEND: [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
}
_CLIENT_ONLY: Final = [ExtendedKeyUsageOID.CLIENT_AUTH]
_SERVERS: Final = frozenset({BROKER, FRONTEND})
"""Whom strangers reach by a name; their software has to accept the certificate that has it."""


class MeshCa:
    """The mesh CA's key and certificate. One per mesh; it lives in the broker's store."""

    __slots__ = ("_key", "_name", "certificate")

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
        self._name = x509.load_der_x509_certificate(certificate).subject
        self.certificate = certificate

    @classmethod
    def create(cls, *, mesh: str, simulated: bool, now: int) -> Self:
        """Return a new CA for `mesh`, valid for ten years from `now` (Unix seconds)."""
        key = TlsKey.generate()
        units = [SIMULATED] if simulated else []
        name = authority_name("Wardian mesh CA", mesh=mesh, units=units)
        builder = ca_builder(name, name, key, now=now, life_s=CA_LIFE_S, path_length=1)
        return cls(key=key, certificate=sign_certificate(builder, key))

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

    def create_issuing(self, *, manifest_digest: bytes, now: int) -> "IssuingCa":
        """Return a new CA that issues under one manifest, valid for 400 days from `now`.

        Args:
            manifest_digest: SHA-256 of the manifest, 32 bytes.
            now: Unix seconds.
        """
        key = TlsKey.generate()
        name = below(self._name, "Wardian issuing CA")
        extension = x509.UnrecognizedExtension(
            ISSUING_MANIFEST_OID, issuing_manifest_der(manifest_digest)
        )
        builder = ca_builder(
            name, self._name, key, now=now, life_s=ISSUING_LIFE_S, path_length=0
        ).add_extension(extension, critical=False)  # curl and browsers have to accept it
        builder = builder.add_extension(key_of(self._key), critical=False)
        return IssuingCa(
            key=key,
            certificate=sign_certificate(builder, self._key),
            mesh_ca=self.certificate,
            manifest_digest=manifest_digest,
        )

    def open_issuing(
        self, *, key: TlsKey, certificate: bytes, manifest_digest: bytes
    ) -> "IssuingCa":
        """Return the issuing CA that `create_issuing` made before, for this manifest.

        Says nothing about its age: see `IssuingCa.due`.

        Raises:
            FormatError, AuthenticationFailed, PolicyDenied: it is not one of this CA's, not of
                this key, or of another manifest.
        """
        spki = verify_issuing_certificate(
            certificate,
            ca_spki=self.spki,
            manifest_digest=manifest_digest,
            now=valid_until(certificate),
        )
        if spki != key.spki:
            raise FormatError("issuing CA: the certificate is of another key")
        return IssuingCa(
            key=key,
            certificate=certificate,
            mesh_ca=self.certificate,
            manifest_digest=manifest_digest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingCa:
    """Issues the certificates of processes under one manifest; only a `MeshCa` makes one.

    Attributes:
        key: its private key.
        certificate: signed by the mesh CA, DER.
        mesh_ca: the mesh CA's certificate, DER.
        manifest_digest: SHA-256 of the manifest, 32 bytes.
    """

    key: TlsKey = field(repr=False)
    certificate: bytes
    mesh_ca: bytes
    manifest_digest: bytes

    @property
    def spki(self) -> bytes:
        """The public key as DER SubjectPublicKeyInfo."""
        return self.key.spki

    def due(self, now: int) -> bool:
        """Return whether it is time for another one: at `now` it is not in its first half.

        That is long before what it issued would end. A clock that was set back, to before the
        certificate was made, is a reason as well.
        """
        left = valid_until(self.certificate) - now
        return not ISSUING_LIFE_S // 2 <= left <= ISSUING_LIFE_S

    def issue(
        self, request: CertificateRequest, *, identity: MeshIdentity, now: int, life_s: int
    ) -> tuple[bytes, ...]:
        """Return a new certificate, this CA's and the mesh CA's, DER, in this order.

        Args:
            request: for the key, and a server's names. A broker's certificate with names is for
                strangers, who speak other protocols; no peer of the mesh accepts it.
            identity: who the holder was attested as, under this CA's manifest.
            now: Unix seconds.
            life_s: how long it is valid: the lease of the mesh, seconds.

        Raises:
            PolicyDenied: names are asked for by another role than broker and front end.
        """
        if identity.manifest_digest != self.manifest_digest:
            raise LocalProtocolError("an issuing CA issues under its own manifest alone")
        if request.names and identity.role not in _SERVERS:
            raise PolicyDenied(
                f"a {identity.role} gets no server names in its certificate", rule="names"
            )
        issuer = x509.load_der_x509_certificate(self.certificate).subject
        extension = x509.UnrecognizedExtension(MESH_IDENTITY_OID, identity.to_der())
        builder = leaf_builder(
            below(issuer, identity.role),
            issuer,
            request.public_key,
            now=now,
            life_s=life_s,
            usages=_USAGES.get(identity.role, _CLIENT_ONLY),
            issued_by=self.key,
        ).add_extension(extension, critical=identity.role != FRONTEND and not request.names)
        if request.names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(request.names), critical=False
            )
        return sign_certificate(builder, self.key), self.certificate, self.mesh_ca
