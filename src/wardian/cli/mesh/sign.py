"""`wardian mesh sign`, `digest` and `attach`: an owner's signature, made here or elsewhere."""

import base64
import binascii
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import click
import msgspec

from wardian._internal import wire
from wardian._internal.files import replace_file
from wardian._internal.settings import read
from wardian.broker.mesh.changes import changes
from wardian.broker.mesh.draft import LineFile
from wardian.broker.mesh.manifest import (
    OwnerSignature,
    SignedManifest,
    manifest_digest,
    manifest_signed_bytes,
    parse_manifest,
)
from wardian.broker.mesh.verify import verify_content, verify_names
from wardian.cli.files import path_option
from wardian.cli.mesh.files import (
    MAX_BYTES,
    echo_changes,
    existing,
    new_file,
    read_agreed,
    read_manifest,
    write_manifest,
)
from wardian.cli.owner.files import parse_line_file, write_line_file
from wardian.cli.owner.keys import read_owner_key
from wardian.crypto.signing import normalize_signature, verify_signature
from wardian.errors import AuthenticationFailed, ConfigError, FormatError, PolicyDenied

MAX_SIGNATURE_BYTES: Final = 1024
_NOT_SHOWN: Final = (
    "It follows another manifest. Without --previous, what it takes out of that one is not shown."
)
Signable: TypeAlias = SignedManifest | LineFile
"""What an owner signs: a manifest, or a line of its own."""


@click.command()
@click.argument("manifest", type=existing)
@click.option("--agreed", type=existing, required=True, help="The mesh's wardian.toml.")
@click.option("--previous", type=existing, help="The manifest in force; shows what changes.")
@click.option("--key", type=existing, required=True, help="Your key.")
@click.option("--passphrase-file", type=path_option, help="Its first line opens the key.")
def sign(
    *, manifest: Path, agreed: Path, previous: Path | None, key: Path, passphrase_file: Path | None
) -> None:
    """Sign MANIFEST, which is changed in place; read first what it says.

    With --previous it prints what MANIFEST changes and refuses one that does not follow it. Without
    it, it prints all that MANIFEST says, and cannot show what it leaves out.
    """
    _, settings = read_agreed(agreed)
    signed, said = read_manifest(manifest)
    verify_content(said, mesh=settings.mesh)
    verify_names(said, agreed=settings)
    before = read_manifest(previous) if previous else None
    if before is not None and said.previous != manifest_digest(before[0]).hex():
        raise PolicyDenied(
            f"{manifest} was not made to follow {previous}", rule="manifest-previous"
        )
    owner = read_owner_key(key, passphrase_file)
    if owner.public.hex() not in settings.mesh.owners:
        raise ConfigError(f"{key}: is the key of nobody who is an owner in {agreed}")
    echo_changes(changes(before[1] if before else None, said))
    if before is None and said.previous is not None:
        click.secho(_NOT_SHOWN, fg="yellow", err=True)
    signature = owner.sign(manifest_signed_bytes(signed.manifest))
    write_manifest(manifest, _with(signed, owner.public.hex(), signature))
    click.echo(f"{manifest}: version {said.version}, signed as {owner.public.hex()}")


@click.command()
@click.argument("file", type=existing)
@click.option("--bytes", "output", type=new_file, help="Write the exact bytes to sign here.")
@click.option("--json", "as_json", is_flag=True)
def digest(*, file: Path, output: Path | None, as_json: bool) -> None:
    """Print what an owner signs of FILE, a manifest or a line, for a key that is kept elsewhere.

    ECDSA on P-256 signs the SHA-256 digest, which most hardware modules take; Ed25519 signs the
    bytes themselves. Bring the signature in with `wardian mesh attach`.
    """
    message = _message(_read(file))
    named = hashlib.sha256(message).hexdigest()
    if output is not None:
        replace_file(output, message)
    if as_json:
        click.echo(wire.encode({"sha256": named, "bytes": base64.b64encode(message).decode()}))
    else:
        click.echo(named)


@click.command()
@click.argument("file", type=existing)
@click.option("--owner", metavar="HEX", required=True, help="The public key of who signed.")
@click.option("--signature", type=existing, required=True, help="Raw, or in hex or base64.")
def attach(*, file: Path, owner: str, signature: Path) -> None:
    """Add a signature that was made elsewhere to FILE, a manifest or a line of its owner.

    The signature is verified first. One of ECDSA may be DER or r and s, 32 bytes each; it is
    written in the one form that counts.
    """
    found = _read(file)
    raw = read(signature, limit_bytes=MAX_SIGNATURE_BYTES)
    public = _public(owner)
    owner = public.hex()  # as wardian.toml spells it, however it was typed
    made = _verified(raw, public=public, message=_message(found))
    if isinstance(found, SignedManifest):
        write_manifest(file, _with(found, owner, made))
    else:
        if found.line.owner != owner:
            raise ConfigError(f"{file}: the line is of another owner")
        line = msgspec.structs.replace(found.line, signature=made.hex())
        write_line_file(file, line, mesh=found.mesh)
    click.echo(f"{file}: signed by {owner}")


def _read(path: Path) -> Signable:
    """Return the manifest or the line in the file `path`."""
    raw = read(path, limit_bytes=MAX_BYTES)
    try:
        signed = wire.decode(raw, SignedManifest, what="signed manifest")
        _ = parse_manifest(signed)
    except FormatError as err:
        if b"wardian signed manifest v1" in raw[:64]:
            raise ConfigError(f"{path}: {err}") from err
        return parse_line_file(raw, name=str(path))
    return signed


def _message(found: Signable) -> bytes:
    """Return the exact bytes that an owner signs of it."""
    if isinstance(found, SignedManifest):
        return manifest_signed_bytes(found.manifest)
    return found.line.signed_bytes(mesh=found.mesh)


def _with(signed: SignedManifest, owner: str, signature: bytes) -> SignedManifest:
    """Return `signed` with the owner's signature, in the place of an earlier one of the same."""
    others = tuple(each for each in signed.signatures if each.owner != owner)
    added = OwnerSignature(owner=owner, signature=signature.hex())
    return msgspec.structs.replace(signed, signatures=(*others, added))


def _public(owner: str) -> bytes:
    """Return the public key that `owner` is the hex of; ConfigError if it is none."""
    try:
        return bytes.fromhex(owner)
    except ValueError as err:
        raise ConfigError("--owner: not hex; give what wardian.toml has") from err


def _verified(raw: bytes, *, public: bytes, message: bytes) -> bytes:
    """Return the signature in `raw` in its one form; it is that of `public` over `message`.

    Raises:
        AuthenticationFailed: there is no such signature in it.
    """
    for candidate in _readings(raw):
        try:
            signature = normalize_signature(public, candidate)
            verify_signature(public, signature, message)
        except (FormatError, AuthenticationFailed):
            continue
        return signature
    raise AuthenticationFailed("the signature is not this owner's over this file")


def _readings(raw: bytes) -> Iterator[bytes]:
    """Yield what the bytes of a signature file may stand for."""
    yield raw
    text = b"".join(raw.split())
    for decode in (binascii.unhexlify, lambda each: base64.b64decode(each, validate=True)):
        try:
            yield decode(text)
        except ValueError:
            continue
