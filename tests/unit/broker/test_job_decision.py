"""Shared learning: each way in which an owner's policy refuses a job, with who and which rule."""

import dataclasses
import random
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from toy_jobs import (
    MR_ENCLAVE,
    NOW,
    SEALED_TO,
    TRAINED,
    WORKER,
    allow,
    both,
    enclave_claims,
    job,
    job_table,
    parties,
    policy,
    rule_of_a,
    signed,
    standing,
)

from wardian.attestation.claims import TcbStatus
from wardian.broker.jobs.decision import decide, judge, judge_on_paper
from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.signing import VerifiedPolicy
from wardian.broker.jobs.standing import Spent, Standing, TableStanding
from wardian.errors import LocalProtocolError, PolicyDenied


def refused(
    rule: Rule,
    *,
    plan: JobPlan | None = None,
    policies: list[VerifiedPolicy] | None = None,
    at: Standing | None = None,
    who: str = "hospital-a",
) -> str:
    """Return what is said when `rule` of `who` alone refuses."""
    plan = plan or job()
    held = both() if policies is None else policies
    verdicts = judge(plan, held, at or standing(plan))
    found = [refusal for verdict in verdicts for refusal in verdict.refusals]
    assert {(each.who, each.rule) for each in found} == {(who, rule)}
    with pytest.raises(PolicyDenied) as denied:
        decide(plan, held, at or standing(plan))
    assert denied.value.rule == rule
    assert str(denied.value) == found[0].said
    assert who in found[0].said
    return found[0].said


def with_a(**changes: Any) -> Standing:
    return standing(a=TableStanding(**{"beacon": NOW - 10, **changes}))


# --- what is allowed --------------------------------------------------------------------------


def test_all_owners_allow() -> None:
    decision = decide(job(), both(), standing())
    assert [verdict.allow.name for verdict in decision.verdicts if verdict.allow] == ["study"] * 2
    assert {verdict.who for verdict in decision.verdicts} == {"hospital-a", "hospital-b"}
    assert {debit.uses for debit in decision.debits} == {1}
    assert {debit.spent.epsilon for debit in decision.debits} == {Fraction(1, 2)}
    assert decision.release is None


def test_one_rule_of_several_is_enough() -> None:
    other = allow(name="another", purposes=["billing"])
    decision = decide(job(), both(allow=[other, allow()]), standing())
    assert all(each.allow and each.allow.name == "study" for each in decision.verdicts)


def test_one_table_needs_no_join() -> None:
    plan = job(owners=("hospital-a",), outputs={"model": ["hospital-a"]})
    assert decide(plan, [signed()], standing(plan)).terms.smallest_join == 1000


def test_rows_that_nobody_knows_yet_are_left_to_the_job() -> None:
    decision = decide(job(), both(), standing(rows=None))
    decision.terms.refuse_small_join(1000)
    with pytest.raises(PolicyDenied) as denied:
        decision.terms.refuse_small_join(999)
    assert denied.value.rule == Rule.JOIN


def test_owners_who_all_do_without_noise() -> None:
    loud = {"epsilon": None, "delta": None, "without_noise": "risk accepted"}
    held = [
        signed(owner, allow=[allow(owner, output=loud)]) for owner in ("hospital-a", "hospital-b")
    ]
    decision = decide(job(privacy=None), held, standing())
    assert {debit.spent for debit in decision.debits} == {Spent()}
    decide(job(), held, standing())


def test_ten_runs_of_a_tenth_are_exactly_the_budget() -> None:
    plan = job(privacy={"epsilon": 0.1, "delta": 1e-9})
    spent = Spent()
    for _ in range(10):
        held = both(budget={"epsilon": 1.0, "delta": 1e-8})
        decision = decide(plan, held, standing(a=TableStanding(beacon=NOW, spent=spent)))
        (debit,) = (each for each in decision.debits if each.place == policy().place)
        spent = debit.spent
    assert spent.epsilon == 1
    refused(
        Rule.BUDGET, plan=plan, policies=held, at=standing(a=TableStanding(beacon=NOW, spent=spent))
    )


# --- each rule --------------------------------------------------------------------------------


def test_expired() -> None:
    refused(Rule.EXPIRED, policies=rule_of_a(expires=NOW - 1))
    decide(job(), rule_of_a(expires=NOW), standing())


