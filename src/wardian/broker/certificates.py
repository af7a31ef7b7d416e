"""Mesh certificates as their readers see them: requests, identities, and what peers demand.

    mesh CA  ->  issuing CA of one manifest  ->  a process's own certificate

Trust is established once: whoever verified the broker's evidence knows the mesh CA's key, and from
then on certificates are enough. The mesh CA signs issuing CAs and nothing else that is X.509. An
issuing CA's certificate names the manifest that it issues under; with a new manifest comes a new
one, so that whoever knows the old one notices (TRUST T21). A process's certificate says which role
it is, which code was measured and under which manifest; every peer demands all three (TRUST T3).

What we say in extensions of our own is critical where only our software reads it, so that other
software refuses the certificate. On the way to a front end it is not: curl and browsers have to
accept its certificate and the issuing CA's. Our own peers demand both extensions regardless.
"""

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.broker.certificate_form import (
    basic_constraints,
    demand_p256,
    element,
    load_certificate,
    public_key_of,
    spki_bytes,
    verify_signed_by,
)
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import AuthenticationFailed, EvidenceStale, FormatError, PolicyDenied

MESH_IDENTITY_OID: Final = x509.ObjectIdentifier("2.25.24403211575681403494583916113568977729.1")
"""Under 2.25 anyone may use a UUID as an arc without registering it (ITU-T X.667)."""
ISSUING_MANIFEST_OID: Final = x509.ObjectIdentifier("2.25.24403211575681403494583916113568977729.2")
"""In an issuing CA's certificate: OCTET STRING, SHA-256 of the manifest that it issues under."""

BROKER: Final = "broker"
FRONTEND: Final = "frontend"
"""The one role whose certificate strangers have to accept."""
NO_MANIFEST: Final = bytes(32)
"""What the broker's own certificate names before its first manifest; no process accepts it."""
MAX_NAMES: Final = 16
MAX_ROLE_CHARS: Final = 64

_DIGEST_BYTES: Final = 32
_CA_PATH_LENGTH: Final = 1
"""Of the mesh CA: one issuing CA stands between it and a process."""

