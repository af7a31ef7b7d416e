"""`wardian enclave measure`: reference values of what was built or signed."""

from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.files import replace_file
from wardian.tee.manifest.measuring import measure_file
from wardian.tee.manifest.reference_values import combine, load_reference_values

existing = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.argument("files", nargs=-1, required=True, type=existing, metavar="FILE...")
@click.option("--keep", type=existing, help="Earlier reference values that stay valid as well.")
@click.option(
    "-o",
    "--out",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the file here; default: print it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the values as JSON.")
def measure(
    *, files: tuple[Path, ...], keep: Path | None, output: Path | None, as_json: bool
) -> None:
    """Measure enclaves: what every FILE will be on a machine, as a file of reference values.

    FILE is ROLE.manifest for simulated enclaves, or ROLE.sig for enclaves on hardware, whose
    signature is verified. One file of reference values holds one kind: a mesh is all hardware or
    all simulated. Owners put the measurements into the mesh manifest that they sign.

    \b
    wardian enclave measure enclave/*.sig -o reference-values.toml
    wardian enclave measure enclave/worker.sig --keep reference-values.toml
    """  # noqa: D301 - click reads the character \b, not a backslash
    kept = load_reference_values(keep) if keep is not None else None
    values = combine((measure_file(path) for path in files), kept=kept)
    if output is not None:
        replace_file(output, values.render().encode())
    if as_json:
        click.echo(wire.encode(values.describe()))
    elif output is None:
        click.echo(values.render(), nl=False)
    else:
        for role, measurements in values.to_roles().items():
            kind = "SIMULATED" if values.simulated else "SGX"
            click.echo(f"{role:<12} {kind:<10} {' '.join(measurements)}")