def test_expired_by_the_word_of_the_owner_though_the_clock_was_set_back() -> None:
    at = standing(now=NOW - 10_000, a=TableStanding(beacon=NOW + 101))
    refused(Rule.EXPIRED, at=dataclasses.replace(at, tables={
        place: TableStanding(beacon=NOW - 10_000) if place != policy().place else table
        for place, table in at.tables.items()
    }))  # fmt: skip


def test_used_up() -> None:
    decide(job(), both(), with_a(uses=9))
    refused(Rule.USES, at=with_a(uses=10))


def test_a_new_serial_does_not_begin_the_count_anew() -> None:
    refused(Rule.USES, policies=both(serial=2), at=with_a(uses=10, newest=signed().mark))


def test_another_column() -> None:
    said = refused(Rule.COLUMNS, policies=rule_of_a(columns=["patient", "readmitted", "age"]))
    assert "the column bmi" in said


@pytest.mark.parametrize("left", ["patient", "readmitted"])
def test_the_identifier_and_the_label_are_columns_too(left: str) -> None:
    columns = [each for each in ("patient", "readmitted", "age", "bmi") if each != left]
    refused(Rule.COLUMNS, policies=rule_of_a(columns=columns))


def test_every_column() -> None:
    decide(job(), rule_of_a(columns=["*"]), standing())


def test_another_algorithm() -> None:
    refused(Rule.ALGORITHM, policies=rule_of_a(algorithms={"perceptron": {}}))


@pytest.mark.parametrize("allowed", [{"max": 0.4}, {"min": 0.6}, {"one_of": [1, 2]}, {"exact": 1}])
def test_a_parameter_out_of_its_range(allowed: dict[str, Any]) -> None:
    said = refused(Rule.PARAMETER, policies=rule_of_a(algorithms={TRAINED: {"l2": allowed}}))
    assert said.endswith("the parameter l2 is 0.5 (job-parameter)")  # and not what would do


@pytest.mark.parametrize("given", [{}, {"min_leaf_rows": 24}, {"min_leaf_rows": 25}])
def test_leaves_of_fewer_rows_than_a_cohort(given: dict[str, Any]) -> None:
    """No rule needs to say so, and no use is spent on a job that would end of it."""
    forest = {"algorithm": "random-forest", "parameters": given}
    loud = {"epsilon": None, "delta": None, "without_noise": "risk accepted"}
    plan, held = job(train=forest, privacy=None), []
    for owner, cohort in (("hospital-a", 25), ("hospital-b", 20)):
        free = {"random-forest": {"min_leaf_rows": {"min": 1, "max": 100}}}
        output = {**loud, "smallest_cohort": cohort}
        held.append(signed(owner, allow=[allow(owner, algorithms=free, output=output)]))
    if given == {"min_leaf_rows": 25}:
        decide(plan, held, standing())
        return
    said = refused(Rule.PARAMETER, plan=plan, policies=held)
    assert said.endswith(f"min_leaf_rows is {given.get('min_leaf_rows', 20)} (job-parameter)")


def test_a_parameter_that_no_rule_names_has_its_default() -> None:
    parameters = {"l2": 0.5, "max_iterations": 100}
    decide(job(train={"algorithm": TRAINED, "parameters": parameters}), both(), standing())
    parameters["max_iterations"] = 101
    free = allow(
        "hospital-b", algorithms={TRAINED: {"max_iterations": {"max": 1000}, "l2": {"max": 1}}}
    )
    refused(
        Rule.PARAMETER,
        plan=job(train={"algorithm": TRAINED, "parameters": parameters}),
        policies=[signed(), signed("hospital-b", allow=[free])],
    )


def test_a_default_is_judged_too() -> None:
    within = {"l2": {"min": 0.1}, "max_iterations": {"max": 50}}
    refused(Rule.PARAMETER, policies=rule_of_a(algorithms={TRAINED: within}))


def test_another_party_in_the_job() -> None:
    plan = job(owners=("hospital-a", "hospital-b", "hospital-c"))
    third = ["hospital-a", "hospital-b", "hospital-c"]
    held = [
        signed(),
        signed("hospital-b", allow=[allow("hospital-b", parties=third)]),
        signed("hospital-c", allow=[allow("hospital-c", parties=third)]),
    ]
    assert "hospital-c takes part" in refused(
        Rule.PARTY, plan=plan, policies=held, at=standing(plan)
    )


