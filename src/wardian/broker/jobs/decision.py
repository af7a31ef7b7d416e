"""A plan against the policies of all owners. Pure: counts, times and evidence are arguments.

Of one owner the rules are alternatives: one that allows the job is enough, and of several that do
the first by name counts. Owners are all required. Nothing depends on the order in which rules,
owners or keys are written.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from wardian.broker.jobs import conditions
from wardian.broker.jobs.conditions import Refused
from wardian.broker.jobs.merge import (
    Agreed,
    ModelRelease,
    OutputTerms,
    merge_outputs,
    model_release,
)
from wardian.broker.jobs.plan import Input, JobPlan
from wardian.broker.jobs.policy import Allow, DataPolicy
from wardian.broker.jobs.rules import ORDER, Rule
from wardian.broker.jobs.signing import VerifiedPolicy
from wardian.broker.jobs.standing import Spent, Standing
from wardian.errors import PolicyDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason why not.

    Attributes:
        owner: whose policy refuses: public key in hex.
        who: that owner, as the plan calls it.
        table: of that owner.
        allow: the name of the `[[allow]]` that refuses; None: the policy as a whole does.
        rule: which rule.
        reason: what the job wants, or what is over; never what would have been accepted.
    """

    owner: str
    who: str
    table: str
    allow: str | None
    rule: Rule
    reason: str

    @property
    def said(self) -> str:
        """The refusal in one line."""
        where = f", rule {self.allow}" if self.allow else ""
        return f"{self.who} refuses for table {self.table}{where}: {self.reason} ({self.rule})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one owner says about one of its tables.

    Attributes:
        owner: public key in hex; `who` is what the plan calls it.
        place: `DataPolicy.place` of the table.
        policy: None where there is none.
        allow: the rule that allows the job; None where none does.
        refusals: why not, every one; empty if `allow` is there.
    """

    owner: str
    who: str
    table: str
    place: str
    policy: DataPolicy | None
    allow: Allow | None
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Debit:
    """What a release uses up of one table; committed before anything leaves (TRUST T8)."""

    place: str
    uses: int
    """Including this one."""
    spent: Spent
    """Including this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A job that all owners allow.

    Attributes:
        verdicts: of every table, by place.
        debits: likewise.
        terms: what has to hold for whatever comes out.
        release: who may have the model, where one goes to be served; else None.
    """

    verdicts: tuple[Verdict, ...]
    debits: tuple[Debit, ...]
    terms: OutputTerms
    release: ModelRelease | None


def decide(plan: JobPlan, policies: Iterable[VerifiedPolicy], standing: Standing) -> Decision:
    """Return what is released for `plan`, and on which terms. Nothing is counted yet.

    Args:
        plan: whose digest the evidence in `standing` binds.
        policies: the newest that the broker has, in any order; those of other tables count for
            nothing.
        standing: what the broker knows now.

    Raises:
        PolicyDenied: the first of the refusals that `judge` returns; the rule is one of `Rule`.
        LocalProtocolError: a table of the job has no standing.
    """
    verdicts = judge(plan, policies, standing)
    for refusal in chain.from_iterable(each.refusals for each in verdicts):
        raise PolicyDenied(refusal.said, rule=refusal.rule)
    agreed = agreements(verdicts)
    return Decision(
        verdicts=verdicts,
        debits=tuple(_debit(plan, each.place, standing) for each in verdicts),
        terms=merge_outputs(agreed),
        release=model_release(agreed) if plan.outputs.serving else None,
    )


def judge(
    plan: JobPlan, policies: Iterable[VerifiedPolicy], standing: Standing
) -> tuple[Verdict, ...]:
    """Return what each owner says to `plan` now, by place of the table: every refusal.

    Raises:
        LocalProtocolError: a table of the job has no standing.
    """
    held = tuple(policies)
    marks = {each.policy.place: each.mark for each in held}

    def whole(policy: DataPolicy) -> Iterator[Refused]:
        table = standing.table(policy.place)
        return conditions.at_run(plan, policy, marks[policy.place], standing, table)

    def single(policy: DataPolicy, rule: Allow) -> Iterator[Refused]:
        time = standing.time(standing.table(policy.place))
        yield from conditions.of_time(rule, time=time)
        yield from conditions.of_rows(rule, rows=standing.rows)

    return _judge(plan, [each.policy for each in held], whole=whole, single=single)


def judge_on_paper(
    plan: JobPlan, policies: Iterable[DataPolicy], *, time: int
) -> tuple[Verdict, ...]:
    """Return what the files alone say to `plan`, believed or not.

    Uses, budget, evidence, beacons, newer policies and the size of the join are known only at the
    run: nothing is refused for them here.

    Args:
        plan: the job.
        policies: signed or not.
        time: Unix seconds; by it rules are over.
    """

    def whole(_: DataPolicy) -> Iterator[Refused]:
        return iter(())

    def single(_: DataPolicy, rule: Allow) -> Iterator[Refused]:
        return conditions.of_time(rule, time=time)

    return _judge(plan, policies, whole=whole, single=single)


def agreements(verdicts: Iterable[Verdict]) -> tuple[Agreed, ...]:
    """Return policy and rule of every verdict that allows."""
    return tuple(
        Agreed(policy=each.policy, allow=each.allow)
        for each in verdicts
        if each.policy is not None and each.allow is not None
    )


def _judge(
    plan: JobPlan,
    policies: Iterable[DataPolicy],
    *,
    whole: Callable[[DataPolicy], Iterator[Refused]],
    single: Callable[[DataPolicy, Allow], Iterator[Refused]],
) -> tuple[Verdict, ...]:
    """Return the verdicts, with the conditions of a policy as a `whole` and of a `single` rule."""
    by_place: dict[str, list[DataPolicy]] = {place: [] for place in plan.places}
    for policy in policies:
        by_place.get(policy.place, []).append(policy)

    def verdict(used: Input) -> Verdict:
        place, who = plan.place(used), used.owner
        owner, found = plan.parties[who].key, by_place[place]
        policy = found[0] if len(found) == 1 else None

        def refusal(refused: Refused, allow: str | None = None) -> Refusal:
            rule, reason = refused
            return Refusal(
                owner=owner, who=who, table=used.table, allow=allow, rule=rule, reason=reason
            )

        def all_of(found: Iterable[Refused], allow: str | None = None) -> list[Refusal]:
            return sorted((refusal(each, allow) for each in found), key=_told_first)

        allowing, refusals = None, list[Refusal]()
        if policy is None:
            refusals.append(refusal(_none_or_two(found)))
        else:
            refusals += all_of(chain(conditions.of_policy(plan, policy), whole(policy)))
            tried = _rules(plan, policy, used, single)
            allowing = next((rule for rule, refused in tried.values() if not refused), None)
            if allowing is None:
                for name, (_, refused) in tried.items():
                    refusals += all_of(refused, name)
        return Verdict(
            owner=owner,
            who=who,
            table=used.table,
            place=place,
            policy=policy,
            allow=None if refusals else allowing,
            refusals=tuple(refusals),
        )

    return tuple(verdict(used) for used in sorted(plan.inputs, key=plan.place))


def _rules(
    plan: JobPlan,
    policy: DataPolicy,
    used: Input,
    single: Callable[[DataPolicy, Allow], Iterator[Refused]],
) -> Mapping[str, tuple[Allow, list[Refused]]]:
    """Return every rule of `policy` and what of it refuses, by name and in the order of names."""
    return {
        rule.name: (
            rule,
            [*conditions.of_rule(plan, policy, rule, used), *single(policy, rule)],
        )
        for rule in sorted(policy.allow, key=lambda rule: rule.name)
    }


def _none_or_two(found: list[DataPolicy]) -> Refused:
    if found:
        return Rule.POLICY_TWICE, "two policies about it are shown"
    return Rule.NO_POLICY, "no policy of its owner is about it"


def _told_first(refusal: Refusal) -> tuple[int, str]:
    return ORDER[refusal.rule], refusal.reason


def _debit(plan: JobPlan, place: str, standing: Standing) -> Debit:
    table = standing.table(place)
    return Debit(place=place, uses=table.uses + 1, spent=table.spent.plus(plan.privacy))
