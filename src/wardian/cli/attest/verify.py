"""`wardian attest verify`: is this quote genuine, and does a policy accept it?"""

from pathlib import Path
from typing import Final

import click

from wardian._internal.clock import unix_time
from wardian.attestation.appraisal.policy import AnyMeasurement, AppraisalPolicy
from wardian.attestation.appraisal.policy_file import default_policy, load_policy
from wardian.attestation.claims import Claims
from wardian.attestation.evidence import Evidence
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.ra_tls import verify_certificate
from wardian.attestation.verifier import verify_quote
from wardian.cli.attest.screen import (
    leave,
    show_claims,
    show_outcomes,
    show_policy,
    show_verdict,
)
from wardian.cli.attest.verdict import judge

existing: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
AT: Final = click.IntRange(0, 2**33)
AT_HELP: Final = "Unix time at which it must hold; default: now."


@click.command()
@click.argument("quote", type=existing)
@click.option("--collateral", type=existing, required=True, help="The vendor's statements, JSON.")
@click.option("--at", type=AT, help=AT_HELP)
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
    """Verify the file QUOTE, and judge it.

    Ends with 0 if it is genuine and accepted, with 3 if it is not. Without --policy it is judged by
    default: current Intel hardware, whatever runs there. That is good for a first look, and for
    nothing that data depends on.
    """
    judged_by = default_policy() if policy is None else read_policy(policy)
    evidence = Evidence(quote=quote.read_bytes(), collateral=collateral.read_bytes())
    now = unix_time() if at is None else at
    verdict = judge(
        lambda: (
            certificate_claims(evidence, policy=judged_by, now=now)
            if ra_tls
            else quote_claims(evidence, now=now)
        ),
        judged_by,
    )
    if verdict.claims is not None and not as_json:
        click.secho("Genuine: every signature verifies under the root that it carries.", bold=True)
        show_claims(verdict.claims)
        show_policy(given=policy is not None)
        show_outcomes(verdict)
        show_verdict(verdict)
    leave(verdict, as_json=as_json)


def read_policy(path: Path) -> AppraisalPolicy:
    """Return the policy in the file `path`.

    Raises:
        ConfigError: as `load_policy`; it names the file.
    """
    return load_policy(path.read_bytes(), name=str(path))


def quote_claims(evidence: Evidence, *, now: int) -> Claims:
    """Return what a quote says, verified under the root that it carries itself.

    Whether that root may vouch for anything is the first question of every policy: so a refusal
    can say what it refuses.

    Raises:
        FormatError, AttestationError: as `verifier.verify_quote`.
    """
    root = parse_quote(evidence.quote).chain[-1]
    return verify_quote(evidence.quote, evidence.collateral, root=root, now=now)


def certificate_claims(evidence: Evidence, *, policy: AppraisalPolicy, now: int) -> Claims:
    """Return what the evidence in an RA-TLS certificate says, under a root that `policy` names.

    The policy's rule is not asked here: the caller has claims to judge, or to show.

    Args:
        evidence: the certificate (DER) in the quote's place, and the collateral.
        policy: names the roots.
        now: Unix time, seconds.

    Raises:
        FormatError, AttestationError, PolicyDenied: as `ra_tls.verify_certificate`.
    """
    genuine = AppraisalPolicy(roots=policy.roots, rule=AnyMeasurement())
    return verify_certificate(
        evidence.quote, policy=genuine, collateral=evidence.collateral, now=now
    ).result.claims
