"""Files with a tenants list in them, and how one reads on a terminal."""

from collections.abc import Iterator
from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.agreed import Agreed, Tenants
from wardian._internal.files import replace_file
from wardian._internal.settings import read
from wardian.cli.mesh.files import read_agreed, said_time
from wardian.errors import ConfigError, FormatError, PolicyDenied
from wardian.serving.tenants.lists import (
    MAX_SIGNED_BYTES,
    SignedTenants,
    TenantList,
    TenantTerms,
    parse_tenants,
)
from wardian.serving.tenants.roster import certificate_digest


def read_list(path: Path) -> tuple[SignedTenants, TenantList]:
    """Return the list in the file `path` and what it says, believed by nobody yet.

    Raises:
        ConfigError: it cannot be read, or is no list.
    """
    raw = read(path, limit_bytes=MAX_SIGNED_BYTES)
    try:
        signed = wire.decode(raw, SignedTenants, what="signed tenants list")
        return signed, parse_tenants(signed)
    except FormatError as err:
        raise ConfigError(f"{path}: {err}") from err


def write_list(path: Path, signed: SignedTenants) -> None:
    """Write `signed` in the place of what is in `path`, at once: a front end may be reading it."""
    replace_file(path, wire.encode(signed))


def read_terms(path: Path) -> tuple[Agreed, Tenants]:
    """Return `wardian.toml` in the file `path`, and its `[tenants]`.

    Raises:
        ConfigError: it is none, or has none.
    """
    _, agreed = read_agreed(path)
    if agreed.tenants is None:
        raise ConfigError(
            f"{path}: has no [tenants]: whoever connects is served, and no list is read; name the "
            "signers there, and measure anew"
        )
    return agreed, agreed.tenants


def expect_fits(tenants: TenantList, agreed: Agreed) -> None:
    """Return if `tenants` is for the mesh of `agreed`, and names models of it alone.

    Raises:
        PolicyDenied: the rule `tenants-mesh` or `tenants-model-agreed`.
    """
    if tenants.mesh != agreed.mesh.name:
        raise PolicyDenied("the list is for another mesh than wardian.toml", rule="tenants-mesh")
    for tenant in tenants.tenants:
        unknown = sorted(set(tenant.models) - agreed.models.keys())
        if unknown:
            raise PolicyDenied(
                f"tenant {tenant.name} may ask {', '.join(unknown)}, which wardian.toml does not "
                "name",
                rule="tenants-model-agreed",
            )


def echo_list(tenants: TenantList) -> None:
    """Print all that `tenants` says."""
    click.echo(
        f"mesh {tenants.mesh}, serial {tenants.serial}, issued {said_time(tenants.issued)}, "
        f"until {said_time(tenants.not_after)}"
    )
    for tenant in tenants.tenants:
        click.echo(f"tenant {click.style(tenant.name, bold=True)}")
        for line in _lines(tenant):
            click.echo(f"  {line}")


def echo_changes(before: TenantList | None, tenants: TenantList) -> None:
    """Print what `tenants` changes against `before`; without one, all that it says."""
    if before is None:
        echo_list(tenants)
        return
    old = {tenant.name: tenant for tenant in before.tenants}
    new = {tenant.name: tenant for tenant in tenants.tenants}
    click.echo(f"serial {before.serial} -> {tenants.serial}, until {said_time(tenants.not_after)}")
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            click.secho(f"tenant {name}: removed", fg="red")
        elif name not in old:
            click.secho(f"tenant {name}: added", fg="green")
            for line in _lines(new[name]):
                click.echo(f"  {line}")
        elif old[name] != new[name]:
            click.secho(f"tenant {name}: changed", fg="yellow")
            _echo_lines(list(_lines(old[name])), list(_lines(new[name])))


def _echo_lines(was: list[str], now: list[str]) -> None:
    """Print the lines that go, and those that come."""
    for line in was:
        if line not in now:
            click.secho(f"  - {line}", fg="red")
    for line in now:
        if line not in was:
            click.secho(f"  + {line}", fg="green")


def _lines(tenant: TenantTerms) -> Iterator[str]:
    """Yield what a person has to know of `tenant`, a line each."""
    yield "models " + ("ALL, those that come later included" if tenant.all
                       else ", ".join(tenant.models))  # fmt: skip
    yield (
        f"rate {tenant.rate_per_s:g}/s, burst {tenant.burst}, open {tenant.max_open}, "
        f"weight {tenant.weight}"
    )
    if tenant.max_bytes_per_s is not None:
        yield f"bytes {tenant.max_bytes_per_s}/s"
    if tenant.quota is not None:
        yield f"quota {tenant.quota} a day and front end"
    if tenant.metrics:
        yield "reads the metrics, which name all tenants and models"
    for key in tenant.keys:
        yield f"key {key}"
    for certificate in tenant.certificates:
        yield f"certificate {certificate_digest(certificate).hex()}"
    if not tenant.keys and not tenant.certificates:
        yield "no key and no certificate: nobody can be this tenant"
