"""Each rule: what it accepts, what it refuses, and the name and the words of the refusal."""

import pytest
from policy_cases import (
    DAY,
    FMSPC,
    MR_ENCLAVE,
    MR_SIGNER,
    NOW,
    PPID,
    REGISTERS,
    domain,
    domain_claims,
    enclave_claims,
)

from wardian.attestation.appraisal.bit_mask import BitMask
from wardian.attestation.appraisal.policy import (
    AdvisoriesNoneOf,
    AdvisoriesWithin,
    AnyMeasurement,
    AnyPlatform,
    CollateralNoOlderThan,
    KindIn,
    MeasurementIn,
    NotConfigured,
    NotDebug,
    OutOfDateWithin,
    PlatformIn,
    TcbEvaluationAtLeast,
    TcbStatusIn,
)
from wardian.attestation.appraisal.rules_hardware import (
    FmspcIn,
    NoCachedKeys,
    NoSmt,
    NotDynamicPlatform,
    SgxTypeIn,
)
from wardian.attestation.appraisal.rules_sgx import (
    ConfigIdIn,
    FlagsMatch,
    MiscSelectMatch,
    SignedBy,
    XfrmMatch,
)
from wardian.attestation.appraisal.rules_tdx import (
    TdAttributesMatch,
    TdRegisterIn,
    TeeTcbSvnAtLeast,
    XfamMatch,
)
from wardian.attestation.claims import TcbStatus, TeeKind
from wardian.errors import ConfigError

SET = frozenset
OUT, OUT_CONFIGURATION = TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
RELAUNCH = TcbStatus.TD_RELAUNCH_ADVISED
CONFIG = b"\xc0" * 64


def bits(mask: int, value: int) -> BitMask:
    return BitMask(mask=mask, value=value)


