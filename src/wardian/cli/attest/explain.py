"""`wardian attest explain`: what does each rule of a policy say of evidence?"""

from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.attestation.evidence import Evidence
from wardian.cli.attest.screen import leave, show_outcomes, show_verdict
from wardian.cli.attest.verdict import judge
from wardian.cli.attest.verify import AT, AT_HELP, existing, quote_claims, read_policy


@click.command()
@click.argument("evidence", type=existing)
@click.option("--policy", type=existing, required=True, help="A policy file.")
@click.option("--at", type=AT, help=AT_HELP)
@click.option("--json", "as_json", is_flag=True)
def explain(*, evidence: Path, policy: Path, at: int | None, as_json: bool) -> None:
    """Say what each rule of a policy says, and why.

    The file EVIDENCE is JSON with `quote` and `collateral`, as `wardian attest show --out` writes
    it. A rule inside another is indented below it; an arrow marks the one that decided. Ends with 0
    if the evidence is accepted, 3 if it is refused.
    """
    judged_by = read_policy(policy)
    raw = evidence.read_bytes()
    now = unix_time() if at is None else at
    verdict = judge(
        lambda: quote_claims(wire.decode(raw, Evidence, what=str(evidence)), now=now), judged_by
    )
    if verdict.claims is not None and not as_json:
        show_outcomes(verdict)
        show_verdict(verdict)
    leave(verdict, as_json=as_json)
