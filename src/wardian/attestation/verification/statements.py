"""What Wardian itself reads in the vendor's signed statements, once `dcap-qvl` verified them.

The library judges the platform by them and hands on most of what they say. Two things it leaves:
when they were made, and whether they are about this platform's provisioning enclave.
"""

import datetime as dt
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from cryptography import x509

from wardian.attestation.certificates.x509_errors import X509_ERRORS
from wardian.attestation.collateral.bundle import Collateral
from wardian.attestation.verification.dcap import Time
from wardian.errors import EvidenceInvalid, FormatError

_T = TypeVar("_T")


class _TcbInfo(msgspec.Struct, frozen=True, rename="camel"):
    issue_date: Time
    pce_id: str


class _QeIdentity(msgspec.Struct, frozen=True, rename="camel"):
    issue_date: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """The vendor's statements, as far as we read them.

    Attributes:
        issued: Unix time at which the oldest of TCB info, QE identity and PCK CRL was made. The
            root's CRL does not count: Intel makes it once a year.
        pce_id: PCEID of the platforms that TCB info is about, hex.
    """

    issued: int
    pce_id: str

    def demand_pce(self, pce_id: bytes) -> None:
        """Return if TCB info is about platforms with this PCEID, 2 bytes.

        Source: SGX-TDX-DCAP-QuoteVerificationLibrary, step 4.1.2.4.10.

        Raises:
            EvidenceInvalid: it is about others.
        """
        if self.pce_id.lower() != pce_id.hex():
            raise EvidenceInvalid("the TCB info is about platforms with another PCEID")


def read_statements(collateral: Collateral) -> Statements:
    """Return what the verified statements in `collateral` say.

    Raises:
        FormatError: something that they have to say is missing.
    """
    tcb_info = _decode(collateral.tcb_info, _TcbInfo, "tcb_info")
    qe_identity = _decode(collateral.qe_identity, _QeIdentity, "qe_identity")
    oldest = min(tcb_info.issue_date, qe_identity.issue_date, _crl_date(collateral.pck_crl))
    return Statements(issued=int(oldest.timestamp()), pce_id=tcb_info.pce_id)


def _decode(text: str, kind: type[_T], name: str) -> _T:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as err:
        raise FormatError(f"collateral: {name} lacks a valid issueDate or pceId") from err


def _crl_date(der: bytes) -> dt.datetime:
    try:
        return x509.load_der_x509_crl(der).last_update_utc
    except X509_ERRORS as err:
        raise FormatError("collateral: pck_crl is no revocation list") from err