OF_ANY_KIND = [
    (MeasurementIn(SET()), {}, False),
    (MeasurementIn(SET({MR_ENCLAVE})), {}, True),
    (MeasurementIn(SET({MR_ENCLAVE})), {"mr_enclave": bytes(32)}, False),
    (AnyMeasurement(), {"mr_enclave": bytes(32)}, True),
    (NotConfigured(), {}, True),
    (NotConfigured(), {"config_id": b"\1" + bytes(63)}, False),
    (NotConfigured(), {"config_svn": 1}, False),
    (KindIn(SET()), {}, False),
    (KindIn(SET({TeeKind.SGX})), {}, True),
    (KindIn(SET({TeeKind.TDX})), {}, False),
    (NotDebug(), {}, True),
    (NotDebug(), {"attributes": bytes([7]) + bytes(15)}, False),
    (TcbStatusIn(SET()), {}, False),
    (TcbStatusIn(SET({TcbStatus.UP_TO_DATE})), {}, True),
    (TcbStatusIn(SET({TcbStatus.UP_TO_DATE})), {"tcb_status": TcbStatus.REVOKED}, False),
    (TcbStatusIn(SET({TcbStatus.UP_TO_DATE})), {"tcb_status": RELAUNCH}, False),
    (TcbStatusIn(SET({RELAUNCH})), {"tcb_status": RELAUNCH}, True),
    (AdvisoriesWithin(SET()), {}, True),
    (AdvisoriesWithin(SET()), {"advisory_ids": ("INTEL-SA-1",)}, False),
    (AdvisoriesWithin(SET({"INTEL-SA-1"})), {"advisory_ids": ("INTEL-SA-1",)}, True),
    (AdvisoriesWithin(SET({"INTEL-SA-1"})), {"advisory_ids": ("INTEL-SA-1", "INTEL-SA-2")}, False),
    (AdvisoriesWithin(SET({"INTEL-SA-1"})), {"advisory_ids": ("INTEL-DOC-10001",)}, False),
    (AdvisoriesWithin(SET({"INTEL-SA-1"})), {"advisory_ids": ("intel-sa-1",)}, False),
    (AdvisoriesNoneOf(SET()), {"advisory_ids": ("INTEL-SA-1",)}, True),
    (AdvisoriesNoneOf(SET({"INTEL-SA-1"})), {}, True),
    (AdvisoriesNoneOf(SET({"INTEL-SA-1"})), {"advisory_ids": ("A-2", "INTEL-SA-1")}, False),
    (AdvisoriesNoneOf(SET({"INTEL-SA-1"})), {"advisory_ids": ("intel-sa-1",)}, False),
    (AdvisoriesNoneOf(SET({"intel-sa-1"})), {"advisory_ids": ("INTEL-SA-1",)}, False),
    (OutOfDateWithin(1), {}, True),  # the level is 100 days old, and still the newest
    (OutOfDateWithin(1), {"tcb_status": RELAUNCH}, True),
    (OutOfDateWithin(100 * DAY), {"tcb_status": OUT}, True),
    (OutOfDateWithin(100 * DAY - 1), {"tcb_status": OUT}, False),
    (OutOfDateWithin(100 * DAY), {"tcb_status": OUT_CONFIGURATION}, True),
    (OutOfDateWithin(100 * DAY - 1), {"tcb_status": OUT_CONFIGURATION}, False),
    (OutOfDateWithin(DAY), {"tcb_status": OUT, "tcb_date": NOW + 1}, False),
    (CollateralNoOlderThan(10 * DAY), {}, True),
    (CollateralNoOlderThan(10 * DAY - 1), {}, False),
    (CollateralNoOlderThan(DAY), {"collateral_issued": NOW + 1}, False),
    (TcbEvaluationAtLeast(17), {}, True),
    (TcbEvaluationAtLeast(18), {}, False),
    (PlatformIn(SET()), {}, False),
    (PlatformIn(SET({bytes(16)})), {}, False),
    (PlatformIn(SET({PPID})), {}, True),
    (AnyPlatform(), {}, True),
    (FmspcIn(SET()), {}, False),
    (FmspcIn(SET({FMSPC})), {}, True),
    (FmspcIn(SET({FMSPC})), {"fmspc": bytes(6)}, False),
    (SgxTypeIn(SET({1, 2})), {}, True),
    (SgxTypeIn(SET({2})), {}, False),
    *(
        (rule, {claim: said}, accepted)
        for rule, claim in (
            (NotDynamicPlatform(), "dynamic_platform"),
            (NoCachedKeys(), "cached_keys"),
            (NoSmt(), "smt_enabled"),
        )
        for said, accepted in ((False, True), (True, False), (None, False))
    ),
]
OF_ENCLAVES = [
    (SignedBy(MR_SIGNER, 3, 4), {}, True),
    (SignedBy(MR_SIGNER, 3, 0), {}, True),
    (SignedBy(MR_SIGNER, 3, 5), {}, False),
    (SignedBy(MR_SIGNER, 2, 4), {}, False),
    (SignedBy(MR_SIGNER, 0, 0), {}, False),
    (SignedBy(bytes(32), 3, 4), {}, False),
    (ConfigIdIn(SET()), {}, False),
    (ConfigIdIn(SET({bytes(64)})), {}, True),
    (ConfigIdIn(SET({bytes(64)})), {"config_id": CONFIG}, False),
    (ConfigIdIn(SET({CONFIG})), {"config_id": CONFIG}, True),
    (ConfigIdIn(SET({CONFIG})), {}, False),
    # CONFIGSVN is the launcher's as well, and a version of nothing is no version.
    (ConfigIdIn(SET({bytes(64)})), {"config_svn": 1}, False),
    (ConfigIdIn(SET({CONFIG, bytes(64)})), {"config_svn": 1}, False),
    (ConfigIdIn(SET({CONFIG, bytes(64)})), {"config_id": CONFIG, "config_svn": 1}, True),
    (FlagsMatch(bits(0x04, 0x04)), {}, True),
    (FlagsMatch(bits(0x84, 0x04)), {}, True),
    (FlagsMatch(bits(0x84, 0x84)), {}, False),
    (FlagsMatch(bits(1 << 63, 0)), {"attributes": b"\5" + bytes(6) + b"\x80" + bytes(8)}, False),
    (XfrmMatch(bits(0xE0, 0xE0)), {}, True),
    (XfrmMatch(bits(0x60000, 0x60000)), {}, False),
    (MiscSelectMatch(bits(1, 1)), {}, True),
    (MiscSelectMatch(bits(1, 0)), {}, False),
]
OF_DOMAINS = [
    (NotConfigured(), {"mr_config_id": b"\1" * 48}, True),
    (MeasurementIn(SET({domain().measurement})), {}, True),
    (MeasurementIn(SET({domain().measurement})), {"rtmr3": b"\1" * 48}, False),
    (KindIn(SET({TeeKind.TDX})), {}, True),
    (NotDebug(), {"td_attributes": b"\1" + bytes(7)}, False),
    (NotDebug(), {"td_attributes": b"\x80" + bytes(7)}, False),  # any bit of TUD
    *((TdRegisterIn(name, SET({value})), {}, True) for name, value in REGISTERS.items()),
    *((TdRegisterIn(name, SET({b"\2" * 48})), {}, False) for name in REGISTERS),
    *((TdRegisterIn(name, SET()), {}, False) for name in REGISTERS),
    *(
        (TdRegisterIn(name, SET({value})), {name: b"\3" * 48}, False)
        for name, value in REGISTERS.items()
    ),
    (TeeTcbSvnAtLeast(bytes([6, 1, 3]).ljust(16, b"\0")), {}, True),
    (TeeTcbSvnAtLeast(bytes([5, 1, 2]).ljust(16, b"\0")), {}, True),
    (TeeTcbSvnAtLeast(bytes([6, 1, 4]).ljust(16, b"\0")), {}, False),
    (TeeTcbSvnAtLeast(bytes([5, 2, 3]).ljust(16, b"\0")), {}, False),
    (TeeTcbSvnAtLeast(bytes(15) + b"\1"), {}, False),
    (TdAttributesMatch(bits(1 << 28, 1 << 28)), {}, True),
    (TdAttributesMatch(bits(1 << 29, 0)), {"td_attributes": bytes.fromhex("0000003000000000")},
     False),
    (XfamMatch(bits(0x60000, 0x60000)), {}, True),
    (XfamMatch(bits(0x200, 0)), {}, False),
]  # fmt: skip
CASES = [
    *((rule, enclave_claims(**changes), accepted) for rule, changes, accepted in OF_ANY_KIND),
    *((rule, enclave_claims(**changes), accepted) for rule, changes, accepted in OF_ENCLAVES),
    *((rule, domain_claims(**changes), accepted) for rule, changes, accepted in OF_DOMAINS),
]


