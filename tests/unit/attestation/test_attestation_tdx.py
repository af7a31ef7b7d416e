"""Attacks on the evidence of trust domains, version 4 and 5, under a root of our own."""

import copy
import datetime as dt
import json

import pytest
from attestation_cases import NOW, REPORT_DATA
from simulators.td_quotes import (
    MODULE_DATE,
    QE_DATE,
    SGX,
    TCB_DATE,
    TdxPlatform,
    level,
    stamp,
    td_body,
)

from wardian.attestation.appraisal.policy import AppraisalPolicy, MeasurementIn
from wardian.attestation.claims import TcbStatus, TeeKind
from wardian.attestation.evidence import Evidence
from wardian.attestation.quotes.sgx import SGX_BODY
from wardian.attestation.quotes.tdx import parse_td_body
from wardian.attestation.verifier import verify_evidence, verify_quote
from wardian.errors import (
    CollateralUnavailable,
    EvidenceInvalid,
    EvidenceStale,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
    TcbUnacceptable,
)
from wardian.tee.launch.simulation_pki import build_pki

PLATFORM = TdxPlatform(now=NOW)
GUEST = parse_td_body(td_body())
V5 = {"version": 5}
ALL_QUOTES = {
    "4": PLATFORM.quote(),
    "5 with TD 1.0": PLATFORM.quote(**V5),
    "5 with TD 1.5": PLATFORM.quote(td_body(mr_service_td=bytes(48)), **V5),
}
COLLATERAL = PLATFORM.collateral()


def verify(quote=ALL_QUOTES["4"], collateral=COLLATERAL, *, platform=PLATFORM, now=NOW):
    return verify_quote(quote, collateral, root=platform.root_der, now=now)


def date(day):
    return int(dt.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())


@pytest.fixture(params=ALL_QUOTES)
def quote(request):
    return ALL_QUOTES[request.param]


def with_svn(*svn, current=None):
    """Return the quote of a guest whose module and microcode are of these versions."""
    changes = {"tee_tcb_svn": bytes(svn) + bytes(13)}
    if current is not None:
        changes["tee_tcb_svn2"] = bytes(current) + bytes(13)
    return PLATFORM.quote(td_body(**changes), **V5)


# --- accepted ------------------------------------------------------------------------------------


def test_genuine_evidence_is_accepted_and_says_simulated(quote):
    claims = verify(quote)
    assert claims.kind is TeeKind.TDX
    assert claims.quote_version == quote[0]
    assert claims.simulated
    assert claims.report.mr_td == GUEST.mr_td
    assert claims.report.rtmrs == GUEST.rtmrs
    assert claims.measurement == GUEST.measurement
    assert claims.report_data == REPORT_DATA
    assert claims.tcb_status is TcbStatus.UP_TO_DATE
    assert claims.advisory_ids == ()
    assert claims.root_sha256 == PLATFORM.root_sha256
    assert claims.ppid == bytes(range(16))
    assert claims.pce_id == bytes(2)
    assert claims.sgx_type == 0
    assert (claims.dynamic_platform, claims.cached_keys, claims.smt_enabled) == (None, None, None)
    assert claims.tcb_evaluation_number == 16
    assert claims.collateral_issued == NOW - 7200
    assert claims.collateral_expires == NOW + 29 * 24 * 3600
    assert claims.verified_at == NOW


def test_evidence_under_a_policy(quote):
    policy = AppraisalPolicy(
        roots=frozenset({PLATFORM.root_sha256}), rule=MeasurementIn(frozenset({GUEST.measurement}))
    )
    evidence = Evidence(quote=quote + bytes(100), collateral=COLLATERAL)
    result = verify_evidence(evidence, policy=policy, report_data=REPORT_DATA, now=NOW)
    assert all(outcome.accepted for outcome in result.outcomes)
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        verify_evidence(evidence, policy=policy, report_data=bytes(64), now=NOW)
    other = AppraisalPolicy(
        roots=policy.roots, rule=MeasurementIn(frozenset({GUEST.mr_td[:32], bytes(32)}))
    )
    with pytest.raises(PolicyDenied, match="MeasurementIn|measurement"):
        verify_evidence(evidence, policy=other, report_data=REPORT_DATA, now=NOW)


