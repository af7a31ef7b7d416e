"""What happened at the broker, in its audit log and its own: a line is durable before one acts."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import msgspec

from wardian._internal.log import event
from wardian.attestation.evidence import Evidence
from wardian.attestation.evidence_digest import evidence_digest
from wardian.broker.refusal import refusal_for
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.clock import FlooredClock
from wardian.broker.state.store import Place, Store
from wardian.errors import FormatError

log = logging.getLogger(__name__)


class Recorder(ABC):
    """Commits changes of the broker's state with the audit lines that say so."""

    __slots__ = ("clock", "store")

    clock: FlooredClock
    """The time that decisions go by: the host's, above a floor that only rises (TRUST T9)."""
    store: Store
    """The memory of it all."""

    @property
    @abstractmethod
    def manifest_digest(self) -> bytes:
        """SHA-256 of the manifest in force, empty if there is none."""

    def entry(self, **fields: object) -> AuditEntry:
        """Return an audit entry that names the manifest in force, unless `fields` names one."""
        return msgspec.convert({"manifest": self.manifest_digest.hex(), **fields}, AuditEntry)

    def record(
        self,
        entries: Sequence[AuditEntry],
        changes: Mapping[Place, bytes | None] | None = None,
        *,
        level: int = logging.INFO,
        **more: str | int | bool,
    ) -> None:
        """Commit `changes` with their audit lines, then log the lines; act only after this.

        Args:
            entries: what happened; at least one.
            changes: as in `Store.commit`.
            level: of the log lines.
            more: what the log lines say besides; never a secret.

        Raises:
            SealError: it cannot be made durable: nothing changed, or the store is in doubt.
        """
        changes = {**self.clock.unkept(), **(changes or {})}  # these may raise the floor further
        self.store.commit(changes, audit=entries, now=self.clock())
        for entry in entries:
            fields = {key: value for key, value in msgspec.structs.asdict(entry).items() if value}
            event(log, f"broker.{fields.pop('event')}", level=level, **fields, **more)

    def refuse(
        self,
        error: Exception,
        *,
        role: str,
        models: tuple[str, ...] = (),
        evidence: Evidence | None = None,
        owner: str = "",
        plan: str = "",
    ) -> None:
        """Write the audit line of a refused release, or of an owner's refused change.

        Args:
            error: why; what is no `WardianError` is a bug, and the line says so.
            role: as asked for, not believed; "owner" for an owner.
            models: as asked for; the line names the first.
            evidence: what was presented, if anything was.
            owner: the public key of an owner, in hex, as its visitor says.
            plan: the digest of a job's plan, in hex, as asked for.
        """
        entry = self.entry(
            event="refusal",
            outcome="refused",
            role=role,
            evidence=_digest_of(evidence),
            owner=owner,
            model=models[0] if models else "",
            rule=refusal_for(error).rule,
            plan=plan,
        )
        self.record([entry], level=logging.WARNING, error=type(error).__name__)

    def refuse_unwritten(self, count: int) -> None:
        """Write the one audit line that stands for `count` refusals without a line of their own."""
        entry = self.entry(event="refusal", outcome="refused", rule="left-out", count=count)
        self.record([entry], level=logging.WARNING)


def _digest_of(evidence: Evidence | None) -> str:
    """Return the digest of evidence that was refused, in hex; empty where it does not parse."""
    try:
        return "" if evidence is None else evidence_digest(evidence).hex()
    except FormatError:
        return ""
