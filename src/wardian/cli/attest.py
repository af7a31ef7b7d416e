"""`wardian attest`: look at evidence, judge it, and see why."""

import secrets
import sys
import time
from collections.abc import Sequence
from http.client import OK, HTTPException, HTTPSConnection
from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.attestation.claims import Claims, TcbStatus
from wardian.attestation.evidence import Evidence
from wardian.attestation.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.policy import (
    AdvisoriesWithin,
    AllOf,
    AppraisalPolicy,
    NotDebug,
    Outcome,
    TcbStatusIn,
)
from wardian.attestation.policy_file import load_policy
from wardian.attestation.quote_sgx import parse_sgx_quote
from wardian.attestation.ra_tls import verify_certificate
from wardian.attestation.verifier import verify_quote
from wardian.broker.certificates import chain_pem, spki_of
from wardian.errors import ConfigError, ConnectionLost, PeerProtocolError
from wardian.serving.client.connection import client_context, parse_origin
from wardian.serving.client.policy import VerifiedFrontend, load_client_policy
from wardian.serving.frontend_evidence import NONCE_BYTES, PATH, FrontendEvidence

DEFAULT_POLICY = AppraisalPolicy(
    roots=frozenset({INTEL_ROOT_SHA256}),
    rule=AllOf(
        NotDebug(),
        TcbStatusIn(frozenset({TcbStatus.UP_TO_DATE})),
        AdvisoriesWithin(frozenset()),
    ),
)
"""What is said of a quote when nobody gives a policy: is it current hardware, whatever enclave."""

REFUSED = 3
FETCH_TIMEOUT_S = 10.0

existing = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def attest() -> None:
    """Look at evidence, judge it, and see why.

    Evidence is a quote, signed by a processor's quoting enclave (or by a simulation that says so),
    with the vendor's collateral. A policy says which roots, measurements and platform states are
    accepted; without measurements a policy is refused, and absent means deny.
    """


def _load_policy(path: Path | None) -> AppraisalPolicy:
    return DEFAULT_POLICY if path is None else load_policy(path.read_bytes())


def _judge(
    quote: bytes, collateral: bytes, *, policy: AppraisalPolicy, at: int
) -> tuple[Claims, tuple[Outcome, ...]]:
    """Return what a genuine quote says, and what each rule says of it.

    The chain is verified under the root that the quote carries; whether that root may vouch for
    anything is the policy's first rule.
    """
    root = parse_sgx_quote(quote).chain[-1]
    claims = verify_quote(quote, collateral, root=root, now=at)
    return claims, policy.explain(claims)


def _judge_certificate(
    der: bytes, collateral: bytes, *, policy: AppraisalPolicy, at: int
) -> tuple[Claims, tuple[Outcome, ...]]:
    """Return what an RA-TLS certificate says of its key's holder, whom the policy accepts."""
    result = verify_certificate(der, policy=policy, collateral=collateral, now=at).result
    return result.claims, result.outcomes


def _refusals(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if not outcome.accepted]


def _print_claims(claims: Claims) -> None:
    for name, value in claims.describe().items():
        shown = wire.printable(value) if isinstance(value, str) else value
        if name in {"collateral_issued", "collateral_expires"} and isinstance(value, int):
            shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))
        if value == "SIMULATED":
            shown = click.style("SIMULATED", fg="yellow", bold=True)
        click.echo(f"  {name:<22} {shown}")