@pytest.mark.parametrize("now", [2**63, 2**64])
def test_time_that_no_clock_shows_is_our_bug(quote, now):
    with pytest.raises(LocalProtocolError, match="since 1970"):
        verify(quote, now=now)


def test_time_before_1970_is_our_bug(quote):
    with pytest.raises(LocalProtocolError, match="since 1970"):
        verify(quote, now=-1)


# --- the guest -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("version", [4, 5])
def test_debug_by_any_bit_of_tud(bit, version):
    body = td_body(td_attributes=bytes([1 << bit, 0, 0, 0x10, 0, 0, 0, 0]))
    with pytest.raises(TcbUnacceptable, match="TDX attester runs in debug mode: its host can read"):
        verify(PLATFORM.quote(body, version=version))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"td_attributes": bytes(8)}, TcbUnacceptable, "SEPT_VE_DISABLE is not set"),
        ({"td_attributes": bytes([0, 0, 0, 0x30] + [0] * 4)}, TcbUnacceptable, "may be moved"),
        ({"td_attributes": bytes([0, 1, 0, 0x10] + [0] * 4)}, EvidenceInvalid, "Reserved bits"),
        ({"mr_service_td": b"\x01" * 48}, TcbUnacceptable, "a service TD is bound"),
        ({"mr_signer_seam": b"\x01" * 48}, EvidenceInvalid, "TDX module is not the vendor's"),
        ({"seam_attributes": b"\x01" + bytes(7)}, EvidenceInvalid, "TDX module is not the vendor's"),
    ],
)  # fmt: skip
def test_unsafe_guests_and_strange_modules(changes, error, says):
    with pytest.raises(error, match=says):
        verify(PLATFORM.quote(td_body(**changes), **V5))


# --- TCB -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", set(TcbStatus) - {TcbStatus.REVOKED})
def test_status_is_handed_to_the_policy(quote, status):
    if "TDRelaunch" in status:  # the verification finds it out; nobody signs it
        with pytest.raises(EvidenceInvalid, match="Unrecognized TCB status"):
            verify(quote, PLATFORM.collateral(PLATFORM.tcb_info(status)))
        return
    claims = verify(quote, PLATFORM.collateral(PLATFORM.tcb_info(status)))
    assert claims.tcb_status is status
    assert claims.advisory_ids == (() if status == "UpToDate" else ("INTEL-SA-1",))


@pytest.mark.parametrize(
    ("platform", "module", "qe", "expected", "advisories"),
    [
        ("UpToDate", "OutOfDate", "UpToDate", "OutOfDate", "2"),
        ("UpToDate", "UpToDate", "OutOfDate", "OutOfDate", "3"),
        ("SWHardeningNeeded", "OutOfDate", "UpToDate", "OutOfDate", "12"),
        ("ConfigurationNeeded", "OutOfDate", "UpToDate", "OutOfDateConfigurationNeeded", "12"),
        ("ConfigurationNeeded", "UpToDate", "OutOfDate", "OutOfDateConfigurationNeeded", "13"),
        ("ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDate",
         "OutOfDateConfigurationNeeded", "123"),
        ("OutOfDate", "OutOfDate", "OutOfDate", "OutOfDate", "123"),
        # The library lets these states of a quoting enclave pass without a word, as Intel's does.
        ("UpToDate", "UpToDate", "OutOfDateConfigurationNeeded",
         "OutOfDateConfigurationNeeded", "3"),
        ("SWHardeningNeeded", "OutOfDate", "ConfigurationNeeded",
         "OutOfDateConfigurationNeeded", "123"),
        ("UpToDate", "UpToDate", "ConfigurationNeeded", "ConfigurationNeeded", "3"),
        ("SWHardeningNeeded", "UpToDate", "ConfigurationNeeded",
         "ConfigurationAndSWHardeningNeeded", "13"),
    ],
)  # fmt: skip
def test_worst_of_platform_module_and_quoting_enclave(platform, module, qe, expected, advisories):
    collateral = PLATFORM.collateral(PLATFORM.tcb_info(platform, module), PLATFORM.qe_identity(qe))
    claims = verify(collateral=collateral)
    assert claims.tcb_status == expected
    assert claims.advisory_ids == tuple(f"INTEL-SA-{number}" for number in advisories)


