"""`wardian mesh propose`, `rotate` and `beacon`: an owner's visit to the broker.

`wardian policy give` is one, too, with the same options.
"""

import asyncio
from collections.abc import Callable
from fractions import Fraction
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian._internal.files import read_private
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.lines import MAX_SECRET_BYTES
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.verify import verify_manifest_for
from wardian.broker.owners.client import order, provision
from wardian.broker.owners.goods import goods_of
from wardian.broker.owners.protocol import OrderKind, PolicyInForce
from wardian.broker.owners.session import Demands, Provisioned
from wardian.cli.audit.files import note_head
from wardian.cli.audit.source import MEMORY, log_refused
from wardian.cli.files import path_option, read_secret
from wardian.cli.mesh.ca import KnownCa
from wardian.cli.mesh.files import existing, new_file, read_manifest, said_time
from wardian.cli.mesh.places import OwnersPlace, find_place, place_options
from wardian.cli.owner.keys import read_owner_key
from wardian.cli.owner.signer import CommandSigner
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.crypto.signing import Signer
from wardian.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


def visit_options(command: F) -> F:
    """Give `command` who visits which broker, as `place`, `owner` and `known`; print the receipt.

    `known` is the file of the mesh CA's certificate: where it is, the broker has to be of that CA;
    where it is not, it is written once the broker was verified.
    """

    @click.option("--agreed", type=existing, help="The mesh's wardian.toml.")
    @click.option("--key", type=existing, help="Your key.")
    @click.option("--passphrase-file", type=path_option, help="Its first line opens the key.")
    @click.option("--owner", "public", metavar="HEX", help="Instead of --key: your public key, and")
    @click.option("--sign-with", metavar="COMMAND", help="a program that signs what it reads.")
    @click.option(
        "--mesh-ca", type=path_option, help="The mesh CA, PEM: that you know, or to keep."
    )
    @click.option("--head", type=new_file, help="Remember the audit head of the receipt here.")
    @click.option("--json", "as_json", is_flag=True)
    @place_options
    @wraps(command)
    def with_visit(
        *,
        agreed: Path | None,
        key: Path | None,
        passphrase_file: Path | None,
        public: str | None,
        sign_with: str | None,
        broker: str | None,
        state: Path | None,
        mesh_ca: Path | None,
        head: Path | None,
        as_json: bool,
        **options: object,
    ) -> None:
        if (public is None) is not (sign_with is None) or (key and public):
            raise ConfigError("name your key with --key, or give both --owner and --sign-with")
        place = find_place(broker, state, agreed=agreed)
        owner: Signer
        if public is not None and sign_with is not None:
            owner = CommandSigner(sign_with, public=public)
        else:
            owner = read_owner_key(place.own(key, "owner_key"), passphrase_file)
        known = KnownCa(mesh_ca or (place.state.mesh_ca if place.state else None))
        done = command(place=place, owner=owner, known=known, **options)
        said = known.keep(done.mesh_ca)
        _echo_receipt(done, ca_said=said, as_json=as_json)
        _remember(done, head or (place.state.root / MEMORY if place.state else None))

    return with_visit  # type: ignore[return-value]


@click.command()
@click.argument("manifest", type=existing)
@visit_options
@click.option("--model-key", type=existing, multiple=True, help="Of a model of yours; hex.")
@click.option("--secret", "secrets", multiple=True, metavar="NAME=FILE", help="A secret of yours.")
@click.option("--recovery-public", metavar="HEX", help="Your X25519 key for recovery.")
def propose(
    *,
    manifest: Path,
    place: OwnersPlace,
    owner: Signer,
    known: KnownCa,
    model_key: tuple[Path, ...],
    secrets: tuple[str, ...],
    recovery_public: str | None,
) -> Provisioned:
    """Put MANIFEST in force, with keys and secrets of yours, at a broker that is verified first.

    The broker gets nothing unless it runs your wardian.toml, in a measurement that MANIFEST lists
    for it, and is of the mesh CA in --mesh-ca where you have that file; else it is written. Another
    owner may bring the same MANIFEST again, with its own keys. Prints the receipt.
    """
    signed, demands = demands_of(manifest, place, known)
    keys = tuple(BrokerKey(read_secret(path)) for path in model_key)
    return asyncio.run(
        provision(
            place.address,
            owner=owner,
            demands=demands,
            manifest=signed,
            goods=goods_of(keys, dict(_named(each) for each in secrets)),
            recovery_public=_public(recovery_public),
            now=unix_time,
        )
    )


@click.command()
@visit_options
@click.option("--manifest", type=existing, help="The manifest in force: what the broker must be.")
def rotate(
    *, place: OwnersPlace, owner: Signer, known: KnownCa, manifest: Path | None
) -> Provisioned:
    """Turn the epoch of the queue keys at once: whoever holds the old ones reads nothing more.

    Any one owner may. Front ends and workers that are still listed take up the new keys without a
    lost request; those that are not end with their lease.
    """
    _, demands = demands_of(place.own(manifest, "manifest"), place, known)
    return _order(place, owner, demands, kind="turn-epoch", at=None)


