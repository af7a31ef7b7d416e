"""`wardian fl simulate` of a plan over columns: each party's part, in a file of its own."""

from pathlib import Path

import click

from wardian._internal.consortium import Consortium
from wardian.cli.learning.arrays_file import write_arrays
from wardian.errors import ConfigError
from wardian.learning.aligned_simulation import simulate_columns
from wardian.learning.app import ClientApp
from wardian.learning.records import ConfigRecord
from wardian.learning.vertical.app import ColumnsApp


def try_columns(app: ClientApp | ColumnsApp, plan: Consortium, out: Path) -> None:
    """Leave in `out`, for each party of `plan`, what it has of a run with `app`: NAME.npz.

    Raises:
        ConfigError: `app` is not of the kind that the plan needs.
        JobFailed: a party refused a step.
    """
    if not isinstance(app, ColumnsApp):
        raise ConfigError("the plan has columns, and no strategy: it needs a ColumnsApp")
    names = sorted(plan.parties)
    numbered = {
        name: ConfigRecord({"partition-id": place, "num-partitions": len(names)})
        for place, name in enumerate(names)
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, found in simulate_columns(app, plan, node_config=numbered).items():
        with (out / f"{name}.npz").open("wb") as file:
            write_arrays(file, found)
        click.echo(f"{out / f'{name}.npz'}: {', '.join(found)}")
