"""The group of commands `wardian enclave`, each loaded when it is used."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={
        "build": ("wardian.cli.enclave.build", "build"),
        "lint": ("wardian.cli.enclave.lint", "lint"),
        "sign": ("wardian.cli.enclave.sign", "sign"),
        "measure": ("wardian.cli.enclave.measure", "measure"),
        "run": ("wardian.cli.enclave.run", "run"),
    },
)
def enclave() -> None:
    """Build, check, sign, measure and run what a role consists of.

    One Gramine manifest a role says every byte that runs: it is what gramine-sgx measures, what
    gramine-direct enforces, and what the simulation measures and enforces in their place.

    \b
    wardian enclave build worker --deployment wardian.toml -o enclave
    wardian enclave lint enclave/worker.manifest
    wardian enclave sign enclave/worker.manifest --key signer.pem
    wardian enclave measure enclave/*.manifest -o reference-values.toml
    """  # noqa: D301 (click reads the character \b, not a backslash)
