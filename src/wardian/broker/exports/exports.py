"""What has to hold of an export, and what is written and kept of it before it may leave a job.

The job itself holds what the owners' terms say of its outputs: it is their code. What the broker
knows, and the job cannot, is whether their words still stand; besides, it counts approvals again.
"""

from dataclasses import dataclass

from wardian.attestation.claims import Claims
from wardian.attestation.evidence import Evidence
from wardian.attestation.evidence_digest import evidence_digest
from wardian.attestation.results.result import AttestationResult
from wardian.broker.authority import Authority
from wardian.broker.exports.protocol import Recorded
from wardian.broker.exports.statement import ExportedTable, ExportStatement
from wardian.broker.jobs import conditions
from wardian.broker.jobs.merge import Agreed, merge_outputs, model_release
from wardian.broker.jobs.plan import Input, JobPlan
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.signing import VerifiedPolicy
from wardian.broker.joint.kept import Changes, keep_model
from wardian.broker.joint.record import JointModel, TableTerms
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.state.audit import AuditEntry
from wardian.broker.tables.asked import ROLE, AskedPlan, refuse_unlisted
from wardian.broker.tables.debits import Paid, find_root, refuse_unpaid
from wardian.broker.tables.kept import Tables
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied, Timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a job told: a statement, and the key (32 bytes) of the model in it, where one is."""

    statement: ExportStatement
    key: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Used:
    """One table of the plan, and the owner's policy under which the job says that it had it."""

    told: ExportedTable
    used: Input
    verified: VerifiedPolicy

    @property
    def who(self) -> str:
        return f"{self.used.owner}, whose table {self.used.table} was used"


