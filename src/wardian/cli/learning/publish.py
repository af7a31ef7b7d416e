"""`wardian fl publish`: a model that a run left behind, as a directory for `wardian up`."""

from pathlib import Path

import click

from wardian._internal import settings
from wardian._internal.consortium import Consortium
from wardian.cli.files import path_option
from wardian.cli.learning.arrays_file import read_arrays
from wardian.cli.learning.kept import forget_model, kept_model
from wardian.cli.learning.loading import load_app, setting
from wardian.cli.learning.publication import demand_publishable, make_servable, write_deployment
from wardian.errors import ConfigError
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import ConfigRecord

publish_option = click.option(
    "--publish",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="Leave the model here, sealed, for `wardian up`: the app has to export.",
)


@click.command("publish")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--app", "app_at", required=True, metavar="FILE[:NAME]", help="Your ClientApp.")
@click.option("--consortium", type=path_option, required=True, help="What you agreed to.")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE",
              help="For your app: node_config.")  # fmt: skip
@click.option("--version", "version", type=click.IntRange(1, 2**31 - 1), default=1,
              show_default=True, help="Of the model, where one was served before.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="A new directory for `wardian up`.")  # fmt: skip
def publish(
    *, run: Path, app_at: str, consortium: Path, given: tuple[str, ...], version: int, out: Path
) -> None:
    """Publish the model of RUN, sealed, as a directory that `wardian up` serves.

    RUN is a file of arrays (.npz), a directory of `wardian fl simulate`, or the state directory of
    a party whose `--publish` failed: there the model is kept, sealed, until it is published.
    """
    plan, app = settings.load(consortium, Consortium), load_app(app_at)
    demand_publishable(app, out)
    kept = kept_model(run, name=plan.name) if run.is_dir() else None
    context = Context(
        party=plan.initial or min(plan.parties),
        run_config=ConfigRecord(plan.app),
        node_config=ConfigRecord(dict(setting(each) for each in given)),
    )
    arrays = kept if kept is not None else _arrays_of(run)
    publish_model(app, arrays, context, directory=out, name=plan.name, version=version)
    if kept is not None:
        forget_model(run)


def publish_model(
    app: ClientApp,
    arrays: ArrayRecord,
    context: Context,
    *,
    directory: Path,
    name: str,
    version: int = 1,
) -> None:
    """Leave what `app` makes of `arrays` sealed in `directory`, and say how it is served.

    Raises:
        ConfigError, FormatError: see `make_servable` and `write_deployment`.
    """
    made = make_servable(app, arrays, context)
    write_deployment(made, directory, name=name, version=version)
    tried = f"loaded by {made.engine}" if made.engine else "no engine is installed here to try it"
    click.echo(f"{directory}: {name} version {version}, {len(made.data):,} bytes, sealed; {tried}")
    click.echo(f"serve it: wardian up {directory}")


def _arrays_of(run: Path) -> ArrayRecord:
    if not run.is_dir():
        return read_arrays(run)
    if not (run / "model.npz").exists():
        raise ConfigError(f"{run}: holds no model: neither one that was kept nor model.npz")
    return read_arrays(run / "model.npz")
