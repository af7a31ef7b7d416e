"""`wardian fl`: a federated run before and after: tried, looked at, and published."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={
        "simulate": ("wardian.cli.learning.simulate", "simulate_run"),
        "publish": ("wardian.cli.learning.publish", "publish"),
        "export": ("wardian.cli.learning.export", "export"),
        "report": ("wardian.cli.learning.report", "report"),
    },
)
def fl() -> None:
    """Try a federated run in one process, look at one, or publish what came of it.

    The run itself is `wardian aggregator` and `wardian party`.
    """
