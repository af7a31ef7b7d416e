"""How rules compose: empty means refuse, and a refusal can be understood."""

import pytest
from policy_cases import MR_ENCLAVE, MR_SIGNER, domain_claims, enclave_claims

from wardian.attestation.appraisal.policy import (
    AllOf,
    AnyOf,
    AnyPlatform,
    AppraisalPolicy,
    MeasurementIn,
    NotDebug,
    PerKind,
    TcbStatusIn,
)
from wardian.attestation.appraisal.rules_sgx import SignedBy
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.claims import TcbStatus, TeeKind
from wardian.errors import ConfigError, PolicyDenied

OTHER = bytes(32)
MEASURED = MeasurementIn(frozenset({MR_ENCLAVE}))
FOREIGN = MeasurementIn(frozenset({OTHER}))
CLAIMS = enclave_claims()


def test_without_rules_everything_is_refused() -> None:
    for empty in (
        AllOf(), AnyOf(), AllOf(AnyOf()), AnyOf(AllOf()), AllOf(NotDebug(), AnyOf()),
        PerKind({TeeKind.SGX: AllOf()}),
    ):  # fmt: skip
        outcome = empty.appraise(CLAIMS)
        assert not outcome.accepted
        assert "empty" in outcome.decider.reason
    assert not PerKind({}).appraise(CLAIMS).accepted


def test_allof_is_decided_by_the_first_that_refuses() -> None:
    outcome = AllOf(NotDebug(), FOREIGN, SignedBy(OTHER, 0, 0)).appraise(CLAIMS)
    assert (outcome.rule, outcome.accepted) == ("AllOf", False)
    assert outcome.decider.rule == "MeasurementIn"
    assert [part.accepted for part in outcome.parts] == [True, False, False]  # all were asked
    assert outcome.reason == "2 of 3 rules refuse"
    accepted = AllOf(NotDebug(), AnyPlatform()).appraise(CLAIMS)
    assert accepted.accepted
    assert accepted.decider is accepted


def test_anyof_takes_one_and_quotes_all() -> None:
    outcome = AnyOf(FOREIGN, MEASURED, NotDebug()).appraise(CLAIMS)
    assert outcome.accepted
    assert outcome.decider is outcome.parts[1]
    refusal = AnyOf(FOREIGN, SignedBy(OTHER, 0, 0)).appraise(CLAIMS)
    assert refusal.decider is refusal
    assert refusal.reason.startswith("MeasurementIn: measurement")
    assert "; SignedBy: signer" in refusal.reason
    assert MR_ENCLAVE.hex() in refusal.reason
    assert MR_SIGNER.hex() in refusal.reason
    assert OTHER.hex() not in refusal.reason  # never what the rule would have wanted


def test_per_kind_asks_the_rule_for_the_kind_and_no_other() -> None:
    both = PerKind({TeeKind.SGX: AllOf(MEASURED), TeeKind.TDX: AllOf(NotDebug(), FOREIGN)})
    assert both.appraise(CLAIMS).accepted
    refusal = both.appraise(domain_claims())
    assert refusal.decider.rule == "MeasurementIn"
    assert [outcome.rule for _, outcome in refusal.walk()] == [
        "PerKind", "AllOf", "NotDebug", "MeasurementIn",
    ]  # fmt: skip
    alone = PerKind({TeeKind.SGX: MEASURED}).appraise(domain_claims())
    assert (alone.accepted, alone.decider.rule) == (False, "PerKind")
    assert "TDX" in alone.reason


def test_a_rule_added_afterwards_changes_nothing() -> None:
    rules = {TeeKind.SGX: FOREIGN}
    chosen = PerKind(rules)
    rules[TeeKind.SGX] = MEASURED
    assert not chosen.appraise(CLAIMS).accepted


def policy(rule: object) -> AppraisalPolicy:
    return AppraisalPolicy(roots=frozenset({INTEL_ROOT_SHA256}), rule=rule)


def test_explain_shows_every_rule_and_demand_the_same() -> None:
    chosen = policy(AllOf(NotDebug(), AnyOf(SignedBy(OTHER, 0, 0), MEASURED)))
    outcomes = chosen.explain(CLAIMS)
    assert [
        (depth, each.rule, each.accepted) for top in outcomes for depth, each in top.walk()
    ] == [
        (0, "Root", True),
        (0, "AllOf", True),
        (1, "NotDebug", True),
        (1, "AnyOf", True),
        (2, "SignedBy", False),
        (2, "MeasurementIn", True),
    ]
    assert chosen.demand(CLAIMS) == outcomes


def test_demand_names_the_rule_that_decided_not_the_one_around_it() -> None:
    inside = AllOf(NotDebug(), AllOf(AnyOf(AllOf(MEASURED)), AllOf(TcbStatusIn(frozenset()))))
    with pytest.raises(PolicyDenied, match="UpToDate: not accepted") as refused:
        policy(inside).demand(CLAIMS)
    assert refused.value.rule == "TcbStatusIn"
    with pytest.raises(PolicyDenied) as refused:
        policy(AllOf(AnyOf(FOREIGN, AllOf(FOREIGN)))).demand(CLAIMS)
    assert refused.value.rule == "AnyOf"


def test_demand_looks_at_the_root_first() -> None:
    simulated = enclave_claims(root_sha256=OTHER)
    chosen = policy(FOREIGN)
    assert not chosen.explain(simulated)[0].accepted
    with pytest.raises(PolicyDenied, match="SIMULATED") as refused:
        chosen.demand(simulated)
    assert refused.value.rule == "Root"
    nobody = AppraisalPolicy(roots=frozenset(), rule=MEASURED)
    with pytest.raises(PolicyDenied, match="no root at all") as refused:
        nobody.demand(CLAIMS)
    assert refused.value.rule == "Root"


def test_a_root_is_named_by_its_digest() -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        AppraisalPolicy(roots=frozenset({b"short"}), rule=NotDebug())


def test_an_accepted_state_that_can_never_be() -> None:
    with pytest.raises(ConfigError, match="Revoked"):
        TcbStatusIn(frozenset({TcbStatus.REVOKED}))
