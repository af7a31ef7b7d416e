"""Audit lines as people read them: one sentence each, and which of them somebody wants to see."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import click

from wardian._internal.wire import printable
from wardian.broker.mesh.trust import UNPROTECTED, UNPROTECTED_ROLES
from wardian.broker.state.audit import AuditEntry, AuditLine

SHORT: Final = 8
"""Digits of a key, digest or id that tell it from others at a glance."""
MOST_CHARS: Final = 64
"""Of a name, whoever chose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lines to show; what is None or False does not matter.

    Attributes:
        role: lines about this role.
        model: lines about this model.
        event: lines of this kind.
        refused: refusals alone.
    """

    role: str | None = None
    model: str | None = None
    event: str | None = None
    refused: bool = False

    def takes(self, entry: AuditEntry) -> bool:
        """Return whether this line is to be shown."""
        return (
            self.role in {None, entry.role}
            and self.model in {None, entry.model}
            and self.event in {None, entry.event}
            and (entry.outcome == "refused" or not self.refused)
        )


def row(line: AuditLine) -> str:
    """Return `line` on one line of a terminal."""
    entry = line.entry
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(min(max(line.time, 0), 2**40)))
    under = f"  manifest {short(entry.manifest)}" if entry.manifest else ""
    told = f"{line.sequence:>7}  {at}  {_who(entry):<18}  {sentence(entry)}"
    told = f"{told:<100}" if under else told
    if entry.outcome == "refused":
        told = click.style(told, fg="red")
    return told + click.style(under, dim=True)


def sentence(entry: AuditEntry) -> str:
    """Return what happened, without who did it."""
    said = _SAID[entry.event](entry)
    refused = entry.outcome == "refused" and entry.event != "refusal"
    return f"{said}: REFUSED by {_name(entry.rule)}" if refused else said


def short(digits: str) -> str:
    """Return the beginning of a digest or key."""
    return _name(digits[:SHORT])


def _who(entry: AuditEntry) -> str:
    """Return who did it: code in a role, an owner, or the broker itself."""
    if entry.owner and entry.role in {"", "owner"}:
        return f"owner {short(entry.owner)}"
    role = _name(entry.role) or "broker"
    if entry.role in UNPROTECTED_ROLES:
        role = f"{role} {UNPROTECTED}"
    return f"{role} {short(entry.measurement)}" if entry.measurement else role


def _release(entry: AuditEntry) -> str:
    use = f", use {entry.use}" if entry.use else ""
    got = "got" if entry.outcome == "granted" else "asked for"
    if entry.kind == "table":
        return f"{got} {_table_key(entry)}"
    match entry.kind:
        case "model":
            key = f" {short(entry.key_id)}" if entry.key_id else ""
            return f"{got} key{key} of {_name(entry.model)} version {entry.version}{use}"
        case "queue" | "request":
            epoch = f", epoch {entry.epoch}" if entry.epoch else ""
            return f"{got} {entry.kind} key {short(entry.key_id)} of {_name(entry.model)}{epoch}"
        case "secret":
            return f"{got} secret {_name(entry.secret)}{use}"
        case _:
            return f"{got} {_GOT.get(entry.kind, 'a certificate')}"


def _export(entry: AuditEntry) -> str:
    """Return what a job told before anything left it."""
    if entry.kind == "model":
        what = f"gave key {short(entry.key_id)} of {_name(entry.model)} version {entry.version}"
    else:
        what = f"gives out {short(entry.export)}, made of table {_name(entry.secret)}"
        if approvers := len(entry.approvers.split()):  # they stand in the first line of an export
            what += f", {approvers} approval{'' if approvers == 1 else 's'}"
    return f"{what} (job {short(entry.job)} of plan {short(entry.plan)})"


def _refusal(entry: AuditEntry) -> str:
    if entry.count:
        return f"{entry.count} refusals without a line of their own"
    wanted = f"asked for {_name(entry.model)}" if entry.model else "asked"
    if entry.plan:
        wanted = f"asked for the tables of plan {short(entry.plan)}"
    return f"{wanted}: REFUSED by {_name(entry.rule)}"


def _provision(entry: AuditEntry) -> str:
    if entry.kind in {"policy", "table"}:
        return _consent(entry)
    match entry.kind, entry.rule:
        case "model", rule:
            return f"gave key {short(entry.key_id)} of a model" if not rule else _taken(entry)
        case "secret", _:
            return f"secret {_name(entry.secret)} is in place"
        case _, "recovery-key":
            return "set its recovery key"
        case _, "nothing-new":
            return "brought the manifest in force again"
        case _:
            epoch = f", epoch {entry.epoch}" if entry.epoch else ""
            return f"put the manifest in force{epoch}"


def _taken(entry: AuditEntry) -> str:
    """Return what an owner took back of a model that was made of a table of its own."""
    model = f"{_name(entry.model)} version {entry.version}"
    return f"{_name(entry.rule)} {model} by its word over table {_name(entry.secret)}"


def _table_key(entry: AuditEntry) -> str:
    """Return which table's key a job got, what that spent, and which job it was."""
    spent = f", {_name(entry.spent)}" if entry.spent else ""
    key = f"key {short(entry.key_id)} of table {_name(entry.secret)}, use {entry.use}{spent}"
    return f"{key} (job {short(entry.job)} of plan {short(entry.plan)})"


def _consent(entry: AuditEntry) -> str:
    """Return what an owner said of a table of its own."""
    if entry.kind == "table":
        return f"gave key {short(entry.key_id)} of table {_name(entry.secret)}"
    withdrew = "withdrew" if entry.rule == "revoked" else "gave a policy over"
    return f"{withdrew} table {_name(entry.secret)}, serial {entry.version}"


def _start(entry: AuditEntry) -> str:
    if entry.kind != "certificate":
        return "started"
    return f"made {_MADE.get(entry.role, 'the mesh CA')}"


def _epoch(entry: AuditEntry) -> str:
    return f"began epoch {entry.epoch}" + (f" ({_name(entry.rule)})" if entry.rule else "")


def _named(what: str) -> Callable[[AuditEntry], str]:
    return lambda entry: f"{what} {_name(entry.rule)}".rstrip()


_GOT: Final = {"master": "the key of the broker's state", "access": "access to Redis"}
"""By kind."""
_MADE: Final = {
    "infrastructure": "the infrastructure CA and passwords of Redis",
    "kbs": "the key of attestation results",
}
"""By what stands in the place of a role."""
_SAID: Final[Mapping[str, Callable[[AuditEntry], str]]] = {
    "start": _start,
    "provision": _provision,
    "order": _named("ordered"),
    "epoch": _epoch,
    "release": _release,
    "export": _export,
    "refusal": _refusal,
    "counter": lambda entry: f"advanced counter {_name(entry.counter)}",
    "standby": _named("standby:"),
    "recovery": _named("recovery:"),
}
"""By event."""


def _name(text: str) -> str:
    """Return a name without anything that moves a terminal's cursor, and not too long."""
    return printable(text[:MOST_CHARS])
