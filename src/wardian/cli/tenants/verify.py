"""`wardian tenants verify`: whether a front end would take a list up now."""

from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.cli.mesh.files import existing, said_time
from wardian.cli.tenants.files import expect_fits, read_list, read_terms
from wardian.serving.tenants.verify import verify_tenants


@click.command()
@click.argument("file", type=existing)
@click.option("--agreed", type=existing, required=True, help="The mesh's wardian.toml.")
@click.option("--json", "as_json", is_flag=True)
def verify(*, file: Path, agreed: Path, as_json: bool) -> None:
    """Say until when front ends take the list in FILE; ends with status 3 where they refuse it.

    By this machine's clock. A front end that had a newer one in force refuses it still.
    """
    settings, terms = read_terms(agreed)
    signed, tenants = read_list(file)
    expect_fits(tenants, settings)
    found = verify_tenants(signed, terms=terms, mesh=settings.mesh.name, now=unix_time())
    told = {
        "serial": tenants.serial,
        "digest": found.digest.hex(),
        "tenants": len(tenants.tenants),
        "ends_at": found.ends_at,
    }
    if as_json:
        click.echo(wire.encode(told))
    else:
        click.echo(
            f"{file}: serial {tenants.serial}, {len(tenants.tenants)} tenants, in force until "
            f"{said_time(found.ends_at)}"
        )
