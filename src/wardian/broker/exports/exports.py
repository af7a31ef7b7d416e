"""What has to hold of an export, and what is written and kept of it before it may leave a job.

The job itself holds what the owners' terms say of its outputs: it is their code. What the broker
knows, and the job cannot, is whether their words still stand; besides, it counts approvals again.
"""

from collections.abc import Callable, Sequence

import msgspec

from wardian.attestation.claims import Claims
from wardian.attestation.evidence import Evidence
from wardian.attestation.evidence_digest import evidence_digest
from wardian.attestation.results.result import AttestationResult
from wardian.broker.authority import Authority
from wardian.broker.exports.protocol import Recorded
from wardian.broker.exports.served import ServedModels
from wardian.broker.exports.statement import (
    ExportStatement,
    Told,
    encode_statement,
    statement_digest,
)
from wardian.broker.exports.used import UsedTable, used_tables
from wardian.broker.jobs.merge import merge_outputs
from wardian.broker.jobs.rules import Rule
from wardian.broker.joint.kept import Changes
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.state.audit import AuditEntry
from wardian.broker.tables.asked import ROLE, AskedPlan, refuse_unlisted
from wardian.broker.tables.debits import Paid, find_root, refuse_unpaid
from wardian.broker.tables.kept import Tables, Telling, keep_record
from wardian.errors import PolicyDenied, Timeout


class Exports:
    """Judges exports with what an `Authority` holds. One thread: decide, write, then answer."""

    __slots__ = ("_authority", "_served", "_spend", "_tables")

    def __init__(
        self, authority: Authority, *, spend: Callable[[Sequence[AuditEntry]], None]
    ) -> None:
        """Write down what `authority` holds.

        Args:
            authority: the broker's.
            spend: takes the lines of an export, which stay for good, out of those that their owners
                may have; raises QueueFull where there are none left.
        """
        self._authority, self._spend = authority, spend
        self._tables = Tables(
            authority.store, authority.clock, mesh=authority.mesh, policies=authority.policies
        )
        self._served = ServedModels(authority, self._tables)

    def record(
        self,
        evidence: Evidence,
        *,
        told: Told,
        asked: AskedPlan,
        tee: str,
        shown: VerifiedManifest,
        logged: int,
        result: AttestationResult,
    ) -> Recorded:
        """Return that the export may leave, after its lines, and its model's key, are counted.

        A job that did not hear the answer tells the same again: it is answered the same way, out of
        the lines that it has. A model that is kept already stays as owners left it since.

        Args:
            evidence: of message 3.
            told: what the job tells.
            asked: the plan of message 1.
            tee: the kind of TEE, for the log.
            shown: the manifest of message 2.
            logged: how many lines of the audit log message 2 showed.
            result: of `evidence`, which binds digests of plan and statement; appraised as a job's.

        Raises:
            PolicyDenied: the manifest or an owner refuses; nothing is written or kept. Rules:
                `role-known`, `role-measurement`, `export-tables`, `export-policy`,
                `beacon-missing`, `beacon-old`, `job-code`, `export-unpaid`, `export-rule`,
                `export-approvals`, `export-model`, `export-key`, `memory-full`.
            QueueFull: of an owner's tables more was told than is logged (retryable).
            Timeout: the manifest changed since message 2; ask again.
            SealError: it cannot be made durable, or another broker counted; nothing may leave.
        """
        authority, statement, claims = self._authority, told.statement, result.claims
        if shown.digest != authority.manifest.digest:
            raise Timeout("the mesh manifest changed meanwhile: ask again")
        refuse_unlisted(shown.manifest, claims.measurement.hex())
        used = used_tables(statement, asked.plan, self._tables)
        for each in used:
            each.refuse_cut_off(self._tables.standing(each.told.place), now=authority.clock())
            each.refuse_other_code(claims)
        self._refuse_unpaid(statement, asked, used, claims)
        agreed = tuple(each.agreed(asked.plan) for each in used)
        merge_outputs(agreed).refuse_unapproved(statement.approvers)
        changes = self._served.keep(told, asked.plan, used, agreed)
        about = {
            "role": ROLE,
            "measurement": claims.measurement.hex(),
            "evidence": evidence_digest(evidence).hex(),
            "plan": asked.digest_hex,
            "job": statement.job,
            "export": statement.export,
            "report": statement.report,
        }
        first = self._first_line(statement)
        if first is not None and not changes:
            authority.store.confirm()
        else:
            first = authority.store.audit_head.count + 1
            entries = self._entries(statement, about)
            self._spend(entries)
            changes |= self._telling(statement, first)
            authority.record(entries, changes, tee=tee, simulated=claims.simulated)
        return Recorded(
            manifest_version=shown.manifest.version,
            first=first,
            log=authority.transparency.show(logged),
        )

    def _first_line(self, statement: ExportStatement) -> int | None:
        """Return where the lines of just this begin, if it was told last of each of its tables."""
        digest = statement_digest(encode_statement(statement))
        records = [self._tables.record(each.place) for each in statement.tables]
        tellings = {None if record is None else record.told for record in records}
        telling = tellings.pop() if len(tellings) == 1 else None
        return telling.first if telling is not None and telling.statement == digest else None

    def _telling(self, statement: ExportStatement, first: int) -> Changes:
        """Return the changes by which each table remembers this as what was told of it last."""
        digest = statement_digest(encode_statement(statement))
        telling = Telling(statement=digest, first=first)
        changes: Changes = {}
        for each in statement.tables:
            record = self._tables.record(each.place)
            if record is not None:
                record = msgspec.structs.replace(record, told=telling)
                changes |= keep_record(each.place, record)
        return changes

    def _refuse_unpaid(
        self,
        statement: ExportStatement,
        asked: AskedPlan,
        used: tuple[UsedTable, ...],
        claims: Claims,
    ) -> None:
        """Return if this code had these tables, under these policies, as the job that it says."""
        root, _ = find_root(self._authority.store, {each.told.owner for each in used})
        paid = Paid(
            plan_digest=asked.digest,
            measurement=claims.measurement,
            policies=tuple(each.verified for each in used),
        )
        try:
            refuse_unpaid(bytes.fromhex(statement.job), paid, root)
        except PolicyDenied as err:
            raise PolicyDenied(
                "no job of this id had these tables for this plan, in this code, under the "
                "policies of now",
                rule=Rule.UNPAID,
            ) from err

    def _entries(self, statement: ExportStatement, about: dict[str, str]) -> list[AuditEntry]:
        entry = self._authority.entry
        entries = [
            entry(
                event="export",
                outcome="granted",
                kind="table",
                owner=each.owner,
                secret=each.table,
                version=each.serial,
                approvers="" if at else " ".join(statement.approvers),  # once, however many lines
                **about,
            )
            for at, each in enumerate(statement.tables)
        ]
        if statement.served is not None:
            entries.append(
                entry(
                    event="export",
                    outcome="granted",
                    kind="model",
                    model=statement.served.name,
                    version=statement.served.version,
                    key_id=statement.served.key_id,
                    rule="ended" if self._served.has_ended(statement.served) else "",
                    **about,
                )
            )
        return entries
