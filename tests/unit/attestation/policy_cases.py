"""Claims as the verifier makes them, for tests of what policies say of them: no quote, no signature."""

import dataclasses
from typing import Any

from wardian.attestation.appraisal.rules_tdx import RTMRS
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.claims import Claims, SgxReport, TcbStatus, TdReport

NOW = 1_800_000_000
DAY = 86_400
MR_ENCLAVE, MR_SIGNER = b"\xe1" * 32, b"\x51" * 32
PPID, FMSPC = b"\x99" * 16, b"\x0f" * 6
REGISTERS = {
    "mr_td": b"\xd0" * 48,
    "rtmr0": b"\xa0" * 48,
    "rtmr1": b"\xa1" * 48,
    "rtmr2": b"\xa2" * 48,
    "rtmr3": bytes(48),
    "mr_config_id": bytes(48),
    "mr_owner": bytes(48),
    "mr_owner_config": bytes(48),
    "mr_seam": b"\x5e" * 48,
}
ENCLAVE = SgxReport(
    cpu_svn=bytes(16),
    misc_select=1,
    isv_ext_prod_id=bytes(16),
    attributes=bytes.fromhex("0500000000000000e700000000000000"),
    mr_enclave=MR_ENCLAVE,
    mr_signer=MR_SIGNER,
    config_id=bytes(64),
    product_id=3,
    svn=4,
    config_svn=0,
    isv_family_id=bytes(16),
    report_data=bytes(64),
)


def domain(**changes: Any) -> TdReport:
    """Return a trust domain's report; `changes` may name single RTMRs."""
    given = {
        "tee_tcb_svn": bytes([6, 1, 3]).ljust(16, b"\0"),
        "mr_signer_seam": bytes(48),
        "seam_attributes": bytes(8),
        "td_attributes": bytes.fromhex("0000001000000000"),
        "xfam": bytes.fromhex("e702060000000000"),
        "report_data": bytes(64),
        "tee_tcb_svn2": None,
        "mr_service_td": None,
        **REGISTERS,
        **changes,
    }
    rtmrs = tuple(given.pop(name) for name in RTMRS)
    return TdReport(rtmrs=rtmrs, **given)


_CLAIMS = Claims(
    report=ENCLAVE,
    quote_version=3,
    tcb_status=TcbStatus.UP_TO_DATE,
    advisory_ids=(),
    tcb_date=NOW - 100 * DAY,
    root_sha256=INTEL_ROOT_SHA256,
    fmspc=FMSPC,
    pce_id=bytes(2),
    ppid=PPID,
    sgx_type=1,
    dynamic_platform=None,
    cached_keys=None,
    smt_enabled=None,
    tcb_evaluation_number=17,
    collateral_issued=NOW - 10 * DAY,
    collateral_expires=NOW + 20 * DAY,
    verified_at=NOW,
)
OF_CLAIMS = frozenset(field.name for field in dataclasses.fields(Claims))


def enclave_claims(**changes: Any) -> Claims:
    """Return what an SGX quote says; `changes` name fields of the claims or of the report."""
    of_claims = {name: value for name, value in changes.items() if name in OF_CLAIMS}
    of_report = {name: value for name, value in changes.items() if name not in OF_CLAIMS}
    return dataclasses.replace(
        _CLAIMS, report=dataclasses.replace(ENCLAVE, **of_report), **of_claims
    )


def domain_claims(**changes: Any) -> Claims:
    """Return what a TDX quote says; `changes` name fields of the claims or of the report."""
    of_claims = {name: value for name, value in changes.items() if name in OF_CLAIMS}
    of_report = {name: value for name, value in changes.items() if name not in OF_CLAIMS}
    return dataclasses.replace(
        _CLAIMS, report=domain(**of_report), **{"quote_version": 4, **of_claims}
    )
