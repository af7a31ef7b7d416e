"""What claims call an attester, whatever its TEE."""

import dataclasses
import hashlib
import struct

import pytest
from attestation_cases import NOW
from simulators.td_quotes import TdxPlatform, td_body

from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.claims import TcbStatus, TeeKind
from wardian.attestation.quotes.tdx import TD15_BODY, parse_td15_body, parse_td_body
from wardian.attestation.verifier import verify_quote

PLATFORM = TdxPlatform(now=NOW)
NAMED = ("mr_td", "mr_config_id", "mr_owner", "mr_owner_config", "rtmr0", "rtmr1", "rtmr2", "rtmr3")


@pytest.fixture(scope="module")
def enclave(evidence, platform):
    return verify_quote(evidence.quote, evidence.collateral, root=platform.root_der, now=NOW)


@pytest.fixture(scope="module")
def guest():
    quote = PLATFORM.quote(td_body(mr_service_td=bytes(48)), version=5)
    return verify_quote(quote, PLATFORM.collateral(), root=PLATFORM.root_der, now=NOW)


def test_statuses_are_intels_words():
    assert {status.value for status in TcbStatus} == {
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
        "Revoked",
    }


def test_an_enclave_is_called_by_its_mr_enclave(enclave):
    assert enclave.kind is TeeKind.SGX
    assert enclave.measurement == enclave.report.measurement == enclave.report.mr_enclave
    assert enclave.report_data == enclave.report.report_data
    assert enclave.debug is False


def test_a_guest_is_called_by_all_that_names_it(guest):
    assert guest.kind is TeeKind.TDX
    report = guest.report
    named = [report.mr_td, report.mr_config_id, report.mr_owner, report.mr_owner_config]
    text = b"".join(
        struct.pack(">Q", len(part)) + part
        for part in (b"wardian td measurement v1", *named, *report.rtmrs)
    )
    assert guest.measurement == hashlib.sha256(text).digest()
    assert guest.report_data == report.report_data
    assert guest.debug is False


@pytest.mark.parametrize("name", NAMED)
def test_a_guest_that_differs_in_one_of_them_has_another_name(name):
    here = parse_td_body(td_body()).measurement
    assert parse_td_body(td_body(**{name: b"\xee" * 48})).measurement != here


@pytest.mark.parametrize("name", ["mr_seam", "report_data", "tee_tcb_svn", "xfam", "td_attributes"])
def test_what_is_not_the_guests_own_does_not_rename_it(name):
    size = {"mr_seam": 48, "report_data": 64, "tee_tcb_svn": 16}.get(name, 8)
    here = parse_td_body(td_body()).measurement
    assert parse_td_body(td_body(**{name: b"\xee" * size})).measurement == here


def test_td_reports_1_0_and_1_5_of_one_guest_have_one_name():
    newer = td_body(mr_service_td=bytes(48))
    assert len(newer) == TD15_BODY.size
    assert parse_td15_body(newer).measurement == parse_td_body(td_body()).measurement


@pytest.mark.parametrize("bit", range(8))
def test_any_bit_of_tud_is_debug(bit):
    attributes = bytes([1 << bit, 0, 0, 0x10, 0, 0, 0, 0])
    assert parse_td_body(td_body(td_attributes=attributes)).debug


@pytest.mark.parametrize("byte", range(1, 8))
def test_no_other_byte_of_the_attributes_is_debug(byte):
    attributes = bytearray(8)
    attributes[byte] = 0xFF
    assert not parse_td_body(td_body(td_attributes=bytes(attributes))).debug


# --- for people ----------------------------------------------------------------------------------


def test_an_enclave_described(enclave):
    shown = enclave.describe()
    assert (shown["kind"], shown["tee"], shown["quote_version"]) == ("SIMULATED", "SGX", 3)
    assert shown["measurement"] == shown["mr_enclave"] == enclave.report.mr_enclave.hex()
    assert shown["mr_signer"] == enclave.report.mr_signer.hex()
    assert (shown["product_id"], shown["svn"], shown["debug"]) == (3, 4, False)
    assert (shown["dynamic_platform"], shown["cached_keys"], shown["smt_enabled"]) == (
        "not said",
        "not said",
        "not said",
    )
    assert "mr_td" not in shown


def test_a_guest_described(guest):
    shown = guest.describe()
    assert (shown["kind"], shown["tee"], shown["quote_version"]) == ("SIMULATED", "TDX", 5)
    assert shown["measurement"] == guest.measurement.hex()
    assert shown["mr_td"] == "02" * 48
    assert [shown[f"rtmr{i}"] for i in range(4)] == [f"1{i}" * 48 for i in range(4)]
    assert shown["mr_service_td"] == "00" * 48
    assert shown["tcb_status"] == "UpToDate"
    assert "mr_enclave" not in shown


def test_td_1_0_has_no_service_td_to_show(guest):
    shown = parse_td_body(td_body()).describe()
    assert "mr_service_td" not in shown
    assert "tee_tcb_svn2" not in shown
    assert shown.keys() < guest.describe().keys()


@pytest.mark.parametrize("kind", ["enclave", "guest"])
def test_hardware_is_called_by_its_kind(kind, request):
    claims = dataclasses.replace(request.getfixturevalue(kind), root_sha256=INTEL_ROOT_SHA256)
    assert not claims.simulated
    assert claims.describe()["kind"] == {"enclave": "SGX", "guest": "TDX"}[kind]


def test_flags_that_the_certificate_does_say(guest):
    said = dataclasses.replace(
        guest, dynamic_platform=True, cached_keys=False, smt_enabled=True
    ).describe()
    assert (said["dynamic_platform"], said["cached_keys"], said["smt_enabled"]) == (
        True,
        False,
        True,
    )


def test_claims_cannot_be_altered(enclave, guest):
    with pytest.raises(dataclasses.FrozenInstanceError):
        enclave.tcb_status = TcbStatus.UP_TO_DATE
    with pytest.raises(dataclasses.FrozenInstanceError):
        guest.report.mr_td = bytes(48)
