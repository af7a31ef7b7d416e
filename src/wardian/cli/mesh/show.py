"""`wardian mesh show` and `wardian mesh verify`: what a manifest says, and whether it counts."""

from pathlib import Path

import click
import msgspec

from wardian._internal import wire
from wardian.broker.mesh.chain import verify_successor
from wardian.broker.mesh.changes import changes
from wardian.broker.mesh.manifest import manifest_digest
from wardian.broker.mesh.verify import verify_manifest, verify_manifest_for
from wardian.cli.mesh.files import echo_changes, existing, read_agreed, read_manifest, short


@click.command()
@click.argument("manifest", type=existing)
@click.option("--previous", type=existing, help="Show what changes against this one.")
@click.option("--json", "as_json", is_flag=True)
def show(*, manifest: Path, previous: Path | None, as_json: bool) -> None:
    """Show what MANIFEST says. Nothing of it is verified: see `wardian mesh verify`."""
    signed, said = read_manifest(manifest)
    before = read_manifest(previous)[1] if previous else None
    signers = tuple(each.owner for each in signed.signatures)
    if as_json:
        click.echo(
            wire.encode(
                {
                    "digest": manifest_digest(signed).hex(),
                    "signers": signers,
                    "manifest": said,
                    "changes": changes(before, said),
                }
            )
        )
        return
    click.echo(f"Mesh      {said.mesh}, version {said.version}")
    click.echo(f"Digest    {manifest_digest(signed).hex()}")
    click.echo(f"Follows   {said.previous or 'none: it is the first'}")
    click.echo(f"Signed    UNVERIFIED, by {', '.join(map(short, signers)) or 'nobody yet'}")
    click.echo(f"Next      needs the signatures of {said.change_threshold} owner(s)")
    echo_changes(changes(before, said))


@click.command()
@click.argument("manifest", type=existing)
@click.option("--agreed", type=existing, required=True, help="The mesh's wardian.toml.")
@click.option("--previous", type=existing, help="The manifest in force: may this one follow it?")
@click.option("--json", "as_json", is_flag=True)
def verify(*, manifest: Path, agreed: Path, previous: Path | None, as_json: bool) -> None:
    """Verify that enough owners signed MANIFEST, and that a broker would put it in force.

    Ends with 0 if so, 3 where the owners' own rules refuse it. Without --previous it says nothing
    on whether it may follow the manifest in force.
    """
    _, settings = read_agreed(agreed)
    found = verify_manifest_for(read_manifest(manifest)[0], agreed=settings)
    if previous is not None:
        current = verify_manifest(read_manifest(previous)[0], mesh=settings.mesh)
        verify_successor(found, current=current)
    facts = {
        "mesh": found.manifest.mesh,
        "version": found.manifest.version,
        "digest": found.digest.hex(),
        "previous": found.manifest.previous,
        "signers": found.signers,
        "change_threshold": found.manifest.change_threshold,
        "follows": previous is not None,
    }
    if as_json:
        click.echo(wire.encode(msgspec.to_builtins(facts)))
        return
    signers = ", ".join(short(owner) for owner in found.signers)
    click.echo(f"version {found.manifest.version}  digest {found.digest.hex()}")
    click.echo(f"signed by {len(found.signers)}: {signers}")
    if previous is not None:
        click.echo(f"follows {previous}")
