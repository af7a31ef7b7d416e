"""`wardian reseal`: an encrypted model of Analytics Zoo becomes a sealed file."""

from pathlib import Path

import click

from wardian._internal import wire
from wardian.cli.files import find_recipients, path_option
from wardian.cli.reseal.asking import ask_keys
from wardian.cli.reseal.contents import Contents, Opening, find_parts
from wardian.cli.reseal.forms import FORMS, form_of, warning_of
from wardian.cli.reseal.sealing import seal_contents
from wardian.cli.their_redis import secured_keys, way_to
from wardian.compat.zoo.their_place import their_place
from wardian.errors import ConfigError
from wardian.inference.ir_file import MEDIA_TYPE as IR


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--form", type=click.Choice(FORMS), required=True, help="How it is encrypted.")
@click.option("--bits", type=click.Choice(("128", "256")), help="Of the key; v09: always 256.")
@click.option("--secret-file", type=path_option, help="Its first line is the secret; else asked.")
@click.option("--salt-file", type=path_option, help="Its first line is the salt; else asked.")
@click.option("--model-secured", metavar="redis://HOST:PORT", help="Where both lie: HSET.")
@click.option("--redis-ca-file", type=path_option, help="The CA of that Redis, PEM: rediss://.")
@click.option("--redis-user", default="", help="ACL user there.")
@click.option("--redis-password-file", type=path_option, help="Its first line: the password there.")
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
    model_secured: str | None,
    redis_ca_file: Path | None,
    redis_user: str,
    redis_password_file: Path | None,
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
    wardian reseal resnet/ --form cbc --bits 128 --model-secured redis://localhost:6379 --key r.key

    A directory has one .xml and one .bin of OpenVINO, both encrypted unless --clear names one. ONNX
    and OpenVINO are loaded once; --no-load leaves that out and needs little memory.
    """  # noqa: D301 (click reads the character \b, not a backslash)
    parts = find_parts(source, clear)
    place = source.resolve() if source.is_dir() else source
    target = output or place.with_name(place.name + ".sealed")
    if target.resolve() in [part.path.resolve() for part in parts]:
        raise ConfigError(f"{target}: is what is to be read; choose another --output")
    kind = media_type if len(parts) == 1 else IR
    known = form_of(form, bits)
    if model_secured is None:
        keys = ask_keys(secret_file, salt_file)
    elif secret_file or salt_file:
        raise ConfigError("--model-secured takes the place of --secret-file and --salt-file")
    else:
        keys = secured_keys(
            way_to(
                their_place(
                    model_secured,
                    said="--model-secured",
                    ca_file=redis_ca_file,
                    username=redis_user,
                    password_file=redis_password_file,
                )
            )
        )
    opening = Opening(keys=keys, form=known, latin1=encoding == "iso-8859-1")
    contents = Contents(parts, opening)
    sealed = seal_contents(
        contents,
        target,
        media_type=kind,
        load=not no_load,
        recipients=lambda: find_recipients(to, key_file, new_key, passphrase_file),
        name=name or place.stem,
        version=version,
        told=place.name,
    )
    target.with_name(target.name + ".pin").write_text(f"{sealed.pin}\n")
    click.echo(f"warning: {warning_of(known)}", err=True)
    if as_json:
        told = {"sealed": str(target), "pin": str(sealed.pin), "sources": contents.sha256_hex}
        click.echo(wire.encode(told))
    else:
        click.echo("\n".join((str(target), str(sealed.pin), *sealed.settings)))
