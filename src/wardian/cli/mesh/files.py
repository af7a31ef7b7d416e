"""Files with a manifest in them, and how one reads on a terminal."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian._internal.files import replace_file
from wardian._internal.settings import parse, read
from wardian.broker.mesh.changes import Change
from wardian.broker.mesh.manifest import MeshManifest, SignedManifest, parse_manifest
from wardian.errors import ConfigError, FormatError

MAX_BYTES: Final = 2 * 1024 * 1024
"""Of a signed manifest: 1 MiB in base64, and signatures."""
existing = click.Path(path_type=Path, dir_okay=False, exists=True)
new_file = click.Path(path_type=Path, dir_okay=False)


def read_manifest(path: Path) -> tuple[SignedManifest, MeshManifest]:
    """Return the signed manifest in the file `path` and what it says, believed by nobody yet.

    Raises:
        ConfigError: it cannot be read, or is no manifest.
    """
    raw = read(path, limit_bytes=MAX_BYTES)
    try:
        signed = wire.decode(raw, SignedManifest, what="signed manifest")
        return signed, parse_manifest(signed)
    except FormatError as err:
        raise ConfigError(f"{path}: {err}") from err


def write_manifest(path: Path, signed: SignedManifest) -> None:
    """Write `signed` in the place of what is in `path`."""
    replace_file(path, wire.encode(signed))


def read_agreed(path: Path) -> tuple[bytes, Agreed]:
    """Return `wardian.toml`, its exact bytes and what it says; see `settings.parse`."""
    raw = read(path)
    return raw, parse(raw, Agreed, name=str(path))


def echo_changes(found: Iterable[Change], *, indent: str = "") -> None:
    """Print what a manifest changes: what comes green, what goes red."""
    colours = {"added": "green", "removed": "red", "changed": "yellow"}
    for change in found:
        head, *details = change.said
        click.echo(indent + click.style(wire.printable(head), fg=colours[change.kind]))
        for line in details:
            click.echo(indent + wire.printable(line))


def short(owner: str) -> str:
    """Return enough of an owner's public key to tell it from others."""
    return f"{owner[:16]}…"


def said_time(at: int) -> str:
    """Return Unix time `at` as people read it, in UTC: of a broker's word, whatever that is."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(min(max(at, 0), 2**40)))
