"""The command `wardian doctor`."""

import re
from collections.abc import Sequence
from dataclasses import asdict

import click

from wardian._internal import wire
from wardian.cli.doctor.enclaves import examine_enclaves
from wardian.cli.doctor.finding import Finding
from wardian.cli.doctor.hardware import examine_hardware
from wardian.cli.doctor.machine import Machine, this_machine
from wardian.cli.doctor.protections import examine_protections
from wardian.cli.doctor.screen import render
from wardian.cli.doctor.software import examine_software

_UNITS = {"M": 1024**2, "G": 1024**3}
ROLE_SIZES = (1 * _UNITS["G"], 1 * _UNITS["G"], 4 * _UNITS["G"])
"""A broker, a front end and a worker with a model of about a gigabyte."""


def enclave_size(text: str) -> int:
    """Return the bytes that `text` stands for: a size as Gramine writes it, "512M" or "4G".

    Raises:
        click.BadParameter: it is none, or no power of two, which SGX demands.
    """
    found = re.fullmatch(r"([0-9]{1,6})([MG])", text)
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if size == 0 or size & (size - 1):
        raise click.BadParameter(f"{text!r} is no power of two such as 512M or 4G")
    return size


def examine(machine: Machine, enclave_bytes: Sequence[int]) -> tuple[Finding, ...]:
    """Return every finding, in the order in which they are shown.

    Args:
        machine: where to look.
        enclave_bytes: the size of each enclave that shall run here at once.
    """
    return (
        *examine_hardware(machine, enclave_bytes),
        *examine_enclaves(machine, enclave_bytes),
        *examine_protections(machine),
        *examine_software(machine),
    )


@click.command()
@click.option(
    "--enclave-size",
    "sizes",
    type=enclave_size,
    metavar="SIZE",
    multiple=True,
    help="Size of an enclave that shall run here, such as 4G; give one for each. By default those "
    "of a broker, a front end and a worker: 1G 1G 4G.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, uncut.")
def doctor(*, sizes: tuple[int, ...], as_json: bool) -> None:
    """Say what this machine can do, and what is missing.

    A missing thing is no error: its line says what does not work without it, and how to get it.
    Without SGX, `wardian up` runs with SIMULATED enclaves, which protect nobody from this machine.
    """
    findings = examine(this_machine(), sizes or ROLE_SIZES)
    if as_json:
        click.echo(wire.encode([asdict(finding) for finding in findings]))
        return
    for line in render(findings):
        click.echo(line)
