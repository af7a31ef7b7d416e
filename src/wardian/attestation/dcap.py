"""The adapter to `dcap-qvl`, the library that verifies a quote's signatures and its collateral.

Nothing else in Wardian calls the library. What it does for us: the certificate chain of the quote
and of every vendor's statement up to one given root, revocation lists (required, enforced), the
quoting enclave's report and identity, the quote's signature, the platform's TCB level, the validity
in time of each of them, and the refusal of debug enclaves and of revoked TCB levels.
"""

import binascii

import dcap_qvl  # type: ignore[import-untyped]  # its stub is not marked with py.typed
import msgspec

from wardian.attestation.claims import TcbStatus
from wardian.attestation.collateral import Collateral
from wardian.errors import EvidenceInvalid, FormatError


class Tcb(msgspec.Struct, frozen=True):
    """The judgement on the platform and its quoting enclave together."""

    status: TcbStatus
    advisory_ids: tuple[str, ...]
    eval_data_number: int


class Pck(msgspec.Struct, frozen=True):
    """What the platform's certificate says about it; bytes come as lists of numbers."""

    ppid: tuple[int, ...]
    fmspc: tuple[int, ...]
    sgx_type: int


class Platform(msgspec.Struct, frozen=True):
    """The platform."""

    pck: Pck


class Verified(msgspec.Struct, frozen=True):
    """What we read of the library's claims; the enclave's own are in the quote itself."""

    tcb: Tcb
    platform: Platform
    earliest_expiration_date: int


class Refused(Exception):
    """The library refused; the message is its text."""


def verify_signatures(quote: bytes, collateral: Collateral, *, root: bytes, now: int) -> Verified:
    """Return what the library found, if quote and collateral are genuine and current.

    Args:
        quote: exactly a quote, without anything behind it: the library would not mind.
        collateral: the vendor's statements, unverified.
        root: the only root certificate that counts, DER.
        now: Unix time, seconds, not negative.

    Raises:
        Refused: they are not.
        FormatError: a revocation list or a signature is not hex.
        EvidenceInvalid: the platform's TCB status is of a kind that we do not know.
    """
    # "Claims only" leaves the TCB status and advisories to our policy; all the rest is enforced.
    judgement = dcap_qvl.QuotePolicy.claims_only(now)
    statements = _native(collateral)
    try:
        verified = dcap_qvl.QuoteVerifier(root).verify_with_policy(
            quote, statements, now, judgement
        )
    except ValueError as err:
        raise Refused(str(err)) from err
    try:
        return msgspec.json.decode(verified.to_json(), type=Verified)
    except msgspec.DecodeError as err:
        raise EvidenceInvalid("the platform's TCB status is of an unknown kind") from err


def _native(collateral: Collateral) -> dcap_qvl.QuoteCollateralV3:
    """Return `collateral` as the library's type, without the PCK chain: the quote's own counts."""
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_issuer_chain,
        root_ca_crl=_unhex(collateral.root_ca_crl, "root_ca_crl"),
        pck_crl=_unhex(collateral.pck_crl, "pck_crl"),
        tcb_info_issuer_chain=collateral.tcb_info_issuer_chain,
        tcb_info=collateral.tcb_info,
        tcb_info_signature=_unhex(collateral.tcb_info_signature, "tcb_info_signature"),
        qe_identity_issuer_chain=collateral.qe_identity_issuer_chain,
        qe_identity=collateral.qe_identity,
        qe_identity_signature=_unhex(collateral.qe_identity_signature, "qe_identity_signature"),
    )


def _unhex(text: str, name: str) -> bytes:
    try:
        return binascii.unhexlify(text)
    except ValueError as err:
        raise FormatError(f"collateral: {name} is not hex") from err