@pytest.mark.parametrize("place", range(3))
def test_revoked_platform_module_or_quoting_enclave(quote, place):
    statuses = ["UpToDate"] * 3
    statuses[place] = "Revoked"
    collateral = PLATFORM.collateral(
        PLATFORM.tcb_info(*statuses[:2]), PLATFORM.qe_identity(statuses[2])
    )
    with pytest.raises(TcbUnacceptable, match="Revoked"):
        verify(quote, collateral)


@pytest.mark.parametrize("oldest", ["platform", "module", "qe"])
def test_date_is_that_of_the_oldest_level(oldest):
    assert TCB_DATE > MODULE_DATE > QE_DATE
    old = "2020-02-02"
    tcb_info, qe_identity = PLATFORM.tcb_info(), PLATFORM.qe_identity()
    of = {"platform": tcb_info, "module": tcb_info["tdxModuleIdentities"][0], "qe": qe_identity}
    for levels in of.values():
        levels["tcbLevels"][0]["tcbDate"] = f"{TCB_DATE}T00:00:00Z"
    of[oldest]["tcbLevels"][0]["tcbDate"] = f"{old}T00:00:00Z"
    collateral = PLATFORM.collateral(tcb_info, qe_identity)
    assert verify(collateral=collateral).tcb_date == date(old)


def test_date_of_the_quoting_enclave_counts(quote):
    assert verify(quote).tcb_date == date(QE_DATE)


@pytest.mark.parametrize("place", range(2, 16))
def test_every_tdx_component_counts(place):
    tcb_info = PLATFORM.tcb_info()
    tcb_info["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][place]["svn"] = 3
    with pytest.raises(TcbUnacceptable, match="older than every TCB level"):
        verify(collateral=PLATFORM.collateral(tcb_info))


@pytest.mark.parametrize("place", range(16))
def test_every_sgx_component_counts(place):
    tcb_info = PLATFORM.tcb_info()
    components = tcb_info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"]
    for component in components:
        component["svn"] = 0  # a later one that is high enough makes up for nothing
    components[place]["svn"] = 2
    with pytest.raises(TcbUnacceptable, match="older than every TCB level"):
        verify(collateral=PLATFORM.collateral(tcb_info))


@pytest.mark.parametrize("svn", [(3, 1, 2), (5, 2, 2)], ids=["older module", "unknown module"])
def test_module_without_a_level(svn):
    with pytest.raises(TcbUnacceptable, match="no TCB level of this TDX module"):
        verify(with_svn(*svn))


@pytest.mark.parametrize("identities", [[], None])
def test_module_of_a_later_version_needs_an_identity(identities):
    tcb_info = PLATFORM.tcb_info()
    tcb_info["tdxModuleIdentities"] = identities
    if identities is None:
        del tcb_info["tdxModuleIdentities"]
    with pytest.raises(TcbUnacceptable, match="no TCB level of this TDX module"):
        verify(collateral=PLATFORM.collateral(tcb_info))


def test_quoting_enclave_older_than_every_level():
    with pytest.raises(TcbUnacceptable, match="quoting enclave is older"):
        verify(PLATFORM.quote(qe={"svn": 3}))


# --- a module that was updated under a running guest ---------------------------------------------


def updated(status="OutOfDate", module_status="OutOfDate"):
    """Return collateral with an older level below the current one, each of platform and module."""
    tcb_info = PLATFORM.tcb_info()
    platform = tcb_info["tcbLevels"]
    older = copy.deepcopy(platform[0]["tcb"])
    older["tdxtcbcomponents"] = [{"svn": svn} for svn in (2, 0, 1, *bytes(13))]
    platform.append(level(older, status, "2024-01-01", "INTEL-SA-8"))
    module = tcb_info["tdxModuleIdentities"][0]["tcbLevels"]
    module.append(level({"isvsvn": 2}, module_status, "2024-02-01", "INTEL-SA-9"))
    return PLATFORM.collateral(tcb_info)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("OutOfDate", TcbStatus.TD_RELAUNCH_ADVISED),
        ("OutOfDateConfigurationNeeded", TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED),
    ],
)
def test_guest_that_was_launched_before_the_update(status, expected):
    claims = verify(with_svn(3, 1, 1, current=(5, 1, 2)), updated(status))
    assert claims.tcb_status is expected
    assert claims.advisory_ids == ("INTEL-SA-8", "INTEL-SA-9")
    assert claims.tcb_date == date("2024-01-01")