def test_another_party_under_a_known_name() -> None:
    swapped = parties("hospital-a", "hospital-b", "hospital-c")
    swapped["hospital-b"]["key"], swapped["hospital-c"]["key"] = (
        swapped["hospital-c"]["key"],
        swapped["hospital-b"]["key"],
    )
    plan = job(owners=("hospital-a",), parties=swapped, outputs={"metrics": ["hospital-b"]})
    verdicts = judge(plan, [signed()], standing(plan))
    rules = {each.rule for verdict in verdicts for each in verdict.refusals}
    assert rules == {Rule.PARTY, Rule.METRICS}


@pytest.mark.parametrize(
    "changes",
    [
        {"mr_enclave": b"\x01" * 32},
        {"tcb_status": TcbStatus.OUT_OF_DATE},
        {"advisory_ids": ("INTEL-SA-00615",)},
        {"root_sha256": b"\x07" * 32},
        {"attributes": b"\x07" + bytes(15)},
    ],
)
def test_other_code_or_another_platform(changes: dict[str, Any]) -> None:
    for owner in ("hospital-a", "hospital-b"):
        found = judge(job(), both(), standing(claims=enclave_claims(**changes)))
        assert [each.refusals[0].rule for each in found] == [Rule.CODE] * 2
        assert all(MR_ENCLAVE.hex() not in each.refusals[0].said for each in found), owner


def test_a_lower_version_of_the_signed_code() -> None:
    code = {
        "signer": (b"\x51" * 32).hex(),
        "product_id": 3,
        "min_svn": 5,
        "any_platform": "risk accepted",
    }
    refused(Rule.CODE, policies=both(code=code))
    decide(job(), both(code={**code, "min_svn": 4}), standing())


def test_revoked_between_plan_and_run() -> None:
    later = signed(serial=2, revoked=True)
    assert judge_on_paper(job(), [policy(), policy("hospital-b")], time=NOW)[0].allow
    refused(Rule.POLICY_SERIAL, at=with_a(newest=later.mark))
    refused(
        Rule.POLICY_REVOKED, policies=[later, signed("hospital-b")], at=with_a(newest=later.mark)
    )


def test_a_lower_serial_and_another_policy_of_the_same() -> None:
    newest = signed(serial=3, uses=99)
    refused(Rule.POLICY_SERIAL, policies=both(serial=2), at=with_a(newest=newest.mark))
    refused(Rule.POLICY_SERIAL, policies=both(serial=3), at=with_a(newest=newest.mark))
    decide(job(), both(serial=3, uses=99), with_a(newest=newest.mark))
    decide(job(), both(serial=4), with_a(newest=newest.mark))


def test_two_owners_whose_rules_contradict() -> None:
    """One gives the model to itself alone, the other to itself alone: nobody gets one."""
    only_b = allow("hospital-b", output={"model": ["hospital-b"]})
    held = [signed(), signed("hospital-b", allow=[only_b])]
    refused(Rule.MODEL, policies=held, who="hospital-b")
    refused(
        Rule.MODEL,
        policies=held,
        plan=job(outputs={"model": ["hospital-b"], "metrics": ["hospital-b"]}),
    )


def test_the_budget_is_spent() -> None:
    decide(job(), both(), with_a(spent=Spent(epsilon=Fraction(5, 2))))
    refused(Rule.BUDGET, at=with_a(spent=Spent(epsilon=Fraction(251, 100))))
    refused(Rule.BUDGET, at=with_a(spent=Spent(delta=Fraction(1, 100_000))))


def test_a_run_asks_for_too_much_or_adds_no_noise() -> None:
    refused(Rule.EPSILON, policies=rule_of_a(output={"epsilon": 0.4}))
    refused(Rule.EPSILON, policies=rule_of_a(output={"delta": 1e-8}))
    found = judge(job(privacy=None), both(), standing())
    assert [each.refusals[0].rule for each in found] == [Rule.EPSILON] * 2


def test_a_join_below_the_minimum() -> None:
    found = judge(job(), both(), standing(rows=999))
    assert [each.refusals[0].rule for each in found] == [Rule.JOIN] * 2
    assert "1000" not in found[0].refusals[0].said
    refused(Rule.JOIN, policies=rule_of_a(output={"smallest_join": 5001}))


