"""`wardian broker backup` and `wardian broker restore`."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from wardian._internal.files import replace_file
from wardian.broker.recovery.backup import back_up_files, restore_files, write_backup
from wardian.broker.recovery.backup_client import fetch_backup
from wardian.cli.audit.source import parse_address
from wardian.cli.state import StateDir
from wardian.errors import ConfigError


@click.command()
@click.option("--broker", metavar="HOST:PORT", help="A running broker, the active one.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Instead: the state directory of one that is stopped.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A new file.",
)
def backup(*, broker: str | None, state: Path | None, out: Path) -> None:
    """Write a backup of the broker's state to a file: ciphertext, whole, of one moment.

    It opens in the same enclave on the same machine, while it is the newest; or anywhere else when
    as many owners come as it takes to change the mesh (`wardian owner recover`). It needs no more
    care than the broker's disk, but keep several: an old one is refused, and a lost one is lost.
    """
    if (broker is None) == (state is None):
        raise ConfigError("say which broker: --broker HOST:PORT, or --state DIRECTORY")
    frames = (
        _fetched(parse_address(broker))
        if broker is not None
        else _stopped(StateDir((state or Path()).resolve()))
    )
    click.echo(f"{out}  {write_backup(out, frames):,} bytes")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where the broker will run.",
)
def restore(*, file: Path, state: Path) -> None:
    """Put the backup in FILE into a state directory that has no broker's state.

    Nothing is overwritten, and nothing is decided: at its start the broker opens it if the counter
    says that it is the newest. Else start `wardian broker --recover`, and let the owners come.
    """
    directory = StateDir.open(state)
    if directory.load_operator().tee != "simulated":
        _lay_ready(file, directory)
        return
    header = restore_files(file, directory.store)
    click.echo(f"{directory.store}  restored")
    if header.package is None:
        click.echo("It holds no recovery package: owners cannot recover it.")
    else:
        click.echo(
            f"Recovery takes {header.package.threshold} of {len(header.package.owners)} owners."
        )


def _stopped(state: StateDir) -> Iterator[bytes]:
    """Return the frames of a backup of the stopped broker in `state`."""
    if state.load_operator().tee != "simulated":
        raise ConfigError(
            "under Gramine the broker's files are its enclave's alone: back it up while it runs, "
            "with --broker"
        )
    return back_up_files(state.store)


def _lay_ready(file: Path, state: StateDir) -> None:
    """Leave the backup where the broker finds it at its next start, and puts it in place itself."""
    if state.to_restore.exists():
        raise ConfigError(f"{state.to_restore}: is there already; move it away first")
    replace_file(state.to_restore, file.read_bytes())
    click.echo(f"{state.to_restore}  is put in place by the broker, if it has no state yet")


def _fetched(address: tuple[str, int]) -> Iterator[bytes]:
    """Yield what the broker at `address` sends, as it comes: a log may be larger than memory."""
    frames = fetch_backup(address)

    async def following() -> bytes | None:
        return await anext(frames, None)

    with asyncio.Runner() as runner:
        while (frame := runner.run(following())) is not None:
            yield frame
