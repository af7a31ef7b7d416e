"""What comes out of a job: what every owner allows, and how it reads."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from toy_jobs import KEYS, NOW, SEALED_TO, WORKER, allow, both, job, policy, signed, standing

from wardian.broker.jobs.decision import decide, judge_on_paper
from wardian.broker.jobs.explain import explain_plan, explain_policy
from wardian.broker.jobs.merge import Agreed, OutputTerms, merge_outputs, model_release
from wardian.broker.jobs.parties import Recipient
from wardian.broker.jobs.rules import Rule
from wardian.broker.mesh.lines import ReleaseTerms
from wardian.errors import PolicyDenied

A, B, C = "hospital-a", "hospital-b", "hospital-c"
EVERYBODY = [A, B, C]


def agreed(
    owner: str = A, *, beacon: int | None = 50, expires: int = NOW + 100, **output: Any
) -> Agreed:
    rule = allow(owner, parties=EVERYBODY, expires=expires, output=output)
    said = policy(owner, allow=[rule], max_beacon_age_s=beacon)
    return Agreed(policy=said, allow=said.allow[0])


def recipient(name: str) -> Recipient:
    return Recipient(key=KEYS[name].public.hex(), seal_to=SEALED_TO[name])


def merged(of_a: dict[str, Any], of_b: dict[str, Any]) -> OutputTerms:
    return merge_outputs([agreed(A, **of_a), agreed(B, **of_b)])


def denied_by(approved: set[str], terms: OutputTerms) -> str:
    with pytest.raises(PolicyDenied) as denied:
        terms.refuse_unapproved({KEYS[name].public.hex() for name in approved})
    return denied.value.rule


def test_only_whom_all_name_is_given_anything() -> None:
    terms = merged({"model": [A, B], "metrics": EVERYBODY}, {"model": [B, C], "metrics": [A]})
    assert terms.model == {recipient(B)}
    assert terms.metrics == {recipient(A)}
    assert terms.aggregates == frozenset()


def test_the_strictest_number_of_any_owner_holds() -> None:
    terms = merged(
        {"smallest_join": 10, "smallest_cohort": 7, "epsilon": 0.5, "delta": 1e-6},
        {"smallest_join": 90, "smallest_cohort": 5, "epsilon": 0.9, "delta": 1e-7},
    )
    assert (terms.smallest_join, terms.smallest_cohort) == (90, 7)
    assert (terms.epsilon, terms.delta) == (0.5, 1e-7)
    with pytest.raises(PolicyDenied) as denied:
        terms.refuse_small_cohort(6)
    assert denied.value.rule == Rule.COHORT
    terms.refuse_small_cohort(7)


def test_one_owner_who_does_without_noise_does_not_speak_for_the_others() -> None:
    loud = {"epsilon": None, "delta": None, "without_noise": "risk accepted"}
    assert merged(loud, {"epsilon": 0.9}).epsilon == 0.9
    assert merged(loud, loud).epsilon is None


def test_everybody_s_approvals_are_needed() -> None:
    terms = merged(
        {"approvals": {"needed": 2, "of": EVERYBODY}}, {"approvals": {"needed": 1, "of": [B]}}
    )
    assert denied_by(set(), terms) == Rule.APPROVAL
    assert denied_by({A, C}, terms) == Rule.APPROVAL
    assert denied_by({B}, terms) == Rule.APPROVAL
    terms.refuse_unapproved({KEYS[name].public.hex() for name in (B, C)})
    merged({}, {}).refuse_unapproved(())


def test_owners_who_agree_on_nobody() -> None:
    with pytest.raises(PolicyDenied) as denied:
        merged({"model": [A], "metrics": []}, {"model": [B], "metrics": []})
    assert denied.value.rule == Rule.OUTPUT
    with pytest.raises(PolicyDenied):
        merge_outputs([])


def test_the_release_policy_of_a_model_is_the_merge_of_its_inputs() -> None:
    other = "cd" * 32
    release = model_release(
        [
            agreed(A, serving=[WORKER, other], expires=NOW + 7),
            agreed(B, serving=[WORKER], expires=NOW + 9, beacon=None),
        ]
    )
    assert release.measurements == {WORKER}
    assert dict(release.terms) == {
        KEYS[A].public.hex(): ReleaseTerms(not_after=NOW + 7, max_beacon_age_s=50),
        KEYS[B].public.hex(): ReleaseTerms(not_after=NOW + 9),
    }
    with pytest.raises(PolicyDenied) as denied:
        model_release([agreed(A, serving=[WORKER]), agreed(B, serving=[other])])
    assert denied.value.rule == Rule.OUTPUT


def test_a_model_that_goes_straight_to_serving() -> None:
    held = [signed(owner, allow=[allow(owner, output={"serving": [WORKER]})]) for owner in (A, B)]
    plan = job(outputs={"serving": [WORKER]})
    release = decide(plan, held, standing(plan)).release
    assert release is not None
    assert release.measurements == {WORKER}


# --- in words ---------------------------------------------------------------------------------


def test_a_policy_in_words() -> None:
    told = "\n".join(explain_policy(policy(), now=NOW))
    for words in ("table records of hospital-a", "10 in all", "epsilon 3, delta 1e-05 for all runs",
                  "ANY machine", "logistic-regression: l2 from 0.1, all else as by default",
                  "model to hospital-a; metrics to hospital-a, hospital-b", "1,000 or more",
                  "20 rows or more"):  # fmt: skip
        assert words in told
    assert "OVER" not in told
    assert "OVER" in "\n".join(explain_policy(policy(), now=NOW + 101))


def test_what_weakens_stands_out() -> None:
    loud = {"epsilon": None, "delta": None, "without_noise": "risk accepted"}
    code = {"measurements": ["00" * 32], "simulation_root_sha256": "11" * 32}
    ranges = {"trees": {"max": 9}, "depth": {"min": 1}, "l2": {"min": 0, "max": 1}}
    algorithms = {
        "gradient-boosting": {**ranges, "learning_rate": {"exact": 0.1}},
        "perceptron": {"hidden": {"one_of": [8, 16]}},
    }
    rule = allow(columns=["*"], output={**loud, "serving": [WORKER]}, algorithms=algorithms)
    told = "\n".join(
        explain_policy(policy(allow=[rule], code=code, max_beacon_age_s=None), now=NOW)
    )
    for words in ("WITHOUT NOISE", "columns   ALL", "SIMULATED", "none demanded", SEALED_TO[A],
                  "depth from 1, l2 from 0 to 1, learning_rate = 0.1, trees up to 9, all else",
                  "hidden one of 8, 16", f"the model to be served by {WORKER}"):  # fmt: skip
        assert words in told
    assert explain_policy(policy(revoked=True), now=NOW)[-1].endswith("WITHDRAWN: nobody gets it")
    assert explain_policy(policy(allow=[]), now=NOW)[-1].endswith("no rule: nobody gets it")


def test_code_in_words() -> None:
    signer = {"signer": "51" * 32, "product_id": 3, "min_svn": 4, "platforms": ["99" * 16]}
    code = {**signer, "advisories": ["INTEL-SA-00615"], "tdx": {"mr_td": ["00" * 48]}}
    code["tdx"].update({name: ["00" * 48] for name in ("rtmr0", "rtmr1", "rtmr2")})
    told = "\n".join(explain_policy(policy(code=code), now=NOW))
    for words in ("product 3, version 4 or higher", "1 listed", "in spite of INTEL-SA-00615",
                  "a trust domain by its registers"):  # fmt: skip
        assert words in told


def test_a_plan_in_words() -> None:
    demanded = {"approvals": {"needed": 1, "of": [B]}}
    said = [each.policy for each in both(allow=[allow(output=demanded)])]
    told = "\n".join(explain_plan(job(), judge_on_paper(job(), said, time=NOW)))
    assert told.count("agrees, by rule study") == 2
    assert "model     may go to hospital-a" in told
    assert "once 1 of hospital-b approve" in told
    assert "uses age, bmi, patient, readmitted" in told
    loud = job(privacy=None)
    assert "NO NOISE" in "\n".join(explain_plan(loud, judge_on_paper(loud, said, time=NOW)))
    told = "\n".join(explain_plan(job(), judge_on_paper(job(), said[:1], time=NOW + 101)))
    assert told.count("REFUSES") == 2
    assert "rule study: its time is over (rule-expired)" in told
    assert "the policy: no policy of its owner is about it (no-policy)" in told
    assert "what then holds" not in told
