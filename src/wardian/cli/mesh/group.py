"""The group of commands `wardian mesh`, each loaded when it is used."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={
        "new": ("wardian.cli.mesh.new", "new"),
        "show": ("wardian.cli.mesh.show", "show"),
        "verify": ("wardian.cli.mesh.show", "verify"),
        "sign": ("wardian.cli.mesh.sign", "sign"),
        "digest": ("wardian.cli.mesh.sign", "digest"),
        "attach": ("wardian.cli.mesh.sign", "attach"),
        "policy": ("wardian.cli.mesh.policy", "policy"),
        "propose": ("wardian.cli.mesh.visits", "propose"),
        "rotate": ("wardian.cli.mesh.visits", "rotate"),
        "beacon": ("wardian.cli.mesh.visits", "beacon"),
        "log": ("wardian.cli.mesh.log", "log"),
        "status": ("wardian.cli.mesh_status", "status_command"),
    },
)
def mesh() -> None:
    """Put a mesh's manifest together, sign it, put it in force; see every one there was.

    The manifest says which measurement is which role, which models and secrets there are, and who
    gets them. As many owners sign it as the one before demands.

    \b
    wardian mesh new --agreed wardian.toml --previous now.json --line digits.line -o next.json
    wardian mesh sign next.json --agreed wardian.toml --previous now.json --key owner.key
    wardian mesh propose next.json --agreed wardian.toml --key owner.key \\
        --model-key digits.key --broker broker.example:7443
    wardian mesh log --broker broker.example:7443 --agreed wardian.toml
    """  # noqa: D301 (click reads the character \b, not a backslash)
