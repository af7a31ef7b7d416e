"""The group of commands `wardian bench`, each loaded when it is used."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={"serving": ("wardian.cli.bench.serving", "serving")},
)
def bench() -> None:
    """Measure what you run, as its clients see it."""
