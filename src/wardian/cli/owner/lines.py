"""`wardian owner model` and `wardian owner secret`: the lines that one owner signs."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian._internal.settings import load, read
from wardian.broker.mesh.lines import ModelLine, ReleaseTerms, SecretLine, sign_line
from wardian.cli.files import path_option, read_secret
from wardian.cli.owner.files import well_formed, write_line_file
from wardian.cli.owner.keys import read_owner_key
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import read_header
from wardian.crypto.sealed_header import Pin, SealedHeader
from wardian.errors import ConfigError

existing = click.Path(path_type=Path, dir_okay=False, exists=True)
F = TypeVar("F", bound=Callable[..., Any])


def line_options(command: F) -> F:
    """Give `command` what all lines have, as `terms`, `measurements`, and `finish` to sign it."""

    @click.option("--agreed", type=existing, required=True, help="The mesh's wardian.toml.")
    @click.option("--key", type=existing, help="Your key; it signs the line.")
    @click.option("--passphrase-file", type=path_option, help="Its first line opens the key.")
    @click.option("--owner", metavar="HEX", help="Instead: your public key; sign elsewhere.")
    @click.option("--measurement", multiple=True, metavar="HEX", help="Who may have it.")
    @click.option("--role", multiple=True, help="Likewise: what --reference-values has for it now.")
    @click.option("--reference-values", type=existing)
    @click.option("--serial", type=click.IntRange(1), default=1, show_default=True)
    @click.option("--max-uses", type=click.IntRange(1), help="So many releases, from the first on.")
    @click.option("--not-after", type=click.IntRange(1), help="Unix time of the last release.")
    @click.option("--max-beacon-age", type=click.IntRange(1), help="Seconds; see `mesh beacon`.")
    @click.option("-o", "--output", type=path_option, required=True)
    @wraps(command)
    def with_line(
        *args: object,
        agreed: Path,
        key: Path | None,
        passphrase_file: Path | None,
        owner: str | None,
        measurement: tuple[str, ...],
        role: tuple[str, ...],
        reference_values: Path | None,
        max_uses: int | None,
        not_after: int | None,
        max_beacon_age: int | None,
        output: Path,
        **options: object,
    ) -> None:
        if (key is None) is (owner is None):
            raise ConfigError("name your key with --key, or your public key with --owner")
        listed = (*measurement, *_of_roles(role, reference_values))
        signer = read_owner_key(key, passphrase_file) if key else None
        unsigned: Any = command(
            *args,
            owner=signer.public.hex() if signer else owner,
            measurements=tuple(dict.fromkeys(listed)),
            terms=ReleaseTerms(
                max_uses=max_uses, not_after=not_after, max_beacon_age_s=max_beacon_age
            ),
            **options,
        )
        line, mesh = well_formed(unsigned), load(agreed, Agreed).mesh.name
        if signer is not None:
            line = sign_line(line, mesh=mesh, owner=signer)
        write_line_file(output, line, mesh=mesh)
        state = "signed" if signer else "not signed yet, see `wardian mesh digest`"
        click.echo(f"{output}: {line.said}, serial {line.serial}, {state}")

    return with_line  # type: ignore[return-value]


@click.command()
@click.argument("sealed", type=existing)
@click.option("--pin", help="The pin, or the file that holds it; default: SEALED.pin.")
@click.option("--broker-key", type=existing, help="The key that opens SEALED; only its id is used.")
@click.option("--key-id", metavar="HEX", help="Instead: the key's id.")
@click.option("--export", type=existing, help="Instead: exported.json of the job that made SEALED.")
@line_options
def model(
    *,
    sealed: Path,
    pin: str | None,
    broker_key: Path | None,
    key_id: str | None,
    export: Path | None,
    **line: Any,
) -> ModelLine:
    """Say who may open the sealed model SEALED, and sign it.

    Name, version, media type and length are those in the file's header, which the pin names. A
    model that a job made to be served has its key at the broker alone: --export names its pin and
    the key's id.
    """
    if export is not None:
        if pin or key_id:
            raise ConfigError("--export names pin and key id: leave --pin and --key-id out")
        pin, key_id = _of_export(export)
    named = _read_pin(sealed, pin)
    header = _read_header(sealed, named)
    if (broker_key is None) is (key_id is None):
        raise ConfigError("name the model's key with --broker-key, or its id with --key-id")
    return ModelLine(
        name=header.name,
        version=header.version,
        media_type=header.media_type,
        header_digest=named.header_digest.hex(),
        last_tag=named.last_tag.hex(),
        key_id=key_id or BrokerKey(read_secret(broker_key)).key_id.hex(),  # type: ignore[arg-type]
        total_bytes=header.total_bytes,
        **line,
    )


@click.command()
@click.argument("name")
@click.option(
    "--source",
    type=click.Choice(["generated", "supplied"]),
    required=True,
    help="Made in the broker, where nobody else sees it; or given by you in `mesh propose`.",
)
@click.option("--interop", is_flag=True, help="It may be given over the KBS protocol, too.")
@line_options
def secret(**line: Any) -> SecretLine:
    """Say who may have the secret NAME, and sign it."""
    return SecretLine(**line)


def _of_roles(roles: tuple[str, ...], reference_values: Path | None) -> tuple[str, ...]:
    """Return the measurements that a file of reference values has for `roles`."""
    if not roles:
        return ()
    if reference_values is None:
        raise ConfigError("--role: give --reference-values too; a line names measurements")
    from wardian.tee.manifest.reference_values import load_reference_values  # noqa: PLC0415

    known = load_reference_values(reference_values).to_roles()
    if unknown := [role for role in roles if role not in known]:
        raise ConfigError(f"{reference_values}: has no role {', '.join(unknown)}")
    return tuple(value for role in roles for value in known[role])


def _of_export(path: Path) -> tuple[str, str]:
    """Return pin and key id of the model that a job gave to be served."""
    from wardian.learning.shared.outbox import ExportRecord  # noqa: PLC0415

    served = wire.decode(read(path), ExportRecord, what=str(path)).statement.served
    if served is None:
        raise ConfigError(f"{path}: the job gave no model to be served")
    return served.pin, served.key_id


def _read_pin(sealed: Path, pin: str | None) -> Pin:
    path = Path(pin) if pin is not None else sealed.with_name(f"{sealed.name}.pin")
    if pin is not None and not path.is_file():
        return Pin.parse(pin)
    try:
        return Pin.parse(path.read_text(errors="replace").strip())
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}; give --pin") from err


def _read_header(sealed: Path, pin: Pin) -> SealedHeader:
    """Return the header of the file that `pin` names; it is therefore what was sealed."""
    with sealed.open("rb") as source:
        header = read_header(source)
    if header.digest != pin.header_digest:
        raise ConfigError(f"{sealed}: is another file than the one that the pin names")
    return header