@pytest.mark.parametrize(
    ("output", "rule"),
    [("model", Rule.MODEL), ("metrics", Rule.METRICS), ("aggregates", Rule.AGGREGATES)],
)
def test_output_to_one_who_is_not_named(output: str, rule: Rule) -> None:
    table = job_table(outputs={output: ["hospital-b"]})
    if output == "aggregates":
        table["train"] = {"algorithm": "statistics"}
        del table["inputs"][0]["label"]
    either = {"algorithms": {TRAINED: {"l2": {"min": 0.1}}, "statistics": {}}}
    free = allow("hospital-b", output={output: ["hospital-a", "hospital-b"]}, **either)
    held = [
        signed(allow=[allow(output={output: []}, **either)]),
        signed("hospital-b", allow=[free]),
    ]
    refused(rule, plan=job(**table), policies=held)


def test_the_model_served_by_code_that_is_not_named() -> None:
    plan = job(outputs={"serving": [WORKER]})
    free = allow("hospital-b", output={"serving": [WORKER]})
    refused(Rule.SERVING, plan=plan, policies=[signed(), signed("hospital-b", allow=[free])])


def test_output_sealed_to_another_key_under_a_party_s_name() -> None:
    """Whoever writes the plan names a party that may have the model, and a key of its own."""
    swapped = parties("hospital-a", "hospital-b")
    swapped["hospital-a"]["seal_to"] = SEALED_TO["hospital-c"]
    found = judge(job(parties=swapped), both(), standing())
    assert [each.refusals[0].rule for each in found] == [Rule.RECIPIENT_KEY] * 2


def test_no_rule() -> None:
    refused(Rule.NO_RULE, policies=both(allow=[]))


def test_no_policy() -> None:
    refused(Rule.NO_POLICY, policies=[signed("hospital-b")])
    refused(Rule.NO_POLICY, policies=both(table="another"))


def test_a_policy_of_somebody_else_about_a_table_of_that_name() -> None:
    refused(Rule.NO_POLICY, policies=[signed("hospital-c", table="records"), signed("hospital-b")])


def test_two_policies_about_one_table() -> None:
    refused(Rule.POLICY_TWICE, policies=[signed(), signed(serial=2), signed("hospital-b")])


def test_a_plan_of_another_mesh() -> None:
    found = judge(job(mesh="elsewhere"), both(), standing())
    assert [each.refusals[0].rule for each in found] == [Rule.POLICY_MESH] * 2


def test_stale_and_missing_beacons() -> None:
    decide(job(), both(), with_a(beacon=NOW - 50))
    refused(Rule.BEACON_OLD, at=with_a(beacon=NOW - 51))
    refused(Rule.BEACON_MISSING, at=with_a(beacon=None))
    decide(job(), both(max_beacon_age_s=None), with_a(beacon=None))


def test_a_purpose() -> None:
    found = judge(job(purpose="billing"), both(), standing())
    assert [each.refusals[0].rule for each in found] == [Rule.PURPOSE] * 2


# --- what is told, and in which order ---------------------------------------------------------


def test_every_refusal_of_every_rule_is_told() -> None:
    rules = [
        allow(name="first", purposes=["billing"], columns=["age"]),
        allow(name="second", algorithms={"perceptron": {}}),
    ]
    verdict = next(
        each for each in judge(job(), both(allow=rules), standing()) if each.who == "hospital-a"
    )
    told = {(each.allow, each.rule) for each in verdict.refusals}
    assert told == {
        ("first", Rule.PURPOSE),
        ("first", Rule.COLUMNS),
        ("second", Rule.ALGORITHM),
    }
    assert len(verdict.refusals) == 5  # three columns of the first


def test_no_order_matters() -> None:
    rules = [allow(name=name, purposes=["billing"]) for name in ("one", "two", "three")]
    tables = standing().tables
    first = judge(job(purpose="else"), both(allow=rules), standing())
    for seed in range(5):
        rng = random.Random(seed)
        shuffled = rng.sample(rules, 3)
        held = rng.sample(both(allow=shuffled), 2)
        at = standing(tables=dict(rng.sample(sorted(tables.items(), key=str), 2)))
        found = judge(job(purpose="else"), held, at)
        assert [each.refusals for each in found] == [each.refusals for each in first]


def test_the_order_of_owners_in_a_plan_is_no_matter() -> None:
    turned = job(purpose="else", inputs=[*reversed(job_table()["inputs"])])
    first, second = (judge(plan, both(), standing()) for plan in (job(purpose="else"), turned))
    assert first == second


def test_a_table_of_which_nothing_is_known_is_a_bug() -> None:
    with pytest.raises(LocalProtocolError):
        decide(job(), both(), standing(tables={}))