class Exports:
    """Judges exports with what an `Authority` holds. One thread: decide, write, then answer."""

    __slots__ = ("_authority", "_tables")

    def __init__(self, authority: Authority) -> None:
        """Write down what `authority` holds."""
        self._authority = authority
        self._tables = Tables(authority.store, authority.clock, mesh=authority.mesh)

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

        A job that did not hear the answer tells the same again: it is answered the same way, and
        has its lines again. A model that is kept already stays as owners left it since.

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
                `role-known`, `role-measurement`, `export-tables`, `export-policy`, `job-code`,
                `export-unpaid`, `export-rule`, `export-approvals`, `export-model`, `export-key`,
                `memory-full`.
            Timeout: the manifest changed since message 2; ask again.
            SealError: it cannot be made durable; nothing may leave.
        """
        authority, statement, claims = self._authority, told.statement, result.claims
        if shown.digest != authority.manifest.digest:
            raise Timeout("the mesh manifest changed meanwhile: ask again")
        refuse_unlisted(shown.manifest, claims.measurement.hex())
        used = self._used(statement, asked.plan)
        for each in used:
            _refuse_other_code(each, claims)
        self._refuse_unpaid(statement, asked, used, claims)
        agreed = tuple(_agreed(each, asked.plan) for each in used)
        merge_outputs(agreed).refuse_unapproved(statement.approvers)
        changes = self._model(told, asked.plan, agreed)
        about = {
            "role": ROLE,
            "measurement": claims.measurement.hex(),
            "evidence": evidence_digest(evidence).hex(),
            "plan": asked.digest_hex,
            "job": statement.job,
            "export": statement.export,
            "report": statement.report,
            "approvers": " ".join(statement.approvers),
        }
        authority.record(
            self._entries(statement, about), changes, tee=tee, simulated=claims.simulated
        )
        return Recorded(
            manifest_version=shown.manifest.version, log=authority.transparency.show(logged)
        )

    def _used(self, statement: ExportStatement, plan: JobPlan) -> tuple[_Used, ...]:
        """Return the tables of `plan` under the policies that the statement names.

        Raises:
            PolicyDenied: the rule `export-tables`: they are others than the plan's; the rule
                `export-policy`: a policy is not the newest of its owner any more, or withdraws.
        """
        inputs = {plan.place(each): each for each in plan.inputs}
        if {each.place for each in statement.tables} != inputs.keys():
            raise PolicyDenied(
                "the export is told of other tables than those of the plan", rule=Rule.EXPORT_TABLES
            )
        return tuple(
            _Used(told=each, used=inputs[each.place], verified=self._policy(each, inputs))
            for each in statement.tables
        )

    def _policy(self, told: ExportedTable, inputs: dict[str, Input]) -> VerifiedPolicy:
        """Return the policy in force over a table, which is the one that was told."""
        record, verified = self._tables.record(told.place), self._tables.policy(told.place)
        stands = record is not None and verified is not None and record.newest == verified.mark
        if verified is None or not stands or verified.policy.revoked:
            same = False
        else:
            same = verified.policy.serial == told.serial
        if verified is None or not same:
            used = inputs[told.place]
            raise PolicyDenied(
                f"{used.owner} has changed its mind about table {used.table}, or withdrawn it, "
                "since the job had it: nothing made of it leaves",
                rule=Rule.EXPORT_POLICY,
            )
        return verified

    def _refuse_unpaid(
        self,
        statement: ExportStatement,
        asked: AskedPlan,
        used: tuple[_Used, ...],
        claims: Claims,
    ) -> None:
        """Return if this code had these tables, under these policies, as the job that it says."""
        root, _ = find_root(self._authority.store)
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

    def _model(self, told: Told, plan: JobPlan, agreed: tuple[Agreed, ...]) -> Changes:
        """Return the changes that keep the model which goes to be served, if one does.

        Raises:
            PolicyDenied: the rule `export-model`: the plan has none, or another; the rule
                `export-key`: its key is missing, or another; `memory-full`.
        """
        file = told.statement.served
        if (file is not None) is not bool(plan.outputs.serving):
            raise PolicyDenied(
                "a model is to be served that the plan does not name, or none is and it does",
                rule=Rule.EXPORT_MODEL,
            )
        if file is None:
            if told.key is not None:
                raise PolicyDenied("a key came, and no model is served", rule=Rule.EXPORT_KEY)
            return {}
        if file.name != plan.output_name("model"):
            raise PolicyDenied(
                f"the model {file.name} is not what comes out of job {plan.name}",
                rule=Rule.EXPORT_MODEL,
            )
        if told.key is None or BrokerKey(told.key).key_id.hex() != file.key_id:
            raise PolicyDenied(
                "the key of the model that is served is missing, or not the one that its id names",
                rule=Rule.EXPORT_KEY,
            )
        tables = {one.policy.place: one.serving_terms for one in agreed}
        model = JointModel(
            file=file,
            measurements=tuple(sorted(model_release(agreed).measurements)),
            tables=tuple(
                TableTerms(place=place, terms=terms) for place, terms in sorted(tables.items())
            ),
            job=told.statement.job,
            export=told.statement.export,
        )
        authority = self._authority
        return keep_model(authority.store, model, told.key, now=authority.clock())

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
                **about,
            )
            for each in statement.tables
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
                    **about,
                )
            )
        return entries


def _refuse_other_code(each: _Used, claims: Claims) -> None:
    try:
        each.verified.policy.appraisal.demand(claims)
    except PolicyDenied as err:
        raise PolicyDenied(
            f"{each.who}, does not give it to this code any more: {err.rule}: {err}",
            rule=Rule.CODE,
        ) from err


def _agreed(each: _Used, plan: JobPlan) -> Agreed:
    """Return the rule that allowed the job, which allows its plan on paper.

    Whether its time is over by now is nothing: the table was had before.

    Raises:
        PolicyDenied: the rule `export-rule`.
    """
    policy = each.verified.policy
    for rule in policy.allow:
        if rule.name == each.told.rule and not any(
            conditions.of_rule(plan, policy, rule, each.used)
        ):
            return Agreed(policy=policy, allow=rule)
    raise PolicyDenied(
        f"{each.who}, has no rule {each.told.rule} that allows this plan", rule=Rule.EXPORT_RULE
    )
