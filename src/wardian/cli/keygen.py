"""`wardian keygen`: an identity that files can be sealed to."""

from pathlib import Path

import click

from wardian.cli.files import write_secret
from wardian.crypto.hpke import HpkePrivateKey


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def keygen(*, file: Path) -> None:
    """Make an identity: the private key goes to FILE, the public key is printed.

    Give the public key to whoever shall seal files to you (`wardian seal --to`); open them with
    `wardian open --identity FILE`.
    """
    key = HpkePrivateKey.generate()
    write_secret(file, key.to_secret())
    click.echo(key.public.hex())
