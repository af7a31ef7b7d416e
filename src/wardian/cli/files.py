"""`wardian seal` and `wardian open`: files that only their recipients read."""

import os
from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.files import read_private
from wardian.cli.conversion import KINDS, sealable
from wardian.cli.progress import progress
from wardian.cli.tables import encrypted_columns, media_type_of
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.recipients import (
    BrokerKey,
    HpkeIdentity,
    HpkeRecipient,
    Identity,
    PassphraseIdentity,
    PassphraseRecipient,
    Recipient,
)
from wardian.crypto.sealed_file import Pin, open_file, seal_file
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError

KEY_BYTES = 32


def read_secret(path: Path) -> Secret:
    """Return the secret that stands in hex on the first line of `path`.

    Raises:
        ConfigError: as `read_private`; or no key stands there.
    """
    lines = read_private(path).splitlines()
    try:
        raw = bytes.fromhex(lines[0].decode("ascii")) if lines else b""
    except ValueError as err:
        raise ConfigError(f"{path}: holds no key in hex on its first line") from err
    if len(raw) != KEY_BYTES:
        raise ConfigError(f"{path}: holds no key in hex on its first line, {KEY_BYTES} bytes")
    return Secret(raw)


def read_passphrase(path: Path, *, what: str = "passphrase") -> Secret:
    """Return the first line of `path`, without the line's end; `what` is what it is called.

    Raises:
        ConfigError: as `read_private`; or the line is empty.
    """
    lines = read_private(path).splitlines()
    if not lines or not lines[0]:
        raise ConfigError(f"{path}: its first line, which is the {what}, is empty")
    return Secret(lines[0])


def write_secret(path: Path, secret: Secret) -> None:
    """Write `secret` in hex to the new file `path`, readable by its user alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as err:
        raise ConfigError(f"{path}: is there already; it is never overwritten") from err
    with os.fdopen(descriptor, "w") as file:
        file.write(secret.reveal().hex() + "\n")


def _public_key(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError as err:
        raise ConfigError(
            "--to: not hex; give the 64 digits that `wardian keygen` printed"
        ) from err
    if len(raw) != KEY_BYTES:
        raise ConfigError(f"--to: {len(raw)} bytes; a public key has {KEY_BYTES}")
    return raw


def find_recipients(
    to: tuple[str, ...], key_file: Path | None, new_key: Path | None, passphrase: Path | None
) -> list[Recipient]:
    """Return the recipients that a command names; a new key is made and written.

    Raises:
        ConfigError: none is named; a file or a key is not what it should be.
    """
    found: list[Recipient] = [HpkeRecipient(_public_key(text)) for text in to]
    if key_file is not None:
        found.append(BrokerKey(read_secret(key_file)))
    if new_key is not None:
        secret = Secret.random(KEY_BYTES)
        write_secret(new_key, secret)
        found.append(BrokerKey(secret))
    if passphrase is not None:
        found.append(PassphraseRecipient(read_passphrase(passphrase)))
    if not found:
        raise ConfigError(
            "name at least one recipient: --to, --key, --new-key or --passphrase-file"
        )
    return found


path_option = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=path_option, help="Where to write; default FILE.sealed.")
@click.option("--from", "kind", type=click.Choice(KINDS), help="Convert a model of this kind.")
@click.option("--shape", "shapes", multiple=True, help="Of an input: -1,3,224,224 or -1,128:INT64.")
@click.option("--vocab", type=path_option, help="Put this vocabulary into the model: vocab.txt.")
@click.option("--merges", type=path_option, help="With --vocab vocab.json: its merges.txt.")
@click.option("--name", help="The name that the file opens under; default: FILE's stem.")
@click.option("--version", "version", type=click.IntRange(1), default=1, show_default=True)
@click.option("--media-type", help="Default: of .csv and .parquet their own, else ONNX's.")
@click.option("--parquet", is_flag=True, help="Encrypt every column of FILE by itself first.")
@click.option("--to", multiple=True, metavar="HEX", help="A recipient's X25519 public key.")
@click.option("--key", "key_file", type=path_option, help="A file with a 32-byte key in hex.")
@click.option("--new-key", type=path_option, help="Make a key, write it here, seal to it.")
@click.option("--passphrase-file", type=path_option, help="Seal to the first line of this file.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def seal(
    *,
    file: Path,
    output: Path | None,
    kind: str | None,
    shapes: tuple[str, ...],
    vocab: Path | None,
    merges: Path | None,
    name: str | None,
    version: int,
    media_type: str | None,
    parquet: bool,
    to: tuple[str, ...],
    key_file: Path | None,
    new_key: Path | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Seal FILE to recipients; prints the pin that opening it needs.

    The pin names exactly this sealed file: whoever opens it by the pin gets what you sealed, not
    what somebody else sealed under the same name. It is no secret. It also lies in OUTPUT.pin.

    \b
    wardian seal model.onnx --name digits --new-key digits.key
    wardian seal table.csv --new-key table.key
    wardian seal table.parquet --parquet --new-key table.key
    wardian seal forest.joblib --from sklearn --new-key forest.key
    wardian seal bert.onnx --vocab vocab.txt --new-key bert.key

    An enclave opens ONNX and OpenVINO IR. --from makes one of them of another kind of model first,
    here; it prints the lines for wardian.toml. sklearn reads a pickle, which runs what is in it.
    --parquet leaves FILE.encrypted, which pandas reads with the key, and seals that.
    """  # noqa: D301 (click reads the character \b, not a backslash)
    target = output or file.with_name(file.name + ".sealed")
    recipients = find_recipients(to, key_file, new_key, passphrase_file)
    sealed_as = media_type or media_type_of(file)
    name = name or file.stem
    if parquet:
        file = encrypted_columns(file, recipients, name=name)
    with (
        sealable(
            file, kind=kind, shapes=shapes, media_type=sealed_as, vocab=vocab, merges=merges
        ) as model,
        progress(f"Sealing {file.name}", model.path.stat().st_size, err=True) as advance,
    ):
        pin = seal_file(
            model.path,
            target,
            recipients=recipients,
            media_type=model.media_type,
            name=name,
            version=version,
            progress=advance,
        )
    target.with_name(target.name + ".pin").write_text(f"{pin}\n")
    if as_json:
        click.echo(wire.encode({"sealed": str(target), "pin": str(pin)}))
    else:
        click.echo("\n".join(filter(None, (str(target), str(pin), model.settings))))


