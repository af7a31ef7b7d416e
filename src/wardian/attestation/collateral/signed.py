"""Collateral whose signatures verified, how long it lasts, and which of two is the newer.

It consists of four statements. Each is signed on its own and has a time of its own:

    statement     signed by                            asked for as (PCS API v4)
    pck_crl       the platform's authority             Get Revocation List
    root_ca_crl   the root                             the root's distribution point
    tcb_info      the TCB signer, issued by the root   Get TCB Info
    qe_identity   the TCB signer, issued by the root   Get Enclave Identity

Being genuine has no end, so no clock is asked but about the time that is left: an ended statement
still says how far back nobody may go. Of two genuine sets the newer statement of each kind is kept
(`newest`), so that nobody pairs today's TCB info with last month's revocation list, on which his
platform does not stand yet.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from cryptography import x509

from wardian._internal import wire
from wardian.attestation.certificates.pem_chain import render_pem_chain
from wardian.attestation.certificates.vendor_chain import verify_chain, verify_crl, verify_statement
from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.attestation.claims import TeeKind
from wardian.attestation.collateral.bundle import Collateral, parse_collateral
from wardian.attestation.collateral.platform_model import FMSPC_BYTES, PlatformModel, ca_of
from wardian.attestation.collateral.term import Part, Term
from wardian.errors import EvidenceInvalid, FormatError, LocalProtocolError

_FIELDS: Final = {
    Part.PCK_CRL: ("pck_crl", "pck_crl_issuers"),
    Part.ROOT_CA_CRL: ("root_ca_crl",),
    Part.TCB_INFO: ("tcb_info", "tcb_info_signature", "tcb_info_issuers"),
    Part.QE_IDENTITY: ("qe_identity", "qe_identity_signature", "qe_identity_issuers"),
}
"""What of `Collateral` belongs to which statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCollateral:
    """The vendor's statements about one model of platforms, genuine. `verify_collateral` makes it.

    Attributes:
        model: which platforms it is about.
        collateral: the statements.
        terms: of each statement.
    """

    model: PlatformModel
    collateral: Collateral
    terms: dict[Part, Term]

    @property
    def ends(self) -> int:
        """Unix time from which on nothing verifies: the first statement has ended."""
        return min(term.ends for term in self.terms.values())

    @property
    def issued(self) -> int:
        """Unix time of the youngest statement: no true clock shows less."""
        return max(term.issued for term in self.terms.values())

    def encode(self) -> bytes:
        """Return it as the JSON that `Evidence.collateral` carries and `parse_collateral` reads."""
        parts = self.collateral
        return wire.encode(
            {
                "pck_crl_issuer_chain": _pem(parts.pck_crl_issuers),
                "root_ca_crl": parts.root_ca_crl.hex(),
                "pck_crl": parts.pck_crl.hex(),
                "tcb_info_issuer_chain": _pem(parts.tcb_info_issuers),
                "tcb_info": parts.tcb_info,
                "tcb_info_signature": parts.tcb_info_signature.hex(),
                "qe_identity_issuer_chain": _pem(parts.qe_identity_issuers),
                "qe_identity": parts.qe_identity,
                "qe_identity_signature": parts.qe_identity_signature.hex(),
            }
        )


