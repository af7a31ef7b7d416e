"""The infrastructure CA: one per mesh, with a key that signs nothing else; see `certificates`."""

from typing import Final, Self

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from wardian.broker.certificate_builder import (
    CA_LIFE_S,
    SIMULATED,
    authority_name,
    below,
    ca_builder,
    leaf_builder,
)
from wardian.broker.certificate_form import sign_certificate
from wardian.broker.certificates import CertificateRequest
from wardian.broker.infrastructure.certificates import (
    AUTHORITY,
    INFRASTRUCTURE,
    INFRASTRUCTURE_OID,
    SERVER,
    holder_der,
    verify_infrastructure_ca,
)
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import FormatError, PolicyDenied

SERVER_LIFE_S: Final = 400 * 24 * 3600
"""Of a server's certificate: who runs Redis asks for another one in time."""


class InfrastructureCa:
    """The CA's key and certificate; they live in the broker's store."""

    __slots__ = ("_key", "_name", "certificate")

    def __init__(self, *, key: TlsKey, certificate: bytes) -> None:
        """Hold a CA that `create` made before.

        Args:
            key: the CA's private key.
            certificate: its self-signed certificate, DER.

        Raises:
            FormatError, AuthenticationFailed: the certificate is not one, or not this key's.
        """
        if verify_infrastructure_ca(certificate) != key.spki:
            raise FormatError("infrastructure CA: the certificate is of another key")
        self._key = key
        self._name = x509.load_der_x509_certificate(certificate).subject
        self.certificate = certificate

    @classmethod
    def create(cls, *, mesh: str, simulated: bool, now: int) -> Self:
        """Return a new CA for `mesh`, valid for ten years from `now` (Unix seconds)."""
        key = TlsKey.generate()
        units = [INFRASTRUCTURE, *([SIMULATED] if simulated else [])]
        name = authority_name("Wardian infrastructure CA", mesh=mesh, units=units)
        builder = ca_builder(name, name, key, now=now, life_s=CA_LIFE_S, path_length=0)
        return cls(
            key=key,
            certificate=sign_certificate(
                builder.add_extension(_of(AUTHORITY), critical=False), key
            ),
        )

    def to_secret(self) -> Secret:
        """Return the private key (PKCS #8 DER), for the store alone."""
        return self._key.to_secret()

    def issue_server(self, request: CertificateRequest, *, now: int) -> bytes:
        """Return the certificate (DER) of a server of Redis, valid for 400 days from `now`.

        It serves for calling other such servers as well: those of a cluster, and Sentinels, do.

        Args:
            request: for its key and the names by which it is known.
            now: Unix seconds.

        Raises:
            PolicyDenied: it asks for no name (rule `names`): no client could know it.
        """
        if not request.names:
            raise PolicyDenied("a server's certificate is for at least one name", rule="names")
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self._leaf(request, SERVER, usages=usages, now=now, life_s=SERVER_LIFE_S)
        names = x509.SubjectAlternativeName(request.names)
        return sign_certificate(builder.add_extension(names, critical=False), self._key)

    def issue_client(
        self, request: CertificateRequest, *, role: str, now: int, life_s: int
    ) -> bytes:
        """Return the certificate (DER) by which an attested process of `role` reaches Redis.

        Args:
            request: for its key; the names that it asks for are for its other certificate.
            role: as attested.
            now: Unix seconds.
            life_s: how long it is valid: the lease of the mesh, seconds.
        """
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self._leaf(request, role, usages=usages, now=now, life_s=life_s)
        return sign_certificate(builder, self._key)

    def _leaf(
        self,
        request: CertificateRequest,
        holder: str,
        *,
        usages: list[x509.ObjectIdentifier],
        now: int,
        life_s: int,
    ) -> x509.CertificateBuilder:
        return leaf_builder(
            below(self._name, holder),
            self._name,
            request.public_key,
            now=now,
            life_s=life_s,
            usages=usages,
            issued_by=self._key,
        ).add_extension(_of(holder), critical=False)


def _of(holder: str) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(INFRASTRUCTURE_OID, holder_der(holder))
