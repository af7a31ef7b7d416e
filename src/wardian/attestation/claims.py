"""What verified evidence says. Only `verifier.verify_quote` makes `Claims`."""

import enum
import hashlib
from dataclasses import dataclass
from typing import Final

from wardian._internal import wire
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256

ATTRIBUTE_DEBUG = 0x02
"""DEBUG in the first byte of ATTRIBUTES (Intel SDM, volume 3D, table 38-3)."""

_TD_MEASUREMENT = "wardian td measurement v1"
_SAID: Final[dict[bool | None, bool | str]] = {True: True, False: False, None: "not said"}


class TeeKind(enum.StrEnum):
    """What kind of trusted execution environment a report describes."""

    SGX = "SGX"
    TDX = "TDX"


class TcbStatus(enum.StrEnum):
    """The state of a platform's trusted computing base, in Intel's own words.

    Source: Intel PCS API v4, "TCB Info", field `tcbStatus`; the two that advise to launch a trust
    domain anew are made by quote verification itself (SGX-TDX-DCAP-QuoteVerificationLibrary).
    """

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    REVOKED = "Revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxReport:
    """An enclave's report body (Intel SDM, volume 3D, table 38-21).

    Attributes:
        cpu_svn: CPUSVN, 16 bytes: the security versions of the processor's parts.
        misc_select: MISCSELECT, 0 to 2**32 - 1.
        isv_ext_prod_id: ISVEXTPRODID, 16 bytes.
        attributes: ATTRIBUTES, 16 bytes: flags, then XFRM.
        mr_enclave: digest of the enclave's code and configuration, 32 bytes.
        mr_signer: digest of the key that signed the enclave, 32 bytes.
        config_id: CONFIGID, 64 bytes.
        product_id: ISVPRODID, 0 to 65535; tells the signer's roles apart.
        svn: ISVSVN, 0 to 65535; the signer raises it with each security fix.
        config_svn: CONFIGSVN, 0 to 65535.
        isv_family_id: ISVFAMILYID, 16 bytes.
        report_data: what the enclave vouches for, 64 bytes; see `evidence.bind`.
    """

    cpu_svn: bytes
    misc_select: int
    isv_ext_prod_id: bytes
    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    config_id: bytes
    product_id: int
    svn: int
    config_svn: int
    isv_family_id: bytes
    report_data: bytes

    @property
    def kind(self) -> TeeKind:
        """SGX."""
        return TeeKind.SGX

    @property
    def measurement(self) -> bytes:
        """MRENCLAVE, 32 bytes."""
        return self.mr_enclave

    @property
    def debug(self) -> bool:
        """Whether the host may read and write this enclave's memory."""
        return bool(self.attributes[0] & ATTRIBUTE_DEBUG)

    def describe(self) -> dict[str, str | int | bool]:
        """Return names and values for a person or a log, digests in hex."""
        return {
            "mr_enclave": self.mr_enclave.hex(),
            "mr_signer": self.mr_signer.hex(),
            "product_id": self.product_id,
            "svn": self.svn,
            "attributes": self.attributes.hex(),
            "misc_select": self.misc_select,
            "config_id": self.config_id.hex(),
            "config_svn": self.config_svn,
            "isv_ext_prod_id": self.isv_ext_prod_id.hex(),
            "isv_family_id": self.isv_family_id.hex(),
            "cpu_svn": self.cpu_svn.hex(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """A trust domain's report body, TD 1.0 or TD 1.5 ("Intel TDX DCAP Quoting Library API", A.3).

    Attributes:
        tee_tcb_svn: TEE_TCB_SVN, 16 bytes: the security versions of the TDX module and its loader.
        mr_seam: MRSEAM, digest of the TDX module, 48 bytes.
        mr_signer_seam: MRSIGNERSEAM, who signed the module, 48 bytes; zero means Intel.
        seam_attributes: SEAMATTRIBUTES, 8 bytes.
        td_attributes: TDATTRIBUTES, 8 bytes, little endian; the first is TUD, "under debug".
        xfam: XFAM, 8 bytes, little endian: the extended processor state that the guest may use.
        mr_td: MRTD, digest of the guest's first memory, 48 bytes.
        mr_config_id: MRCONFIGID, 48 bytes, chosen by whoever launched the guest.
        mr_owner: MROWNER, 48 bytes, chosen by whoever launched the guest.
        mr_owner_config: MROWNERCONFIG, 48 bytes, chosen by whoever launched the guest.
        rtmrs: RTMR0 to RTMR3, 48 bytes each, extended by what runs in the guest.
        report_data: what the guest vouches for, 64 bytes; see `evidence.bind`.
        tee_tcb_svn2: TEE_TCB_SVN_2, 16 bytes: of the module that runs now; None in TD 1.0.
        mr_service_td: MRSERVICETD, 48 bytes; None in TD 1.0.
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn2: bytes | None
    mr_service_td: bytes | None

    @property
    def kind(self) -> TeeKind:
        """TDX."""
        return TeeKind.TDX

    @property
    def measurement(self) -> bytes:
        """SHA-256 over everything that says which guest this is, 32 bytes.

        It covers MRTD, MRCONFIGID, MROWNER, MROWNERCONFIG and RTMR0 to RTMR3, each preceded by its
        length, under a label of its own; so a guest that differs in one of them has another.
        """
        named = (self.mr_td, self.mr_config_id, self.mr_owner, self.mr_owner_config, *self.rtmrs)
        return hashlib.sha256(wire.fields(_TD_MEASUREMENT, *named)).digest()

    @property
    def debug(self) -> bool:
        """Whether a bit of TUD is set: then the host may read the guest's memory and registers."""
        return self.td_attributes[0] != 0

    def describe(self) -> dict[str, str | int | bool]:
        """Return names and values for a person or a log, digests in hex."""
        shown = {
            "mr_td": self.mr_td,
            **{f"rtmr{number}": rtmr for number, rtmr in enumerate(self.rtmrs)},
            "mr_config_id": self.mr_config_id,
            "mr_owner": self.mr_owner,
            "mr_owner_config": self.mr_owner_config,
            "td_attributes": self.td_attributes,
            "xfam": self.xfam,
            "mr_seam": self.mr_seam,
            "mr_signer_seam": self.mr_signer_seam,
            "seam_attributes": self.seam_attributes,
            "tee_tcb_svn": self.tee_tcb_svn,
            "tee_tcb_svn2": self.tee_tcb_svn2,
            "mr_service_td": self.mr_service_td,
        }
        return {name: value.hex() for name, value in shown.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a quote says, once its signatures and its collateral are verified.

    Being genuine is all that this means: whether it is acceptable, a policy decides.

    Attributes:
        report: what the processor says about the enclave or the trust domain.
        quote_version: 3, 4 or 5.
        tcb_status: the worst of the platform's, the TDX modules' and the quoting enclave's state.
        advisory_ids: the vendor's advisories that apply to any of them, sorted.
        tcb_date: Unix time of the TCB level that was matched: advisories up to then are accounted
            for. The oldest one of the platform's, the TDX modules' and the quoting enclave's.
        root_sha256: SHA-256 of the root certificate that vouches for all this, 32 bytes.
        fmspc: the platform's model, 6 bytes.
        pce_id: PCEID, 2 bytes.
        ppid: the platform itself, 16 bytes.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        dynamic_platform: whether processors can be added to the platform; None: it is not said.
        cached_keys: whether the vendor keeps the platform's root keys; None: it is not said.
        smt_enabled: whether simultaneous multithreading is on; None: it is not said.
        tcb_evaluation_number: of the collateral; the vendor raises it at each TCB recovery. The
            lower one of TCB info and QE identity.
        collateral_issued: Unix time at which the oldest of TCB info, QE identity and PCK CRL was
            made.
        collateral_expires: Unix time at which the first piece of collateral ends.
        verified_at: Unix time for which it was all verified.
    """

    report: SgxReport | TdReport
    quote_version: int
    tcb_status: TcbStatus
    advisory_ids: tuple[str, ...]
    tcb_date: int
    root_sha256: bytes
    fmspc: bytes
    pce_id: bytes
    ppid: bytes
    sgx_type: int
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None
    tcb_evaluation_number: int
    collateral_issued: int
    collateral_expires: int
    verified_at: int

    @property
    def kind(self) -> TeeKind:
        """What kind of TEE it is, or pretends to be: see `simulated`."""
        return self.report.kind

    @property
    def measurement(self) -> bytes:
        """The 32 bytes that say which enclave or guest this is, whatever the TEE."""
        return self.report.measurement

    @property
    def report_data(self) -> bytes:
        """What the attester vouches for, 64 bytes; see `evidence.bind`."""
        return self.report.report_data

    @property
    def debug(self) -> bool:
        """Whether the host may read and write the attester's memory."""
        return self.report.debug

    @property
    def simulated(self) -> bool:
        """Whether the root is another than Intel's: then no hardware protects anything."""
        return self.root_sha256 != INTEL_ROOT_SHA256

    def describe(self) -> dict[str, str | int | bool]:
        """Return the claims for a person or a log: names and values, digests in hex."""
        return {
            "kind": "SIMULATED" if self.simulated else self.kind.value,
            "tee": self.kind.value,
            "quote_version": self.quote_version,
            "measurement": self.measurement.hex(),
            **self.report.describe(),
            "debug": self.debug,
            "report_data": self.report_data.hex(),
            "tcb_status": self.tcb_status.value,
            "advisories": ", ".join(self.advisory_ids),
            "tcb_date": self.tcb_date,
            "tcb_evaluation_number": self.tcb_evaluation_number,
            "root_sha256": self.root_sha256.hex(),
            "fmspc": self.fmspc.hex(),
            "pce_id": self.pce_id.hex(),
            "ppid": self.ppid.hex(),
            "sgx_type": self.sgx_type,
            "dynamic_platform": _SAID[self.dynamic_platform],
            "cached_keys": _SAID[self.cached_keys],
            "smt_enabled": _SAID[self.smt_enabled],
            "collateral_issued": self.collateral_issued,
            "collateral_expires": self.collateral_expires,
        }
