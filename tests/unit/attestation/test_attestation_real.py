"""Quotes of real processors, with their real collateral at the time that fits."""

import datetime as dt
import json

import pytest

from wardian.attestation.appraisal.policy import AppraisalPolicy, MeasurementIn
from wardian.attestation.appraisal.policy_file import load_policy
from wardian.attestation.certificates.intel_root import INTEL_ROOT_DER, INTEL_ROOT_SHA256
from wardian.attestation.claims import TcbStatus, TeeKind
from wardian.attestation.evidence import Evidence
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.verifier import verify_evidence, verify_quote
from wardian.errors import (
    CollateralUnavailable,
    EvidenceInvalid,
    EvidenceStale,
    PolicyDenied,
    TcbUnacceptable,
)

SGX_NOW = 1751624924
SGX_MEASUREMENT = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
SGX_SIGNER = "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6"
HELLO = b"Hello, world!".ljust(64, b"\0")


DAY = 24 * 3600
TIMES = {
    "sgx_quote": SGX_NOW,
    "tdx_quote": 1751624191,
    "tdx_quote_out_of_date": 1740714290,
    "sgx_quote_debug": 1751065722,
}
"""When the outcome holds that is stated beside the quotes."""


def verify(real, name, now=None):
    return verify_quote(
        real(name),
        real(f"{name}_collateral.json"),
        root=INTEL_ROOT_DER,
        now=TIMES[name] if now is None else now,
    )


def unix(text):
    return int(dt.datetime.fromisoformat(text).timestamp())


def test_sgx_quote(real):
    claims = verify(real, "sgx_quote")
    assert not claims.simulated
    assert claims.describe()["kind"] == "SGX"
    assert claims.kind is TeeKind.SGX
    assert claims.quote_version == 3
    assert not claims.debug
    assert claims.report_data == HELLO
    assert claims.measurement.hex() == claims.report.mr_enclave.hex() == SGX_MEASUREMENT
    assert claims.report.mr_signer.hex() == SGX_SIGNER
    assert claims.report.cpu_svn.hex() == "0b0b1a18ffff04000000000000000000"
    assert claims.report.attributes.hex() == "0500000000000000e700000000000000"
    assert claims.fmspc.hex() == "00a067110000"
    assert claims.ppid.hex() == "d04ec06d4e6d92dc90d0ad3cf5ee2ddf"
    assert claims.pce_id == bytes(2)
    assert claims.sgx_type == 0
    assert (claims.dynamic_platform, claims.cached_keys, claims.smt_enabled) == (None, None, None)
    assert claims.tcb_status is TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED
    assert claims.advisory_ids == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert claims.tcb_date == unix("2024-03-13T00:00:00Z")
    assert claims.tcb_evaluation_number == 17
    assert claims.root_sha256 == INTEL_ROOT_SHA256
    assert claims.collateral_issued == unix("2025-06-19T10:01:18Z")
    assert claims.collateral_expires == unix("2025-07-19T10:01:18Z")


def test_tdx_quote(real):
    claims = verify(real, "tdx_quote")
    assert not claims.simulated
    assert claims.describe()["kind"] == "TDX"
    assert claims.kind is TeeKind.TDX
    assert claims.quote_version == 4
    assert not claims.debug
    assert claims.report.mr_td.hex() == (
        "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b25388731"
        "18b7"
    )
    assert [rtmr.hex()[:8] for rtmr in claims.report.rtmrs] == [
        "44c0197b",
        "0084452c",
        "d833feef",
        "00000000",
    ]
    assert claims.report.td_attributes.hex() == "0000001000000000"
    assert claims.report.xfam.hex() == "e702060000000000"
    assert claims.report.tee_tcb_svn.hex() == "06010300000000000000000000000000"
    assert claims.report.tee_tcb_svn2 is None
    assert claims.report_data.hex().startswith("9a9d48e7f6799642d3d1b34e1e5e1742")
    assert claims.measurement.hex() == (
        "610aa724e72bfc939a78b1a679c4707180e6dcf30efe5e2aee1c3dc4bce67878"
    )
    assert claims.fmspc.hex() == "b0c06f000000"
    assert claims.ppid.hex() == "811dca2a26b952e85bb6448b097ba4fd"
    assert claims.sgx_type == 1
    assert (claims.dynamic_platform, claims.cached_keys, claims.smt_enabled) == (True, True, True)
    assert claims.tcb_status is TcbStatus.UP_TO_DATE
    assert claims.advisory_ids == ()
    assert claims.tcb_date == unix("2024-03-13T00:00:00Z")
    assert claims.collateral_issued == unix("2025-06-19T10:00:35Z")  # the PCK CRL


def test_tdx_quote_out_of_date(real):
    raw = real("tdx_quote_out_of_date")
    assert (len(raw), len(parse_quote(raw).raw)) == (8000, 4935)
    claims = verify(real, "tdx_quote_out_of_date")
    assert claims.kind is TeeKind.TDX
    assert claims.tcb_status is TcbStatus.OUT_OF_DATE
    assert claims.advisory_ids == ("INTEL-SA-00960", "INTEL-SA-00982", "INTEL-SA-00986")
    assert claims.tcb_date == unix("2023-08-09T00:00:00Z")
    assert claims.fmspc.hex() == "00806f050000"
    assert (claims.dynamic_platform, claims.cached_keys, claims.smt_enabled) == (True, False, True)