class _TcbInfo(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of TCB info, version 3 (PCS API v4, appendix A)."""

    id: str
    version: int
    issue_date: str
    next_update: str
    fmspc: str
    tcb_evaluation_data_number: int


class _QeIdentity(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of an enclave identity, version 2 (PCS API v4, appendix B)."""

    id: str
    version: int
    issue_date: str
    next_update: str
    tcb_evaluation_data_number: int


_QUOTING_ENCLAVE: Final = {TeeKind.SGX: "QE", TeeKind.TDX: "TD_QE"}
_TCB_INFO_VERSION: Final = 3
_QE_IDENTITY_VERSION: Final = 2


def verify_collateral(raw: bytes, *, root_sha256: bytes) -> SignedCollateral:
    """Return the collateral in `raw`: each statement is signed under the one root, at any time.

    Args:
        raw: JSON as `parse_collateral` reads it, untrusted.
        root_sha256: SHA-256 of the only root that counts, 32 bytes.

    Raises:
        CollateralUnavailable: `raw` is empty.
        FormatError: it does not parse.
        EvidenceInvalid: a signature does not verify, a signer was revoked, the root is another,
            or the statements are about different kinds of platforms.
    """
    parts = parse_collateral(raw)
    authority, root = verify_chain(
        parts.pck_crl_issuers, root_sha256=root_sha256, what=Part.PCK_CRL
    )
    revoked = verify_crl(parts.root_ca_crl, root, what=Part.ROOT_CA_CRL)
    pck_crl = verify_crl(parts.pck_crl, authority, what=Part.PCK_CRL)
    tcb_signer, _ = verify_chain(
        parts.tcb_info_issuers, root_sha256=root_sha256, what=Part.TCB_INFO
    )
    verify_statement(parts.tcb_info, parts.tcb_info_signature, tcb_signer, what=Part.TCB_INFO)
    qe_signer, _ = verify_chain(
        parts.qe_identity_issuers, root_sha256=root_sha256, what=Part.QE_IDENTITY
    )
    verify_statement(
        parts.qe_identity, parts.qe_identity_signature, qe_signer, what=Part.QE_IDENTITY
    )
    _demand_unrevoked(revoked, authority, tcb_signer, qe_signer)
    tcb_info, qe_identity = _read_tcb_info(parts.tcb_info), _read_qe_identity(parts.qe_identity)
    return SignedCollateral(
        model=PlatformModel(
            kind=_kind_of(tcb_info, qe_identity),
            fmspc=_fmspc_of(tcb_info),
            ca=ca_of(authority),
            root_sha256=root_sha256,
        ),
        # The platform's own chain is no statement about a model, and the quote has it.
        collateral=replace(parts, pck_chain=None),
        terms={
            Part.PCK_CRL: _crl_term(pck_crl, authority, root),
            Part.ROOT_CA_CRL: _crl_term(revoked, root),
            Part.TCB_INFO: _term(Part.TCB_INFO, tcb_info, tcb_signer, root),
            Part.QE_IDENTITY: _term(Part.QE_IDENTITY, qe_identity, qe_signer, root),
        },
    )


def root_of(raw: bytes) -> bytes:
    """Return SHA-256 of the root certificate that the collateral in `raw` names, unverified.

    For whoever shows collateral to a person and says under which root it verifies.

    Raises:
        CollateralUnavailable, FormatError: as `verify_collateral`.
    """
    return hashlib.sha256(parse_collateral(raw).tcb_info_issuers[-1]).digest()


def newest(held: SignedCollateral, other: SignedCollateral) -> SignedCollateral:
    """Return the newer statement of each kind; of two that are equally new, the one in `held`.

    Neither evaluation numbers nor times of issue ever go back by it (TRUST T9).

    Args:
        held: genuine.
        other: genuine, about the same model.

    Raises:
        LocalProtocolError: they are about two models.
    """
    if held.model != other.model:
        raise LocalProtocolError("collateral about two models of platforms is not comparable")
    newer = [part for part in Part if other.terms[part].rank > held.terms[part].rank]
    changes = {name: getattr(other.collateral, name) for part in newer for name in _FIELDS[part]}
    return SignedCollateral(
        model=held.model,
        collateral=replace(held.collateral, **changes),
        terms=held.terms | {part: other.terms[part] for part in newer},
    )


def older(held: SignedCollateral, other: SignedCollateral) -> tuple[Part, ...]:
    """Return which statements of `other` are older than those that are `held` already."""
    return tuple(part for part in Part if other.terms[part].rank < held.terms[part].rank)


def expires_soon(held: SignedCollateral, now: int, *, warn_before_s: int | None = None) -> bool:
    """Return whether a statement ends within the margin after `now`, or has ended.

    Args:
        held: genuine.
        now: Unix time, seconds.
        warn_before_s: the margin in seconds; by default that of `WARN_BEFORE_S`.
    """
    return any(term.expires_soon(now, warn_before_s=warn_before_s) for term in held.terms.values())


def _demand_unrevoked(revoked: x509.CertificateRevocationList, *signers: x509.Certificate) -> None:
    """Return if none of `signers` is on the list."""
    serials = (signer.serial_number for signer in signers)
    try:
        found = [revoked.get_revoked_certificate_by_serial_number(serial) for serial in serials]
    except X509_ERRORS as err:
        raise EvidenceInvalid("collateral: the serial number of a signer does not parse") from err
    if any(entry is not None for entry in found):
        raise EvidenceInvalid("collateral: whoever signed a statement was revoked by the root")


def _pem(chain: tuple[bytes, ...]) -> str:
    return render_pem_chain(chain).decode()


def _read_tcb_info(text: str) -> _TcbInfo:
    return wire.decode(text.encode(), _TcbInfo, what="collateral: tcb_info")


def _read_qe_identity(text: str) -> _QeIdentity:
    return wire.decode(text.encode(), _QeIdentity, what="collateral: qe_identity")


def _kind_of(tcb_info: _TcbInfo, qe_identity: _QeIdentity) -> TeeKind:
    """Return what both are about, which has to be the same kind, in the versions of API v4."""
    versions = (tcb_info.version, qe_identity.version)
    if versions != (_TCB_INFO_VERSION, _QE_IDENTITY_VERSION):
        raise EvidenceInvalid("collateral: TCB info of version 3 and QE identity of version 2 only")
    for kind, enclave in _QUOTING_ENCLAVE.items():
        if (tcb_info.id, qe_identity.id) == (kind.value, enclave):
            return kind
    raise EvidenceInvalid("collateral: TCB info and QE identity are of different or unknown kinds")


def _fmspc_of(tcb_info: _TcbInfo) -> bytes:
    try:
        fmspc = bytes.fromhex(tcb_info.fmspc)
    except ValueError as err:
        raise FormatError("collateral: the FMSPC is not hex") from err
    if len(fmspc) != FMSPC_BYTES:
        raise FormatError(f"collateral: an FMSPC has {FMSPC_BYTES} bytes")
    return fmspc


def _crl_term(crl: x509.CertificateRevocationList, *issuers: x509.Certificate) -> Term:
    ends = crl.next_update_utc
    if ends is None:
        raise EvidenceInvalid("collateral: a revocation list does not say when it ends")
    return Term(
        issued=int(crl.last_update_utc.timestamp()),
        ends=min(int(ends.timestamp()), _certificates_end(issuers)),
    )


def _term(part: Part, said: _TcbInfo | _QeIdentity, *issuers: x509.Certificate) -> Term:
    return Term(
        issued=_unix(said.issue_date, part),
        ends=min(_unix(said.next_update, part), _certificates_end(issuers)),
        evaluation=said.tcb_evaluation_data_number,
    )


def _certificates_end(certificates: tuple[x509.Certificate, ...]) -> int:
    return int(min(each.not_valid_after_utc for each in certificates).timestamp())


def _unix(stamp: str, part: Part) -> int:
    """Return the Unix time of `stamp`, which has a zone: without one it would mean ours."""
    try:
        time = dt.datetime.fromisoformat(stamp)
    except ValueError as err:
        raise FormatError(f"collateral: {part.value} has no valid time") from err
    if time.tzinfo is None:
        raise FormatError(f"collateral: {part.value} has a time without a zone")
    return int(time.timestamp())
