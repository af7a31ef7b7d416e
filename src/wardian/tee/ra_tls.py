"""RA-TLS certificates of this enclave, for peers that know Gramine's layouts and not Wardian.

For interoperation only, and never for the release of a key: neither layout has a label for what
the evidence is for, and neither has any freshness beyond the TLS handshake that shows the
certificate (TRUST T24). What the layouts are, and who verifies them, is in `attestation.ra_tls`.

Byte for byte the certificate is what Gramine 1.9 makes (`tools/sgx/ra-tls/ra_tls_attest.c`), but
for the quotes, the key and the signature; a nonce, which Gramine never adds, is the one addition.
"""

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wardian.attestation.dice import TaggedEvidence, build_claims, build_tagged_evidence
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.ra_tls import (
    BOTH,
    CURVES,
    MAX_EXTENSION_BYTES,
    OIDS,
    Layout,
    demand_nonce_length,
    report_data,
)
from wardian.errors import FormatError, LocalProtocolError
from wardian.tee.backend import Enclave

GRAMINE_NOT_BEFORE: Final = 978_307_200
"""2001-01-01 00:00:00 UTC, Gramine's default: an enclave has no clock to trust."""

GRAMINE_NOT_AFTER: Final = 1_924_991_999
"""2030-12-31 23:59:59 UTC, Gramine's default."""

MAX_TIME: Final = 253_402_300_799
"""9999-12-31 23:59:59 UTC, the last time that X.509 can say (RFC 5280, 4.1.2.5)."""

_SUBJECT: Final = x509.Name(
    [
        x509.NameAttribute(NameOID.COMMON_NAME, "RATLS"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "GramineDevelopers"),
        x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
    ]
)
"""Gramine's: of subject and issuer alike, and of no meaning."""

_SERIAL: Final = 1


def generate_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh key on P-384, as Gramine makes one for each start."""
    return ec.generate_private_key(ec.SECP384R1())


def build_certificate(
    enclave: Enclave,
    key: ec.EllipticCurvePrivateKey,
    *,
    layouts: AbstractSet[Layout] = BOTH,
    not_before: int,
    not_after: int,
    nonce: bytes | None = None,
) -> bytes:
    """Return a self-signed certificate (DER) for `key` with evidence of `enclave` in `layouts`.

    The enclave quotes once for each layout: the two vouch for different bytes. Its collateral is
    not in the certificate; the verifier has to have it from elsewhere.

    Args:
        enclave: who is to vouch for the key; the key must never have been outside it.
        key: on P-384 (`generate_key`) or P-256 (`TlsKey.private_key`), of this use alone.
        layouts: at least one.
        not_before: Unix time, seconds, from 0; for example `GRAMINE_NOT_BEFORE`.
        not_after: Unix time, seconds, after `not_before`, at most `MAX_TIME`.
        nonce: the verifier's challenge, 16 to 64 bytes, which only `Layout.DICE` can carry.

    Raises:
        LocalProtocolError: an argument is not as above.
        FormatError: the enclave's quote is none that Gramine's verifier reads.
        ConfigError, ConnectionLost: as `Enclave.evidence`.
    """
    _demand_arguments(key, layouts, not_before=not_before, not_after=not_after, nonce=nonce)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_SUBJECT)
        .issuer_name(_SUBJECT)
        .public_key(public)
        .serial_number(_SERIAL)
        .not_valid_before(datetime.fromtimestamp(not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(not_after, UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    spki = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for layout, value in _extensions(enclave, spki, layouts, nonce=nonce).items():
        builder = builder.add_extension(
            x509.UnrecognizedExtension(OIDS[layout], value), critical=False
        )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _extensions(
    enclave: Enclave, spki: bytes, layouts: AbstractSet[Layout], *, nonce: bytes | None
) -> dict[Layout, bytes]:
    """Return the value of each layout's extension, in the order in which Gramine has them."""
    values = {}
    if Layout.LEGACY in layouts:
        values[Layout.LEGACY] = _quote(enclave, spki)
    if Layout.DICE in layouts:
        claims = build_claims(spki, nonce=nonce)
        evidence = TaggedEvidence(quote=_quote(enclave, claims), claims=claims)
        values[Layout.DICE] = build_tagged_evidence(evidence)
    if any(len(value) > MAX_EXTENSION_BYTES for value in values.values()):
        raise FormatError(f"RA-TLS: evidence has more than {MAX_EXTENSION_BYTES} bytes")
    return values


def _quote(enclave: Enclave, vouched_for: bytes) -> bytes:
    """Return a quote that vouches for these bytes, without the padding that may follow it."""
    return parse_quote(enclave.evidence(report_data(vouched_for)).quote).raw


def _demand_arguments(
    key: ec.EllipticCurvePrivateKey,
    layouts: AbstractSet[Layout],
    *,
    not_before: int,
    not_after: int,
    nonce: bytes | None,
) -> None:
    """Raise `LocalProtocolError` unless the arguments are as `build_certificate` wants them."""
    demand_nonce_length(nonce)
    if not isinstance(key.curve, CURVES):
        raise LocalProtocolError("an RA-TLS key is on the curve P-256 or P-384")
    if not layouts & BOTH:
        raise LocalProtocolError("an RA-TLS certificate has evidence in at least one layout")
    if nonce is not None and Layout.DICE not in layouts:
        raise LocalProtocolError("only the DICE layout can carry a nonce")
    if not 0 <= not_before < not_after <= MAX_TIME:
        raise LocalProtocolError("a certificate begins in 1970 or later, and ends after that")