def test_sgx_quote_of_a_debug_enclave(real):
    with pytest.raises(TcbUnacceptable, match="debug"):
        verify(real, "sgx_quote_debug")


@pytest.mark.parametrize("name", ["sgx_quote", "tdx_quote", "tdx_quote_out_of_date"])
def test_collateral_lives_from_its_first_second_to_its_end(real, name):
    now = TIMES[name]
    ends = verify(real, name).collateral_expires
    statements = json.loads(real(f"{name}_collateral.json"))
    starts = max(
        unix(json.loads(statements[part])["issueDate"]) for part in ("tcb_info", "qe_identity")
    )
    assert starts < now < ends
    for at in (starts, ends - 1):
        assert verify(real, name, at).verified_at == at
    for at in (starts - 1, ends + 1, ends + DAY, now + 90 * DAY):
        with pytest.raises(EvidenceStale):
            verify(real, name, at)


def test_revocation_list_in_its_last_second(real):
    """The library ends a list one second sooner than a statement; either is stale then."""
    ends = verify(real, "tdx_quote").collateral_expires
    assert ends == unix("2025-07-19T10:00:35Z")  # the PCK CRL
    with pytest.raises(EvidenceStale, match="not valid now"):
        verify(real, "tdx_quote", ends)


def policy_text(**changes):
    keys = {
        "measurements": f'["{SGX_MEASUREMENT}"]',
        "tcb_statuses": '["UpToDate", "ConfigurationAndSWHardeningNeeded"]',
        "advisories": '["INTEL-SA-00289", "INTEL-SA-00615"]',
        "any_platform": '"risk accepted"',
    } | changes
    return "".join(f"{key} = {value}\n" for key, value in keys.items() if value).encode()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({"measurements": "", "signer": f'"{SGX_SIGNER}"', "product_id": "0", "min_svn": "0"}, None),
        ({"any_platform": "", "platforms": '["d04ec06d4e6d92dc90d0ad3cf5ee2ddf"]'}, None),
        ({"min_tcb_evaluation_number": "17", "max_collateral_age_s": "2592000"}, None),
        ({"tcb_statuses": ""}, "TcbStatusIn"),
        ({"advisories": '["INTEL-SA-00289"]'}, "AdvisoriesWithin"),
        ({"measurements": f'["{"00" * 32}"]'}, "MeasurementIn"),
        ({"measurements": "", "signer": f'"{SGX_SIGNER}"', "product_id": "1", "min_svn": "0"},
         "SignedBy"),
        ({"measurements": "", "signer": f'"{SGX_SIGNER}"', "product_id": "0", "min_svn": "1"},
         "SignedBy"),
        ({"any_platform": "", "platforms": f'["{"00" * 16}"]'}, "PlatformIn"),
        ({"min_tcb_evaluation_number": "18"}, "TcbEvaluationAtLeast"),
        ({"max_collateral_age_s": "60"}, "CollateralNoOlderThan"),
        ({"simulation_root_sha256": f'"{"00" * 32}"'}, "Root"),
    ],
)  # fmt: skip
def test_sgx_quote_under_policies(real, changes, rule):
    evidence = Evidence(quote=real("sgx_quote"), collateral=real("sgx_quote_collateral.json"))
    policy = load_policy(policy_text(**changes))
    if rule is None:
        result = verify_evidence(evidence, policy=policy, report_data=HELLO, now=SGX_NOW)
        assert all(outcome.accepted for outcome in result.outcomes)
        return
    with pytest.raises(PolicyDenied) as refused:
        verify_evidence(evidence, policy=policy, report_data=HELLO, now=SGX_NOW)
    assert refused.value.rule == rule


def test_hardware_under_a_simulation_policy(real, platform):
    policy = AppraisalPolicy(
        roots=frozenset({platform.root_sha256}),
        rule=MeasurementIn(frozenset({bytes.fromhex(SGX_MEASUREMENT)})),
    )
    evidence = Evidence(quote=real("sgx_quote"), collateral=real("sgx_quote_collateral.json"))
    with pytest.raises(PolicyDenied, match="evidence is hardware .* does not name that root"):
        verify_evidence(evidence, policy=policy, report_data=HELLO, now=SGX_NOW)


def test_as_gramine_sends_it(real):
    with pytest.raises(CollateralUnavailable):
        verify_quote(real("sgx_quote"), b"", root=INTEL_ROOT_DER, now=SGX_NOW)


def test_collateral_of_another_platform_model(real):
    with pytest.raises(EvidenceInvalid):
        verify_quote(
            real("sgx_quote"),
            real("sgx_quote_debug_collateral.json"),
            root=INTEL_ROOT_DER,
            now=1751065722,
        )
