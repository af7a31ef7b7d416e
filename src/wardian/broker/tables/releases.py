"""What an attested job is given of owners' tables, after its debits and audit lines."""

from collections.abc import Callable, Mapping, Sequence

from wardian.attestation.evidence import Evidence
from wardian.attestation.evidence_digest import evidence_digest
from wardian.attestation.results.result import AttestationResult
from wardian.broker.authority import Authority
from wardian.broker.jobs.decision import Decision, Verdict, decide
from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.signing import VerifiedPolicy
from wardian.broker.jobs.standing import Standing
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.state.audit import AuditEntry
from wardian.broker.tables.asked import ROLE, AskedPlan, refuse_unlisted
from wardian.broker.tables.content import JobRelease, TableKey
from wardian.broker.tables.debits import (
    Paid,
    before,
    find_root,
    job_id_of,
    refuse_unpaid,
)
from wardian.broker.tables.kept import Changes, TableRecord, Tables, keep_record, owner_of
from wardian.broker.tables.protocol import JobRequest
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_header import Pin
from wardian.errors import PolicyDenied, SealError, Timeout


class TableReleases:
    """Decides about jobs with what an `Authority` holds. One thread: decide, debit, then give."""

    __slots__ = ("_authority", "_spend", "_tables")

    def __init__(
        self, authority: Authority, *, spend: Callable[[Sequence[AuditEntry]], None]
    ) -> None:
        """Release what `authority` holds.

        Args:
            authority: the broker's.
            spend: takes the lines of a release, which stay for good, out of those that their owners
                may have; raises QueueFull where there are none left.
        """
        self._authority, self._spend = authority, spend
        self._tables = Tables(
            authority.store, authority.clock, mesh=authority.mesh, policies=authority.policies
        )

    def release(
        self,
        evidence: Evidence,
        *,
        request: JobRequest,
        asked: AskedPlan,
        shown: VerifiedManifest,
        logged: int,
        result: AttestationResult,
    ) -> JobRelease:
        """Return the keys of all tables of the plan, after their debits and lines are counted.

        One commit holds all of it. A broker that dies before it lets nothing leave; one that dies
        after it has spent what nobody had the benefit of, and the job that asks with its salt again
        spends no more of any budget. No use is ever had twice.

        Args:
            evidence: of message 3.
            request: message 1.
            asked: the plan in it.
            shown: the manifest of message 2.
            logged: how many lines of the audit log message 2 showed.
            result: of `evidence`, which binds the plan's digest; appraised as a job's.

        Raises:
            PolicyDenied: the manifest or an owner's policy refuses (see `jobs.rules.Rule`), or a
                key has not been given; nothing is debited of any table.
            QueueFull: an owner's tables were given oftener than that is logged (retryable).
            Timeout: the manifest changed since message 2; ask again.
            SealError: it cannot be made durable; nothing is released.
        """
        authority, plan, claims = self._authority, asked.plan, result.claims
        if shown.digest != authority.manifest.digest:
            raise Timeout("the mesh manifest changed meanwhile: ask again")
        refuse_unlisted(shown.manifest, claims.measurement.hex())
        policies = self._policies(plan)
        paid = Paid(plan_digest=asked.digest, measurement=claims.measurement, policies=policies)
        root, made = find_root(authority.store, map(owner_of, plan.places))
        tables = {place: self._tables.standing(place) for place in plan.places}
        if request.again is None:
            job_id = job_id_of(paid, root, salt=request.salt)
            again = all(self._record_is_of(job_id, place) for place in plan.places)
        else:
            job_id, again = bytes.fromhex(request.again), True
            refuse_unpaid(job_id, paid, root)
        if again:
            tables = {place: before(each, plan.privacy) for place, each in tables.items()}
        standing = Standing(now=authority.clock(), claims=claims, tables=tables)
        decision = decide(plan, policies, standing)
        keys = {each.place: self._key(each) for each in decision.verdicts}
        about = {
            "role": ROLE,
            "measurement": claims.measurement.hex(),
            "evidence": evidence_digest(evidence).hex(),
            "plan": asked.digest_hex,
            "job": job_id.hex(),
            "spent": _spent(plan, again=again),
        }
        entries = self._entries(decision, keys, about)
        self._spend(entries)
        authority.record(
            entries,
            made | self._debited(decision, job_id),
            tee=request.tee,
            simulated=claims.simulated,
        )
        return JobRelease(
            job_id=job_id,
            noise_seed=paid.seed(root, job_id),
            tables=tuple(keys[each.place] for each in decision.verdicts),
            terms=decision.terms,
            model=decision.release,
            manifest_version=shown.manifest.version,
            log=authority.transparency.show(logged),
        )

    def _policies(self, plan: JobPlan) -> tuple[VerifiedPolicy, ...]:
        found = (self._tables.policy(place) for place in sorted(plan.places))
        return tuple(each for each in found if each is not None)

    def _key(self, verdict: Verdict) -> TableKey:
        """Return the key of a table that its owner gives, as the owner gave it.

        Raises:
            PolicyDenied: the rule `key-given`: the broker does not have it.
        """
        policy, allow, key = verdict.policy, verdict.allow, self._tables.key(verdict.place)
        if policy is None or allow is None or policy.pin is None or key is None:
            raise PolicyDenied(
                f"{verdict.who} has not given the key of table {verdict.table}", rule=Rule.KEY
            )
        return TableKey(
            owner=verdict.owner,
            table=verdict.table,
            serial=policy.serial,
            rule=allow.name,
            pin=Pin.parse(policy.pin),
            key_id=BrokerKey(key).key_id.hex(),
            key=key,
        )

    def _record_is_of(self, job_id: bytes, place: str) -> bool:
        """Return whether the last debit of the table at `place` is that of `job_id`."""
        record = self._tables.record(place)
        return record is not None and record.job == job_id

    def _debited(self, decision: Decision, job_id: bytes) -> Changes:
        """Return the changes that count this release, of every table."""
        changes: Changes = {}
        for debit in decision.debits:
            record = self._record(debit.place)
            record = record.after(uses=debit.uses, spent=debit.spent, job=job_id)
            changes |= keep_record(debit.place, record)
        return changes

    def _record(self, place: str) -> TableRecord:
        record = self._tables.record(place)
        if record is None:
            raise SealError("the broker's state has a policy over a table and no record of it")
        return record

    def _entries(
        self, decision: Decision, keys: Mapping[str, TableKey], about: dict[str, str]
    ) -> list[AuditEntry]:
        return [
            self._authority.entry(
                event="release",
                outcome="granted",
                kind="table",
                owner=keys[debit.place].owner,
                secret=keys[debit.place].table,
                version=keys[debit.place].serial,
                key_id=keys[debit.place].key_id,
                use=debit.uses,
                **about,
            )
            for debit in decision.debits
        ]


def _spent(plan: JobPlan, *, again: bool) -> str:
    """Return what a release spends of each table's budget, for the audit line."""
    if again or plan.privacy is None:
        return ""
    return f"epsilon {plan.privacy.epsilon!r}, delta {plan.privacy.delta!r}"
