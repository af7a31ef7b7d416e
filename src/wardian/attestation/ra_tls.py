"""Evidence inside a TLS certificate (RA-TLS), in Gramine's own layout and in that of TCG DICE.

Both serve interoperation with other people's software, and never the release of a key. Neither
layout has a label for what the evidence is for, and neither has any freshness beyond the TLS
handshake that shows the certificate; only DICE may add a nonce. The release protocol demands
evidence bound by `evidence.bind` to a `Purpose`, which the report data of these layouts never
equals (TRUST T24).

    layout  extension                   value                   report data, 64 bytes
    LEGACY  0.6.9.42.840.113741.1337.6  the quote               SHA-256(SPKI) || 32 zero bytes
    DICE    2.23.133.5.4.9              tagged evidence (CBOR)  SHA-256(claims) || 32 zero bytes

The verifier goes on as far as each step holds:

    (1) structure     X.509, extensions by OID, CBOR, quote   FormatError
    (2) certificate   signed by its own key, current, no CA   EvidenceInvalid, EvidenceStale
    (3) the key       pubkey-hash claim, nonce (DICE)         EvidenceInvalid
    (4) the evidence  `verifier.verify_evidence`              as there

Sources: Gramine 1.9, `tools/sgx/ra-tls/ra_tls_attest.c` and `ra_tls_verify_common.c`; TCG, "DICE
Attestation Architecture", `tcg-dice-TaggedEvidence`; and those of `dice`.
"""

import enum
import hashlib
import hmac
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.attestation.dice import TaggedEvidence, parse_claims, parse_tagged_evidence
from wardian.attestation.evidence import REPORT_DATA_BYTES, Evidence
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.errors import EvidenceInvalid, EvidenceStale, FormatError, LocalProtocolError


class Layout(enum.StrEnum):
    """How evidence lies in a certificate."""

    LEGACY = "gramine-legacy"
    """Gramine's since 1.0, under an OID that nobody registered."""
    DICE = "tcg-dice"
    """Gramine's since 1.8, and that of other RA-TLS libraries."""


BOTH: Final = frozenset(Layout)

OIDS: Final = {
    # Gramine's OID holds the tag and the length of the OID that was meant; it stays for good.
    Layout.LEGACY: x509.ObjectIdentifier("0.6.9.42.840.113741.1337.6"),
    Layout.DICE: x509.ObjectIdentifier("2.23.133.5.4.9"),
}
"""The extension of each layout."""

MAX_EXTENSION_BYTES: Final = 8192
"""Gramine's SGX_QUOTE_MAX_SIZE: its verifier refuses a longer value of either extension."""

MAX_CERTIFICATE_BYTES: Final = 2 * MAX_EXTENSION_BYTES + 2048
"""Both extensions at their longest and the rest, which takes about 500 bytes."""

MIN_NONCE_BYTES: Final = 16
MAX_NONCE_BYTES: Final = 64

CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
"""Those of the keys that Gramine's verifier accepts; P-384 is what Gramine makes."""

_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_LAYOUTS: Final = {oid: layout for layout, oid in OIDS.items()}
_WHAT: Final = "RA-TLS certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class RaTlsPeer:
    """The holder of a key, as evidence in its certificate vouches for it.

    Only `verify_certificate` makes one. Not good for the release of anything: see the module.

    Attributes:
        result: the enclave, and why the policy accepts it.
        spki: SubjectPublicKeyInfo (DER) of its TLS key, on P-256 or P-384, uncompressed.
        layout: the one that was verified; the certificate's other extension is not believed.
    """

    result: AttestationResult
    spki: bytes
    layout: Layout

    @property
    def spki_sha256(self) -> bytes:
        """SHA-256 of `spki`, 32 bytes."""
        return hashlib.sha256(self.spki).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    """What a certificate says that its own key signed; nothing of it is believed yet.

    Attributes:
        spki: as in `RaTlsPeer`.
        starts, ends: Unix time, seconds.
        legacy: the quote in the legacy layout.
        dice: the evidence in the DICE layout.
    """

    spki: bytes
    starts: float
    ends: float
    legacy: bytes | None
    dice: TaggedEvidence | None


