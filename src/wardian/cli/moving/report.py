"""What became of Cluster Serving's files, on the screen."""

import click

from wardian._internal.wire import printable
from wardian.compat.zoo.keys import Fate
from wardian.compat.zoo.migration.carry_over import Migrated

_COLOURS = {
    Fate.WORKS: "green",
    Fate.NOT_NEEDED: None,
    Fate.CANNOT: "yellow",
    Fate.UNKNOWN: "yellow",
}


def print_report(done: Migrated, *, whole: bool = True) -> None:
    """Print what became of each key, what is missing, what was written, and what is UNPROTECTED.

    Not `whole`: of the keys only those that do not simply work.
    """
    for each in done.report.findings:
        if whole or each.fate is not Fate.WORKS:
            fate = click.style(f"{each.fate:<14}", fg=_COLOURS[each.fate])
            place = f"{each.file}:{each.line}"
            click.echo(f"{printable(place):<20} {each.key:<30} {fate} {printable(each.told)}")
    for line in done.report.missing:
        click.echo(f"{click.style('missing', fg='yellow', bold=True)} {printable(line)}")
    for path in done.written:
        click.echo(f"wrote {path}")
    for line in done.unprotected if done.models else ():
        click.echo(f"{click.style('UNPROTECTED', fg='yellow', bold=True)} {printable(line)}")
