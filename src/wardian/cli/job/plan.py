"""`wardian job plan`: what owners' policies say to a plan, from files alone."""

from itertools import chain
from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian._internal.settings import read
from wardian.broker.jobs.decision import Verdict, judge_on_paper
from wardian.broker.jobs.explain import explain_plan
from wardian.broker.jobs.plan import JobPlan, load_plan, plan_digest
from wardian.cli.mesh.files import existing
from wardian.cli.policy.files import read_policy
from wardian.errors import PolicyDenied


@click.command()
@click.argument("file", type=existing)
@click.option("--policy", "policies", type=existing, multiple=True, help="Of one owner; several.")
@click.option("--json", "as_json", is_flag=True)
def plan(*, file: Path, policies: tuple[Path, ...], as_json: bool) -> None:
    """Say which owners allow the job in FILE, and why others refuse it.

    A policy may be signed or a draft: a draft shows what would be. Ends with status 3 if anybody
    refuses, or if the policy of an owner is not among the files.
    """
    wanted = load_plan(read(file), name=str(file))
    held = [read_policy(path) for path in policies]
    verdicts = judge_on_paper(wanted, [each.policy for each in held], time=unix_time())
    drafts = [each.policy.owner for each in held if each.signed is None]
    if as_json:
        click.echo(wire.encode(_told(wanted, verdicts, drafts)))
    else:
        for line in explain_plan(wanted, verdicts):
            click.echo(wire.printable(line))
        for owner in drafts:
            click.echo(f"the policy of {owner} is not signed")
    for refusal in chain.from_iterable(each.refusals for each in verdicts):
        raise PolicyDenied(refusal.said, rule=refusal.rule)


def _told(wanted: JobPlan, verdicts: tuple[Verdict, ...], drafts: list[str]) -> dict[str, object]:
    return {
        "digest": plan_digest(wanted).hex(),
        "drafts": drafts,
        "owners": [
            {
                "owner": each.owner,
                "name": each.who,
                "table": each.table,
                "rule": each.allow.name if each.allow else None,
                "refusals": [
                    {"rule": one.rule, "allow": one.allow, "reason": one.reason}
                    for one in each.refusals
                ],
            }
            for each in verdicts
        ],
    }
