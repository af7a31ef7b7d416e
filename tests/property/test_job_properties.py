"""Shared learning: an owner more, or a rule less, never lets a job through; no order matters."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

from toy_jobs import (
    COLUMNS,
    NAMES,
    NOW,
    TRAINED,
    allow,
    enclave_claims,
    job,
    signed,
)

from wardian.broker.jobs.decision import Verdict, decide, judge
from wardian.broker.jobs.plan import JobPlan, encode_plan, parse_plan
from wardian.broker.jobs.signing import VerifiedPolicy
from wardian.broker.jobs.standing import Spent, Standing, TableStanding
from wardian.errors import PolicyDenied

QUICK = settings(max_examples=80, deadline=None)
SOME = st.sampled_from


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """So seldom that a job is let through about as often as not, though much may refuse it."""
    return SOME([usual] * 12 * len(others) + list(others))


@st.composite
def rules(draw: st.DrawFn, owner: str) -> list[dict[str, Any]]:
    """Up to three rules, of which most allow what jobs here want."""
    columns = ["patient", "readmitted", *COLUMNS[owner]]
    return [
        allow(
            owner,
            name=name,
            purposes=draw(mostly(["readmission"], ["readmission", "billing"], ["billing"])),
            parties=list(draw(mostly(NAMES, NAMES[:2]))),
            columns=draw(mostly(columns, ["*"], ["patient"])),
            algorithms={draw(mostly(TRAINED, "perceptron")): {}},
            expires=NOW + draw(mostly(100, -1)),
            output={
                "model": draw(mostly(["hospital-a", "hospital-b"], ["hospital-a"], [])),
                "metrics": ["hospital-a", "hospital-b"],
                "smallest_join": draw(mostly(1000, 1, 5001)),
                "epsilon": draw(mostly(1.0, 0.5, 0.1)),
            },
        )
        for name in draw(mostly(["one", "two"], ["three"], [], ["three", "two", "one"]))
    ]


@st.composite
def tables(draw: st.DrawFn) -> TableStanding:
    return TableStanding(
        uses=draw(mostly(0, 9, 10)),
        spent=Spent().plus(
            draw(mostly(None, job(privacy={"epsilon": 3.0, "delta": 1e-9}).privacy))
        ),
        beacon=NOW - draw(mostly(0, 50, 51)),
    )


@st.composite
def plans(draw: st.DrawFn, owners: tuple[str, ...]) -> JobPlan:
    return job(
        owners=owners,
        purpose=draw(mostly("readmission", "billing")),
        outputs=draw(SOME([{"model": ["hospital-a"]}, {"metrics": ["hospital-b"]}])),
        train={"algorithm": TRAINED},
        privacy=draw(
            mostly({"epsilon": 0.5, "delta": 1e-9}, {"epsilon": 0.1, "delta": 1e-9}, None)
        ),
    )


def standing_of(plan: JobPlan, draw: st.DrawFn) -> Standing:
    return Standing(
        now=NOW,
        claims=enclave_claims(mr_enclave=draw(mostly(b"\xe1" * 32, b"\x01" * 32))),
        tables={place: draw(tables()) for place in sorted(plan.places)},
        rows=draw(mostly(5000, None, 999)),
    )


def said(
    plan: JobPlan, held: list[VerifiedPolicy], standing: Standing
) -> dict[str, Verdict] | None:
    """Return what is decided by table; None if the job is refused."""
    verdicts = judge(plan, held, standing)
    assert all(bool(each.refusals) is (each.allow is None) for each in verdicts)
    refusals = [refusal for verdict in verdicts for refusal in verdict.refusals]
    if refusals:
        with pytest.raises(PolicyDenied) as denied:
            decide(plan, held, standing)
        assert (str(denied.value), denied.value.rule) == (refusals[0].said, refusals[0].rule)
        return None
    assert decide(plan, held, standing).verdicts == verdicts
    return {each.place: each for each in verdicts}


@QUICK
@given(data=st.data())
def test_an_owner_more_never_turns_a_refusal_into_acceptance(data: st.DataObject) -> None:
    wider = data.draw(plans(NAMES))
    narrow = job(
        owners=NAMES[:2],
        purpose=wider.purpose,
        outputs={"model": sorted(wider.outputs.model), "metrics": sorted(wider.outputs.metrics)},
        train={"algorithm": TRAINED},
        privacy=wider.privacy and {"epsilon": wider.privacy.epsilon, "delta": 1e-9},
    )
    held = [signed(owner, allow=data.draw(rules(owner))) for owner in NAMES]
    standing = standing_of(wider, data.draw)
    with_third, without = said(wider, held, standing), said(narrow, held[:2], standing)
    event(f"{without is not None} -> {with_third is not None}")
    if without is None:
        assert with_third is None


@QUICK
@given(data=st.data())
def test_a_rule_less_or_a_policy_less_never_turns_a_refusal_into_acceptance(
    data: st.DataObject,
) -> None:
    plan = data.draw(plans(NAMES[:2]))
    of_a, of_b = data.draw(rules("hospital-a")), data.draw(rules("hospital-b"))
    standing = standing_of(plan, data.draw)
    b = signed("hospital-b", allow=of_b)
    whole = said(plan, [signed(allow=of_a), b], standing)
    event(f"allowed: {whole is not None}")
    for gone in range(len(of_a)):
        fewer = said(plan, [signed(allow=of_a[:gone] + of_a[gone + 1 :]), b], standing)
        assert whole is not None or fewer is None
    assert said(plan, [b], standing) is None
    assert said(plan, [], standing) is None


@QUICK
@given(data=st.data())
def test_no_order_matters(data: st.DataObject) -> None:
    plan = data.draw(plans(NAMES))
    standing = standing_of(plan, data.draw)
    given_rules = {owner: data.draw(rules(owner)) for owner in NAMES}
    held = [signed(owner, allow=given_rules[owner]) for owner in NAMES]
    turned = [
        signed(owner, allow=[turn(rule, data.draw) for rule in data.draw(st.permutations(found))])
        for owner, found in data.draw(st.permutations(list(given_rules.items())))
    ]
    first, second = judge(plan, held, standing), judge(plan, turned, standing)
    assert [each.refusals for each in first] == [each.refusals for each in second]
    assert [each.allow for each in first] == [each.allow for each in second]
    one, other = said(plan, held, standing), said(plan, turned, standing)
    assert (one is None) == (other is None)
    if one is not None:
        assert decide(plan, held, standing).terms == decide(plan, turned, standing).terms


def turn(rule: dict[str, Any], draw: st.DrawFn) -> dict[str, Any]:
    """Return `rule` with its keys, and the names in its lists, in another order."""
    keys = draw(st.permutations(list(rule)))
    return {
        key: draw(st.permutations(rule[key])) if isinstance(rule[key], list) else rule[key]
        for key in keys
    }


@QUICK
@given(plan=plans(NAMES))
def test_a_plan_is_read_as_it_was_written(plan: JobPlan) -> None:
    assert parse_plan(encode_plan(plan)) == plan