def report_data(vouched_for: bytes) -> bytes:
    """Return the 64 bytes that a quote of either layout carries.

    Args:
        vouched_for: SubjectPublicKeyInfo (DER) in `LEGACY`, the encoded claims in `DICE`.
    """
    return hashlib.sha256(vouched_for).digest().ljust(REPORT_DATA_BYTES, b"\0")


def demand_nonce_length(nonce: bytes | None) -> None:
    """Raise `LocalProtocolError` unless `nonce` is None or has an acceptable length."""
    if nonce is not None and not MIN_NONCE_BYTES <= len(nonce) <= MAX_NONCE_BYTES:
        raise LocalProtocolError(f"a nonce has {MIN_NONCE_BYTES} to {MAX_NONCE_BYTES} bytes")


def verify_certificate(
    der: bytes,
    *,
    policy: AppraisalPolicy,
    collateral: bytes,
    now: int,
    nonce: bytes | None = None,
    layouts: AbstractSet[Layout] = BOTH,
) -> RaTlsPeer:
    """Return whose key the certificate `der` is of: an enclave that `policy` accepts.

    The caller has the certificate from the handshake of the very connection that it goes on to
    use: only that proves possession of the key, and the TLS library did not judge the chain.
    Resumption and early data show no certificate and have to be off (TRUST T20).

    Args:
        der: the peer's certificate, at most `MAX_CERTIFICATE_BYTES`, untrusted.
        policy: which roots and which claims are accepted.
        collateral: what the vendor signed about the platform, as in `Evidence`; the layouts
            carry none. Untrusted.
        now: Unix time, seconds, not negative.
        nonce: 16 to 64 bytes that the evidence has to answer, which only `DICE` can; None leaves
            freshness to the handshake.
        layouts: the ones that are looked at. Where `DICE` is one and is there, it decides.

    Raises:
        FormatError: the certificate, its evidence or the collateral does not parse, or an
            extension is repeated, wrongly critical or followed by something.
        EvidenceInvalid: no evidence in `layouts`; the certificate is a CA's or not signed by its
            own key; evidence is not about this key or nonce; a signature does not verify.
        EvidenceStale: the certificate or the collateral is outside its time.
        PolicyDenied, TcbUnacceptable, CollateralUnavailable: as `verifier.verify_evidence`.
        LocalProtocolError: `nonce` has another length.
    """
    demand_nonce_length(nonce)
    leaf = _parse_self_signed(der)
    if not leaf.starts <= now <= leaf.ends:
        raise EvidenceStale(f"the {_WHAT} is not valid at this time")
    layout, quote, vouched_for = _decisive(leaf, layouts, nonce=nonce)
    result = verify_evidence(
        Evidence(quote=quote, collateral=collateral),
        policy=policy,
        report_data=report_data(vouched_for),
        now=now,
    )
    return RaTlsPeer(result=result, spki=leaf.spki, layout=layout)


def _decisive(
    leaf: _Leaf, layouts: AbstractSet[Layout], *, nonce: bytes | None
) -> tuple[Layout, bytes, bytes]:
    """Return the layout that counts, its quote, and what that quote has to vouch for."""
    if leaf.dice is not None and Layout.DICE in layouts:
        _verify_claims(leaf.dice.claims, spki=leaf.spki, nonce=nonce)
        return Layout.DICE, leaf.dice.quote, leaf.dice.claims
    if leaf.legacy is not None and Layout.LEGACY in layouts:
        if nonce is not None:
            raise EvidenceInvalid("the legacy RA-TLS layout cannot answer a nonce")
        return Layout.LEGACY, leaf.legacy, leaf.spki
    raise EvidenceInvalid(f"the {_WHAT} carries no evidence in an accepted layout")