def test_guest_on_a_module_that_was_not_updated():
    claims = verify(with_svn(3, 1, 1, current=(3, 1, 1)), updated())
    assert claims.tcb_status is TcbStatus.OUT_OF_DATE


@pytest.mark.parametrize(
    ("status", "module", "expected"),
    [
        ("UpToDate", "OutOfDate", TcbStatus.OUT_OF_DATE),
        ("OutOfDate", "UpToDate", TcbStatus.OUT_OF_DATE),
        ("ConfigurationNeeded", "OutOfDate", TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED),
        ("ConfigurationNeeded", "UpToDate", TcbStatus.CONFIGURATION_NEEDED),
        ("SWHardeningNeeded", "UpToDate", TcbStatus.SW_HARDENING_NEEDED),
    ],
)
def test_guest_whose_module_was_replaced_by_a_worse_one(status, module, expected):
    """The launch was on an up-to-date module; a later version of modules may have older fixes."""
    claims = verify(with_svn(5, 1, 2, current=(3, 1, 1)), updated(status, module))
    assert claims.tcb_status is expected
    assert claims.advisory_ids == tuple(
        advisory
        for advisory, said in (("INTEL-SA-8", status), ("INTEL-SA-9", module))
        if said != "UpToDate"
    )
    assert claims.tcb_date == date("2024-01-01")


def test_advisories_of_the_module_that_runs_now_apply():
    """One of them may say that it gets no more updates, whatever its state is."""
    collateral = json.loads(updated())
    tcb_info = json.loads(collateral["tcb_info"])
    tcb_info["tdxModuleIdentities"][0]["tcbLevels"][0]["advisoryIDs"] = ["INTEL-DOC-10001"]
    claims = verify(with_svn(3, 1, 1, current=(5, 1, 2)), PLATFORM.collateral(tcb_info))
    assert claims.tcb_status is TcbStatus.TD_RELAUNCH_ADVISED
    assert claims.advisory_ids == ("INTEL-DOC-10001", "INTEL-SA-8", "INTEL-SA-9")


@pytest.mark.parametrize(
    ("qe", "expected"),
    [
        ("OutOfDate", TcbStatus.OUT_OF_DATE),
        ("OutOfDateConfigurationNeeded", TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED),
        ("ConfigurationNeeded", TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED),
    ],
)
def test_a_relaunch_does_not_hide_the_state_of_the_quoting_enclave(qe, expected):
    tcb_info = json.loads(json.loads(updated())["tcb_info"])
    collateral = PLATFORM.collateral(tcb_info, PLATFORM.qe_identity(qe))
    assert verify(with_svn(3, 1, 1, current=(5, 1, 2)), collateral).tcb_status is expected


@pytest.mark.parametrize("current", [(5, 2, 2), (0, 0, 0)])
def test_unknown_module_runs_now(current):
    with pytest.raises(TcbUnacceptable, match="module that runs now"):
        verify(with_svn(5, 1, 2, current=current))


