"""The tables that a job says it used, each under the word of its owner that is in force now."""

from collections.abc import Mapping
from dataclasses import dataclass

from wardian.attestation.claims import Claims
from wardian.broker.exports.statement import ExportedTable, ExportStatement
from wardian.broker.jobs import conditions
from wardian.broker.jobs.merge import Agreed
from wardian.broker.jobs.plan import Input, JobPlan
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.signing import VerifiedPolicy
from wardian.broker.jobs.standing import TableStanding
from wardian.broker.tables.kept import Tables
from wardian.errors import PolicyDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedTable:
    """One table of a plan, and its owner's policy, under which the job had it.

    Attributes:
        told: what the job says of it.
        used: what the plan says of it.
        verified: the policy, which is in force.
    """

    told: ExportedTable
    used: Input
    verified: VerifiedPolicy

    def refuse_cut_off(self, table: TableStanding, *, now: int) -> None:
        """Return if the owner's word reaches the broker, as far as its policy demands.

        Else a host that holds up a withdrawal would have the export meanwhile (TRUST T21).

        Args:
            table: what the broker knows of the table.
            now: the broker's time, Unix seconds.

        Raises:
            PolicyDenied: the rule `beacon-missing` or `beacon-old`.
        """
        time = max(now, table.beacon or 0)
        for rule, reason in conditions.of_beacon(self.verified.policy, table, time=time):
            raise PolicyDenied(f"{self._who}: {reason}", rule=rule)

    def refuse_other_code(self, claims: Claims) -> None:
        """Return if the owner gives to such code on such a platform; rule `job-code`."""
        try:
            self.verified.policy.appraisal.demand(claims)
        except PolicyDenied as err:
            raise PolicyDenied(
                f"{self._who}, does not give it to this code any more: {err.rule}: {err}",
                rule=Rule.CODE,
            ) from err

    def agreed(self, plan: JobPlan) -> Agreed:
        """Return the rule that allowed the job, which allows `plan` on paper.

        Whether its time is over by now is nothing: the table was had before.

        Raises:
            PolicyDenied: the rule `export-rule`.
        """
        policy = self.verified.policy
        for rule in policy.allow:
            if rule.name == self.told.rule and not any(
                conditions.of_rule(plan, policy, rule, self.used)
            ):
                return Agreed(policy=policy, allow=rule)
        raise PolicyDenied(
            f"{self._who}, has no rule {self.told.rule} that allows this plan",
            rule=Rule.EXPORT_RULE,
        )

    @property
    def _who(self) -> str:
        return f"{self.used.owner}, whose table {self.used.table} was used"


def used_tables(statement: ExportStatement, plan: JobPlan, tables: Tables) -> tuple[UsedTable, ...]:
    """Return the tables of `plan` under the policies that the statement names.

    Args:
        statement: believed by nobody yet.
        plan: whose digest evidence binds.
        tables: what the broker keeps.

    Raises:
        PolicyDenied: the rule `export-tables`: they are others than the plan's; the rule
            `export-policy`: a policy is not the newest of its owner any more, or withdraws.
    """
    inputs = {plan.place(each): each for each in plan.inputs}
    if {each.place for each in statement.tables} != inputs.keys():
        raise PolicyDenied(
            "the export is told of other tables than those of the plan", rule=Rule.EXPORT_TABLES
        )
    return tuple(_used(each, inputs, tables) for each in statement.tables)


def _used(told: ExportedTable, inputs: Mapping[str, Input], tables: Tables) -> UsedTable:
    record, verified = tables.record(told.place), tables.policy(told.place)
    used = inputs[told.place]
    if (
        verified is None
        or record is None
        or record.newest != verified.mark
        or verified.policy.revoked
        or verified.policy.serial != told.serial
    ):
        raise PolicyDenied(
            f"{used.owner} has changed its mind about table {used.table}, or withdrawn it, since "
            "the job had it: nothing made of it leaves",
            rule=Rule.EXPORT_POLICY,
        )
    return UsedTable(told=told, used=used, verified=verified)
