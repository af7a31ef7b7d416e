"""Has an enclave signed, and hands out only what verifies and says what the manifest says.

Who signs is a `Signer`: a key file, or a plug-in of Gramine's entry point group `gramine.sgx_sign`
that asks a hardware module or a key service. This process never sees the key.

Source: Gramine's documentation, "Writing plugins for signing SGX enclaves".
"""

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardian._internal import settings
from wardian._internal.files import refuse_shared
from wardian.errors import ConfigError
from wardian.tee.manifest.canonical import (
    MAX_MANIFEST_BYTES,
    demand_unchanged,
    manifest_identity,
    manifest_text,
    parse_manifest,
)
from wardian.tee.manifest.gramine_tools import demand_schema, run_new_key, run_sign
from wardian.tee.manifest.lint import demand_clean
from wardian.tee.manifest.measuring import MANIFEST, SIGNATURE, SIGNED_MANIFEST, role_of
from wardian.tee.manifest.sigstruct import (
    VerifiedSigstruct,
    demand_identity,
    parse_sigstruct,
    verify_sigstruct,
)

FILE_PLUGIN: Final = "file"
"""Gramine's own plug-in: a key in a PEM file."""

_PLUGIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOT_A_PLUGINS: Final = re.compile(
    r"--(with|output|manifest|libpal|sigfile|date|depfile|chroot|passphrase|password)(=.*)?"
    r"|-[omlskpvq].*",
    re.DOTALL,
)
"""Options of the tool itself, with which other code than the manifest's would be signed, and those
that put a secret where every user of the machine reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who holds the signing key: a plug-in of `gramine-sgx-sign`, and what it is told.

    Attributes:
        plugin: its name.
        arguments: its own options. They are visible to every user of the machine.
    """

    plugin: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedEnclave:
    """An enclave that can be started on hardware.

    Attributes:
        role: its name.
        manifest: the `.manifest.sgx` file.
        signature: the `.sig` file.
        verified: what the signature says.
    """

    role: str
    manifest: Path
    signature: Path
    verified: VerifiedSigstruct


def file_signer(key: Path) -> Signer:
    """Return the signer that Gramine's `file` plug-in is with the key file `key`.

    The file is not read here, but it has to be there, for its user alone.

    Raises:
        ConfigError: it is not a file, or others can read it.
    """
    try:
        status = key.stat()
    except OSError as err:
        raise ConfigError(f"{key}: cannot be read: {err.strerror}") from err
    if not key.is_file():
        raise ConfigError(f"{key}: is not a file")
    refuse_shared(key, status)
    return Signer(plugin=FILE_PLUGIN, arguments=("--key", str(key.absolute())))


def plugin_signer(name: str, arguments: Iterable[str]) -> Signer:
    """Return the signer that the plug-in `name` is with its own `arguments`.

    Raises:
        ConfigError: the name is none, `file` is meant, which `file_signer` is for, or an argument
            is an option of `gramine-sgx-sign` itself or would carry a secret.
    """
    if not _PLUGIN_NAME.fullmatch(name):
        raise ConfigError("the plug-in's name holds other characters than letters, digits, . _ -")
    if name == FILE_PLUGIN:
        raise ConfigError("the plug-in file takes a key file; name it with --key")
    given = tuple(arguments)
    for argument in given:
        if _NOT_A_PLUGINS.fullmatch(argument):
            # Its name alone: its value may be the secret that has no place here.
            option = argument.partition("=")[0] if argument.startswith("--") else argument[:2]
            raise ConfigError(f"{option} is not passed on to a plug-in; see how to sign an enclave")
    return Signer(plugin=name, arguments=given)


def make_key(path: Path) -> Signer:
    """Make a new signing key in the new file `path`; return the signer that it is.

    Raises:
        ConfigError: the file is there already, or Gramine's tool is missing or fails, or leaves
            the file open to others.
        Timeout: the tool does not end.
    """
    run_new_key(path)
    return file_signer(path)


def sign_manifest(manifest: Path, signer: Signer, *, output: Path) -> SignedEnclave:
    """Sign the enclave of `manifest`; write `ROLE.manifest.sgx` and `ROLE.sig` into `output`.

    What is written verifies, says what the manifest says and nothing else, and is closed to its
    host. If anything is refused, nothing is written.

    Args:
        manifest: `ROLE.manifest`, as `wardian enclave build` wrote it.
        signer: whose signature it gets.
        output: a directory that is there.

    Raises:
        ConfigError: the manifest is not one, or a tool is missing, refuses or fails.
        FormatError: the manifest is not TOML, or the tool wrote no SIGSTRUCT.
        AuthenticationFailed: the tool wrote a signature that does not verify.
        PolicyDenied: the lint refuses the manifest, or what was signed is not what it says.
        Timeout: a tool does not end.
    """
    role, text = role_of(manifest, MANIFEST), read_linted(manifest)
    wanted = parse_manifest(text)
    with tempfile.TemporaryDirectory(prefix=".sign-", dir=output.absolute()) as folder:
        scratch = Path(folder)
        # The tools get a copy of what was judged: the file itself may change meanwhile.
        source = scratch / manifest.name
        source.write_text(text, encoding="utf-8")
        place = manifest.absolute().parent  # relative URIs are relative to it
        demand_schema(source, cwd=place)
        made = scratch / f"{role}{SIGNED_MANIFEST}", scratch / f"{role}{SIGNATURE}"
        run_sign(
            source,
            manifest=made[0],
            signature=made[1],
            plugin=signer.plugin,
            arguments=signer.arguments,
            cwd=place,
        )
        verified = verify_sigstruct(parse_sigstruct(settings.read(made[1])))
        demand_identity(verified, wanted)
        signed = settings.read(made[0], limit_bytes=MAX_MANIFEST_BYTES)
        demand_unchanged(wanted, parse_manifest(manifest_text(signed)))
        written = [path.replace(output / path.name) for path in made]
    return SignedEnclave(role=role, manifest=written[0], signature=written[1], verified=verified)


def read_linted(manifest: Path) -> str:
    """Return the text of `manifest`, which the lint accepts and which says what it is.

    Raises:
        ConfigError, FormatError, PolicyDenied: as `sign_manifest`.
    """
    text = manifest_text(settings.read(manifest, limit_bytes=MAX_MANIFEST_BYTES))
    demand_clean(text, name=str(manifest))
    manifest_identity(parse_manifest(text))
    return text
