"""`wardian status`: the processes of a mesh, what the broker is, and what it wrote down."""

import asyncio
import time
from pathlib import Path

import click
import msgspec

from wardian._internal import wire
from wardian.broker.audit import AuditLine
from wardian.broker.status import Status, read_status
from wardian.cli.state import StateDir
from wardian.errors import ConfigError, WardianError

SHOWN_LINES = 8


class _ProcessRow(msgspec.Struct):
    name: str
    state: str
    pid: int | None
    starts: int
    exit_status: int | None


class _MeshStatus(msgspec.Struct):
    """What `wardian up` wrote last."""

    at: int
    state: str
    url: str = ""
    tee: str = ""
    processes: tuple[_ProcessRow, ...] = ()


def _ask_broker(place: StateDir) -> Status | str:
    """Return what the broker says of itself, or why it cannot be asked."""
    try:
        host, _, port = place.broker_address.read_text().strip().rpartition(":")
        return asyncio.run(read_status((host, int(port))))
    except OSError:
        return "no broker wrote its address here"
    except (WardianError, ValueError) as err:
        return str(err)


def _held(place: StateDir) -> bool:
    """Return whether a `wardian up` is alive: what it wrote last may be older than its end."""
    try:
        with place.locked():
            return False
    except ConfigError:
        return True


def _print_broker(broker: Status) -> None:
    kind = click.style("SIMULATED", fg="yellow", bold=True) if broker.simulated else "SGX hardware"
    click.echo(f"\nBroker    {kind}  mr_enclave {broker.measurement}")
    click.echo(f"Manifest  version {broker.manifest_version}  {broker.manifest_digest}")
    click.echo(f"Counter   {wire.printable(broker.counter)}")
    click.echo(f"Audit     {broker.audit.count} lines, head {broker.audit.digest}")
    for line in _lines(broker)[-SHOWN_LINES:]:
        at = time.strftime("%H:%M:%S", time.gmtime(line.time))
        entry = msgspec.structs.asdict(line.entry)
        told = "  ".join(f"{name}={str(value)[:16]}" for name, value in entry.items() if value)
        click.echo(f"  {at}  {told}")
    click.echo(
        "\nThe broker says this of itself, unverified. One broker without a witness cannot tell"
        "\nwhen its whole state was put back; in simulation its counter is a file."
    )


def _lines(broker: Status) -> list[AuditLine]:
    """Return the audit lines that came, oldest first."""
    return [wire.decode(raw, AuditLine, what="audit line") for raw in broker.lines]


@click.command()
@click.option(
    "--state", type=click.Path(path_type=Path), default=Path(".wardian"), show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def status(*, state: Path, as_json: bool) -> None:
    """Show the mesh of a state directory: processes, the broker's evidence and audit head.

    Ends with 0 when the mesh is serving, 1 when it is not.
    """
    if not state.is_dir():
        raise ConfigError(f"--state {state}: no such directory; `wardian up` makes it")
    place = StateDir(state.resolve())
    raw = place.status.read_bytes() if place.status.exists() else b'{"at":0,"state":"stopped"}'
    mesh = wire.decode(raw, _MeshStatus, what=str(place.status))
    if mesh.state == "serving" and not _held(place):
        mesh = msgspec.structs.replace(mesh, state="crashed", processes=())
    broker = _ask_broker(place) if mesh.state == "serving" else "not running"
    if as_json:
        lines = [] if isinstance(broker, str) else _lines(broker)
        click.echo(wire.encode({"mesh": mesh, "broker": broker, "audit": lines}))
    else:
        click.echo(f"Mesh      {mesh.state}  {mesh.url}")
        for each in mesh.processes:
            click.echo(f"  {each.name:<20} {each.state:<9} pid {each.pid}  started {each.starts}x")
        if isinstance(broker, str):
            click.echo(f"Broker    {broker}")
        else:
            _print_broker(broker)
    if mesh.state != "serving":
        raise SystemExit(1)
