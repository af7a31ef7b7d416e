"""`wardian policy sign`: an owner's word."""

from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian._internal.files import replace_file
from wardian.broker.jobs.explain import explain_policy
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.signing import sign_policy
from wardian.cli.files import path_option
from wardian.cli.mesh.files import existing
from wardian.cli.owner.keys import read_owner_key
from wardian.cli.owner.signer import CommandSigner
from wardian.cli.policy.files import PolicyOnDisk, read_policy
from wardian.crypto.signing import Signer
from wardian.errors import ConfigError, PolicyDenied


@click.command()
@click.argument("file", type=existing)
@click.option("--key", type=existing, help="Your key, of `wardian owner keygen`.")
@click.option("--passphrase-file", type=path_option, help="Its first line opens the key.")
@click.option("--sign-with", metavar="PROGRAM", help="Signs what it reads, in the place of a key.")
@click.option("--previous", type=existing, help="What you signed before; FILE has to be newer.")
@click.option("-o", "--output", type=path_option, required=True)
def sign(
    *,
    file: Path,
    key: Path | None,
    passphrase_file: Path | None,
    sign_with: str | None,
    previous: Path | None,
    output: Path,
) -> None:
    """Sign the policy in FILE, for the mesh that it names; prints what you sign.

    Without --previous the file at OUTPUT, if there is one, is what you signed before.
    """
    policy = read_policy(file).policy
    before = previous or (output if output.exists() else None)
    if before is not None:
        _refuse_older(
            policy.serial, policy.place, read_policy(before), file=file, before_path=before
        )
    signed = sign_policy(policy, _signer(key, passphrase_file, sign_with, policy.owner_key))
    replace_file(output, wire.encode(signed))
    for line in explain_policy(policy, now=unix_time()):
        click.echo(wire.printable(line))
    click.echo(f"{output}: serial {policy.serial}, signed as {policy.owner_key}")


def _refuse_older(
    serial: int, place: str, before: PolicyOnDisk, *, file: Path, before_path: Path
) -> None:
    if before.policy.place != place:
        raise ConfigError(f"{before_path}: is about another table, or another owner's")
    if serial <= before.policy.serial:
        raise PolicyDenied(
            f"{file}: serial {serial} is not newer than {before_path}; raise it",
            rule=Rule.POLICY_SERIAL,
        )


def _signer(
    key: Path | None, passphrase_file: Path | None, command: str | None, public: str
) -> Signer:
    """Return who signs: a key in a file, or a program that has the key of the owner `public`."""
    if (key is None) is (command is None):
        raise ConfigError("say who signs: --key, or --sign-with")
    if key is not None:
        return read_owner_key(key, passphrase_file)
    return CommandSigner(command or "", public=public)
