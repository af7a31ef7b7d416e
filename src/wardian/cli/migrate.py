"""`wardian migrate`: from Cluster Serving's files to a directory for `wardian up`."""

from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.wire import printable
from wardian.cli.conversion import parse_shape
from wardian.compat.zoo.keys import Fate
from wardian.compat.zoo.migration.carry_over import Migrated
from wardian.compat.zoo.migration.carry_over import migrate as carry_over

_COLOURS = {
    Fate.WORKS: "green",
    Fate.NOT_NEEDED: None,
    Fate.CANNOT: "yellow",
    Fate.UNKNOWN: "yellow",
}
file_option = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.argument("config", type=file_option)
@click.option("--servables", type=file_option, help="The HTTP front end's servables.yaml.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("migrated"),
    show_default=True,
    help="The directory to write.",
)
@click.option("--shape", "shapes", multiple=True, help="Of a TorchScript input: -1,3,224,224.")
@click.option("--force", is_flag=True, help="Overwrite files in the directory.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def migrate(
    *,
    config: Path,
    servables: Path | None,
    out: Path,
    shapes: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Write what `wardian up` takes from the config.yaml of Analytics Zoo Cluster Serving.

    Converts the model in modelPath, which has to be on this machine, writes wardian.toml,
    operator.toml and example.toml, and says of each key what became of it. Ends with 1 if a model
    could not be carried over. Needs pip install 'wardian[serve,zoo]'.

    \b
    wardian migrate config.yaml --out migrated
    wardian up migrated
    """  # noqa: D301 (click reads the character \b, not a backslash)
    done = carry_over(
        config,
        out=out,
        servables=servables,
        shapes=[parse_shape(text) for text in shapes],
        force=force,
    )
    if as_json:
        report = {"keys": done.report.findings, "missing": done.report.missing}
        click.echo(wire.encode({**report, "written": [str(path) for path in done.written]}))
    else:
        print_report(done)
        if done.models:
            click.echo(f"\nServe it: wardian up {out}")
    if done.report.missing:
        raise SystemExit(1)


def print_report(done: Migrated) -> None:
    """Print what became of each key, what is missing, and what was written."""
    for each in done.report.findings:
        fate = click.style(f"{each.fate:<14}", fg=_COLOURS[each.fate])
        place = f"{each.file}:{each.line}"
        click.echo(f"{printable(place):<20} {each.key:<30} {fate} {printable(each.told)}")
    for line in done.report.missing:
        click.echo(f"{click.style('missing', fg='yellow', bold=True)} {printable(line)}")
    for path in done.written:
        click.echo(f"wrote {path}")
