"""What owners' policies refuse, through a whole job: before any key leaves, and nothing is counted.

The broker is real and on loopback, the job is the role in this process (`job_room`). The same through
processes and commands, for a handful of these: `test_job_refused_processes`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hospital_study import PRIVATE, A, B, C, approval, outputs, status
from job_room import Job, JobRoom, Killed
from toy_jobs import NAMES, parties

from wardian.broker.mesh.trust import RoleReference
from wardian.errors import AdmissionRefused, PolicyDenied

NEWER = {"serial": 2}
STRANGERS = bytes(range(32)).hex()


@dataclass(frozen=True)
class Row:
    """What refuses, and who says so.

    Attributes:
        rule: the name of the rule.
        who: whose policy refuses.
        said: a part of the reason.
        rules: changes of `[[allow]]`, by owner.
        policies: changes of the rest of a policy, by owner.
        plan: changes of the plan.
        owners: whose tables the plan uses.
    """

    rule: str
    who: str
    said: str
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    owners: tuple[str, ...] = (A, B)


def trained(algorithm: str = "logistic-regression", **parameters: Any) -> dict[str, Any]:
    return {"train": {"algorithm": algorithm, "parameters": parameters}}


def sealed_to_eve() -> dict[str, Any]:
    changed = parties()
    changed[B]["seal_to"] = PRIVATE["eve"].public.hex()
    return {"parties": changed}


ROWS = {
    "expired": Row("rule-expired", A, "its time is over", rules={A: {"expires": 1_700_000_000}}),
    "other column": Row(
        "job-columns", B, "uses the column cost", rules={B: {"columns": ["patient"]}}
    ),
    "other label": Row(
        "job-columns", A, "the column readmitted", rules={A: {"columns": ["patient", "age", "bmi"]}}
    ),
    "other algorithm": Row(
        "job-algorithm", A, "the algorithm is linear-regression", plan=trained("linear-regression")
    ),
    "parameter out of range": Row("job-parameter", A, "l2 is 0.01", plan=trained(l2=0.01)),
    "parameter that no rule names": Row(
        "job-parameter", A, "largest is 2.0", plan=trained(largest=2.0)
    ),
    "default out of range": Row(
        "job-parameter",
        B,
        "max_iterations is 100",
        rules={B: {"algorithms": {"logistic-regression": {"max_iterations": {"max": 50}}}}},
        plan=trained(),
    ),
    "other purpose": Row("job-purpose", A, "purpose is sale", plan={"purpose": "sale"}),
    "other party's table": Row("job-party", A, f"{C} takes part", owners=(A, B, C)),
    "other party is given something": Row(
        "job-party", A, f"{C} takes part", plan={"outputs": {"model": [C]}}
    ),
    "output to one not named": Row(
        "output-model", A, f"{B} would receive the model", rules={A: {"output": {"model": [A]}}},
        plan={"outputs": {"model": [A, B]}},
    ),
    "metrics to one not named": Row(
        "output-metrics", B, f"{B} would receive metrics", rules={B: {"output": {"metrics": [A]}}}
    ),
    "served by code not named": Row(
        "output-serving", A, "would serve the model", plan={"outputs": {"serving": [STRANGERS]}}
    ),
    "sealed to another key": Row("recipient-key", A, f"as {B}'s", plan=sealed_to_eve()),
    "other code": Row(
        "job-code", B, "job-code",
        policies={B: {"code": {"measurements": [STRANGERS], "any_platform": "risk accepted"}}},
    ),
    "revoked": Row("policy-revoked", B, "withdrew the table", policies={B: {"revoked": True}}),
    "no noise": Row(
        "job-epsilon", A, "adds no noise",
        rules={A: {"output": {"without_noise": None, "epsilon": 1.0, "delta": 1e-6}}},
    ),
    "too much epsilon": Row(
        "job-epsilon", B, "a run asks for epsilon 0.5",
        rules={B: {"output": {"without_noise": None, "epsilon": 0.1, "delta": 1e-6}}},
        plan={"privacy": {"epsilon": 0.5, "delta": 1e-7}},
    ),
    "budget smaller than the run": Row(
        "budget-exhausted", B, "would spend epsilon 0.5",
        policies={B: {"budget": {"epsilon": 0.25, "delta": 1e-5}}},
        plan={"privacy": {"epsilon": 0.5, "delta": 1e-7}},
    ),
    "beacons demanded": Row(
        "beacon-missing", A, "time beacons", policies={A: {"max_beacon_age_s": 60}}
    ),
    "rules that contradict": Row(
        "job-parameter", B, "l2 is 0.5",
        rules={B: {"algorithms": {"logistic-regression": {"l2": {"min": 0.9}}}}},
    ),
    "outputs that contradict": Row(
        "output-model", B, f"{A} would receive the model",
        rules={A: {"output": {"model": [A]}}, B: {"output": {"model": [B]}}},
        plan={"outputs": {"model": [A]}},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobRoom]:
    found = JobRoom(tmp_path_factory.mktemp("room"))
    yield found
    found.close()


@pytest.fixture
def own_room(tmp_path: Path) -> Iterator[JobRoom]:
    found = JobRoom(tmp_path)
    yield found
    found.close()


def refused(job: Job, rule: str, who: str, said: str) -> None:
    """Demand that the job ends so: with status 3, by `rule` of `who`, and with nothing out."""
    code, why = job.refused()
    assert code == 3
    assert isinstance(why, PolicyDenied)
    assert why.rule == rule
    assert f"{who} refuses for table " in str(why)
    assert said in str(why)
    assert outputs(job.out) == set()
    assert list(job.state.iterdir()) == [job.state / "salt.sealed"]
    assert status(job.out)["state"] == "asking"


@pytest.mark.parametrize("case", ROWS)
def test_a_policy_refuses_before_a_key_leaves(room: JobRoom, case: str) -> None:
    row = ROWS[case]
    study = room.study(case.replace(" ", "-").replace("'", ""), given=False)
    for owner in NAMES:
        room.give(study, owner)
    for owner in row.rules | row.policies:
        changes = {**NEWER, "rule": row.rules.get(owner), **row.policies.get(owner, {})}
        give(room, study, owner, changes)
    job = room.job(study, study.plan(*row.owners, **row.plan))
    before, granted = len(room.lines("refusal")), len(room.lines("release"))
    refused(job, row.rule, row.who, row.said)
    assert room.uses(study) == [0, 0, 0]
    assert {room.record(study, owner).spent.epsilon for owner in NAMES} == {0}
    line = room.lines("refusal")[before]
    assert (line.rule, line.role) == (row.rule, "job")
    assert len(room.lines("release")) == granted


def give(room: JobRoom, study: Any, owner: str, changes: dict[str, Any]) -> None:
    """Put a newer policy in force; with a table that is withdrawn no key comes."""
    policy = study.policy(owner, **changes)
    withdrawn = bool(changes.get("revoked"))
    room.wait(study.give(room.address, owner, policy, with_key=not withdrawn))


def test_what_every_row_changes_is_what_refuses(room: JobRoom) -> None:
    """With nothing changed the same job runs to its end, and is counted."""
    study = room.study("unchanged")
    job = room.job(study)
    job.run()
    assert outputs(job.out) == {f"model.{A}.sealed", f"metrics.{A}.sealed", f"metrics.{B}.sealed"}
    assert room.uses(study) == [1, 1, 0]


def test_no_policy_at_all(room: JobRoom) -> None:
    study = room.study("silent", given=False)
    room.give(study, A)
    refused(room.job(study), "no-policy", B, "no policy of its owner")
    assert room.record(study, A).uses == 0


def test_used_up(room: JobRoom) -> None:
    study = room.study("used-up")
    room.give(study, B, uses=2, **NEWER)
    for name in ("first", "second"):
        room.job(study, study.counting(), name=name).run()
    refused(room.job(study, study.counting(), name="third"), "uses-exhausted", B, "were had")
    assert room.uses(study) == [2, 2, 0]


def test_budget_exhausted_by_runs_before(room: JobRoom) -> None:
    study = room.study("spent")
    noisy = study.counting(privacy={"epsilon": 8.0, "delta": 1e-7})
    give_noise(room, study)
    room.job(study, noisy, name="first").run()
    refused(room.job(study, noisy, name="second"), "budget-exhausted", A, "would spend epsilon 8")
    spent = [room.record(study, owner).spent.epsilon for owner in (A, B)]
    assert (spent, room.uses(study)) == ([8, 8], [1, 1, 0])


def give_noise(room: JobRoom, study: Any) -> None:
    """Grant one run, of so little noise that forty rows are never counted as fewer than ten."""
    for owner in (A, B):
        output = {"without_noise": None, "epsilon": 8.0, "delta": 1e-6}
        budget = {"epsilon": 12.0, "delta": 1e-3}
        room.give(study, owner, rule={"output": output}, budget=budget, **NEWER)


def test_revoked_between_plan_and_run(room: JobRoom) -> None:
    """On paper, and while it had run once, everybody allowed it."""
    study = room.study("changed-mind")
    room.job(study, name="before").run()
    give(room, study, A, {**NEWER, "revoked": True})
    refused(room.job(study, name="after"), "policy-revoked", A, "withdrew")
    assert room.uses(study) == [1, 1, 0]


def test_withdrawn_after_the_grant_the_run_ends_and_is_not_had_again(room: JobRoom) -> None:
    study = room.study("too-late")
    job = room.job(study)

    def withdraw(event: str, _fields: dict[str, Any]) -> None:
        if event == "job.granted":
            give(room, study, A, {**NEWER, "revoked": True})
            raise Killed

    with pytest.raises(Killed):
        job.run(withdraw)
    code, why = job.refused()
    assert isinstance(why, AdmissionRefused)
    assert (code, why.rule) == (3, "job-again")
    assert "under the policies of now" in str(why)
    assert room.uses(study) == [1, 1, 0]


def test_withdrawn_while_it_is_held_nothing_leaves(room: JobRoom) -> None:
    """All approved. The broker is told of the export first, and its owner's word of now counts."""
    study = room.study("held-back", given=False)
    for owner in NAMES:
        room.give(study, owner, rule={"output": {"approvals": {"needed": 1, "of": [B]}}})
    job = room.job(study)
    job.killed_at("job.held")
    give(room, study, A, {**NEWER, "revoked": True})
    (job.approvals / "b").write_bytes(approval(job.out, B))
    code, why = job.refused()
    assert isinstance(why, AdmissionRefused)
    assert (code, outputs(job.out)) == (3, set())
    assert status(job.out)["state"] == "held"
    assert not (job.out / "exported.json").exists()