@pytest.mark.parametrize(("rule", "claims", "accepted"), CASES)
def test_rules(rule, claims, accepted) -> None:
    outcome = rule.appraise(claims)
    assert outcome.accepted is accepted
    assert outcome.rule == type(rule).__name__ == rule.name
    assert outcome.decider is outcome
    assert outcome.parts == ()
    assert outcome.reason.isprintable()


def test_a_rule_about_enclaves_refuses_what_is_none_and_the_reverse() -> None:
    for rule in {type(rule): rule for rule, _, _ in OF_ENCLAVES}.values():
        outcome = rule.appraise(domain_claims())
        assert not outcome.accepted
        assert "TDX" in outcome.reason
    of_domains = {type(rule): rule for rule, _, _ in OF_DOMAINS}
    for kind in (MeasurementIn, KindIn, NotConfigured, NotDebug):
        del of_domains[kind]
    assert len(of_domains) == 4
    for rule in of_domains.values():
        outcome = rule.appraise(enclave_claims())
        assert not outcome.accepted
        assert "SGX" in outcome.reason


def test_a_refusal_says_what_the_evidence_says_and_not_what_was_wanted() -> None:
    wanted = b"\xab" * 48
    refusals = [
        MeasurementIn(SET({wanted[:32]})).appraise(enclave_claims()),
        SignedBy(wanted[:32], 0, 0).appraise(enclave_claims()),
        SignedBy(MR_SIGNER, 43690, 0).appraise(enclave_claims()),
        SignedBy(MR_SIGNER, 3, 43690).appraise(enclave_claims()),
        ConfigIdIn(SET({b"\xab" * 64})).appraise(enclave_claims()),
        FlagsMatch(bits(0xABAB, 0xABAB)).appraise(enclave_claims()),
        PlatformIn(SET({wanted[:16]})).appraise(enclave_claims()),
        FmspcIn(SET({wanted[:6]})).appraise(enclave_claims()),
        TcbEvaluationAtLeast(43690).appraise(enclave_claims()),
        TdRegisterIn("rtmr1", SET({wanted})).appraise(domain_claims()),
        TeeTcbSvnAtLeast(wanted[:16]).appraise(domain_claims()),
        TdAttributesMatch(bits(0xABAB, 0xABAB)).appraise(domain_claims()),
    ]
    for refusal in refusals:
        assert not refusal.accepted
        assert "abab" not in refusal.reason.lower()
        assert "43690" not in refusal.reason
    assert MR_ENCLAVE.hex() in refusals[0].reason
    assert REGISTERS["rtmr1"].hex() in refusals[9].reason
    assert "rtmr1" in refusals[9].reason


