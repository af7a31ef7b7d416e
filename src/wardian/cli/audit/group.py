"""The group of commands `wardian audit`, each loaded when it is used."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={
        "show": ("wardian.cli.audit.show", "show"),
        "verify": ("wardian.cli.audit.verify", "verify"),
        "prove": ("wardian.cli.audit.prove", "prove"),
        "export": ("wardian.cli.audit.export", "export"),
        "witness": ("wardian.cli.audit.witness", "witness"),
    },
)
def audit() -> None:
    """Read and verify a mesh's audit log: who got which key, for which code, under which manifest.

    Every release, refusal and change has a line. The lines are a chain and the leaves of a Merkle
    tree, whose root the mesh CA's key signs: no line can be changed, dropped or added behind it.
    A broker that runs twice can still show each party a log of its own, unless parties keep the
    heads that they saw (--head) or demand that witnesses have seen the log (--witnesses).

    \b
    wardian audit show --refused
    wardian audit verify --broker broker.example:7443 --ca mesh-ca.pem --head audit-memory.json
    wardian audit prove 17 --out line17.json
    wardian audit verify --proof line17.json --ca mesh-ca.pem
    wardian audit witness --key owner.key --memory witness.json --every 60
    """  # noqa: D301 (click reads the character \b, not a backslash)
