"""`wardian mesh log`: every manifest that was ever in force, and what each changed."""

import asyncio
from pathlib import Path
from typing import Any

import click

from wardian._internal import wire
from wardian.broker.mesh.changes import changes
from wardian.broker.owners.manifest_log import Entry, read_log
from wardian.cli.mesh.files import (
    echo_changes,
    existing,
    new_file,
    said_time,
    short,
    write_manifest,
)
from wardian.cli.mesh.places import find_place, place_options


@click.command()
@place_options
@click.option("--agreed", type=existing, help="The mesh's wardian.toml.")
@click.option("--out", type=new_file, help="Write the newest manifest here.")
@click.option("--json", "as_json", is_flag=True)
def log(
    *,
    broker: str | None,
    state: Path | None,
    agreed: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Show every manifest that a broker had in force: who signed it, when, and what it changed.

    The owners' signatures are verified, and that each manifest names the one before: none was left
    out, put elsewhere or made up. That the newest is the newest, and when each came into force, is
    the broker's word: compare the digest with a receipt (`wardian mesh propose`), or with evidence.
    Ends with 3 where the chain does not hold.
    """
    place = find_place(broker, state, agreed=agreed)
    entries = asyncio.run(read_log(place.address, mesh=place.agreed.mesh))
    if out is not None and entries:
        write_manifest(out, entries[-1].manifest.signed)
    shown = [_facts(entry, entries[at - 1] if at else None) for at, entry in enumerate(entries)]
    if as_json:
        click.echo(wire.encode(shown))
        return
    for facts in shown:
        signers = ", ".join(short(owner) for owner in facts["signers"])
        click.echo(f"version {facts['version']}  in force since {said_time(facts['accepted'])}")
        click.echo(f"  digest {facts['digest']}\n  signed by {len(facts['signers'])}: {signers}")
        echo_changes(facts["changes"], indent="  ")
    if not shown:
        click.echo("No manifest was ever in force at this broker.")


def _facts(entry: Entry, before: Entry | None) -> dict[str, Any]:
    """Return one entry as it is shown; `before` is the one that it follows."""
    found = entry.manifest
    return {
        "version": found.manifest.version,
        "digest": found.digest.hex(),
        "previous": found.manifest.previous,
        "signers": found.signers,
        "accepted": entry.accepted,
        "changes": changes(before.manifest.manifest if before else None, found.manifest),
    }