def test_advisories_are_named() -> None:
    claims = enclave_claims(advisory_ids=("INTEL-SA-1", "INTEL-SA-2"))
    reason = AdvisoriesWithin(SET({"INTEL-SA-1"})).appraise(claims).reason
    assert "INTEL-SA-2" in reason
    assert "INTEL-SA-1" not in reason
    reason = AdvisoriesNoneOf(SET({"intel-sa-1"})).appraise(claims).reason
    assert "INTEL-SA-1" in reason
    assert "INTEL-SA-2" not in reason


def test_an_accepted_risk_is_spelled_out() -> None:
    assert "risk accepted" in AnyPlatform().appraise(enclave_claims()).reason
    assert "not judged" in AnyMeasurement().appraise(enclave_claims()).reason


IMPOSSIBLE = [
    (MeasurementIn, (SET({b"short"}),), "32 bytes"),
    (SignedBy, (b"short", 0, 0), "32 bytes"),
    (ConfigIdIn, (SET({bytes(32)}),), "64 bytes"),
    (TdRegisterIn, ("mr_td", SET({bytes(32)})), "48 bytes"),
    (TdRegisterIn, ("mr_enclave", SET({bytes(48)})), "no register"),
    (TdRegisterIn, ("report_data", SET({bytes(48)})), "no register"),
    (TeeTcbSvnAtLeast, (bytes(15),), "16 bytes"),
    (bits, (0, 0), "without bits"),
    (bits, (-1, 0), "without bits"),
    (bits, (1, 2), "leaves out"),
    (bits, (1, -1), "leaves out"),
    (FlagsMatch, (bits(1 << 64, 0),), "above the 64"),
    (XfrmMatch, (bits(1 << 64, 0),), "above the 64"),
    (MiscSelectMatch, (bits(1 << 32, 0),), "above the 32"),
    (TdAttributesMatch, (bits(1 << 64, 0),), "above the 64"),
    (XfamMatch, (bits(1 << 64, 0),), "above the 64"),
]


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_rules_that_could_never_be_right(case) -> None:
    make, arguments, says = case
    with pytest.raises(ConfigError, match=says):
        make(*arguments)
