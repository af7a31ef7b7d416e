"""`wardian migrate`: from Cluster Serving's files to a directory for `wardian up`."""

import click

from wardian._internal import wire
from wardian.cli.moving.options import Asked, file_option, moving_options
from wardian.cli.moving.report import print_report
from wardian.cli.moving.run import take_over


@click.command()
@click.argument("config", type=file_option)
@moving_options(dialects=False)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def migrate(*, asked: Asked, as_json: bool) -> None:
    """Write what `wardian up` takes from the config.yaml of Analytics Zoo Cluster Serving.

    Converts the model in modelPath, which has to be on this machine, writes wardian.toml,
    operator.toml and example.toml, and says of each key what became of it. Ends with 1 if a model
    could not be carried over. Needs pip install 'wardian[serve,zoo]'.

    \b
    wardian migrate config.yaml --out migrated
    wardian migrate config.yaml --stream --http
    wardian up migrated

    Behind -- stand the flags of its HTTP front end, as they are: -- --port 10020.
    """  # noqa: D301 (click reads the character \b, not a backslash)
    done = take_over(asked)
    if as_json:
        report = {
            "keys": done.report.findings,
            "missing": done.report.missing,
            "unprotected": done.unprotected,
        }
        click.echo(wire.encode({**report, "written": [str(path) for path in done.written]}))
    else:
        print_report(done)
        if done.models:
            click.echo(f"\nServe it: wardian up {asked.wanted.out}")
    if done.report.missing:
        raise SystemExit(1)