@click.command(name="open")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("-o", "--output", type=path_option, required=True, help="Where to write the content.")
@click.option("--pin", required=True, help="The pin, or the file that holds it.")
@click.option("--name", required=True, help="The name that it must have been sealed under.")
@click.option("--version", "version", type=click.IntRange(1), default=1, show_default=True)
@click.option("--media-type", default="application/onnx", show_default=True)
@click.option("--key", "key_file", type=path_option, help="A file with a 32-byte key in hex.")
@click.option("--identity", type=path_option, help="A file with an X25519 private key in hex.")
@click.option("--passphrase-file", type=path_option)
def open_(
    *,
    file: Path,
    output: Path,
    pin: str,
    name: str,
    version: int,
    media_type: str,
    key_file: Path | None,
    identity: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Open the sealed FILE, if it is the one that the pin names.

    A file that was changed, cut, extended, renamed or sealed by somebody else is refused, and
    nothing is left at OUTPUT.
    """
    identities: list[Identity] = []
    if key_file is not None:
        identities.append(BrokerKey(read_secret(key_file)))
    if identity is not None:
        identities.append(HpkeIdentity(HpkePrivateKey.from_secret(read_secret(identity))))
    if passphrase_file is not None:
        identities.append(PassphraseIdentity(read_passphrase(passphrase_file)))
    if not identities:
        raise ConfigError("say what opens it: --key, --identity or --passphrase-file")
    text = Path(pin).read_text(errors="replace") if Path(pin).is_file() else pin
    with progress(f"Opening {file.name}", file.stat().st_size, err=True) as advance:
        open_file(
            file,
            output,
            identities=identities,
            pin=Pin.parse(text.strip()),
            media_type=media_type,
            name=name,
            version=version,
            progress=advance,
        )
    click.echo(str(output))
