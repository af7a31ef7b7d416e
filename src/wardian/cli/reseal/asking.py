"""The secret and the salt of Analytics Zoo: from files of this user alone, or typed unseen."""

import contextlib
import sys
from pathlib import Path

import click

from wardian.cli.files import read_passphrase
from wardian.crypto.secret import Secret
from wardian.crypto.zoo_keys import MAX_SALT_BYTES, ZooKeys
from wardian.errors import ConfigError


def ask_keys(secret_file: Path | None, salt_file: Path | None) -> ZooKeys:
    """Return the keys of the secret and the salt on the first lines of these files.

    What has no file is asked for at the terminal, without an echo. Neither is an argument of a
    command or stands in the environment, where other processes of the machine could read it.

    Raises:
        ConfigError: a file cannot be read, is open to other users or begins with an empty line;
            there is no terminal; the salt is longer than 65,536 bytes.
    """
    secret = _read_or_ask(secret_file, "secret")
    salt = _read_or_ask(salt_file, "salt")
    if len(salt) > MAX_SALT_BYTES:
        raise ConfigError(f"the salt has {len(salt):,} bytes; at most {MAX_SALT_BYTES:,}")
    try:
        return ZooKeys(secret, salt.reveal())
    finally:
        secret.wipe()
        salt.wipe()


def _read_or_ask(path: Path | None, what: str) -> Secret:
    if path is not None:
        return read_passphrase(path, what=what)
    if not sys.stdin.isatty():
        raise ConfigError(f"give --{what}-file, or run this at a terminal, which is then asked")
    typed: str = click.prompt(f"The {what} of Analytics Zoo", hide_input=True, err=True)
    with contextlib.suppress(UnicodeError):  # it has what was typed in it
        return Secret(typed.encode())
    raise ConfigError(f"the {what} that was typed is not UTF-8")
