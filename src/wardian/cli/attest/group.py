"""The group of commands `wardian attest`, each loaded when it is used."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={
        "show": ("wardian.cli.attest.show", "show"),
        "verify": ("wardian.cli.attest.verify", "verify"),
        "explain": ("wardian.cli.attest.explain", "explain"),
        "collateral": ("wardian.cli.collateral", "collateral"),
    },
)
def attest() -> None:
    """Look at evidence, judge it, and see why.

    Evidence is a quote, signed by a processor's quoting enclave (or by a simulation that says so),
    with the vendor's collateral. A policy says which roots, measurements and platform states are
    accepted; a policy that would accept anybody is refused, and absent means deny.

    Each command ends with 0 if the evidence is accepted, 3 if it is refused, for whatever reason,
    and 2 if the command or the policy is wrong.

    \b
    wardian attest show https://localhost:8443 --policy client-policy.toml
    wardian attest verify quote.bin --collateral collateral.json --policy policy.toml
    wardian attest explain evidence.json --policy policy.toml
    """  # noqa: D301 (click reads the character \b, not a backslash)