def _verify_claims(raw: bytes, *, spki: bytes, nonce: bytes | None) -> None:
    """Return if the claims are about the key in `spki`, and answer `nonce` if there is one."""
    claims = parse_claims(raw)
    if not hmac.compare_digest(claims.pubkey_hash, claims.algorithm.digest(spki)):
        raise EvidenceInvalid("the evidence is about another key than the certificate's")
    if nonce is not None and not hmac.compare_digest(claims.nonce or b"", nonce):
        raise EvidenceInvalid("the evidence does not answer this nonce")


def _parse_self_signed(der: bytes) -> _Leaf:
    """Return what the certificate says; its own key signed every byte of it, and it is no CA's."""
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise FormatError(f"{_WHAT}: {len(der)} bytes, at most {MAX_CERTIFICATE_BYTES}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        leaf = _parse_leaf(certificate)
        _verify_self_signed(certificate, der)
    except X509_ERRORS as err:
        raise FormatError(f"{_WHAT}: does not parse") from err
    return leaf


def _parse_leaf(certificate: x509.Certificate) -> _Leaf:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, CURVES):
        raise FormatError(f"{_WHAT}: the key is not on the curve P-256 or P-384")
    if certificate.version is not x509.Version.v3 or certificate.serial_number < 1:
        raise FormatError(f"{_WHAT}: not of version 3 with a positive serial number")
    values = _parse_extensions(certificate.extensions)
    legacy, dice = values.get(Layout.LEGACY), values.get(Layout.DICE)
    return _Leaf(
        spki=key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        starts=certificate.not_valid_before_utc.timestamp(),
        ends=certificate.not_valid_after_utc.timestamp(),
        legacy=None if legacy is None else _exact_quote(legacy),
        dice=None if dice is None else _exact_evidence(dice),
    )


def _parse_extensions(extensions: x509.Extensions) -> dict[Layout, bytes]:
    """Return the values of our layouts; the others must not matter, or say that it is no CA's."""
    if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise EvidenceInvalid(f"the {_WHAT} is a CA's: RA-TLS vouches for one key alone")
    values = {}
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage) and value.key_cert_sign:
            raise EvidenceInvalid(f"the {_WHAT} may sign others: RA-TLS vouches for one key alone")
        if extension.critical and not isinstance(value, x509.BasicConstraints | x509.KeyUsage):
            # RFC 5280, 4.2: what one does not know and what is critical, one refuses. Ours are
            # not critical in Gramine: a critical one was made by rules that we do not know.
            raise FormatError(f"{_WHAT}: an extension is critical that must not be")
        if extension.oid in _LAYOUTS:
            raw = value.public_bytes()
            if len(raw) > MAX_EXTENSION_BYTES:
                raise FormatError(f"{_WHAT}: evidence has more than {MAX_EXTENSION_BYTES} bytes")
            values[_LAYOUTS[extension.oid]] = raw
    return values


def _exact_quote(raw: bytes) -> bytes:
    """Return `raw`, which is a quote from its first byte to its last: padding is refused here."""
    if parse_quote(raw).raw != raw:
        raise FormatError(f"{_WHAT}: something follows the quote")
    return raw


def _exact_evidence(raw: bytes) -> TaggedEvidence:
    evidence = parse_tagged_evidence(raw)
    _exact_quote(evidence.quote)
    return evidence


def _verify_self_signed(certificate: x509.Certificate, der: bytes) -> None:
    """Return if the certificate's own key signed it, and no bit outside the signature is loose."""
    if certificate.issuer != certificate.subject:
        raise EvidenceInvalid(f"the {_WHAT} names another issuer: it is not self-signed")
    if not isinstance(certificate.signature_hash_algorithm, _HASHES):
        raise FormatError(f"{_WHAT}: not signed with SHA-256, SHA-384 or SHA-512")
    # The signature ends the certificate, as a BIT STRING, whose first byte counts unused bits
    # (X.690, 8.6.2.2). There are none; the parser accepts some if they are 0.
    if der[-len(certificate.signature) - 1] != 0:
        raise FormatError(f"{_WHAT}: the signature is not whole bytes")
    try:
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature as err:
        raise EvidenceInvalid(f"the {_WHAT} is not signed by its own key") from err
