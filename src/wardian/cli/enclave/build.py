"""`wardian enclave build`: a role's manifest, from what is installed here."""

import time
from pathlib import Path

import click

from wardian._internal import settings, wire
from wardian.cli.processes import close_to_others
from wardian.tee.manifest.builder import Builder, BuiltRole


@click.command()
@click.argument("role")
@click.option(
    "--deployment",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("wardian.toml"),
    show_default=True,
    help="What the owners agreed on; becomes part of the measurement.",
)
@click.option(
    "-o",
    "--out",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The role's directory: gets ROLE.manifest, wardian.toml and the bytecode.",
)
@click.option("--edmm", is_flag=True, help="Add memory and threads while it runs (SGX 2).")
@click.option(
    "--gramine",
    type=click.Path(path_type=Path, file_okay=False),
    help="Gramine's library directory, if not where its packages put it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was built as JSON.")
def build(
    *, role: str, deployment: Path, directory: Path, edmm: bool, gramine: Path | None, as_json: bool
) -> None:
    """Write the manifest of ROLE (broker, frontend, worker, job, ...) as it is installed here.

    The manifest lists every file that runs by its SHA-256, Wardian's own and every library's as
    bytecode that is compiled anew. The same installation and the same wardian.toml give the same
    bytes.

    \b
    wardian enclave build worker --deployment examples/mesh/wardian.toml -o enclave
    """  # noqa: D301 (click reads the character \b, not a backslash)
    close_to_others()
    began = time.perf_counter()
    agreed = settings.read(deployment)
    built = Builder(directory, deployment=agreed, gramine=gramine, edmm=edmm).build(role)
    seconds = time.perf_counter() - began
    if as_json:
        click.echo(wire.encode(_summary(built, directory, seconds)))
        return
    click.echo(f"{directory / role}.manifest: {len(built.text.encode()):,} bytes, {seconds:.2f} s")
    click.echo(f"  trusted files  {built.files:,}, {built.total_bytes:,} bytes together")
    click.echo(f"  SIMULATED      mr_enclave {built.mr_enclave.hex()}")
    if not built.minimal:
        click.echo(
            "  note           no file list fits what is installed: every file of every package is "
            "trusted (see `make trace`)"
        )
    if not built.patched_libc:
        click.echo(
            "  note           Gramine is not installed here: the manifest names this machine's C "
            "library, with which system calls are slower"
        )


def _summary(built: BuiltRole, directory: Path, seconds: float) -> dict[str, object]:
    return {
        "role": built.role,
        "manifest": str(directory / f"{built.role}.manifest"),
        "manifest_bytes": len(built.text.encode()),
        "trusted_files": built.files,
        "trusted_bytes": built.total_bytes,
        "simulated_mr_enclave": built.mr_enclave.hex(),
        "minimal": built.minimal,
        "patched_libc": built.patched_libc,
        "seconds": round(seconds, 3),
    }
