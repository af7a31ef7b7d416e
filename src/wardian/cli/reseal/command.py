"""`wardian reseal`: an encrypted model of Analytics Zoo becomes a sealed file."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

import click

from wardian._internal import wire
from wardian.cli.files import find_recipients, path_option
from wardian.cli.progress import progress
from wardian.cli.reseal.asking import ask_keys
from wardian.cli.reseal.contents import Contents, Opening, PieceReader, find_parts
from wardian.crypto.sealed_file import save_sealed
from wardian.crypto.zoo_keys import ZooForm
from wardian.errors import ConfigError
from wardian.inference.ir_file import MEDIA_TYPE as IR

_LOADABLE = ("application/onnx", IR)

_GUESSED = (
    "Its secret is guessed as fast as 65,536 rounds of PBKDF2 go, by whoever has the old file, and "
    "lay in the clear in Redis: take what both protect for known, and remove the old file."
)
_WARNINGS = {
    "gcm": "The old form did not say which model it is: one file could stand in for another.",
    "cbc": (
        "The old form does not notice changes: whoever could write to the file may have changed "
        "the model. Compare the SHA-256 of the file with one noted when it was made."
    ),
    "v09": (
        "The old form does not notice changes, so whoever could write to the file may have changed "
        "the model; and it shows which files begin alike. Compare the SHA-256 of the file with one "
        "noted when it was made."
    ),
}


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--form", type=click.Choice(tuple(_WARNINGS)), required=True, help="How it is encrypted."
)
@click.option("--bits", type=click.Choice(("128", "256")), help="Of the key; v09: always 256.")
@click.option("--secret-file", type=path_option, help="Its first line is the secret; else asked.")
@click.option("--salt-file", type=path_option, help="Its first line is the salt; else asked.")
@click.option("--clear", type=click.Choice(("xml", "bin")), multiple=True, help="Not encrypted.")
@click.option(
    "--encoding", type=click.Choice(("iso-8859-1", "utf-8")), default="iso-8859-1",
    show_default=True, help="That encryptFileWithAESCBC was told.",
)  # fmt: skip
@click.option("--no-load", is_flag=True, help="Do not load the model to see that it runs.")
@click.option("-o", "--output", type=path_option, help="Where to write; default SOURCE.sealed.")
@click.option("--name", help="The name that the file opens under; default: SOURCE's stem.")
@click.option("--version", "version", type=click.IntRange(1), default=1, show_default=True)
@click.option("--media-type", default="application/onnx", show_default=True, help="Of a file.")
@click.option("--to", multiple=True, metavar="HEX", help="A recipient's X25519 public key.")
@click.option("--key", "key_file", type=path_option, help="A file with a 32-byte key in hex.")
@click.option("--new-key", type=path_option, help="Make a key, write it here, seal to it.")
@click.option("--passphrase-file", type=path_option, help="Seal to the first line of this file.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def reseal(
    *,
    source: Path,
    form: str,
    bits: str | None,
    secret_file: Path | None,
    salt_file: Path | None,
    clear: tuple[str, ...],
    encoding: str,
    no_load: bool,
    output: Path | None,
    name: str | None,
    version: int,
    media_type: str,
    to: tuple[str, ...],
    key_file: Path | None,
    new_key: Path | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Seal SOURCE, a model that Analytics Zoo encrypted: a file, or the directory of a pair.

    What is decrypted is in memory alone. The result is a file of `wardian seal`, with its pin.

    \b
    wardian reseal resnet/ --form cbc --bits 128 --new-key resnet.key
    wardian reseal net.onnx --form gcm --bits 256 --secret-file s --salt-file t --key net.key

    A directory has one .xml and one .bin of OpenVINO, both encrypted unless --clear names one. ONNX
    and OpenVINO are loaded once; --no-load leaves that out and needs little memory.
    """  # noqa: D301 (click reads the character \b, not a backslash)
    parts = find_parts(source, clear)
    place = source.resolve() if source.is_dir() else source
    target = output or place.with_name(place.name + ".sealed")
    if target.resolve() in [part.path.resolve() for part in parts]:
        raise ConfigError(f"{target}: is what is to be read; choose another --output")
    kind = media_type if len(parts) == 1 else IR
    known = _form(form, bits)
    keys = ask_keys(secret_file, salt_file)
    opening = Opening(keys=keys, form=known, latin1=encoding == "iso-8859-1")
    contents = Contents(parts, opening)
    clear_model, total_bytes, settings = _read(contents, kind, load=not no_load)
    recipients = find_recipients(to, key_file, new_key, passphrase_file)  # once it opened
    with clear_model, progress(f"Sealing {place.name}", total_bytes, err=True) as advance:
        pin = save_sealed(
            clear_model,
            target,
            total_bytes=total_bytes,
            recipients=recipients,
            media_type=kind,
            name=name or place.stem,
            version=version,
            progress=advance,
        )
    target.with_name(target.name + ".pin").write_text(f"{pin}\n")
    click.echo(f"warning: {_WARNINGS[form]} {_GUESSED}", err=True)
    if as_json:
        told = {"sealed": str(target), "pin": str(pin), "sources": contents.sha256_hex}
        click.echo(wire.encode(told))
    else:
        click.echo("\n".join((str(target), str(pin), *settings)))


def _form(form: str, bits: str | None) -> ZooForm:
    """Return the form that is named.

    Raises:
        ConfigError: it is not named wholly.
    """
    if form == "v09":
        if bits == "128":
            raise ConfigError("--bits: the form of 0.9 has keys of 256 bits alone")
        bits = "256"
    if bits is None:
        raise ConfigError(
            "--bits: say 128 or 256; Analytics Zoo took 128 unless told otherwise, BigDL 2.x 256"
        )
    return ZooForm(f"{form}-{bits}")


def _read(
    contents: Contents, media_type: str, *, load: bool
) -> tuple[BinaryIO, int, Sequence[str]]:
    """Return the content, verified as far as its form can be, its length, and settings to show.

    A model is in memory whole while it is loaded, and then sealed from there. Otherwise it is read
    twice: to its end, for what is verified only there and for its length, and then to be sealed.

    Raises:
        ConfigError, FormatError, AuthenticationFailed: see `Contents.pieces`; no engine loads it.
    """
    if load and media_type in _LOADABLE:
        data = b"".join(contents.pieces())
        engine = _engine_of(data, media_type)
        return io.BytesIO(data), len(data), (f'media_type = "{media_type}"', f'engine = "{engine}"')
    length = sum(part.path.stat().st_size for part in contents.parts)
    with progress("Decrypting", length, err=True) as advance:
        total_bytes = sum(map(len, contents.pieces(advance)))
    reader = cast("BinaryIO", PieceReader(contents.pieces()))
    return reader, total_bytes, (f'media_type = "{media_type}"',)


def _engine_of(data: bytes, media_type: str) -> str:
    """Return the engine that loaded the model `data`.

    Raises:
        ConfigError, FormatError: none did.
    """
    try:
        from wardian.inference.convert.source import loaded_by  # noqa: PLC0415  loads engines

        return loaded_by(data, media_type)
    except ImportError as err:
        raise ConfigError(
            f"loading the model needs {err.name}; pip install 'wardian[serve]', or say --no-load"
        ) from err
