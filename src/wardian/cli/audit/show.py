"""`wardian audit show`: the lines of the log, newest last."""

import asyncio
import time
from collections.abc import Iterator
from typing import Final, get_args

import click
import msgspec

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.broker.audit_log.asking import Asked
from wardian.broker.audit_log.auditing import read_newest
from wardian.broker.state.audit import AuditHead, AuditLine, Event
from wardian.broker.state.merkle import FORKED
from wardian.broker.transparency.heads import SignedHead
from wardian.broker.transparency.proofs import ProofRequest, verify_continuation
from wardian.cli.audit.lines import Wanted, row
from wardian.cli.audit.source import Source, log_refused, source_options
from wardian.errors import AuthenticationFailed

EVERY_S: Final = 2.0
"""Between two looks with --follow."""


@click.command()
@source_options
@click.option("--last", type=click.IntRange(1, 10**7), default=40, show_default=True)
@click.option("--all", "everything", is_flag=True, help="From the first line on.")
@click.option("--follow", is_flag=True, help="Go on as lines come.")
@click.option("--role", help="Lines about this role alone.")
@click.option("--model", help="Lines about this model alone.")
@click.option("--event", type=click.Choice(get_args(Event)), help="Lines of this kind alone.")
@click.option("--refused", is_flag=True, help="Refusals alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object to a line.")
def show(
    *,
    source: Source,
    last: int,
    everything: bool,
    follow: bool,
    as_json: bool,
    **wanted: object,
) -> None:
    """Show who got which key, for which measured code, under which manifest.

    The lines follow each other up to the head that the broker signed. That nothing before them was
    altered is for `wardian audit verify` to say.
    """
    filters = msgspec.convert(wanted, Wanted)
    with log_refused():
        asked = source.asked(unix_time)
        head, lines = look(asked, last=None if everything else last)
        if not as_json:
            click.echo(_heading(source, head))
        for line in lines:
            _print(line, filters, as_json=as_json)
        for line in follow_on(asked, head.audit) if follow else ():
            _print(line, filters, as_json=as_json)


def look(asked: Asked, *, last: int | None) -> tuple[SignedHead, tuple[AuditLine, ...]]:
    """Return the newest head and the last lines, or all: each the next one's predecessor."""
    status, lines = asyncio.run(read_newest(asked, last=last))
    return status.witnessed.head, lines


def follow_on(asked: Asked, head: AuditHead) -> Iterator[AuditLine]:
    """Yield lines as they come, each proved to be in a log that goes on from `head`. Never ends."""
    while True:
        time.sleep(EVERY_S)
        after = head.count
        status, lines = asyncio.run(read_newest(asked, after=after))
        newest = status.audit
        if newest.count < after:
            raise AuthenticationFailed(FORKED)
        proofs = asyncio.run(asked.proofs(ProofRequest(seen=(after,), size=newest.count)))
        verify_continuation(head, newest, proof=proofs.seen[0])
        head = newest
        yield from lines


def _heading(source: Source, head: SignedHead) -> str:
    mark = None if source.ca is not None else "yellow"
    told = f"Audit log of mesh {wire.printable(head.mesh)}: {head.audit.count} lines, root "
    return f"{told}{head.audit.root[:16]}…\n{click.style(source.ca_said, fg=mark)}\n"


def _print(line: AuditLine, filters: Wanted, *, as_json: bool) -> None:
    if filters.takes(line.entry):
        click.echo(wire.encode(line) if as_json else row(line))
