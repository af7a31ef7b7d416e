"""`wardian policy new`: the file to begin with."""

from pathlib import Path

import click

from wardian.broker.jobs.policy import load_policy
from wardian.broker.jobs.template import policy_template
from wardian.cli.files import path_option
from wardian.errors import ConfigError


@click.command()
@click.argument("table")
@click.option("--mesh", required=True, help="The mesh's name.")
@click.option("--owner", required=True, help="What you are called in this file.")
@click.option("--key", metavar="HEX", required=True, help="Your public key; see `owner public`.")
@click.option("-o", "--output", type=path_option, required=True)
def new(*, table: str, mesh: str, owner: str, key: str, output: Path) -> None:
    """Write a policy about TABLE to fill in; as it is written it allows nothing."""
    text = policy_template(mesh=mesh, table=table, owner=owner, key=key)
    load_policy(text.encode(), name="the policy")
    try:
        with output.open("x") as file:
            file.write(text)
    except FileExistsError as err:
        raise ConfigError(f"{output}: is there already; it is never overwritten") from err
    click.echo(f"{output}: allows nothing until you fill it in")