ServerName: TypeAlias = x509.DNSName | x509.IPAddress
_DNS_NAME: Final = re.compile(
    r"\A(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    r"(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshIdentity:
    """What a mesh certificate says of its holder.

    Attributes:
        role: the role that the evidence was appraised for, at most 64 characters.
        measurement: MRENCLAVE, 32 bytes.
        manifest_digest: SHA-256 of the manifest in force at the time, 32 bytes.
    """

    role: str
    measurement: bytes
    manifest_digest: bytes

    def to_der(self) -> bytes:
        """Return SEQUENCE { UTF8String role, OCTET STRING measurement, OCTET STRING digest }."""
        return element(
            0x30,
            element(0x0C, self.role.encode())
            + element(0x04, self.measurement)
            + element(0x04, self.manifest_digest),
        )

    @classmethod
    def from_der(cls, raw: bytes) -> "MeshIdentity":
        """Return the identity in `raw`; only the one form that `to_der` makes is accepted.

        Raises:
            FormatError: anything else.
        """
        header = 2 if len(raw) < 130 else 3  # DER: one length byte up to 127, two up to 255
        try:
            identity = cls(
                role=raw[header + 2 : -68].decode("ascii"),
                measurement=raw[-66:-34],
                manifest_digest=raw[-32:],
            )
        except UnicodeDecodeError as err:
            raise FormatError("mesh identity: the role is not ASCII") from err
        if len(identity.role) > MAX_ROLE_CHARS or identity.to_der() != raw:
            raise FormatError("mesh identity: not in its one form")
        return identity


def issuing_manifest_der(digest: bytes) -> bytes:
    """Return OCTET STRING digest, as an issuing CA's certificate holds it (32 bytes).

    Raises:
        FormatError: another length.
    """
    if len(digest) != _DIGEST_BYTES:
        raise FormatError("issuing CA certificate: a manifest's digest has 32 bytes")
    return element(0x04, digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """A request whose signature shows that the asker holds the key; only `parse_csr` makes one."""

    public_key: ec.EllipticCurvePublicKey
    spki: bytes
    names: tuple[ServerName, ...]


def build_csr(key: TlsKey, *, names: Iterable[str] = ()) -> bytes:
    """Return a PKCS #10 request (DER) for `key` with `names` (DNS names or IP addresses).

    Raises:
        FormatError: a name is neither.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    general = [_general_name(name) for name in names]
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    request = builder.sign(key.private_key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def parse_csr(raw: bytes) -> CertificateRequest:
    """Return the request in `raw`, whose signature shows possession of the key.

    The subject is ignored: who the holder is, evidence says.

    Args:
        raw: PKCS #10 DER, untrusted.

    Raises:
        FormatError: it does not parse, the key is not on P-256, or it asks for more than names.
        AuthenticationFailed: it is not signed by its own key.
    """
    try:
        request = x509.load_der_x509_csr(raw)
        key = demand_p256(request.public_key(), what="certificate request")
        spki = spki_bytes(key)
        extensions = list(request.extensions)
        signed = request.is_signature_valid
    except X509_ERRORS as err:
        raise FormatError("certificate request: does not parse") from err
    if not signed:
        raise AuthenticationFailed("certificate request: not signed by its own key")
    names: tuple[ServerName, ...] = ()
    for extension in extensions:
        if not isinstance(extension.value, x509.SubjectAlternativeName):
            raise FormatError("certificate request: asks for more than names")
        names = _accepted_names(extension.value)
    return CertificateRequest(public_key=key, spki=spki, names=names)


def verify_ca_certificate(raw: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo (DER) of a well-formed, self-signed mesh CA certificate.

    Says nothing about whose CA it is: compare the key with the one that evidence binds.

    Raises:
        FormatError: not a certificate, not of a mesh CA, or not on P-256.
        AuthenticationFailed: not signed by its own key.
    """
    what = "mesh CA certificate"
    certificate = load_certificate(raw, what=what)
    spki = public_key_of(certificate, what=what)
    verify_signed_by(certificate, spki, what=what, by="the mesh CA")
    constraints = basic_constraints(certificate, what=what)
    if not constraints.value.ca or not constraints.critical:
        raise FormatError(f"{what}: not a CA's")
    if constraints.value.path_length != _CA_PATH_LENGTH:
        raise FormatError(f"{what}: not of a CA that has issuing CAs below it and nothing further")
    return spki


def verify_issuing_certificate(
    raw: bytes, *, ca_spki: bytes, manifest_digest: bytes, now: int
) -> bytes:
    """Return the SubjectPublicKeyInfo (DER) of the CA that issues under one manifest.

    Args:
        raw: the issuing CA's certificate, DER, untrusted.
        ca_spki: the mesh CA's key (DER), known from verified evidence.
        manifest_digest: SHA-256 of the manifest that it must issue under, 32 bytes.
        now: Unix seconds.

    Raises:
        FormatError: not a certificate of an issuing CA.
        AuthenticationFailed: not signed by the mesh CA.
        EvidenceStale: outside its validity at `now`.
        PolicyDenied: it issues under another manifest (rule `issuer-manifest`).
    """
    what = "issuing CA certificate"
    certificate = load_certificate(raw, what=what)
    verify_signed_by(certificate, ca_spki, what=what, by="the mesh CA")
    constraints = basic_constraints(certificate, what=what)
    if not constraints.value.ca or not constraints.critical or constraints.value.path_length != 0:
        raise FormatError(f"{what}: not of a CA that issues to processes and to no further CA")
    _refuse_outside(certificate, now, what="the issuing CA's certificate")
    if _issuing_manifest(certificate, what=what) != manifest_digest:
        raise PolicyDenied(
            "the issuing CA issues under another mesh manifest", rule="issuer-manifest"
        )
    return public_key_of(certificate, what=what)


def read_identity(raw: bytes) -> MeshIdentity:
    """Return what the certificate `raw` (DER) says of its holder, **without** believing it.

    Raises:
        FormatError: not a certificate, or without our extension in its proper form.
    """
    certificate = load_certificate(raw, what="mesh certificate")
    for extension in certificate.extensions:
        if extension.oid == MESH_IDENTITY_OID:
            identity = MeshIdentity.from_der(extension.value.public_bytes())
            if extension.critical == (identity.role == FRONTEND):
                raise FormatError("mesh certificate: the identity is wrongly marked critical")
            return identity
    raise FormatError("mesh certificate: carries no mesh identity; is it a mesh certificate?")


def verify_peer_certificate(
    raw: bytes, *, issuer_spki: bytes, role: str, manifest_digest: bytes, now: int
) -> MeshIdentity:
    """Return the identity of a peer whose certificate the manifest's CA issued for `role`.

    The caller has the certificate from the TLS handshake, which proved possession of its key.

    Args:
        raw: the peer's leaf certificate, DER, untrusted.
        issuer_spki: the key (DER) of the issuing CA, of `verify_issuing_certificate`.
        role: the role that the peer must have.
        manifest_digest: SHA-256 of the manifest that it must have been admitted under.
        now: Unix seconds.

    Raises:
        FormatError: not a mesh certificate.
        AuthenticationFailed: not issued by this CA.
        EvidenceStale: outside its validity at `now`.
        PolicyDenied: another role, or another manifest.
    """
    what = "mesh certificate"
    certificate = load_certificate(raw, what=what)
    verify_signed_by(certificate, issuer_spki, what=what, by="the issuing CA of this manifest")
    if basic_constraints(certificate, what=what).value.ca:
        raise FormatError("mesh certificate: a CA's, where a process's is needed")
    _refuse_outside(certificate, now, what="the peer's mesh certificate")
    identity = read_identity(raw)
    if identity.role != role:
        raise PolicyDenied(
            f"the peer's certificate is of role {identity.role!r}, not the one needed here",
            rule="peer-role",
        )
    if identity.manifest_digest != manifest_digest:
        raise PolicyDenied(
            "the peer was admitted under another mesh manifest", rule="peer-manifest"
        )
    return identity


def valid_until(raw: bytes) -> int:
    """Return the last second (Unix) at which the certificate `raw` (DER) is valid."""
    return int(load_certificate(raw, what="certificate").not_valid_after_utc.timestamp())


def certificate_digest(raw: bytes) -> bytes:
    """Return SHA-256 (32 bytes) of a certificate's DER form."""
    return hashlib.sha256(raw).digest()


def chain_pem(chain: Iterable[bytes]) -> bytes:
    """Return DER certificates as PEM, in their order."""
    return b"".join(
        x509.load_der_x509_certificate(each).public_bytes(serialization.Encoding.PEM)
        for each in chain
    )


def spki_of(raw: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo (DER) of a certificate's P-256 key."""
    return public_key_of(load_certificate(raw, what="certificate"), what="certificate")


def _general_name(name: str) -> ServerName:
    """Return `name` as an IP address if it is one, else as a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if _DNS_NAME.match(name) is None:
            raise FormatError("a server name is neither a DNS name nor an IP address") from None
        return x509.DNSName(name)


def _accepted_names(requested: x509.SubjectAlternativeName) -> tuple[ServerName, ...]:
    """Return the DNS names (no wildcards) and IP addresses; anything else is refused."""
    names: list[ServerName] = []
    for name in requested:
        if isinstance(name, x509.DNSName):
            names.append(_general_name(name.value))
        elif isinstance(name, x509.IPAddress):
            names.append(_general_name(str(name.value)))
        else:
            raise FormatError("certificate request: a name is neither DNS name nor IP address")
    if len(names) > MAX_NAMES:
        raise FormatError(f"certificate request: more than {MAX_NAMES} names")
    return tuple(names)


def _refuse_outside(certificate: x509.Certificate, now: int, *, what: str) -> None:
    """Refuse a certificate outside its validity at `now`."""
    starts = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    if not starts <= now <= ends:
        raise EvidenceStale(f"{what} is not valid at this time")


def _issuing_manifest(certificate: x509.Certificate, *, what: str) -> bytes:
    """Return the digest of the manifest that an issuing CA's certificate names."""
    for extension in certificate.extensions:
        if extension.oid == ISSUING_MANIFEST_OID:
            raw: bytes = extension.value.public_bytes()
            digest = raw[2:]
            if issuing_manifest_der(digest) != raw:
                break
            if extension.critical:
                raise FormatError(f"{what}: the manifest is wrongly marked critical")
            return digest
    raise FormatError(f"{what}: names no manifest in the one form")
