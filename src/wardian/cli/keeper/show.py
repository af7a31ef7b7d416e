"""`wardian keeper show`: who keeps counters at an address, and how is it known?"""

import hashlib

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian._internal.operator import CollateralPlace
from wardian.attestation.appraisal.policy import (
    AllOf,
    AnyMeasurement,
    AnyPlatform,
    AppraisalPolicy,
    NotConfigured,
    NotDebug,
)
from wardian.attestation.claims import Claims
from wardian.attestation.collateral.pccs_source import open_source
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.verifier import verify_evidence
from wardian.broker.keeping.keeper_link import KeeperLink, Shown
from wardian.cli.attest.screen import show_claims, warning_mark
from wardian.cli.audit.source import parse_address
from wardian.cli.resolving import resolve
from wardian.crypto.signing import SigningKey


@click.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--name", default="keeper", show_default=True, help="What wardian.toml calls it.")
@click.option("--pccs", metavar="URL", help="Where the vendor's statements come from (hardware).")
@click.option("--json", "as_json", is_flag=True)
def show(*, address: str, name: str, pccs: str | None, as_json: bool) -> None:
    """Show who keeps counters at HOST:PORT, and what to write into wardian.toml.

    The keeper proves the key of this very connection by fresh evidence. Compare the measurement
    with one that you built yourself (`wardian enclave build keeper`), and know whose machine it is:
    keepers on one person's machines are one keeper.
    """
    shown = _shown(parse_address(address, what="keeper"))
    claims = _verified(shown, pccs=pccs)
    known = {
        "name": name,
        "key": hashlib.sha256(shown.spki).hexdigest(),
        "platform": claims.ppid.hex(),
    }
    if claims.simulated:
        known["simulation_root_sha256"] = claims.root_sha256.hex()
    if as_json:
        told = {"keeper": known, "measurement": claims.measurement.hex(), **_said(claims)}
        click.echo(wire.encode(told))
        return
    if claims.simulated:
        click.echo(warning_mark("SIMULATED: no hardware keeps this keeper from its host"))
    show_claims(claims)
    click.echo("\nIn wardian.toml, if you know whose machine it is and what runs there:\n")
    click.echo(f'[counter]\nmeasurements = ["{claims.measurement.hex()}"]\n')
    click.echo("[[counter.keepers]]")
    for key, value in known.items():
        click.echo(f'{key} = "{value}"')


def _said(claims: Claims) -> dict[str, object]:
    return {
        "simulated": claims.simulated,
        "tcb_status": claims.tcb_status.value,
        "advisory_ids": list(claims.advisory_ids),
    }


def _shown(address: tuple[str, int]) -> Shown:
    """Return what the keeper at `address` shows to a stranger, who counts nothing there."""
    link = KeeperLink(resolve(*address)[0])
    try:
        return link.introduce(SigningKey.generate())
    finally:
        link.close()


def _verified(shown: Shown, *, pccs: str | None) -> Claims:
    """Return what the evidence says, genuine and bound to the connection, whoever it is of."""
    now, root = unix_time(), parse_quote(shown.evidence.quote).root_sha256
    policy = AppraisalPolicy(
        roots=frozenset({root}),
        rule=AllOf(NotDebug(), NotConfigured(), AnyMeasurement(), AnyPlatform()),
    )
    evidence = shown.evidence
    if not evidence.collateral:
        place = CollateralPlace(pccs=pccs)
        evidence = open_source(place).complete(evidence, roots=policy.roots, now=now)
    return verify_evidence(evidence, policy=policy, report_data=shown.report_data, now=now).claims
