"""`wardian policy explain`: what a policy allows, in words."""

from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.broker.jobs.explain import explain_policy
from wardian.cli.mesh.files import existing
from wardian.cli.policy.files import read_policy


@click.command()
@click.argument("file", type=existing)
def explain(*, file: Path) -> None:
    """Say what the policy in FILE, signed or not, allows to whom."""
    found = read_policy(file)
    for line in explain_policy(found.policy, now=unix_time()):
        click.echo(wire.printable(line))
    click.echo(found.state)
