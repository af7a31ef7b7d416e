"""`wardian bench serving`: a load on a front end that was verified first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from wardian._internal import wire
from wardian.cli.bench.session import Wanted, run
from wardian.errors import ConfigError
from wardian.serving.client.credentials import load_api_key
from wardian.serving.loadgen.payload import Encoding
from wardian.serving.loadgen.plot import draw_curve
from wardian.serving.loadgen.report import Report, render_reports

INTERRUPTED = 130

existing = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.argument("url")
@click.option("--policy", type=existing, required=True, help="What the front end must be.")
@click.option("--api-key-file", type=existing, help="Holds your API key, where tenants have one.")
@click.option("--rate", "rates", type=float, multiple=True, help="Requests a second; repeatable.")
@click.option("--connections", type=int, help="In flight at most; 16, or 256 with --rate.")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Of each load.")
@click.option("--timeout", "timeout_s", type=float, default=10.0, show_default=True)
@click.option("--model", help="Which; may be left out if there is only one.")
@click.option("--model-version", "version", type=click.IntRange(1), help="Default: the newest.")
@click.option("--input", "inputs", type=existing, help="An .npz file, one array for each input.")
@click.option("--rows", type=click.IntRange(1, 4096), default=1, show_default=True)
@click.option("--encoding", type=click.Choice(["binary", "json"]), default="binary")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.svg")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.pass_context
def serving(
    ctx: click.Context,
    *,
    url: str,
    policy: Path,
    api_key_file: Path | None,
    rates: tuple[float, ...],
    connections: int | None,
    seconds: float,
    timeout_s: float,
    model: str | None,
    version: int | None,
    inputs: Path | None,
    rows: int,
    encoding: Encoding,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Ask the front end at URL and say how many answers came, how late, and what went wrong.

    With --rate requests arrive by themselves (an open loop), and the time of each counts from when
    it should have started: a server that stalls does not slow the clients down, and is seen to.
    Without, each connection sends its next request when it has its answer (a closed loop). --plot
    draws latency against load: over the given rates, or over eight below the capacity that a
    closed loop shows.

    \b
    wardian bench serving https://localhost:8443 --policy client-policy.toml
    wardian bench serving https://localhost:8443 --policy client-policy.toml --rate 500 --rate 1000
    """  # noqa: D301 (click reads the character \b, not a backslash)
    if plot is not None and not plot.parent.is_dir():
        raise ConfigError(f"--plot: there is no directory {plot.parent}")
    wanted = Wanted(
        url=url,
        policy=policy,
        model=model,
        version=version,
        inputs=inputs,
        rows=rows,
        encoding=encoding,
        rates=rates,
        curve=plot is not None,
        connections=connections,
        seconds=seconds,
        timeout_s=timeout_s,
        api_key=None if api_key_file is None else load_api_key(api_key_file),
    )
    reports, failure = run(wanted)
    click.echo(wire.encode(_record(url, reports)) if as_json else render_reports(reports))
    if plot is not None:
        _draw(plot, reports, title=f"{url}: latency against load")
    if failure is not None:
        raise failure
    ctx.exit(_status(reports))


def _record(url: str, reports: Sequence[Report]) -> dict[str, Any]:
    return {"url": url, "loads": list(reports)}


def _draw(plot: Path, reports: Sequence[Report], *, title: str) -> None:
    plot.write_text(draw_curve(reports, title=title), encoding="utf-8")
    click.echo(f"drawn: {plot}", err=True)


def _status(reports: Sequence[Report]) -> int:
    """Return 130 if it was stopped by hand, 1 if a load had no answer at all, else 0."""
    if any(report.stopped for report in reports):
        return INTERRUPTED
    return 0 if all(report.answered for report in reports) else 1
