"""`wardian tenants key`: a fresh API key, seen once."""

import os
from pathlib import Path

import click

from wardian.cli.files import path_option
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError
from wardian.serving.client.credentials import load_api_key
from wardian.serving.tenants.api_key import api_key_digest, generate_api_key


@click.command()
@click.option("--out", type=path_option, help="A new file, for you alone; else it is printed.")
@click.option("--of", "given", type=path_option, help="Print the SHA-256 of this file's key again.")
def key(*, out: Path | None, given: Path | None) -> None:
    """Make an API key; print its SHA-256, which goes into the tenants list.

    Nobody else has the key: with --out it goes to a file, without it is printed, before its
    SHA-256, and is gone when your terminal forgets it.
    """
    if given is not None:
        made = load_api_key(given)
    else:
        made = generate_api_key()
        if out is None:
            click.echo(made.reveal().decode())
        else:
            _write(out, made)
    click.echo(api_key_digest(made.reveal()).hex())


def _write(path: Path, made: Secret) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as err:
        raise ConfigError(f"{path}: is there already; it is never overwritten") from err
    with os.fdopen(descriptor, "wb") as file:
        file.write(made.reveal() + b"\n")
