"""The adapter to `dcap-qvl`, the library that verifies a quote's signatures and its collateral.

Nothing else in Wardian calls the library. What it does for us: the certificate chain of the quote
and of every vendor's statement up to one given root, revocation lists (required, enforced), the
quoting enclave's report and identity, the quote's signature, the TCB levels of the platform, of its
TDX module and of its quoting enclave, the validity in time of each of them, and the refusal of
revoked TCB levels and of trust domains whose attributes are unsafe.

It hands on one state for all of that, merged as Intel's own library does. There two things do not
count, which do here (`Verified`): that the quoting enclave needs configuration, and what the vendor
says of a TDX module that took the place of the one at the launch, unless it is better.
"""

import datetime as dt
import enum
import functools
import operator
from typing import Annotated, Final, Literal

import dcap_qvl  # type: ignore[import-untyped]  # its stub is not marked with py.typed
import msgspec

from wardian.attestation.certificates.pem_chain import render_pem_chain
from wardian.attestation.claims import TcbStatus
from wardian.attestation.collateral.bundle import Collateral
from wardian.errors import EvidenceInvalid

Time = Annotated[dt.datetime, msgspec.Meta(tz=True)]
"""A point in time that says its zone."""

SAID = {"True": True, "False": False, "Undefined": None}
"""What the flags of a platform's certificate say; None: it says nothing."""

_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Flag = Literal["True", "False", "Undefined"]


class _Fault(enum.Flag):
    """What is wrong with a TCB; none of it: it is up to date."""

    HARDENING = enum.auto()
    CONFIGURATION = enum.auto()
    RELAUNCH = enum.auto()
    OUT_OF_DATE = enum.auto()
    REVOKED = enum.auto()


_FAULTS: Final = {
    TcbStatus.UP_TO_DATE: _Fault(0),
    TcbStatus.SW_HARDENING_NEEDED: _Fault.HARDENING,
    TcbStatus.CONFIGURATION_NEEDED: _Fault.CONFIGURATION,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: _Fault.CONFIGURATION | _Fault.HARDENING,
    TcbStatus.TD_RELAUNCH_ADVISED: _Fault.RELAUNCH,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED: _Fault.RELAUNCH | _Fault.CONFIGURATION,
    TcbStatus.OUT_OF_DATE: _Fault.OUT_OF_DATE,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED: _Fault.OUT_OF_DATE | _Fault.CONFIGURATION,
    TcbStatus.REVOKED: _Fault.REVOKED,
}
_STATUSES: Final = {faults: status for status, faults in _FAULTS.items()}
_SAYS_ALL: Final = (
    (_Fault.REVOKED, _Fault.REVOKED),
    (_Fault.OUT_OF_DATE, _Fault.OUT_OF_DATE | _Fault.CONFIGURATION),
    (_Fault.RELAUNCH, _Fault.RELAUNCH | _Fault.CONFIGURATION),
)
"""Beside a fault that is there, the worst first, which ones a status has a name for."""


def worst_status(*statuses: TcbStatus) -> TcbStatus:
    """Return the status that says of the whole what the statuses say of its parts."""
    faults = functools.reduce(operator.or_, (_FAULTS[status] for status in statuses))
    for fault, told in _SAYS_ALL:
        if fault in faults:
            return _STATUSES[faults & told]
    return _STATUSES[faults]


class Level(msgspec.Struct, frozen=True, rename="camel"):
    """A TCB level: its state, the day up to which it accounts for advisories, and the others."""

    tcb_status: TcbStatus
    tcb_date: Time
    advisory_ids: tuple[str, ...] = msgspec.field(name="advisoryIDs", default=())


class Tcb(msgspec.Struct, frozen=True):
    """The library's judgement on the platform and its quoting enclave together."""

    status: TcbStatus
    advisory_ids: tuple[str, ...]
    eval_data_number: int


class Pck(msgspec.Struct, frozen=True):
    """What the platform's certificate says about it; bytes come as lists of numbers."""

    ppid: Annotated[tuple[_Byte, ...], msgspec.Meta(min_length=16, max_length=16)]
    fmspc: Annotated[tuple[_Byte, ...], msgspec.Meta(min_length=6, max_length=6)]
    pce_id: Annotated[tuple[_Byte, ...], msgspec.Meta(min_length=2, max_length=2)]
    sgx_type: int
    dynamic_platform: _Flag
    cached_keys: _Flag
    smt_enabled: _Flag


class Platform(msgspec.Struct, frozen=True):
    """The platform, and the Unix time of its TCB level: the older one of itself and TDX module.

    `current_tcb_level` is what a guest of TD 1.5 has by the module that runs now.
    """

    pck: Pck
    tcb_date_tag: int
    current_tcb_level: Level | None = None


class Qe(msgspec.Struct, frozen=True):
    """The quoting enclave, and the TCB level that it has."""

    tcb_level: Level


class Verified(msgspec.Struct, frozen=True):
    """What we read of the library's claims; the attester's own are in the quote itself."""

    tcb: Tcb
    platform: Platform
    qe: Qe
    earliest_expiration_date: int

    @property
    def tcb_status(self) -> TcbStatus:
        """The worst of the platform's, of its TDX modules' and of the quoting enclave's state.

        Where only the module of the launch is out of date it is that a relaunch is advised.
        """
        return worst_status(self.tcb.status, *(level.tcb_status for level in self._unmerged))

    @property
    def advisory_ids(self) -> tuple[str, ...]:
        """The advisories that apply to any of them, sorted, each once."""
        others = (advisory for level in self._unmerged for advisory in level.advisory_ids)
        return tuple(sorted({*self.tcb.advisory_ids, *others}))

    @property
    def tcb_date(self) -> int:
        """Unix time of the oldest of their TCB levels."""
        others = (int(level.tcb_date.timestamp()) for level in self._unmerged)
        return min(self.platform.tcb_date_tag, *others)

    @property
    def _unmerged(self) -> tuple[Level, ...]:
        """The levels that the library leaves out of its judgement, or does not take whole."""
        current = self.platform.current_tcb_level
        return (self.qe.tcb_level,) if current is None else (self.qe.tcb_level, current)


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
        EvidenceInvalid: the library says something of a kind that we do not know.
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
        raise EvidenceInvalid("the platform's TCB status or id is of an unknown kind") from err


def _native(collateral: Collateral) -> dcap_qvl.QuoteCollateralV3:
    """Return `collateral` as the library's type, without the PCK chain: the quote's own counts."""
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=render_pem_chain(collateral.pck_crl_issuers).decode(),
        root_ca_crl=collateral.root_ca_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=render_pem_chain(collateral.tcb_info_issuers).decode(),
        tcb_info=collateral.tcb_info,
        tcb_info_signature=collateral.tcb_info_signature,
        qe_identity_issuer_chain=render_pem_chain(collateral.qe_identity_issuers).decode(),
        qe_identity=collateral.qe_identity,
        qe_identity_signature=collateral.qe_identity_signature,
    )
