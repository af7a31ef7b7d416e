"""`wardian audit verify`: is the log whole, and the one that was seen before?"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import click

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.broker.audit_log.auditing import Audited, audit, audit_export
from wardian.broker.state.audit import AuditLine
from wardian.broker.transparency.cosigning import HeadDemand
from wardian.broker.transparency.memory import AuditMemory, refuse_contradiction, refuse_other_log
from wardian.broker.transparency.records import AuditProof, LogExport, verify_proof
from wardian.cli.audit.demand import demand_options
from wardian.cli.audit.files import keep_refused, load_memory, load_record, remember
from wardian.cli.audit.lines import row
from wardian.cli.audit.source import Source, existing, file, log_refused, source_options
from wardian.errors import AuthenticationFailed, ConfigError, PolicyDenied

REFUSED = 3


@click.command()
@click.argument("exported", type=existing, required=False)
@source_options
@click.option("--head", type=file, help="Remembers what was seen; read, then brought up to date.")
@click.option("--proof", type=existing, help="Verify this proof of some lines instead.")
@demand_options
@click.option("--json", "as_json", is_flag=True)
def verify(
    *,
    exported: Path | None,
    source: Source,
    head: Path | None,
    proof: Path | None,
    demand: HeadDemand | None,
    as_json: bool,
) -> None:
    """Verify the whole log of a broker, of the file EXPORTED, or a proof of some lines.

    Every line has to follow the one before it, the Merkle tree over all of them to have the root
    that the mesh CA's key signed, and every head seen before to be a beginning of it. Ends with 0
    if that is so, 3 if it is not. Without the mesh CA's certificate nobody vouches for that key:
    the log may be whole, and is UNVERIFIED.
    """
    if proof is not None and (exported is not None or demand is not None):
        raise ConfigError(
            "--proof: is of some lines under one head; a whole log, and who witnessed it, is for "
            "another command to verify"
        )
    remembered = head or (None if exported or proof else source.memory)
    try:
        with log_refused():
            if proof is not None:
                _verify_proof(proof, source, head=head, as_json=as_json)
                return
            found = _remembered(exported, source, place=remembered, demand=demand)
    except PolicyDenied as err:
        if as_json:
            _refused(err)
        raise
    _report(found, source, remembered=remembered, as_json=as_json)


def _remembered(
    exported: Path | None, source: Source, *, place: Path | None, demand: HeadDemand | None
) -> Audited:
    """Return the log, judged by what `place` remembers, which from now on remembers this too.

    Raises:
        AuthenticationFailed: as `audit`; where something was remembered, what the broker showed is
            in a file beside it.
    """
    memory = load_memory(place)
    shown: list[LogExport] = []
    try:
        found = _audited(exported, source, memory=memory, demand=demand, shown=shown.append)
        if place is not None:
            remember(place, before=memory, after=found.memory)
    except AuthenticationFailed as err:
        if place is None or not shown or not load_memory(place).known:
            raise
        kept = keep_refused(place, shown[0], shown[0].witnessed.head)
        raise AuthenticationFailed(f"{err} ({kept})") from err
    return found


def _audited(
    exported: Path | None,
    source: Source,
    *,
    memory: AuditMemory,
    demand: HeadDemand | None,
    shown: Callable[[LogExport], None],
) -> Audited:
    if exported is not None:
        return audit_export(
            file_lines(exported),
            memory=memory,
            ca_spki=source.ca_spki,
            now=unix_time,
            demand=demand,
        )
    return asyncio.run(audit(source.asked(unix_time), memory=memory, demand=demand, shown=shown))


def _verify_proof(path: Path, source: Source, *, head: Path | None, as_json: bool) -> None:
    """Verify the proof in `path`, print what it shows, and compare it with what `head` remembers.

    Raises:
        ConfigError: it is no proof, or of a head that what is remembered says nothing about.
        AuthenticationFailed, FormatError: it shows nothing, or another log.
    """
    proof = load_record(path, AuditProof, what="audit proof")
    if proof is None:
        raise ConfigError(f"{path}: there is no such file")
    lines = verify_proof(proof, ca_spki=source.ca_spki)
    if head is not None:
        memory = load_memory(head)
        refuse_other_log(memory, proof.head)
        fits = [each for each in memory.known if each.audit.count == proof.head.audit.count]
        if not fits:
            raise ConfigError(
                f"{path}: is against a head of {proof.head.audit.count} lines, which is not one "
                f"that {head} remembers; prove it anew with `wardian audit prove --head`"
            )
        refuse_contradiction(fits[0].audit, proof.head.audit)
    if as_json:
        click.echo(wire.encode({**_known(source), "lines": lines}))
        return
    _say_proof(proof, lines, source)


def _say_proof(proof: AuditProof, lines: tuple[AuditLine, ...], source: Source) -> None:
    for line in lines:
        click.echo(row(line))
    count, mesh = proof.head.audit.count, wire.printable(proof.head.mesh)
    click.echo(f"\nIn the first {count} lines of the audit log of mesh {mesh}.")
    _say_ca(source)


def _report(found: Audited, source: Source, *, remembered: Path | None, as_json: bool) -> None:
    head, vouched = found.witnessed.head, found.vouched
    if as_json:
        told = {
            **_known(source),
            "read": found.read,
            "head": head,
            "witnesses": () if vouched is None else vouched.witnesses,
        }
        click.echo(wire.encode(told))
        return
    click.echo(
        f"Audit log of mesh {wire.printable(head.mesh)}: {head.audit.count} lines, "
        f"{found.read} read now\n"
        f"{click.style('WHOLE', fg='green', bold=True)}  chain and tree lead to {head.audit.root}"
    )
    _say_ca(source)
    if vouched is not None:
        click.echo(
            f"witnessed by {len(vouched.witnesses)}: {vouched.lines_behind} lines and "
            f"{vouched.seconds_ago} s ago"
        )
    if remembered is None:
        click.echo("nothing remembered: give --head FILE to notice a fork the next time")
    else:
        click.echo(f"remembered in {remembered}")


def _known(source: Source) -> dict[str, object]:
    """Return what JSON says first of a log, or lines of one, that fit the head above them.

    It is verified only where a CA that the caller knows vouches for that head: a host can make a
    whole log of its own.
    """
    return {"verified": source.ca is not None, "whole": True, "reason": source.ca_said}


def _say_ca(source: Source) -> None:
    click.secho(source.ca_said, fg=None if source.ca is not None else "yellow")


def _refused(err: PolicyDenied) -> NoReturn:
    click.echo(wire.encode({"verified": False, "rule": err.rule, "reason": str(err)}))
    raise SystemExit(REFUSED)


def file_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file without their ends; a line that is too long is cut, and refused."""
    with path.open("rb") as lines:
        while raw := lines.readline(wire.MAX_MESSAGE_BYTES):
            yield raw.removesuffix(b"\n")
