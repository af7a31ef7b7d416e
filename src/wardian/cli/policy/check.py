"""`wardian policy check`: whether a policy is whole, signed and not an older one."""

from pathlib import Path

import click

from wardian._internal import wire
from wardian.broker.jobs.canonical import canonical
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.signing import policy_mark
from wardian.cli.mesh.files import existing
from wardian.cli.policy.files import read_policy
from wardian.errors import PolicyDenied


@click.command()
@click.argument("file", type=existing)
@click.option("--mesh", help="The mesh that it has to be for.")
@click.option("--owner", metavar="HEX", help="The public key of who has to have signed it.")
@click.option("--than", "known", type=existing, help="A policy that it must not be older than.")
@click.option("--json", "as_json", is_flag=True, help="Print the policy as it is signed.")
def check(
    *, file: Path, mesh: str | None, owner: str | None, known: Path | None, as_json: bool
) -> None:
    """Say whether the policy in FILE is whole; ends with status 3 where it is refused."""
    found = read_policy(file)
    policy = found.policy
    if mesh not in {None, policy.mesh}:
        raise PolicyDenied(f"{file}: is for another mesh", rule=Rule.POLICY_MESH)
    if owner not in {None, policy.owner_key} or (owner and found.signed is None):
        raise PolicyDenied(f"{file}: is not signed by that owner", rule=Rule.NO_POLICY)
    if known is not None:
        other = read_policy(known).policy
        mark, newest = policy_mark(policy), policy_mark(other)
        if other.place != policy.place or mark[:8] < newest[:8]:
            raise PolicyDenied(f"{file}: is older than {known}", rule=Rule.POLICY_SERIAL)
        if mark[:8] == newest[:8] and mark != newest:
            raise PolicyDenied(
                f"{file} and {known} have one serial and say two things", rule=Rule.POLICY_SERIAL
            )
    if as_json:
        click.echo(canonical(policy))
        return
    rules = "withdrawn" if policy.revoked else f"{len(policy.allow)} rule(s)"
    click.echo(wire.printable(f"{policy.table}, serial {policy.serial}: {rules}, {found.state}"))
