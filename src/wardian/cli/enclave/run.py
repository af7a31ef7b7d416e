"""`wardian enclave run`: one role in the TEE that is asked for."""

from pathlib import Path

import click

from wardian.cli import processes
from wardian.cli.state import StateDir
from wardian.tee.launch.lifeline import Lifeline


@click.command()
@click.argument("role")
@processes.options
@click.option(
    "--tee",
    type=click.Choice(["gramine-sgx", "gramine-direct", "simulated"]),
    help="Where it runs; by default what operator.toml says.",
)
@click.option("--model", metavar="NAME[:VERSION]", help="For a worker: what it serves.")
@click.option("--port", type=click.IntRange(0, 65535), help="For a front end: its port.")
@click.option("--self-test", is_flag=True, help="Only try what the role needs, and report.")
def run(
    *,
    role: str,
    state: Path,
    lifeline: Lifeline | None,
    tee: str | None,
    model: str | None,
    port: int | None,
    self_test: bool,
) -> None:
    """Run ROLE from the manifest in the state directory's `enclave/`, in the foreground.

    SIMULATED: every trusted file is hashed first, then the kernel (Landlock, seccomp) confines the
    process to them. gramine-sgx: on hardware, from the signed manifest. gramine-direct cannot
    attest, so the role gets no key there: it tests itself and reports.

    \b
    wardian enclave run worker --tee simulated --model digits
    wardian enclave run worker --tee gramine-direct --self-test
    """  # noqa: D301 (click reads the character \b, not a backslash)
    directory = StateDir.open(state)
    if self_test or tee == "gramine-direct":
        placement = processes.place_self_test(role, directory)
    else:
        placement = processes.place(role, directory, model=model, port=port)
    processes.run(role, directory, placement, tee=tee, lifeline=lifeline)
