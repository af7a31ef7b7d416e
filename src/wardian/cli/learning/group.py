"""`wardian fl`: a federated run before and after: tried in one process, and looked at."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={
        "simulate": ("wardian.cli.learning.simulate", "simulate_run"),
        "report": ("wardian.cli.learning.report", "report"),
    },
)
def fl() -> None:
    """Try a federated run in one process, or look at one that a party took part in.

    The run itself is `wardian aggregator` and `wardian party`.
    """
