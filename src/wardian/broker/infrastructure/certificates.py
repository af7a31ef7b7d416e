"""Certificates of infrastructure, which no role of a mesh accepts, and what their readers demand.

    infrastructure CA  ->  a server of Redis
                       ->  a role, as a client of Redis

Redis is not attested, and its host has its keys. So what proves that one speaks to it is of another
authority than what proves who is of the mesh (TRUST T3). The mesh CA signs nothing of this and is
signed by nothing of it; and each of these certificates says what it is, `OU=INFRASTRUCTURE` for
people and an extension of ours for readers. That is not critical: Redis itself has to accept them.

What this proves is that somebody asked a broker of this mesh for a server's certificate, which is
anybody. It keeps out who only listens. What travels is sealed end to end.
"""

from typing import Final

from cryptography import x509

from wardian.broker.certificate_form import (
    basic_constraints,
    element,
    load_certificate,
    public_key_of,
    verify_signed_by,
)
from wardian.errors import EvidenceStale, FormatError, PolicyDenied

INFRASTRUCTURE_OID: Final = x509.ObjectIdentifier("2.25.24403211575681403494583916113568977729.3")
"""In each of these certificates: UTF8String, what its holder is."""
INFRASTRUCTURE: Final = "INFRASTRUCTURE"
"""The unit that every subject names."""
AUTHORITY: Final = "authority"
SERVER: Final = "server"
"""What the extension says of the CA and of Redis; of a client it says its role."""


def holder_der(holder: str) -> bytes:
    """Return UTF8String `holder`, as the extension has it (1 to 64 characters of ASCII)."""
    return element(0x0C, holder.encode("ascii"))


def verify_infrastructure_ca(raw: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo (DER) of a well-formed, self-signed infrastructure CA.

    Says nothing about whose CA it is.

    Args:
        raw: its certificate, DER, untrusted.

    Raises:
        FormatError: not a certificate, not of an infrastructure CA, or not on P-256.
        AuthenticationFailed: not signed by its own key.
    """
    what = "infrastructure CA certificate"
    certificate = load_certificate(raw, what=what)
    spki = public_key_of(certificate, what=what)
    verify_signed_by(certificate, spki, what=what, by="its own key")
    constraints = basic_constraints(certificate, what=what)
    if not constraints.value.ca or not constraints.critical or constraints.value.path_length != 0:
        raise FormatError(f"{what}: not of a CA that issues to processes and to no further CA")
    if _holder(certificate, what=what) != AUTHORITY:
        raise FormatError(f"{what}: says that it is of something else")
    return spki


def verify_infrastructure_certificate(raw: bytes, *, ca: bytes, holder: str, now: int) -> bytes:
    """Return the key (DER) of a certificate that the infrastructure CA issued for `holder`.

    Args:
        raw: the leaf, DER, untrusted.
        ca: the infrastructure CA's certificate, DER.
        holder: `SERVER`, or the role of a client.
        now: Unix seconds.

    Raises:
        FormatError: one of the two is not what it should be.
        AuthenticationFailed: not issued by this CA.
        EvidenceStale: outside its validity at `now`.
        PolicyDenied: issued for another holder (rule `infrastructure-holder`).
    """
    what = "infrastructure certificate"
    certificate = load_certificate(raw, what=what)
    issuer = verify_infrastructure_ca(ca)
    verify_signed_by(certificate, issuer, what=what, by="the infrastructure CA")
    if basic_constraints(certificate, what=what).value.ca:
        raise FormatError(f"{what}: a CA's, where a process's is needed")
    starts = certificate.not_valid_before_utc.timestamp()
    if not starts <= now <= certificate.not_valid_after_utc.timestamp():
        raise EvidenceStale(f"{what}: not valid at this time")
    if _holder(certificate, what=what) != holder:
        raise PolicyDenied(f"{what}: of another holder", rule="infrastructure-holder")
    return public_key_of(certificate, what=what)


def names_in(raw: bytes) -> frozenset[str]:
    """Return the DNS names and IP addresses in a certificate (DER), **without** believing it.

    Raises:
        FormatError: not a certificate.
    """
    certificate = load_certificate(raw, what="infrastructure certificate")
    for extension in certificate.extensions:
        names = extension.value
        if isinstance(names, x509.SubjectAlternativeName):
            addresses = names.get_values_for_type(x509.IPAddress)
            return frozenset({*names.get_values_for_type(x509.DNSName), *map(str, addresses)})
    return frozenset()


def _holder(certificate: x509.Certificate, *, what: str) -> str:
    """Return what the certificate says of its holder, in its one form."""
    for extension in certificate.extensions:
        if extension.oid == INFRASTRUCTURE_OID:
            raw: bytes = extension.value.public_bytes()
            try:
                holder = raw[2:].decode("ascii")
            except UnicodeDecodeError as err:
                raise FormatError(f"{what}: what it is of is not ASCII") from err
            if extension.critical or holder_der(holder) != raw:
                break
            return holder
    raise FormatError(f"{what}: does not say in the one form that it is one")
