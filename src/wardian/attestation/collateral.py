"""Collateral: what the platform's vendor signs about it, and how it travels.

The JSON has the nine fields that `dcap-qvl` and Intel's provisioning service use. All of them are
signed by the vendor and verified with the quote; this module checks their form alone.
"""

import datetime as dt

import msgspec

from wardian._internal import wire
from wardian.errors import CollateralUnavailable, FormatError

MAX_COLLATERAL_BYTES = 256 * 1024
"""Real collateral has 14 to 24 KiB."""


class Collateral(wire.Message, frozen=True, kw_only=True):
    """The signed statements about a platform, unverified. CRLs and signatures are in hex.

    `pck_certificate_chain` is tolerated because collateral tools add it, and never used: the
    chain that counts is the one in the quote.
    """

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


class _Issued(msgspec.Struct, frozen=True):
    """The one field of TCB info and QE identity that `dcap-qvl` does not hand on."""

    issue_date: str = msgspec.field(name="issueDate")


def parse_collateral(raw: bytes) -> Collateral:
    """Return the collateral in `raw`.

    Args:
        raw: JSON, at most `MAX_COLLATERAL_BYTES`, untrusted.

    Raises:
        CollateralUnavailable: `raw` is empty: the attester had none.
        FormatError: too large, not JSON, or a field is missing or unknown.
    """
    if not raw:
        raise CollateralUnavailable("the evidence carries no collateral about its platform")
    if len(raw) > MAX_COLLATERAL_BYTES:
        raise FormatError(f"collateral: {len(raw)} bytes, at most {MAX_COLLATERAL_BYTES}")
    return wire.decode(raw, Collateral, what="collateral")


def oldest_issue(collateral: Collateral) -> int:
    """Return the Unix time at which the older of TCB info and QE identity was signed.

    Raises:
        FormatError: one of them does not say when.
    """
    times = []
    for name, text in (
        ("tcb_info", collateral.tcb_info),
        ("qe_identity", collateral.qe_identity),
    ):
        try:
            issued = msgspec.json.decode(text, type=_Issued).issue_date
            times.append(int(dt.datetime.fromisoformat(issued).timestamp()))
        except (msgspec.DecodeError, ValueError) as err:
            raise FormatError(f"collateral: {name} has no valid issueDate") from err
    return min(times)
