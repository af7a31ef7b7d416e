"""Rules and their composition: empty means refuse, and a refusal can be understood."""

import dataclasses

import pytest
from attestation_cases import MEASUREMENT, NOW, REPORT_DATA

from wardian.attestation.claims import TcbStatus
from wardian.attestation.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.policy import (
    AdvisoriesWithin,
    AllOf,
    AnyOf,
    AnyPlatform,
    AppraisalPolicy,
    CollateralNoOlderThan,
    MeasurementIn,
    NotDebug,
    PlatformIn,
    SignedBy,
    TcbEvaluationAtLeast,
    TcbStatusIn,
)
from wardian.attestation.verifier import verify_quote
from wardian.errors import ConfigError, PolicyDenied

OTHER = bytes(32)


@pytest.fixture
def claims(platform, evidence):
    return verify_quote(evidence.quote, evidence.collateral, root=platform.root_der, now=NOW)


def test_allof_and_anyof_without_rules_refuse(claims):
    for empty in (AllOf(), AnyOf(), AllOf(AnyOf()), AnyOf(AllOf()), AllOf(NotDebug(), AnyOf())):
        outcome = empty.appraise(claims)
        assert not outcome.accepted
        assert "empty" in outcome.reason


def test_allof_names_the_rule_that_refuses(claims):
    outcome = AllOf(NotDebug(), MeasurementIn(frozenset({OTHER}))).appraise(claims)
    assert (outcome.accepted, outcome.rule) == (False, "MeasurementIn")
    assert AllOf(NotDebug(), AnyPlatform()).appraise(claims).accepted


def test_anyof_takes_one_and_quotes_all(claims, platform):
    measured = MeasurementIn(frozenset({MEASUREMENT}))
    foreign = MeasurementIn(frozenset({OTHER}))
    signed = SignedBy(OTHER, 0, 0)
    assert AnyOf(foreign, measured).appraise(claims).accepted
    outcome = AnyOf(foreign, signed).appraise(claims)
    assert outcome.rule == "AnyOf(MeasurementIn, SignedBy)"
    assert MEASUREMENT.hex() in outcome.reason
    assert platform.mr_signer.hex() in outcome.reason
    assert OTHER.hex() not in outcome.reason


@pytest.mark.parametrize(
    ("product_id", "min_svn", "accepted"),
    [(3, 4, True), (3, 0, True), (3, 5, False), (2, 4, False), (0, 0, False)],
)
def test_signed_by(claims, platform, product_id, min_svn, accepted):
    outcome = SignedBy(platform.mr_signer, product_id, min_svn).appraise(claims)
    assert outcome.accepted is accepted


@pytest.mark.parametrize(
    ("rule", "changes", "accepted"),
    [
        (MeasurementIn(frozenset()), {}, False),
        (NotDebug(), {}, True),
        (NotDebug(), {"attributes": bytes([7]) + bytes(15)}, False),
        (TcbStatusIn(frozenset()), {}, False),
        (TcbStatusIn(frozenset({TcbStatus.UP_TO_DATE})), {}, True),
        (TcbStatusIn(frozenset({TcbStatus.UP_TO_DATE})), {"tcb_status": TcbStatus.REVOKED}, False),
        (AdvisoriesWithin(frozenset()), {}, True),
        (AdvisoriesWithin(frozenset()), {"advisory_ids": ("INTEL-SA-1",)}, False),
        (AdvisoriesWithin(frozenset({"INTEL-SA-1"})), {"advisory_ids": ("INTEL-SA-1",)}, True),
        (
            AdvisoriesWithin(frozenset({"INTEL-SA-1"})),
            {"advisory_ids": ("INTEL-SA-1", "INTEL-SA-2")},
            False,
        ),
        (CollateralNoOlderThan(3600), {}, True),
        (CollateralNoOlderThan(3599), {}, False),
        (TcbEvaluationAtLeast(1), {}, True),
        (TcbEvaluationAtLeast(2), {}, False),
        (PlatformIn(frozenset()), {}, False),
        (PlatformIn(frozenset({bytes(16)})), {}, False),
        (PlatformIn(frozenset({bytes(16)})), {"ppid": bytes(16)}, True),
        (AnyPlatform(), {}, True),
    ],
)
def test_rules(claims, rule, changes, accepted):
    outcome = rule.appraise(dataclasses.replace(claims, **changes))
    assert outcome.accepted is accepted
    assert outcome.rule == type(rule).__name__ == rule.name


def test_refused_advisory_is_named(claims):
    changed = dataclasses.replace(claims, advisory_ids=("INTEL-SA-1", "INTEL-SA-2"))
    reason = AdvisoriesWithin(frozenset({"INTEL-SA-1"})).appraise(changed).reason
    assert "INTEL-SA-2" in reason
    assert "INTEL-SA-1" not in reason


def test_accepted_risk_is_spelled_out(claims):
    assert "risk accepted" in AnyPlatform().appraise(claims).reason


def test_rules_that_could_never_be_right():
    with pytest.raises(ConfigError, match="Revoked"):
        TcbStatusIn(frozenset({TcbStatus.REVOKED}))
    with pytest.raises(ConfigError, match="32 bytes"):
        MeasurementIn(frozenset({b"short"}))
    with pytest.raises(ConfigError, match="32 bytes"):
        SignedBy(b"short", 0, 0)
    with pytest.raises(ConfigError, match="32 bytes"):
        AppraisalPolicy(roots=frozenset({b"short"}), rule=NotDebug())


def test_explain_shows_every_rule(claims, platform):
    measured = MeasurementIn(frozenset({MEASUREMENT}))
    policy = AppraisalPolicy(
        roots=frozenset({platform.root_sha256}),
        rule=AllOf(NotDebug(), AnyOf(SignedBy(OTHER, 0, 0), measured)),
    )
    outcomes = policy.explain(claims)
    assert [(outcome.rule.partition("(")[0], outcome.accepted) for outcome in outcomes] == [
        ("Root", True),
        ("AllOf", True),
        ("NotDebug", True),
        ("AnyOf", True),
        ("SignedBy", False),
        ("MeasurementIn", True),
    ]
    assert policy.demand(claims) == outcomes


def test_demand_looks_at_the_root_too(claims):
    policy = AppraisalPolicy(
        roots=frozenset({INTEL_ROOT_SHA256}), rule=MeasurementIn(frozenset({MEASUREMENT}))
    )
    assert not policy.explain(claims)[0].accepted
    with pytest.raises(PolicyDenied, match="SIMULATED") as refused:
        policy.demand(claims)
    assert refused.value.rule == "Root"


def test_describe_shows_what_a_person_needs(claims):
    shown = claims.describe()
    assert shown["mr_enclave"] == MEASUREMENT.hex()
    assert shown["report_data"] == REPORT_DATA.hex()
    assert shown["debug"] is False
