"""`wardian tenants sign`: the signature of one signer."""

from pathlib import Path

import click
import msgspec

from wardian.cli.files import path_option
from wardian.cli.mesh.files import existing
from wardian.cli.owner.keys import read_owner_key
from wardian.cli.owner.signer import CommandSigner
from wardian.cli.tenants.files import echo_changes, expect_fits, read_list, read_terms, write_list
from wardian.crypto.signing import Signer
from wardian.errors import ConfigError, PolicyDenied
from wardian.serving.tenants.lists import TenantSignature, tenants_signed_bytes
from wardian.serving.tenants.verify import verify_tenants_content


@click.command()
@click.argument("file", type=existing)
@click.option("--agreed", type=existing, required=True, help="The mesh's wardian.toml.")
@click.option("--previous", type=existing, help="The list in force; shows what changes.")
@click.option("--key", type=existing, help="Your key, of `wardian owner keygen`.")
@click.option("--passphrase-file", type=path_option, help="Its first line opens the key.")
@click.option("--sign-with", metavar="PROGRAM", help="Signs what it reads, in the place of a key.")
@click.option("--signer", metavar="HEX", help="The public key of who signs so.")
def sign(
    *,
    file: Path,
    agreed: Path,
    previous: Path | None,
    key: Path | None,
    passphrase_file: Path | None,
    sign_with: str | None,
    signer: str | None,
) -> None:
    """Sign the list in FILE, which is changed in place; read first what it says.

    With --previous it prints what FILE changes, and refuses one of no later serial.
    """
    settings, terms = read_terms(agreed)
    signed, tenants = read_list(file)
    expect_fits(tenants, settings)
    verify_tenants_content(tenants)
    before = read_list(previous)[1] if previous else None
    if before is not None and tenants.serial <= before.serial:
        raise PolicyDenied(f"{file} is not newer than {previous}", rule="tenants-serial")
    who = _signer(key, passphrase_file, sign_with, signer)
    public = who.public.hex()
    if public not in terms.signers:
        raise ConfigError(f"the key is of nobody who is a signer in [tenants] of {agreed}")
    echo_changes(before, tenants)
    made = who.sign(tenants_signed_bytes(signed.tenants)).hex()
    others = tuple(each for each in signed.signatures if each.signer != public)
    added = TenantSignature(signer=public, signature=made)
    write_list(file, msgspec.structs.replace(signed, signatures=(*others, added)))
    click.echo(f"{file}: serial {tenants.serial}, signed as {public}")


def _signer(
    key: Path | None, passphrase_file: Path | None, command: str | None, public: str | None
) -> Signer:
    """Return who signs: a key in a file, or a program that has it.

    Raises:
        ConfigError: not exactly one of the two is named.
    """
    if key is not None and command is None and public is None:
        return read_owner_key(key, passphrase_file)
    if key is None and command is not None and public is not None:
        return CommandSigner(command, public=public)
    raise ConfigError("say who signs: --key, or --sign-with and --signer")
