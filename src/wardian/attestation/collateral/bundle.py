"""Collateral: what the platform's vendor signs about it, and how it travels.

The JSON has the nine fields that `dcap-qvl` and Intel's provisioning service use. All of them are
signed by the vendor and verified with the quote; this module demands their form alone. JSON may be
laid out in any way around them, because the services differ in that; each field has one form.
"""

import binascii
from dataclasses import dataclass

from wardian._internal import wire
from wardian.attestation.certificates.pem_chain import parse_pem_chain
from wardian.errors import CollateralUnavailable, FormatError

MAX_COLLATERAL_BYTES = 256 * 1024
"""Real collateral has 14 to 24 KiB."""

_ISSUERS = 2  # who signed it, root
_PCK_CHAIN = 3  # PCK leaf, its CA, root


class _Json(wire.Message, frozen=True, kw_only=True):
    pck_crl_issuer_chain: str
    root_ca_crl: str
    pck_crl: str
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: str
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: str
    pck_certificate_chain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """The signed statements about a platform, unverified.

    Attributes:
        pck_crl_issuers, tcb_info_issuers, qe_identity_issuers: the two certificates, DER, of whom
            signed it and of the root.
        root_ca_crl, pck_crl: the revocation lists, DER.
        tcb_info, qe_identity: the JSON, exactly as it was signed.
        tcb_info_signature, qe_identity_signature: ECDSA P-256, r || s.
        pck_chain: the platform's own certificates, DER, where a tool added them; those in the
            quote count.
    """

    pck_crl_issuers: tuple[bytes, ...]
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuers: tuple[bytes, ...]
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuers: tuple[bytes, ...]
    qe_identity: str
    qe_identity_signature: bytes
    pck_chain: tuple[bytes, ...] | None


def parse_collateral(raw: bytes) -> Collateral:
    """Return the collateral in `raw`.

    Args:
        raw: JSON, at most `MAX_COLLATERAL_BYTES`, untrusted. CRLs and signatures are in hex, each
            in one case; certificates are in PEM as `pem_chain` demands it.

    Raises:
        CollateralUnavailable: `raw` is empty: the attester had none.
        FormatError: too large, not JSON, a field is missing or unknown or of another form.
    """
    if not raw:
        raise CollateralUnavailable("the evidence carries no collateral about its platform")
    if len(raw) > MAX_COLLATERAL_BYTES:
        raise FormatError(f"collateral: {len(raw)} bytes, at most {MAX_COLLATERAL_BYTES}")
    found = wire.decode(raw, _Json, what="collateral")
    return Collateral(
        pck_crl_issuers=_chain(found.pck_crl_issuer_chain, _ISSUERS, "pck_crl_issuer_chain"),
        root_ca_crl=_unhex(found.root_ca_crl, "root_ca_crl"),
        pck_crl=_unhex(found.pck_crl, "pck_crl"),
        tcb_info_issuers=_chain(found.tcb_info_issuer_chain, _ISSUERS, "tcb_info_issuer_chain"),
        tcb_info=found.tcb_info,
        tcb_info_signature=_unhex(found.tcb_info_signature, "tcb_info_signature"),
        qe_identity_issuers=_chain(
            found.qe_identity_issuer_chain, _ISSUERS, "qe_identity_issuer_chain"
        ),
        qe_identity=found.qe_identity,
        qe_identity_signature=_unhex(found.qe_identity_signature, "qe_identity_signature"),
        pck_chain=None
        if found.pck_certificate_chain is None
        else _chain(found.pck_certificate_chain, _PCK_CHAIN, "pck_certificate_chain"),
    )


def _chain(text: str, count: int, name: str) -> tuple[bytes, ...]:
    return parse_pem_chain(text.encode(), count=count, what=f"collateral: {name}")


def _unhex(text: str, name: str) -> bytes:
    """Return the bytes of `text`, which is hex in lower or in upper case, not in both."""
    try:
        raw = binascii.unhexlify(text)
    except ValueError as err:
        raise FormatError(f"collateral: {name} is not hex") from err
    if text not in {raw.hex(), raw.hex().upper()}:
        raise FormatError(f"collateral: {name} is hex in mixed case")
    return raw