def _print_outcomes(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        mark = (
            click.style("accepts", fg="green")
            if outcome.accepted
            else click.style("REFUSES", fg="red", bold=True)
        )
        click.echo(
            f"  {mark}  {outcome.rule.partition('(')[0]:<22} {wire.printable(outcome.reason)}"
        )


def _report(
    claims: Claims, outcomes: Sequence[Outcome], *, policy_named: bool, as_json: bool
) -> int:
    refused = _refusals(outcomes)
    if as_json:
        click.echo(
            wire.encode(
                {
                    **claims.describe(),
                    "advisory_ids": claims.advisory_ids,
                    "accepted": not refused,
                    "refused_by": [outcome.rule.partition("(")[0] for outcome in refused],
                    "policy": "given" if policy_named else "default",
                }
            )
        )
        return REFUSED if refused else 0
    click.secho("Genuine: every signature verifies under the root that it carries.", bold=True)
    _print_claims(claims)
    click.echo("\nThe policy:" if policy_named else "\nThe default policy (which enclave: any):")
    _print_outcomes(outcomes)
    return REFUSED if refused else 0


@attest.command()
@click.argument("quote", type=existing)
@click.option("--collateral", type=existing, required=True, help="The vendor's statements, JSON.")
@click.option(
    "--at", type=click.IntRange(0, 2**33), help="Unix time at which it must hold; default: now."
)
@click.option("--policy", type=existing, help="A policy file; default: current Intel hardware.")
@click.option("--ra-tls", is_flag=True, help="QUOTE is an RA-TLS certificate (DER) with a quote.")
@click.option("--json", "as_json", is_flag=True)
def verify(
    *,
    quote: Path,
    collateral: Path,
    at: int | None,
    policy: Path | None,
    ra_tls: bool,
    as_json: bool,
) -> None:
    """Verify the file QUOTE and judge it. Ends with 0 if it is accepted, 3 if it is refused."""
    judge = _judge_certificate if ra_tls else _judge
    claims, outcomes = judge(
        quote.read_bytes(),
        collateral.read_bytes(),
        policy=_load_policy(policy),
        at=unix_time() if at is None else at,
    )
    sys.exit(_report(claims, outcomes, policy_named=policy is not None, as_json=as_json))


@attest.command()
@click.argument("evidence", type=existing)
@click.option("--policy", type=existing, required=True)
@click.option(
    "--at", type=click.IntRange(0, 2**33), help="Unix time at which it must hold; default: now."
)
@click.option("--json", "as_json", is_flag=True)
def explain(*, evidence: Path, policy: Path, at: int | None, as_json: bool) -> None:
    """Print what each rule of a policy says of the file EVIDENCE.

    EVIDENCE is JSON with `quote` and `collateral`, as `wardian attest show --out` writes it.
    """
    found = wire.decode(evidence.read_bytes(), Evidence, what=str(evidence))
    claims, outcomes = _judge(
        found.quote,
        found.collateral,
        policy=_load_policy(policy),
        at=unix_time() if at is None else at,
    )
    if as_json:
        rules = [
            {"rule": each.rule, "accepted": each.accepted, "reason": each.reason}
            for each in outcomes
        ]
        click.echo(wire.encode({"claims": claims.describe(), "rules": rules}))
    else:
        _print_outcomes(outcomes)
    sys.exit(REFUSED if _refusals(outcomes) else 0)


@attest.command()
@click.argument("url")
@click.option("--policy", type=existing, help="A client policy; without one nothing is accepted.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the evidence here, as JSON.")
@click.option("--ca-out", type=click.Path(path_type=Path), help="Write the mesh CA here, as PEM.")
@click.option("--json", "as_json", is_flag=True)
def show(
    *, url: str, policy: Path | None, out: Path | None, ca_out: Path | None, as_json: bool
) -> None:
    """Ask the front end at URL for evidence and show it.

    With --policy, also verify that it is bound to this connection's TLS key, to a fresh nonce and
    to the manifest that the policy pins. Only then --ca-out writes the mesh CA's certificate, for
    programs that know TLS but no evidence.
    """
    if ca_out is not None and policy is None:
        raise ConfigError("--ca-out needs --policy: an unverified CA file protects nobody")
    shown, nonce, tls_spki = _fetch(url)
    if out is not None:
        out.write_bytes(wire.encode(shown.evidence))
    if policy is None:
        claims, outcomes = _judge(
            shown.evidence.quote, shown.evidence.collateral, policy=DEFAULT_POLICY, at=unix_time()
        )
        sys.exit(_report(claims, outcomes, policy_named=False, as_json=as_json))
    accepted = load_client_policy(policy).verify(
        shown, nonce=nonce, tls_spki=tls_spki, now=unix_time()
    )
    if ca_out is not None:
        ca_out.write_bytes(chain_pem((accepted.mesh_ca,)))
    status = _report(
        accepted.result.claims, accepted.result.outcomes, policy_named=True, as_json=as_json
    )
    if not as_json:
        click.echo(f"\nBound to this connection's TLS key, a fresh nonce and {_mesh(accepted)}.")
    sys.exit(status)


def _mesh(accepted: VerifiedFrontend) -> str:
    manifest = accepted.manifest
    digest = accepted.manifest_digest.hex()
    return f"manifest version {manifest.version} of mesh {manifest.mesh} ({digest[:16]}…)"


def _fetch(url: str) -> tuple[FrontendEvidence, bytes, bytes]:
    """Return what the front end at `url` shows, for which nonce, on a connection to which key.

    Nothing but the nonce is sent, and nothing that comes back is believed here.
    """
    origin = parse_origin(url)
    nonce = secrets.token_bytes(NONCE_BYTES)
    connection = HTTPSConnection(
        origin.host, origin.port, timeout=FETCH_TIMEOUT_S, context=client_context()
    )
    try:
        connection.connect()
        certificate = connection.sock.getpeercert(binary_form=True)
        connection.request("GET", f"{PATH}?nonce={nonce.hex()}")
        response = connection.getresponse()
        body = response.read(wire.MAX_MESSAGE_BYTES)
    except (OSError, HTTPException) as err:
        raise ConnectionLost(f"{url}: no evidence from there: {err}") from err
    finally:
        connection.close()
    if response.status != OK or certificate is None:
        raise PeerProtocolError(f"{url}: answered {response.status} where evidence was expected")
    return (
        wire.decode(body, FrontendEvidence, what="front end's evidence"),
        nonce,
        spki_of(certificate),
    )
