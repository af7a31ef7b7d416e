"""`wardian owner keygen` and `wardian owner public`: the key that an owner signs with."""

import os
import sys
from pathlib import Path
from typing import Final

import click

from wardian._internal.files import read_private
from wardian.cli.files import path_option, read_passphrase
from wardian.crypto.owner_key import (
    decode_owner_key,
    encode_owner_key,
    needs_passphrase,
    owner_public,
)
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SignatureKind, SigningKey, parse_public_pem
from wardian.errors import ConfigError, FormatError, WrongRecipient

MAX_PEM_BYTES: Final = 64 * 1024


@click.command()
@click.option(
    "--type",
    "kind",
    type=click.Choice([kind.value for kind in SignatureKind]),
    default=SignatureKind.ED25519.value,
    show_default=True,
    help="Of the key: Ed25519, or ECDSA on P-256 with SHA-256.",
)
@click.option("--out", type=path_option, required=True, help="A new file, for you alone.")
@click.option(
    "--passphrase", "ask", is_flag=True, help="Put it under a passphrase, asked for here."
)
@click.option("--passphrase-file", type=path_option, help="Likewise, under this file's first line.")
def keygen(*, kind: str, out: Path, ask: bool, passphrase_file: Path | None) -> None:
    """Make an owner's key: the private key goes to a file, the public key is printed.

    The public key goes into [mesh] owners of wardian.toml, which is measured: to replace an owner
    is to measure everything anew. An owner whose key is in a hardware module needs no file: see
    `wardian mesh attach`.
    """
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    if ask and passphrase is None:
        passphrase = Secret(
            click.prompt("Passphrase", hide_input=True, confirmation_prompt=True).encode()
        )
    key = SigningKey.generate(SignatureKind(kind))
    write_owner_key(out, encode_owner_key(key, passphrase=passphrase))
    click.echo(key.public.hex())


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def public(*, file: Path) -> None:
    """Print the public key of FILE as wardian.toml has it.

    FILE is of `wardian owner keygen`, or a PEM public key (Ed25519 or P-256), as hardware modules
    and other tools export it.
    """
    with file.open("rb") as opened:
        raw = opened.read(MAX_PEM_BYTES)
    try:
        known = (
            parse_public_pem(raw) if b"-----BEGIN" in raw else owner_public(Secret(raw or b"\n"))
        )
    except FormatError as err:
        raise ConfigError(f"{file}: {err}") from err
    click.echo(known.hex())


def read_owner_key(path: Path, passphrase_file: Path | None = None) -> SigningKey:
    """Return the owner's key in the file `path`.

    Where it is under a passphrase and no file has that, it is asked for at the terminal.

    Raises:
        ConfigError: the file cannot be read, other users can read it, it holds no owner's key, or
            its passphrase is another or cannot be asked for.
    """
    file = Secret(read_private(path) or b"\n")
    try:
        passphrase = read_passphrase(passphrase_file) if passphrase_file else None
        if passphrase is None and needs_passphrase(file):
            passphrase = _ask(path)
        return decode_owner_key(file, passphrase=passphrase)
    except (FormatError, WrongRecipient) as err:
        raise ConfigError(f"{path}: {err}") from err


def write_owner_key(path: Path, file: Secret) -> None:
    """Write `file` (of `encode_owner_key`) to the new file `path`, readable by its user alone.

    Raises:
        ConfigError: there is a file already, or it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as err:
        raise ConfigError(f"{path}: is there already; it is never overwritten") from err
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written: {err.strerror}") from err
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(file.reveal())


def _ask(path: Path) -> Secret:
    if not sys.stdin.isatty():
        raise ConfigError(f"{path}: is under a passphrase; give --passphrase-file")
    return Secret(click.prompt(f"Passphrase of {path}", hide_input=True, err=True).encode())
