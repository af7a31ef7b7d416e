"""`wardian mesh policy`: what clients of a mesh may demand of it, as a file for them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from wardian._internal.files import replace_file
from wardian.broker.certificates import FRONTEND
from wardian.broker.mesh.manifest import MeshManifest, manifest_digest
from wardian.broker.mesh.verify import verify_content, verify_names
from wardian.cli.mesh.files import existing, new_file, read_agreed, read_manifest
from wardian.errors import ConfigError
from wardian.serving.client.policy import load_client_policy

_UNBOUND: Final = (None, (), 0)
"""Values in a manifest's `trust` that set no bound: a policy file leaves such keys out."""


@click.command()
@click.argument("manifest", type=existing)
@click.option("--agreed", type=existing, required=True, help="The mesh's wardian.toml.")
@click.option("--pin", is_flag=True, help="Accept this very manifest and no other.")
@click.option("-o", "--output", type=new_file, required=True)
def policy(*, manifest: Path, agreed: Path, pin: bool, output: Path) -> None:
    """Write the policy of a client that accepts MANIFEST: its roles' measurements and platforms.

    It goes on accepting the mesh under later manifests, as long as these list no measurement that
    this one does not: give it to clients before a manifest with new measurements comes into force.
    MANIFEST may be unsigned. Who gets the file from somebody else believes them, not MANIFEST.
    """
    _, settings = read_agreed(agreed)
    signed, said = read_manifest(manifest)
    verify_content(said, mesh=settings.mesh)
    verify_names(said, agreed=settings)
    if FRONTEND not in said.roles:
        raise ConfigError(f"{manifest}: has no front end that a client could accept")
    _write(output, _render(said, pinned=manifest_digest(signed) if pin else None))
    roles = ", ".join(f"{role} {len(each.measurements)}" for role, each in said.roles.items())
    click.echo(f"{output}: version {said.version}; measurements: {roles}")


def _write(path: Path, text: str) -> None:
    """Write the policy `text` in the place of what is in `path`, if it is one that clients take."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        replace_file(fresh, text.encode())
        load_client_policy(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _render(manifest: MeshManifest, *, pinned: bytes | None) -> str:
    """Return the policy file: the same text for the same manifest."""
    trust: dict[str, Any] = msgspec.structs.asdict(manifest.trust)
    evidence = {"measurements": manifest.roles[FRONTEND].measurements, **trust}
    mesh = {} if pinned is None else {"manifest_digest": pinned.hex()}
    roles = {role: each.measurements for role, each in sorted(manifest.roles.items())}
    lines = [
        f"# What a client demands of mesh {manifest.mesh}, after its manifest {manifest.version}.",
        "# Written by `wardian mesh policy`.",
        *_table("evidence", evidence),
        *(_table("mesh", mesh) if mesh else ()),
        *_table("mesh.roles", roles),
    ]
    return "".join(f"{line}\n" for line in lines)


def _table(name: str, values: Mapping[str, object]) -> Iterable[str]:
    """Yield the lines of a TOML table; JSON's strings, numbers and lists are TOML's."""
    yield from ("", f"[{name}]")
    for key, value in values.items():
        if value not in _UNBOUND:
            yield f"{json.dumps(key) if '.' in key else key} = {json.dumps(value)}"
