"""`wardian fl export`: a run's history for tools that compare runs."""

from pathlib import Path

import click

from wardian._internal import settings
from wardian._internal.consortium import Consortium
from wardian.cli.files import path_option
from wardian.cli.learning.history import HISTORY, read_history
from wardian.cli.learning.mlflow_store import DATABASE, write


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--mlflow", "place", required=True, metavar="DIRECTORY",
              type=click.Path(path_type=Path, file_okay=False),
              help="Where MLflow's database is, or shall be.")  # fmt: skip
@click.option("--consortium", type=path_option, help="The plan: the run's parameters.")
def export(*, run: Path, place: Path, consortium: Path | None) -> None:
    """Write the history of RUN, as `wardian fl report` takes it, into a database of MLflow's.

    Metrics by round, the plan's parameters, who took part. Written again, a run goes on where it
    ended. Needs `pip install 'wardian[mlflow]'`; MLflow's telemetry is off, and nothing is sent.
    """
    source = run / HISTORY if run.is_dir() else run
    lines = read_history(source)
    plan = None if consortium is None else settings.load(consortium, Consortium)
    made = write(lines, plan, place=place, ended=source.stat().st_mtime)
    click.echo(f"{place / DATABASE}: run {made}, {len(lines)} rounds")
    click.echo(f"to look at it: mlflow ui --backend-store-uri sqlite:///{place / DATABASE}")
