"""The group of commands `wardian bench`, each loaded when it is used."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={"serving": ("wardian.cli.bench.serving", "serving")},
)
def bench() -> None:
    """Measure what you run, as its clients see it.

    The load comes from this machine, after the front end was verified by your policy. What shares
    its processors with what is measured slows both down, so compare runs that were taken in turn.
    """