@click.command()
@visit_options
@click.option("--manifest", type=existing, help="The manifest in force: what the broker must be.")
@click.option("--at", type=click.IntRange(1), help="Unix time; default: this machine's clock.")
@click.option("--ahead", is_flag=True, help="It is right, and the broker's host is far behind.")
def beacon(
    *,
    place: OwnersPlace,
    owner: Signer,
    known: KnownCa,
    manifest: Path | None,
    at: int | None,
    ahead: bool,
) -> Provisioned:
    """Tell the broker what time it is, signed: its clock is never behind that again.

    For your own lines it counts at once, and is what --max-beacon-age asks for: run it regularly.
    For all of the mesh that time counts which as many owners say as it takes to change the mesh.
    A clock that is mistaken is not taken back: one that is more than 5 minutes ahead of the
    broker's needs --ahead, up to 31 days.
    """
    kind: OrderKind = "beacon-ahead" if ahead else "beacon"
    _, demands = demands_of(place.own(manifest, "manifest"), place, known)
    return _order(place, owner, demands, kind=kind, at=unix_time() if at is None else at)


def _order(
    place: OwnersPlace, owner: Signer, demands: Demands, *, kind: OrderKind, at: int | None
) -> Provisioned:
    return asyncio.run(
        order(place.address, owner=owner, demands=demands, kind=kind, time=at, now=unix_time)
    )


def demands_of(path: Path, place: OwnersPlace, known: KnownCa) -> tuple[SignedManifest, Demands]:
    """Return the manifest in `path`, signed by enough owners, and what is demanded of a broker."""
    signed = verify_manifest_for(read_manifest(path)[0], agreed=place.agreed)
    demands = Demands(
        agreed_toml=place.agreed_toml,
        policy=appraisal_policy(signed.manifest, "broker"),
        mesh_ca_spki=known.spki,
    )
    return signed.signed, demands


def _named(option: str) -> tuple[str, Secret]:
    """Return name and value of `--secret NAME=FILE`; the value is the file's exact bytes.

    Raises:
        ConfigError: as `read_private`; or the option names no file, or an empty one.
    """
    name, equals, path = option.partition("=")
    if not equals:
        raise ConfigError(
            "--secret: NAME=FILE was expected; a value never stands on a command line"
        )
    raw = read_private(Path(path), limit_bytes=MAX_SECRET_BYTES)
    if not raw:
        raise ConfigError(f"--secret {name}: {path} is empty")
    return name, Secret(raw)


def _public(text: str | None) -> bytes | None:
    try:
        raw = None if text is None else bytes.fromhex(text)
    except ValueError as err:
        raise ConfigError("--recovery-public: not hex") from err
    if raw is not None and len(raw) != 32:
        raise ConfigError("--recovery-public: an X25519 public key has 32 bytes")
    return raw


def _remember(done: Provisioned, memory: Path | None) -> None:
    """Keep the receipt's audit head, if there is a place for it.

    Raises:
        PolicyDenied: it contradicts one that was kept before: the log forked, and what was done was
            done at a broker that runs twice.
    """
    if memory is not None:
        with log_refused():
            note_head(memory, done.receipt.head)


def _echo_receipt(done: Provisioned, *, ca_said: str, as_json: bool) -> None:
    """Print what the broker that was verified says is in force."""
    receipt, claims = done.receipt, done.broker.claims
    if as_json:
        click.echo(wire.encode({"receipt": receipt, "broker": claims.describe()}))
        return
    kind = "SIMULATED" if claims.simulated else claims.kind.value
    click.echo(f"Broker    verified, {kind}, measurement {claims.measurement.hex()}")
    click.echo(f"Mesh CA   {ca_said}")
    click.echo(f"Manifest  version {receipt.manifest_version}, digest {receipt.manifest_digest}")
    click.echo(f"Epoch     {receipt.epoch}")
    click.echo(f"Missing   {', '.join(map(wire.printable, receipt.missing)) or 'nothing'}")
    if (held := receipt.policy) is not None:
        click.echo(f"Policy    {_said_policy(held)}")
    click.echo(f"Time      {said_time(receipt.time)}, by the broker's clock")


def _said_policy(held: PolicyInForce) -> str:
    """Return what the broker holds about a table, for people."""
    key = f"key {held.key_id}" if held.key_id else "no key"
    state = "withdrawn" if held.revoked else key
    return (
        f"table {held.table}, serial {held.serial}: {state}; so far {held.uses} release(s), "
        f"epsilon {float(Fraction(held.epsilon)):g}, delta {float(Fraction(held.delta)):g}"
    )
