"""The group of `wardian tenants`."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={
        "key": ("wardian.cli.tenants.key", "key"),
        "draft": ("wardian.cli.tenants.draft", "draft"),
        "sign": ("wardian.cli.tenants.sign", "sign"),
        "show": ("wardian.cli.tenants.show", "show"),
        "verify": ("wardian.cli.tenants.verify", "verify"),
    },
)
def tenants() -> None:
    """Say who may ask the front ends of a mesh, for which models, and how much.

    The signers that [tenants] of wardian.toml names sign a list; the operator puts it where
    [frontend] tenants of operator.toml says, and running front ends take it up.

    \b
    wardian tenants key --out alice.key
    wardian tenants draft --agreed wardian.toml --from tenants.toml -o list.json
    wardian tenants sign list.json --agreed wardian.toml --key signer.key
    """  # noqa: D301 (click reads the character \b, not a backslash)
