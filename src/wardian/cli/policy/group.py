"""The group of `wardian policy`."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={
        "new": ("wardian.cli.policy.new", "new"),
        "explain": ("wardian.cli.policy.explain", "explain"),
        "sign": ("wardian.cli.policy.sign", "sign"),
        "check": ("wardian.cli.policy.check", "check"),
        "give": ("wardian.cli.policy.give", "give"),
    },
)
def policy() -> None:
    """Say what may be learnt from your sealed table, by what code, for whom and how often.

    Rules are alternatives, and no rule means no. You alone sign; whoever plans a job with your
    table gets the file, and nobody can change it. The broker that you give it to, with the table's
    key, gives that key to no job that the policy does not allow.

    \b
    wardian policy new records --mesh hospitals --owner hospital-a --key ba64...a017 -o policy.toml
    wardian policy explain policy.toml
    wardian policy sign policy.toml --key owner.key -o records.policy
    wardian policy give records.policy --key owner.key --table-key records.key \\
        --agreed wardian.toml --manifest now.json --broker broker.example:7443
    """  # noqa: D301 (click reads the character \b, not a backslash)
