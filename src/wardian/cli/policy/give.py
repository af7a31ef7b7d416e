"""`wardian policy give`: an owner's policy over a table, and the table's key, to the broker."""

import asyncio
from pathlib import Path

import click

from wardian._internal.clock import unix_time
from wardian.broker.jobs.signing import SignedPolicy
from wardian.broker.owners.client import consent
from wardian.broker.owners.goods import goods_of
from wardian.broker.owners.session import Provisioned
from wardian.cli.files import read_secret
from wardian.cli.mesh.ca import KnownCa
from wardian.cli.mesh.files import existing
from wardian.cli.mesh.places import OwnersPlace
from wardian.cli.mesh.visits import demands_of, visit_options
from wardian.cli.policy.files import read_policy
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.signing import Signer
from wardian.errors import ConfigError


@click.command()
@click.argument("policy", type=existing)
@visit_options
@click.option("--table-key", type=existing, help="That opens the table; hex, of `wardian seal`.")
@click.option("--manifest", type=existing, help="The manifest in force: what the broker must be.")
def give(
    *,
    policy: Path,
    place: OwnersPlace,
    owner: Signer,
    known: KnownCa,
    table_key: Path | None,
    manifest: Path | None,
) -> Provisioned:
    """Put POLICY, which you signed, in force at a broker that is verified first.

    The table's key comes with the first policy about it, and with one that pins another sealed
    file. Releases and spent budget count on, whatever the new policy says. A policy that withdraws
    the table brings no key, and has the broker erase the one that it has. Prints the receipt.
    """
    signed = _signed(policy)
    _, demands = demands_of(place.own(manifest, "manifest"), place, known)
    keys = () if table_key is None else (BrokerKey(read_secret(table_key)),)
    return asyncio.run(
        consent(
            place.address,
            owner=owner,
            demands=demands,
            policy=signed,
            key=goods_of(keys),
            now=unix_time,
        )
    )


def _signed(path: Path) -> SignedPolicy:
    signed = read_policy(path).signed
    if signed is None:
        raise ConfigError(f"{path}: is not signed; sign it with `wardian policy sign`")
    return signed