@pytest.mark.parametrize("size", [0, 15, 17])
def test_platform_id_of_another_length(size):
    platform = TdxPlatform(now=NOW)
    platform.pki = build_pki(ppid=bytes(size), now=dt.datetime.fromtimestamp(NOW, dt.UTC))
    with pytest.raises(EvidenceInvalid, match="of an unknown kind|does not verify"):
        verify(platform.quote(), platform.collateral(), platform=platform)


# --- the quoting enclave and the kind ------------------------------------------------------------


@pytest.mark.parametrize(
    ("qe", "says"),
    [
        ({"product_id": 1}, "ISVPRODID"),
        ({"flags": 0x05}, "ATTRIBUTES"),
        ({"flags": 0x17}, "QE report validation"),
    ],
    ids=["SGX's", "without the provisioning key", "debug"],
)
def test_other_quoting_enclaves(qe, says):
    with pytest.raises(EvidenceInvalid, match=says):
        verify(PLATFORM.quote(qe=qe))


@pytest.mark.parametrize(
    ("which", "changes", "says"),
    [
        (0, {"id": "SGX"}, "non-TDX TCB info"),
        (0, {"version": 2}, "non-TDX TCB info"),
        (0, {"fmspc": "00" * 6}, "Fmspc mismatch"),
        (1, {"id": "QE"}, "Unsupported QE Identity"),
        (1, {"id": "QVE"}, "Unsupported QE Identity"),
        (1, {"version": 1}, "Unsupported QE Identity"),
        (1, {"mrsigner": "00" * 32}, "QE MRSIGNER"),
        (1, {"isvprodid": 3}, "QE ISVPRODID"),
    ],
)
def test_collateral_for_something_else(quote, which, changes, says):
    said = [PLATFORM.tcb_info(), PLATFORM.qe_identity()]
    said[which] |= changes
    with pytest.raises(EvidenceInvalid, match=says):
        verify(quote, PLATFORM.collateral(*said))


def test_enclave_under_the_collateral_of_trust_domains(platform, evidence):
    """One FMSPC, one root would be needed for more; the kinds alone are enough to refuse."""
    quote = PLATFORM.quote(SGX_BODY.pack(*_enclave()), version=3, tee_type=SGX)
    with pytest.raises(EvidenceInvalid, match="Unsupported QE Identity"):
        verify(quote)
    with pytest.raises(EvidenceInvalid, match="another root"):
        verify(ALL_QUOTES["4"], evidence.collateral)


def _enclave():
    return (bytes(16), 0, bytes(16), bytes([5]) + bytes(15), bytes(32), bytes(32), bytes(64),
            0, 0, 0, bytes(16), bytes(64))  # fmt: skip


@pytest.mark.parametrize("version", [4, 5])
def test_enclaves_in_newer_quotes_are_refused_by_name(version):
    """`dcap-qvl` 0.7 would refuse them too: "SGX TEE quote must have version 3"."""
    quote = PLATFORM.quote(SGX_BODY.pack(*_enclave()), version=version, tee_type=SGX)
    with pytest.raises(FormatError, match=f"SGX version {version}; only SGX version 3"):
        verify(quote)


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    "changes",
    [{"nextUpdate": stamp(NOW - 1)}, {"issueDate": stamp(NOW + 1)}],
    ids=["expired", "from the future"],
)
def test_statement_outside_its_time(quote, which, changes):
    said = [PLATFORM.tcb_info(), PLATFORM.qe_identity()]
    said[which] |= changes
    with pytest.raises(EvidenceStale, match="not valid now"):
        verify(quote, PLATFORM.collateral(*said))


@pytest.mark.parametrize("field", ["pck_crl", "root_ca_crl"])
def test_list_outside_its_time(field):
    old = json.loads(TdxPlatform.collateral(_earlier()))
    with pytest.raises(EvidenceStale, match="not valid now"):
        verify(collateral=PLATFORM.collateral(**{field: old[field]}))


