"""The group of commands `wardian owner`, each loaded when it is used."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={
        "keygen": ("wardian.cli.owner.keys", "keygen"),
        "public": ("wardian.cli.owner.keys", "public"),
        "model": ("wardian.cli.owner.lines", "model"),
        "secret": ("wardian.cli.owner.lines", "secret"),
        "recover": ("wardian.cli.mesh.recover", "recover"),
    },
)
def owner() -> None:
    """Make an owner's key, and say who may have what is yours.

    The public key goes into [mesh] owners of wardian.toml. A line says which measurements may have
    one of your models or secrets, how often and how long; whoever puts the manifest together gets
    it (`wardian mesh new --line`), and nobody can change it.

    \b
    wardian owner keygen --out owner.key
    wardian owner model digits.sealed --broker-key digits.key --agreed wardian.toml \\
        --key owner.key --role worker --reference-values reference-values.toml -o digits.line
    wardian owner secret license --source supplied --agreed wardian.toml --key owner.key \\
        --measurement 33d8...0fbb --max-uses 100 -o license.line
    """  # noqa: D301 (click reads the character \b, not a backslash)
