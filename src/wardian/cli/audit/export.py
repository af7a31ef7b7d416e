"""`wardian audit export`: the whole log in a file, which can be verified anywhere."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import IO

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.broker.audit_log.auditing import Audited, audit
from wardian.broker.transparency.memory import NOTHING
from wardian.broker.transparency.records import LogExport
from wardian.cli.audit.source import Source, file, log_refused, source_options
from wardian.errors import ConfigError


@click.command()
@click.argument("out", type=file)
@source_options
def export(*, out: Path, source: Source) -> None:
    """Write the whole log to the file OUT: its newest head, then the raw lines.

    It is verified first, and whoever gets the file can do so again: `wardian audit verify OUT`.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; it is never overwritten")
    with tempfile.TemporaryFile() as lines:
        with log_refused():
            found = asyncio.run(_read(source, lines))
        lines.seek(0)
        _write(out, found, lines)
    click.echo(f"{found.witnessed.head.audit.count} lines in {out}\n{source.ca_said}")


async def _read(source: Source, lines: IO[bytes]) -> Audited:
    """Return what was read; the raw lines are in the file `lines`."""
    return await audit(
        source.asked(unix_time),
        memory=NOTHING,
        each=lambda raw, _: lines.writelines((raw, b"\n")),
    )


def _write(out: Path, found: Audited, lines: IO[bytes]) -> None:
    said = LogExport(mesh_ca=found.mesh_ca, witnessed=found.witnessed)
    with out.open("xb") as file:
        file.writelines((wire.encode(said), b"\n"))
        shutil.copyfileobj(lines, file)