def _earlier():
    """Return the same platform, vendor and keys 40 days ago."""
    earlier = copy.copy(PLATFORM)
    earlier.now = NOW - 40 * 24 * 3600
    return earlier


def test_no_collateral(quote):
    with pytest.raises(CollateralUnavailable):
        verify(quote, b"")


# --- signatures ----------------------------------------------------------------------------------


def body_of(quote):
    """Return where the body of `quote` begins and ends."""
    start = 48 if quote[0] == 4 else 54
    return start, start + (584 if quote[0] == 4 else int.from_bytes(quote[50:54], "little"))


def test_parts_of_another_platform(quote):
    """Each signature of another platform, put in the place of ours, is refused."""
    start, end = body_of(quote)
    foreign = TdxPlatform(now=NOW).quote(quote[start:end], version=quote[0])
    assert quote[:end] == foreign[:end]
    signature, qe = end + 4, end + 4 + 128 + 6
    key = signature + 64
    for at, size in ((signature, 64), (key, 64), (qe, 384), (qe + 384, 64)):
        with pytest.raises(EvidenceInvalid):
            verify(quote[:at] + foreign[at : at + size] + quote[at + size :])
    with pytest.raises(EvidenceInvalid, match="another root"):
        verify(foreign)


def test_body_of_another_guest(quote):
    start, _ = body_of(quote)
    with pytest.raises(EvidenceInvalid, match="signature is invalid"):
        verify(quote[: start + 136] + b"\xee" * 48 + quote[start + 184 :])


def test_td_1_5_does_not_pass_for_td_1_0():
    """The size is signed, and so is the type: neither can be rewritten."""
    quote = ALL_QUOTES["5 with TD 1.5"]
    data = quote[54 + 648 :]
    shorter = quote[:48] + b"\x02\0" + (584).to_bytes(4, "little") + quote[54 : 54 + 584] + data
    with pytest.raises(EvidenceInvalid, match="signature is invalid"):
        verify(shorter)


def test_version_5_does_not_pass_for_version_4():
    quote = ALL_QUOTES["5 with TD 1.0"]
    with pytest.raises(EvidenceInvalid, match="signature is invalid"):
        verify(b"\x04" + quote[1:48] + quote[54:])


def test_upgraded_tcb_info_is_noticed(quote):
    outdated = json.loads(PLATFORM.collateral(PLATFORM.tcb_info("OutOfDate", "OutOfDate")))
    upgraded = outdated["tcb_info"].replace("OutOfDate", "UpToDate")
    with pytest.raises(EvidenceInvalid, match="tcb_info"):
        verify(quote, json.dumps(outdated | {"tcb_info": upgraded}).encode())


# --- second forms --------------------------------------------------------------------------------

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def negated(signature):
    """Return the other signature, r and n - s, that verifies if r and s do (SEC 1, 4.1.4)."""
    s = P256_ORDER - int.from_bytes(signature[32:], "big")
    return signature[:32] + s.to_bytes(32, "big")


def test_every_signature_has_a_second_form_that_says_nothing_else(quote):
    """So no digest of a quote, nor of collateral, is an identity."""
    genuine = verify(quote)
    _, end = body_of(quote)
    for at in (end + 4, end + 4 + 128 + 6 + 384):
        other = quote[:at] + negated(quote[at : at + 64]) + quote[at + 64 :]
        assert other != quote
        assert verify(other) == genuine
    fields = json.loads(COLLATERAL)
    for name in ("tcb_info_signature", "qe_identity_signature"):
        other = negated(bytes.fromhex(fields[name])).hex()
        assert verify(quote, json.dumps(fields | {name: other}).encode()) == genuine


def test_key_that_is_there_twice_counts_at_its_last_place(quote):
    junk = b'{"tcb_info": "x", ' + COLLATERAL[1:]
    assert verify(quote, junk) == verify(quote)
