"""`wardian mesh new`: a manifest to look at and to sign."""

from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from wardian._internal import wire
from wardian.broker.mesh.changes import changes
from wardian.broker.mesh.draft import Changes, draft_manifest
from wardian.broker.mesh.lines import Line
from wardian.broker.mesh.manifest import MeshManifest, manifest_digest, sign_manifest
from wardian.broker.mesh.trust import AcceptableTcb, TrustAnchor
from wardian.cli.mesh.files import (
    echo_changes,
    existing,
    new_file,
    read_agreed,
    read_manifest,
    write_manifest,
)
from wardian.cli.owner.files import read_line_file
from wardian.errors import ConfigError, FormatError

RISK = "risk accepted"


@click.command()
@click.option("--agreed", type=existing, required=True, help="The mesh's wardian.toml.")
@click.option("--previous", type=existing, help="The manifest in force, which this one follows.")
@click.option("--reference-values", type=existing, help="Which measurements are which role.")
@click.option("--line", "lines", type=existing, multiple=True, help="Of `wardian owner`.")
@click.option(
    "--without", multiple=True, help="A line that goes: NAME:VERSION, or a secret's NAME."
)
@click.option("--change-threshold", type=click.IntRange(1), help="Owners that the next one needs.")
@click.option("--simulation-root", metavar="HEX", help="All platforms are simulated, under it.")
@click.option("--platform", "platforms", multiple=True, metavar="PPID", help="A machine; hardware.")
@click.option("--any-platform", type=click.Choice([RISK]), help="Any machine; hardware.")
@click.option(
    "--tcb-status", "tcb_statuses", type=click.Choice(get_args(AcceptableTcb)), multiple=True
)
@click.option("--advisory", "advisories", multiple=True, metavar="ID", help="That is accepted.")
@click.option("--min-tcb-evaluation-number", type=click.IntRange(0))
@click.option("--out-of-date-grace", "out_of_date_grace_s", type=click.IntRange(1), metavar="S")
@click.option("--max-collateral-age", "max_collateral_age_s", type=click.IntRange(1), metavar="S")
@click.option("-o", "--output", type=new_file, required=True)
def new(
    *,
    agreed: Path,
    previous: Path | None,
    reference_values: Path | None,
    lines: tuple[Path, ...],
    without: tuple[str, ...],
    change_threshold: int | None,
    output: Path,
    **trust: Any,
) -> None:
    """Put a manifest together: what was in force before, with what the options change.

    Nothing is signed yet but the lines, each by its owner. What every owner's broker would refuse,
    this command refuses too, and it prints what changes.

    \b
    wardian mesh new --agreed wardian.toml --reference-values reference-values.toml \\
        --any-platform "risk accepted" --line digits.line -o manifest.json
    """  # noqa: D301 (click reads the character \b, not a backslash)
    _, settings = read_agreed(agreed)
    before = read_manifest(previous) if previous else None
    asked = Changes(
        trust=_trust(trust, before[1] if before else None),
        roles=_roles(reference_values),
        change_threshold=change_threshold,
        lines=tuple(_line(path, mesh=settings.mesh.name) for path in lines),
        without=without,
    )
    manifest = draft_manifest(asked, agreed=settings, previous=before)
    signed = sign_manifest(manifest, ())
    write_manifest(output, signed)
    echo_changes(changes(before[1] if before else None, manifest))
    click.echo(f"{output}: version {manifest.version}, digest {manifest_digest(signed).hex()}")
    needed = max(settings.mesh.threshold, before[1].change_threshold if before else 0)
    click.echo(f"Owners who have to sign it: {needed}")


def _trust(given: dict[str, Any], before: MeshManifest | None) -> TrustAnchor | None:
    """Return the trust anchor of before with what was given, or None if nothing was."""
    root = given.pop("simulation_root")
    fields = {name: value for name, value in given.items() if value not in (None, ())}
    if root is not None:
        fields |= {"simulation_root_sha256": root, "platforms": (), "any_platform": None}
    elif "platforms" in fields or "any_platform" in fields:  # hardware, of one kind or the other
        fields = {"simulation_root_sha256": None, "platforms": (), "any_platform": None} | fields
    if not fields:
        return None
    start: dict[str, Any] = {"tcb_statuses": ("UpToDate",), "advisories": ()}
    if before is not None:
        start = msgspec.structs.asdict(before.trust)
    elif "simulation_root_sha256" not in fields:
        raise ConfigError("say what vouches: --simulation-root, --platform or --any-platform")
    try:
        return wire.decode(wire.encode(start | fields), TrustAnchor, what="trust")
    except FormatError as err:
        raise ConfigError(str(err)) from err


def _roles(reference_values: Path | None) -> dict[str, tuple[str, ...]] | None:
    if reference_values is None:
        return None
    from wardian.tee.manifest.reference_values import load_reference_values  # noqa: PLC0415

    return load_reference_values(reference_values).to_roles()


def _line(path: Path, *, mesh: str) -> Line:
    file = read_line_file(path)
    if file.mesh != mesh:
        raise ConfigError(f"{path}: is a line for mesh {file.mesh}, not for {mesh}")
    return file.line
