"""`wardian owner recover`: an owner gives a broker back what only its owners can give."""

import asyncio
from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.manifest import manifest_digest, parse_manifest
from wardian.broker.mesh.verify import verify_manifest_for
from wardian.broker.recovery.client import give_share
from wardian.broker.recovery.package import RecoveryPackage
from wardian.broker.recovery.sessions import OwnerMeans
from wardian.broker.transparency.heads import SignedHead
from wardian.cli.audit.files import load_memory
from wardian.cli.audit.source import MEMORY, load_ca
from wardian.cli.files import path_option, read_secret
from wardian.cli.mesh.files import existing, read_manifest
from wardian.cli.mesh.places import OwnersPlace, find_place, place_options
from wardian.cli.owner.keys import read_owner_key
from wardian.cli.owner.signer import CommandSigner
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.signing import Signer
from wardian.errors import ConfigError, PolicyDenied


@click.command()
@place_options
@click.option("--agreed", type=existing, help="The mesh's wardian.toml.")
@click.option("--key", type=existing, help="Your key.")
@click.option("--passphrase-file", type=path_option, help="Its first line opens the key.")
@click.option("--owner", "public", metavar="HEX", help="Instead of --key: your public key, and")
@click.option("--sign-with", metavar="COMMAND", help="a program that signs what it reads.")
@click.option("--recovery-key", type=existing, required=True, help="Of `wardian keygen`.")
@click.option("--mesh-ca", type=existing, help="The mesh CA's certificate, as you know it; PEM.")
@click.option("--head", type=existing, help="Where you remember the audit log.")
@click.option(
    "--manifest", type=existing, help="Instead of the backup's: what the broker must be now."
)
@click.option("--json", "as_json", is_flag=True)
def recover(
    *,
    broker: str | None,
    state: Path | None,
    agreed: Path | None,
    key: Path | None,
    passphrase_file: Path | None,
    public: str | None,
    sign_with: str | None,
    recovery_key: Path,
    mesh_ca: Path | None,
    head: Path | None,
    manifest: Path | None,
    as_json: bool,
) -> None:
    """Give your share to a broker that was restored from a backup and waits for its owners.

    The broker is verified first: the backup must be of the mesh whose CA you know, and the broker's
    evidence must satisfy the manifest in the backup, or the newer one that you name. Your share is
    sealed to that broker and to nobody else. The newest audit head that you remember goes with it:
    a backup that is older is refused.

    At a broker that was recovered without you this unlocks the secrets that you gave.
    """
    if (public is None) is not (sign_with is None) or (key and public):
        raise ConfigError("name your key with --key, or give both --owner and --sign-with")
    place = find_place(broker, state, agreed=agreed)
    owner: Signer
    if public is not None and sign_with is not None:
        owner = CommandSigner(sign_with, public=public)
    else:
        owner = read_owner_key(place.own(key, "owner_key"), passphrase_file)
    newest = _newest(head, place)
    means = OwnerMeans(
        owner=owner,
        recovery_key=HpkePrivateKey.from_secret(read_secret(recovery_key)),
        ca_spki=load_ca(place.own(mesh_ca, "mesh_ca")),
        agreed_toml=place.agreed_toml,
        mesh=place.agreed.mesh.name,
        policy=lambda package: _policy(package, manifest, place, newest),
        head=newest,
    )
    receipt, found = asyncio.run(give_share(place.address, means=means, now=unix_time))
    if as_json:
        click.echo(wire.encode({"receipt": receipt, "broker": found.claims.describe()}))
        return
    kind = "SIMULATED" if found.claims.simulated else found.claims.kind.value
    click.echo(f"Broker    verified, {kind}, measurement {found.claims.measurement.hex()}")
    if receipt.recovered:
        click.echo("Recovery  done: the broker has its state")
    else:
        click.echo(f"Recovery  {receipt.have} of {receipt.threshold} owners came")


def _policy(
    package: RecoveryPackage, manifest: Path | None, place: OwnersPlace, newest: SignedHead
) -> AppraisalPolicy:
    """Return what the broker must be: as the manifest says that the owner names, or the backup's.

    Either counts only as far as enough owners signed it. The backup's does only while it is the one
    that the owner saw in force last: an old backup comes with an old manifest, and with it would
    come code, or platforms, that the owners withdrew since.

    Raises:
        PolicyDenied: the backup's is another, or newer than the one that the owner names (rule
            `recovery-manifest`).
    """
    if manifest is not None:
        signed, named = read_manifest(manifest)
        if named.version < parse_manifest(package.signed_manifest).version:
            raise PolicyDenied(
                "--manifest: it is older than the one in the backup", rule="recovery-manifest"
            )
    else:
        signed = package.signed_manifest
        if manifest_digest(signed).hex() != newest.manifest:
            raise PolicyDenied(
                "the manifest in the backup is not the one that you saw in force last: name the "
                "newest one with --manifest, or let `wardian audit verify` bring --head up to date",
                rule="recovery-manifest",
            )
    return appraisal_policy(verify_manifest_for(signed, agreed=place.agreed).manifest, "broker")


def _newest(memory: Path | None, place: OwnersPlace) -> SignedHead:
    """Return the newest head of the audit log that the owner remembers.

    Raises:
        ConfigError: none is; then nobody could tell an old backup from the newest.
    """
    if memory is None and place.state is not None:
        memory = place.state.root / MEMORY
    if memory is None:
        raise ConfigError("--head: name the file in which you remember the audit log")
    known = load_memory(memory).known
    if not known:
        raise ConfigError(
            f"{memory}: remembers nothing of the audit log, so nobody could tell an old backup "
            "from the newest; your visits to the broker write it down (`wardian mesh propose`)"
        )
    return max(known, key=lambda head: (head.audit.count, head.time))
