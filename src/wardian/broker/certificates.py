"""Mesh certificates as their readers see them: requests, identities, and what peers demand.

Trust is established once: whoever verified the broker's evidence knows the CA's key, and from then
on a certificate is enough. A mesh certificate says, in an extension of our own, which role it is,
which code was measured and under which manifest; every peer demands all three (TRUST T3).

The extension is critical, so that software that does not know it refuses the certificate. Only a
front end's is not: curl and browsers have to accept that one. Our own peers demand it regardless.
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

from wardian.attestation.refusal import X509_ERRORS
from wardian.crypto.tls_keys import TlsKey, verify_ecdsa
from wardian.errors import AuthenticationFailed, EvidenceStale, FormatError, PolicyDenied

MESH_IDENTITY_OID: Final = x509.ObjectIdentifier("2.25.24403211575681403494583916113568977729.1")
"""Under 2.25 anyone may use a UUID as an arc without registering it (ITU-T X.667)."""

BROKER: Final = "broker"
FRONTEND: Final = "frontend"
"""The one role whose certificate strangers have to accept."""
MAX_CERTIFICATE_BYTES: Final = 16 * 1024
MAX_NAMES: Final = 16
MAX_ROLE_CHARS: Final = 64

_ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
"""AlgorithmIdentifier, without parameters (RFC 5758, 3.2)."""
_MAX_SIGNATURE_BYTES: Final = 72
"""Of ECDSA on P-256, in DER."""
_VERSION_3: Final = bytes.fromhex("a003020102")

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
        return _element(
            0x30,
            _element(0x0C, self.role.encode())
            + _element(0x04, self.measurement)
            + _element(0x04, self.manifest_digest),
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
        key = _p256(request.public_key(), what="certificate request")
        spki = _spki(key)
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
        FormatError: not a certificate, not of a CA, or not on P-256.
        AuthenticationFailed: not signed by its own key.
    """
    certificate = _load(raw, what="mesh CA certificate")
    spki = _public_key(certificate, what="mesh CA certificate")
    _verify_signed_by(certificate, spki, what="mesh CA certificate")
    constraints = _extension(certificate, x509.BasicConstraints, what="mesh CA certificate")
    if not constraints.value.ca or not constraints.critical:
        raise FormatError("mesh CA certificate: not a CA's")
    return spki


def read_identity(raw: bytes) -> MeshIdentity:
    """Return what the certificate `raw` (DER) says of its holder, **without** believing it.

    Raises:
        FormatError: not a certificate, or without our extension in its proper form.
    """
    certificate = _load(raw, what="mesh certificate")
    for extension in certificate.extensions:
        if extension.oid == MESH_IDENTITY_OID:
            identity = MeshIdentity.from_der(extension.value.public_bytes())
            if extension.critical == (identity.role == FRONTEND):
                raise FormatError("mesh certificate: the identity is wrongly marked critical")
            return identity
    raise FormatError("mesh certificate: carries no mesh identity; is it a mesh certificate?")


def verify_peer_certificate(
    raw: bytes, *, ca_spki: bytes, role: str, manifest_digest: bytes, now: int
) -> MeshIdentity:
    """Return the identity of a peer whose certificate the mesh CA issued for `role`.

    The caller has the certificate from the TLS handshake, which proved possession of its key.

    Args:
        raw: the peer's leaf certificate, DER, untrusted.
        ca_spki: the mesh CA's key (DER), known from verified evidence.
        role: the role that the peer must have.
        manifest_digest: SHA-256 of the manifest that it must have been admitted under.
        now: Unix seconds.

    Raises:
        FormatError: not a mesh certificate.
        AuthenticationFailed: not issued by this CA.
        EvidenceStale: outside its validity at `now`.
        PolicyDenied: another role, or another manifest.
    """
    certificate = _load(raw, what="mesh certificate")
    _verify_signed_by(certificate, ca_spki, what="mesh certificate")
    if _extension(certificate, x509.BasicConstraints, what="mesh certificate").value.ca:
        raise FormatError("mesh certificate: a CA's, where a process's is needed")
    starts = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    if not starts <= now <= ends:
        raise EvidenceStale("the peer's mesh certificate is not valid at this time")
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
    certificate = _load(raw, what="certificate")
    return _public_key(certificate, what="certificate")


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


def _load(raw: bytes, *, what: str) -> x509.Certificate:
    """Return the certificate in `raw` with every extension parsed."""
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


def _public_key(certificate: x509.Certificate, *, what: str) -> bytes:
    """Return the SubjectPublicKeyInfo (DER) of a P-256 key; a certificate loads without it."""
    try:
        return _spki(_p256(certificate.public_key(), what=what))
    except X509_ERRORS as err:
        raise FormatError(f"{what}: its key does not parse") from err


def _extension(
    certificate: x509.Certificate, kind: type[x509.BasicConstraints], *, what: str
) -> x509.Extension[x509.BasicConstraints]:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound as err:
        raise FormatError(f"{what}: does not say whether it is a CA's") from err


def _verify_signed_by(certificate: x509.Certificate, spki: bytes, *, what: str) -> None:
    """Return if the holder of `spki` signed the certificate, with ECDSA and SHA-256.

    What the signature does not cover has one form: the algorithm's name, which is the one inside
    (RFC 5280, 4.1.1.2), and a signature of whole bytes (X.690, 8.6.2.2).
    """
    content = certificate.tbs_certificate_bytes
    raw = certificate.public_bytes(serialization.Encoding.DER)
    signature = b"\0" + certificate.signature[:_MAX_SIGNATURE_BYTES]
    if not raw.endswith(content + _ECDSA_SHA256 + _element(0x03, signature)):
        raise FormatError(f"{what}: not signed with ECDSA and SHA-256, in whole bytes")
    if not _after_serial_number(content).startswith(_ECDSA_SHA256):
        raise FormatError(
            f"{what}: not of version 3, or names another algorithm than its signature"
        )
    try:
        verify_ecdsa(spki, certificate.signature, certificate.tbs_certificate_bytes)
    except AuthenticationFailed as err:
        raise AuthenticationFailed(f"{what}: not signed by the mesh CA") from err


def _after_serial_number(content: bytes) -> bytes:
    """Return what follows version 3 and serial number in a TBSCertificate that parsed, or b""."""
    start = 2 if content[1] < 128 else 2 + (content[1] & 0x7F)
    rest = content[start:]
    if not rest.startswith(_VERSION_3):
        return b""
    number = rest[len(_VERSION_3) :]
    return number[2 + number[1] :]  # INTEGER, which the parser bounds at 20 bytes or so


def _p256(key: object, *, what: str) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FormatError(f"{what}: the key is not on the curve P-256")
    return key


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _element(tag: int, content: bytes) -> bytes:
    """Return one DER element of at most 255 bytes (X.690, 8.1.3)."""
    length = len(content)
    return bytes((tag, length) if length < 128 else (tag, 0x81, length)) + content