def test_the_manifest_lists_no_job(own_room: JobRoom) -> None:
    study = own_room.study()
    roles = {
        role: RoleReference(measurements=(own_room.mesh.measurements[role].hex(),))
        for role in ("broker", "worker")
    }
    own_room.provision(version=2, roles=roles)
    code, why = own_room.job(study).refused()
    assert isinstance(why, PolicyDenied)
    assert (code, why.rule) == (3, "role-known")
    assert "no role job" in str(why)
    assert own_room.uses(study) == [0, 0, 0]


def test_the_manifest_lists_another_job(own_room: JobRoom) -> None:
    """Its owner's policy names this code still; the mesh does not any more."""
    study = own_room.study()
    roles = {
        role: RoleReference(measurements=(measurement.hex(),))
        for role, measurement in {**own_room.mesh.measurements, "job": bytes(32)}.items()
    }
    own_room.provision(version=2, roles=roles)
    code, why = own_room.job(study).refused()
    assert isinstance(why, PolicyDenied)
    assert code == 3
    assert "measurement" in str(why)
    assert own_room.uses(study) == [0, 0, 0]


@pytest.mark.parametrize(
    ("rule", "output"),
    [("join-small", {"smallest_join": 41}), ("cohort-small", {"smallest_cohort": 41})],
)
def test_too_few_rows_are_known_inside_alone(
    room: JobRoom, rule: str, output: dict[str, Any]
) -> None:
    """40 patients are in both tables. Keys were released and a use is counted; nothing comes out."""
    study = room.study(rule)
    room.give(study, B, rule={"output": output}, **NEWER)
    job = room.job(study)
    code, why = job.refused()
    assert isinstance(why, PolicyDenied)
    assert (code, why.rule) == (3, rule)
    assert room.uses(study) == [1, 1, 0]
    assert (outputs(job.out), status(job.out)["state"]) == (set(), "running")
    assert sorted(path.name for path in job.state.iterdir()) == ["job", "salt.sealed"]
    assert not (job.out / "report.json").exists()


def test_a_job_that_is_refused_inside_is_refused_again(room: JobRoom) -> None:
    """Going on costs a use each time, by the same debit; the same rows are no more."""
    study = room.study("again-small")
    room.give(study, B, rule={"output": {"smallest_join": 41}}, **NEWER)
    job = room.job(study)
    first, second = job.refused()[1], job.refused()[1]
    assert str(first) == str(second)
    assert room.uses(study) == [2, 2, 0]
    assert len({line.job for line in room.lines("release")[-4:]}) == 1
