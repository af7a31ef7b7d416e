"""The group of `wardian job`."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(cls=LazyGroup, commands_by_name={"plan": ("wardian.cli.job.plan", "plan")})
def job() -> None:
    """Find out who has to agree to a job over sealed tables of several owners, and who does.

    A plan names tables, columns, an algorithm of a closed list and who is given what; it never
    brings code. Nothing is run, asked or released here: files are all it takes.

    \b
    wardian job plan job.toml --policy records.policy --policy claims.policy
    """  # noqa: D301 (click reads the character \b, not a backslash)
