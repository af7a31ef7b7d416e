"""Quotes of real processors, with their real collateral at the time that fits."""

import pytest

from wardian.attestation.claims import TcbStatus
from wardian.attestation.evidence import Evidence
from wardian.attestation.intel_root import INTEL_ROOT_DER, INTEL_ROOT_SHA256
from wardian.attestation.policy import AppraisalPolicy, MeasurementIn
from wardian.attestation.policy_file import load_policy
from wardian.attestation.quote_sgx import parse_sgx_quote
from wardian.attestation.verifier import verify_evidence, verify_quote
from wardian.errors import (
    CollateralUnavailable,
    EvidenceInvalid,
    EvidenceStale,
    FormatError,
    PolicyDenied,
    TcbUnacceptable,
)

SGX_NOW = 1751624924
SGX_MEASUREMENT = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
SGX_SIGNER = "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6"
HELLO = b"Hello, world!".ljust(64, b"\0")


def test_sgx_quote(real):
    claims = verify_quote(
        real("sgx_quote"), real("sgx_quote_collateral.json"), root=INTEL_ROOT_DER, now=SGX_NOW
    )
    assert not claims.simulated
    assert claims.describe()["kind"] == "SGX"
    assert not claims.debug
    assert claims.report_data == HELLO
    assert claims.mr_enclave.hex() == SGX_MEASUREMENT
    assert claims.mr_signer.hex() == SGX_SIGNER
    assert claims.fmspc.hex() == "00a067110000"
    assert claims.ppid.hex() == "d04ec06d4e6d92dc90d0ad3cf5ee2ddf"
    assert claims.tcb_status is TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED
    assert claims.advisory_ids == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert claims.tcb_evaluation_number == 17
    assert claims.root_sha256 == INTEL_ROOT_SHA256


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
        ({"measurements": f'["{"00" * 32}"]'}, "AnyOf(MeasurementIn)"),
        ({"measurements": "", "signer": f'"{SGX_SIGNER}"', "product_id": "1", "min_svn": "0"},
         "AnyOf(SignedBy)"),
        ({"measurements": "", "signer": f'"{SGX_SIGNER}"', "product_id": "0", "min_svn": "1"},
         "AnyOf(SignedBy)"),
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


def test_sgx_quote_of_a_debug_enclave(real):
    with pytest.raises(TcbUnacceptable, match="debug"):
        verify_quote(
            real("sgx_quote_debug"),
            real("sgx_quote_debug_collateral.json"),
            root=INTEL_ROOT_DER,
            now=1751065722,
        )


@pytest.mark.parametrize("name", ["tdx_quote", "tdx_quote_out_of_date"])
def test_tdx_is_refused_by_name(real, name):
    with pytest.raises(FormatError, match="TDX version 4; only SGX version 3"):
        parse_sgx_quote(real(name))


def test_hardware_under_a_simulation_policy(real, platform):
    policy = AppraisalPolicy(
        roots=frozenset({platform.root_sha256}),
        rule=MeasurementIn(frozenset({bytes.fromhex(SGX_MEASUREMENT)})),
    )
    evidence = Evidence(quote=real("sgx_quote"), collateral=real("sgx_quote_collateral.json"))
    with pytest.raises(PolicyDenied, match="evidence is hardware .* does not name that root"):
        verify_evidence(evidence, policy=policy, report_data=HELLO, now=SGX_NOW)


def test_today_the_old_collateral_is_stale(real):
    with pytest.raises(EvidenceStale):
        verify_quote(
            real("sgx_quote"),
            real("sgx_quote_collateral.json"),
            root=INTEL_ROOT_DER,
            now=SGX_NOW + 90 * 24 * 3600,
        )


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
