"""`wardian status`: the processes of a mesh, what the broker is, and what it wrote down."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.broker.audit_log.asking import verify_shown
from wardian.broker.mesh.trust import UNPROTECTED, UNPROTECTED_ROLES
from wardian.broker.state.audit import AuditLine, decode_line, verify_tail
from wardian.broker.status import Status, read_status
from wardian.cli.attest.screen import warning_mark
from wardian.cli.audit.lines import row
from wardian.cli.audit.source import Source, find
from wardian.cli.state import StateDir
from wardian.cli.up.status_file import MeshStatus
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    PeerProtocolError,
    WardianError,
)

SHOWN_LINES = 8
REFUSED = 3


@dataclass(frozen=True, slots=True)
class _Silent:
    """Why nothing is shown of a broker; `wrong` if something answers that is not to be believed."""

    said: str
    wrong: bool = False


def _ask_broker(source: Source) -> Status | _Silent:
    """Return what the broker says of itself, its head verified, or why it is not shown."""
    try:
        status = asyncio.run(read_status(source.address, ca_spki=source.ca_spki, now=unix_time))
        verify_shown(status)
        verify_tail(status.lines, head=status.audit)
    except WardianError as err:
        wrong = isinstance(err, AuthenticationFailed | FormatError | PeerProtocolError)
        return _Silent(str(err), wrong)
    return status


def _held(place: StateDir) -> bool:
    """Return whether a `wardian up` is alive: what it wrote last may be older than its end."""
    try:
        with place.locked():
            return False
    except ConfigError:
        return True


def _print_broker(broker: Status, source: Source) -> None:
    kind = click.style("SIMULATED", fg="yellow", bold=True) if broker.simulated else "hardware"
    click.echo(f"\nBroker    {kind}  measurement {broker.measurement}")
    click.echo(f"Manifest  version {broker.manifest_version}  {broker.manifest_digest}")
    click.echo(f"Counter   {wire.printable(broker.keeping.said)}")
    click.echo(f"Audit     {broker.audit.count} lines, root {broker.audit.root}")
    for line in _lines(broker)[-SHOWN_LINES:]:
        click.echo(row(line))
    whose = "as a broker of that CA says" if source.ca is not None else "as whoever answers says"
    click.echo(
        f"\nThe audit head is {source.ca_said}. The rest is {whose};"
        "\n`wardian mesh status` shows more and warns, `wardian audit verify` reads the whole log."
    )


def _lines(broker: Status) -> list[AuditLine]:
    """Return the audit lines that came, oldest first."""
    return [decode_line(raw) for raw in broker.lines]


@click.command()
@click.option(
    "--state", type=click.Path(path_type=Path), default=Path(".wardian"), show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def status(*, state: Path, as_json: bool) -> None:
    """Show the mesh of a state directory: processes, the broker's evidence and audit head.

    Ends with 0 when the mesh is serving, 1 when it is not, 3 if what answers in its broker's place
    is not to be believed.
    """
    if not state.is_dir():
        raise ConfigError(f"--state {state}: no such directory; `wardian up` makes it")
    place = StateDir(state.resolve())
    raw = place.status.read_bytes() if place.status.exists() else b'{"at":0,"state":"stopped"}'
    mesh = wire.decode(raw, MeshStatus, what=str(place.status))
    if mesh.state == "serving" and not _held(place):
        mesh = msgspec.structs.replace(mesh, state="crashed", processes=())
    source = find(None, place.root, None)
    broker = _ask_broker(source) if mesh.state == "serving" else _Silent("not running")
    if as_json:
        lines = [] if isinstance(broker, _Silent) else _lines(broker)
        told = broker.said if isinstance(broker, _Silent) else broker
        click.echo(wire.encode({"mesh": mesh, "broker": told, "audit": lines}))
    else:
        _print_mesh(mesh)
        if isinstance(broker, _Silent):
            click.echo(f"Broker    {wire.printable(broker.said)}")
        else:
            _print_broker(broker, source)
    if isinstance(broker, _Silent) and broker.wrong:
        raise SystemExit(REFUSED)
    if mesh.state != "serving":
        raise SystemExit(1)


def _print_mesh(mesh: MeshStatus) -> None:
    """Print what `wardian up` wrote, which anybody may have who has the directory."""
    click.echo(f"Mesh      {wire.printable(mesh.state)}  {wire.printable(mesh.url)}")
    for each in mesh.processes:
        name, state = wire.printable(each.name), wire.printable(each.state)
        mark = f"  {warning_mark(UNPROTECTED)}" if each.name in UNPROTECTED_ROLES else ""
        where = f"  on {wire.printable(each.place)}" if each.place else ""
        click.echo(f"  {name:<20} {state:<9} pid {each.pid}  started {each.starts}x{where}{mark}")
