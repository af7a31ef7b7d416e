"""The pages about policies and plans say what is so: examples, keys, rules, trainers."""

import json
import re
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

from toy_jobs import NOW

from wardian.broker.jobs.decision import judge_on_paper
from wardian.broker.jobs.plan import Input, JobPlan, Outputs, load_plan
from wardian.broker.jobs.policy import Allow, Approvals, DataPolicy, Output, load_policy
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.trainers import TRAINERS

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
POLICY = (REFERENCE / "data-policy.md").read_text()
JOB = (REFERENCE / "job.md").read_text()


def example(page: str) -> bytes:
    (found,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    return found.encode()


def keys(*kinds: type) -> set[str]:
    return {field.name for kind in kinds for field in msgspec.structs.fields(kind)}


def test_the_example_of_a_policy_allows_that_of_a_plan() -> None:
    policy, plan = load_policy(example(POLICY)), load_plan(example(JOB))
    verdicts = {each.who: each for each in judge_on_paper(plan, [policy], time=NOW)}
    assert verdicts["hospital-a"].allow
    assert [each.rule for each in verdicts["hospital-b"].refusals] == [Rule.NO_POLICY]


def test_every_key_is_described() -> None:
    for page, kinds in (
        (POLICY, (DataPolicy, Allow, Output, Approvals)),
        (JOB, (JobPlan, Input, Outputs)),
    ):
        rows = "".join(line for line in page.splitlines() if line.startswith("| "))
        missing = [key for key in keys(*kinds) if not re.search(rf"[`.\[]{key}\b", rows)]
        assert missing == [], page[:20]


def test_every_rule_is_described() -> None:
    (table,) = re.findall(r"\| rule \| why \|\n(.*?)\n\n", POLICY, re.DOTALL)
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", table)) == set(Rule)


def test_every_trainer_is_described() -> None:
    for name, trainer in TRAINERS.items():
        (row,) = (line for line in JOB.splitlines() if line.startswith(f"| `{name}` |"))
        told = dict(re.findall(r'`(\w+)` ([\d.]+|"[^"]*")', row))
        assert told == {key: json.dumps(value) for key, value in trainer.parameters.items()}
        assert row.split(" | ")[2] == ("yes" if trainer.private else "no")
