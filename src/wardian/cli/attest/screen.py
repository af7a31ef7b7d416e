"""How verdicts look on a terminal, and how they leave the process."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Final, NoReturn

import click

from wardian._internal import wire
from wardian.attestation.appraisal.policy import Outcome
from wardian.attestation.claims import Claims
from wardian.cli.attest.verdict import Verdict, document

_DATES: Final = {"tcb_date", "collateral_issued", "collateral_expires"}
_LONG: Final = 32
"""Digits of a field that is not worth a line of zeros."""
_INDENT: Final = "  "
_RULE_WIDTH: Final = 30


def warning_mark(text: str) -> str:
    """Return `text` in the colour of what nobody shall overlook: a simulation, a risk taken."""
    return click.style(text, fg="yellow", bold=True)


def show_claims(claims: Claims) -> None:
    """Print what verified evidence says, a line each."""
    for name, value in claims.describe().items():
        shown = wire.printable(value) if isinstance(value, str) else str(value)
        if isinstance(value, str) and len(value) >= _LONG and not value.strip("0"):
            shown = f"zeros, {len(value) // 2} bytes"
        if name in _DATES and isinstance(value, int):
            shown = utc(value)
        if value == "SIMULATED":
            shown = warning_mark(value)
        click.echo(f"  {name:<22} {shown}")


def show_policy(*, given: bool) -> None:
    """Print whose policy it is that judges: somebody's, or `default_policy`."""
    default = "The default policy (current Intel hardware, whatever runs there):"
    click.echo(f"\n{'The policy:' if given else default}")


def show_outcomes(verdict: Verdict) -> None:
    """Print what each rule says, those inside others indented, and an arrow at what decided."""
    decider = verdict.decider
    for top in verdict.outcomes:
        for depth, outcome in top.walk():
            arrow = "->" if outcome is decider else "  "
            click.echo(f"{arrow} {_mark(outcome)}  {_rule(outcome, depth)} {_reason(outcome)}")


def show_verdict(verdict: Verdict) -> None:
    """Print, as the last line, whether the evidence is accepted, and by what it is refused."""
    if verdict.accepted:
        click.secho("\nACCEPTED", fg="green", bold=True)
    else:
        refused = click.style(f"\nREFUSED by {verdict.refused_by}", fg="red", bold=True)
        click.echo(f"{refused}: {wire.printable(verdict.reason)}")


def leave(verdict: Verdict, *, as_json: bool, more: Mapping[str, object] | None = None) -> NoReturn:
    """End the process with the verdict's exit status; print JSON, or an error nobody saw yet.

    Args:
        verdict: the one on the evidence.
        as_json: print `document` of it.
        more: fields of the JSON beside the verdict's.
    """
    if as_json:
        click.echo(_json({**document(verdict), **(more or {})}))
    elif verdict.claims is None:
        told = wire.printable(f"{verdict.refused_by}: {verdict.reason}")
        click.echo(f"{click.style('error:', fg='red', bold=True)} {told}", err=True)
    sys.exit(verdict.exit_status)


def utc(seconds: int) -> str:
    """Return the Unix time `seconds` as a date."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _json(value: Mapping[str, object]) -> str:
    """Return `value` as JSON in ASCII: it may end on a terminal, and quotes what anybody signed."""
    return json.dumps(json.loads(wire.encode(value)), separators=(",", ":"))


def _mark(outcome: Outcome) -> str:
    if outcome.accepted:
        return click.style("accepts", fg="green")
    return click.style("REFUSES", fg="red", bold=True)


def _rule(outcome: Outcome, depth: int) -> str:
    return f"{_INDENT * depth}{outcome.rule}".ljust(_RULE_WIDTH)


def _reason(outcome: Outcome) -> str:
    return wire.printable(outcome.reason)
