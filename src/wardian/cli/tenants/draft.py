"""`wardian tenants draft`: from what a person writes to a list to look at and to sign."""

import ssl
from pathlib import Path
from typing import Annotated, Any

import click
import msgspec

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian._internal.settings import Name, Settings, load, read
from wardian.cli.mesh.files import existing, new_file
from wardian.cli.tenants.files import echo_changes, expect_fits, read_list, read_terms, write_list
from wardian.errors import ConfigError, FormatError, PolicyDenied
from wardian.serving.tenants.lists import (
    MAX_CERTIFICATE_BYTES,
    MAX_TENANTS,
    TenantList,
    TenantTerms,
    sign_tenants,
)
from wardian.serving.tenants.verify import verify_tenants_content

DAY_S = 86_400


class TenantDraft(Settings, frozen=True, kw_only=True):
    """`[tenants.NAME]`; its fields are those of `TenantTerms`."""

    keys: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    """PEM files; a path that is not absolute begins where this file is."""
    models: tuple[str, ...] = ()
    all: bool = False
    rate_per_s: float
    burst: int
    max_open: int
    max_bytes_per_s: int | None = None
    quota: int | None = None
    weight: int = 1
    metrics: bool = False


class Draft(Settings, frozen=True, kw_only=True):
    """What `--from` names."""

    tenants: Annotated[dict[Name, TenantDraft], msgspec.Meta(max_length=MAX_TENANTS)]


@click.command()
@click.option("--agreed", type=existing, required=True, help="The mesh's wardian.toml.")
@click.option("--from", "source", type=existing, required=True, help="Who may what, TOML.")
@click.option("--previous", type=existing, help="The list in force, which this one follows.")
@click.option("--days", type=click.IntRange(1, 366), default=7, show_default=True)
@click.option("-o", "--output", type=new_file, required=True)
def draft(*, agreed: Path, source: Path, previous: Path | None, days: int, output: Path) -> None:
    """Put a list together and print what it changes; nobody has signed it yet.

    It holds for so many days, or for [tenants] max_age_s of wardian.toml if that is less: until
    then a host can keep a newer one back.
    """
    settings, terms = read_terms(agreed)
    before = read_list(previous)[1] if previous else None
    issued = unix_time()
    tenants = TenantList(
        mesh=settings.mesh.name,
        serial=before.serial + 1 if before else 1,
        issued=issued,
        not_after=issued + min(days * DAY_S, terms.max_age_s),
        tenants=tuple(
            _terms(name, each, source) for name, each in sorted(load(source, Draft).tenants.items())
        ),
    )
    expect_fits(tenants, settings)
    try:
        verify_tenants_content(tenants)
    except (FormatError, PolicyDenied) as err:
        raise ConfigError(f"{source}: {err}") from err
    write_list(output, sign_tenants(tenants, ()))
    echo_changes(before, tenants)
    click.echo(f"{output}: serial {tenants.serial}. Signers that it needs: {terms.threshold}")


def _terms(name: str, written: TenantDraft, source: Path) -> TenantTerms:
    """Return what a person wrote of one tenant as the list has it.

    Raises:
        ConfigError: a field is out of its range, or a certificate cannot be read.
    """
    fields: dict[str, Any] = msgspec.structs.asdict(written)
    fields["certificates"] = [_certificate(source.parent / path) for path in written.certificates]
    try:
        return wire.decode(
            wire.encode({"name": name, **fields}), TenantTerms, what=f"tenant {name}"
        )
    except FormatError as err:
        raise ConfigError(f"{source}: {err}") from err


def _certificate(path: Path) -> bytes:
    raw = read(path, limit_bytes=2 * MAX_CERTIFICATE_BYTES)
    try:
        return ssl.PEM_cert_to_DER_cert(raw.decode("ascii").strip())
    except ValueError as err:
        raise ConfigError(f"{path}: not one certificate in PEM") from err
