"""`wardian mesh status`: a mesh at a glance, as its broker tells it."""

import asyncio
import time
from collections.abc import Iterable

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.broker.mesh.trust import UNPROTECTED, UNPROTECTED_ROLES
from wardian.broker.overview.client import read_overview
from wardian.broker.overview.view import Overview, SecretView, WitnessView
from wardian.cli.attest.screen import warning_mark
from wardian.cli.audit.lines import short
from wardian.cli.audit.source import Source, log_refused, source_options

LONG = 16
"""Digits of a digest or key that people compare."""


@click.command(name="status")
@source_options
@click.option("--json", "as_json", is_flag=True)
def status_command(*, source: Source, as_json: bool) -> None:
    """Show what is in force, who has what, how it is kept, and what deserves a warning.

    With --ca it is the broker of that CA that says all this, now, and not whoever carries it.
    Signatures of owners and witnesses are verified; who wants to rely on a line of the log proves
    it (`wardian audit`).
    """
    with log_refused():
        seen, warnings = asyncio.run(read_overview(source.asked(unix_time)))
    if as_json:
        click.echo(wire.encode({"mesh": seen, "warnings": warnings}))
        return
    for line in screen(seen, warnings, head_said=source.ca_said):
        click.echo(line)


def screen(seen: Overview, warnings: tuple[str, ...], *, head_said: str) -> Iterable[str]:
    """Yield the lines of the screen."""
    kind = click.style("SIMULATED", fg="yellow", bold=True) if seen.simulated else "hardware"
    yield f"{click.style(_text(seen.mesh), bold=True)}  {kind}  {_utc(seen.time)}"
    yield from _in_force(seen)
    yield from _roles(seen)
    yield from _secrets("models", seen.models)
    yield from _secrets("secrets", seen.secrets)
    yield from _kept(seen, head_said)
    yield ""
    for told in warnings:
        yield f"{click.style('!', fg='yellow', bold=True)} {_text(told)}"
    if not warnings:
        yield click.style("nothing to warn of", fg="green")


def _in_force(seen: Overview) -> Iterable[str]:
    if seen.manifest is not None:
        signers = seen.manifest.signers
        named = ", ".join(short(each) for each in signers)
        yield (
            f"  manifest    version {seen.manifest.version}  {_long(seen.manifest.digest)}  "
            f"since {_utc(seen.manifest.accepted)}"
        )
        yield (
            f"  signed by   {len(signers)} of {len(seen.owners)} owners: {named}; a change takes "
            f"{seen.quorum}"
        )
    yield (
        f"  issuing CA  {_long(seen.issuing_ca)}  until {_utc(seen.issuing_ca_until)}  "
        f"leases of {seen.lease_s} s"
    )
    if seen.epoch:
        yield f"  epoch       {seen.epoch}  since {_utc(seen.epoch_began)}"


def _roles(seen: Overview) -> Iterable[str]:
    if seen.roles:
        yield f"\n  {'role':<14} {'certificates':>12}  measurements"
    for role in seen.roles:
        measured = " ".join(_long(each) for each in role.measurements)
        issued = str(role.certificates) if role.certificates else "-"
        mark = f"  {warning_mark(UNPROTECTED)}" if role.name in UNPROTECTED_ROLES else ""
        yield f"  {_text(role.name):<14} {issued:>12}  {measured}{mark}"


def _secrets(what: str, secrets: tuple[SecretView, ...]) -> Iterable[str]:
    if secrets:
        yield f"\n  {what:<28} {'owner':<9} {'':<8} {'uses':<12} until"
    for each in secrets:
        given = f"{'given' if each.given else 'MISSING':<8}"
        given = given if each.given else click.style(given, fg="yellow", bold=True)
        uses = f"{each.uses} of {each.max_uses}" if each.max_uses is not None else str(each.uses)
        until = "" if each.not_after is None else _utc(each.not_after)
        name = _text(each.name)
        yield f"  {name:<28} {short(each.owner):<9} {given} {uses:<12} {until}".rstrip()


def _kept(seen: Overview, head_said: str) -> Iterable[str]:
    head = seen.head
    yield f"\n  counter     {_text(seen.counter)}"
    yield f"  standby     {_text(seen.standby) or 'none configured'}"
    yield f"  audit log   {head.count} lines, root {_long(head.root)}  ({_text(head_said)})"
    said = ", ".join(_witness(each) for each in seen.witnesses) or "none"
    wanted = f" ({seen.head_threshold} are demanded)" if seen.head_threshold else ""
    yield f"  witnesses   {said}{wanted}"


def _witness(each: WitnessView) -> str:
    if each.seconds_ago is None:
        return f"{short(each.public)} never"
    return f"{short(each.public)} {each.lines_behind} lines, {each.seconds_ago} s ago"


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(min(max(seconds, 0), 2**40)))


def _long(digits: str) -> str:
    return _text(digits[:LONG])


def _text(text: str) -> str:
    return wire.printable(text[:300])
