"""`wardian tenants show`: what a list says, believed by nobody."""

from pathlib import Path

import click

from wardian._internal import wire
from wardian.cli.mesh.files import existing
from wardian.cli.tenants.files import echo_changes, read_list
from wardian.serving.tenants.lists import tenants_digest


@click.command()
@click.argument("file", type=existing)
@click.option("--previous", type=existing, help="Show what changed against this list.")
@click.option("--json", "as_json", is_flag=True)
def show(*, file: Path, previous: Path | None, as_json: bool) -> None:
    """Print what the list in FILE says, and who claims to have signed it; verifies nothing."""
    signed, tenants = read_list(file)
    signers = [each.signer for each in signed.signatures]
    digest = tenants_digest(signed).hex()
    if as_json:
        click.echo(wire.encode({"list": tenants, "digest": digest, "signers": signers}))
        return
    echo_changes(read_list(previous)[1] if previous else None, tenants)
    click.echo(f"digest {digest}")
    for signer in signers:
        click.echo(f"signature that claims to be of {signer}")
    if not signers:
        click.echo("not signed")
