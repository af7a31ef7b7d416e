"""What each rule looks at: conditions on paper, between two files, and conditions at the run.

Each yields what refuses, with a reason that says what the job wants and never what would do: a
reader of refusals learns nothing of a policy that is not in the job's own plan.
"""

from collections.abc import Iterator

from wardian.broker.jobs.parties import recipients
from wardian.broker.jobs.plan import Input, JobPlan
from wardian.broker.jobs.policy import EVERY_COLUMN, Allow, DataPolicy
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.standing import Spent, Standing, TableStanding, exact
from wardian.broker.jobs.trainers import LEAST_ROWS
from wardian.errors import PolicyDenied

Refused = tuple[Rule, str]
_OUTPUTS = {
    "model": (Rule.MODEL, "the model"),
    "metrics": (Rule.METRICS, "metrics"),
    "aggregates": (Rule.AGGREGATES, "aggregates"),
}


def of_policy(plan: JobPlan, policy: DataPolicy) -> Iterator[Refused]:
    """Yield what of `policy` as a whole refuses, on paper."""
    if policy.mesh != plan.mesh:
        yield Rule.POLICY_MESH, "plan and policy are for different meshes"
    if policy.revoked:
        yield Rule.POLICY_REVOKED, "its owner withdrew the table"
    if not policy.allow:
        yield Rule.NO_RULE, "the policy has no rule that could allow anything"


def of_rule(plan: JobPlan, policy: DataPolicy, rule: Allow, used: Input) -> Iterator[Refused]:
    """Yield what of `rule` refuses, on paper; `used` is the table that the policy is about."""
    if plan.purpose not in rule.purposes:
        yield Rule.PURPOSE, f"the purpose is {plan.purpose}"
    yield from _parties(plan, policy, rule)
    if EVERY_COLUMN not in rule.columns:
        for column in sorted(used.used - rule.columns):
            yield Rule.COLUMNS, f"the job uses the column {column}"
    yield from _algorithm(plan, rule)
    yield from _outputs(plan, policy, rule)
    yield from _noise(plan, rule)


def of_time(rule: Allow, *, time: int) -> Iterator[Refused]:
    """Yield a refusal if the time of `rule` is over at `time`, Unix seconds."""
    if time > rule.expires_at:
        yield Rule.EXPIRED, "its time is over"


def at_run(
    plan: JobPlan, policy: DataPolicy, mark: bytes, standing: Standing, table: TableStanding
) -> Iterator[Refused]:
    """Yield what of `policy` as a whole refuses at the run.

    Args:
        plan: the job.
        policy: a verified one.
        mark: of that policy.
        standing: what the broker knows of the job.
        table: what it knows of the table.
    """
    if table.newest is not None and (mark[:8] < table.newest[:8] or _another(mark, table.newest)):
        yield Rule.POLICY_SERIAL, f"serial {policy.serial} is not the newest that was seen"
    yield from of_beacon(policy, table, time=standing.time(table))
    try:
        policy.appraisal.demand(standing.claims)
    except PolicyDenied as err:
        yield Rule.CODE, f"{err.rule}: {err}"
    if policy.uses is not None and table.uses >= policy.uses:
        yield Rule.USES, "all releases that the owner granted were had"
    if policy.budget is not None and plan.privacy is not None:
        spent = table.spent.plus(plan.privacy)
        if spent.epsilon > exact(policy.budget.epsilon) or spent.delta > exact(policy.budget.delta):
            yield Rule.BUDGET, f"the run would spend epsilon {plan.privacy.epsilon:g}"


def of_rows(rule: Allow, *, rows: int | None) -> Iterator[Refused]:
    """Yield a refusal if the join has so few `rows`; None: they are not known yet."""
    if rows is not None and rows < rule.output.smallest_join:
        yield Rule.JOIN, "too few rows are in the join"


def of_beacon(policy: DataPolicy, table: TableStanding, *, time: int) -> Iterator[Refused]:
    """Yield a refusal if the owner's beacons do not come as `policy` demands, at `time`."""
    if policy.max_beacon_age_s is None:
        return
    if table.beacon is None:
        yield Rule.BEACON_MISSING, "its owner demands time beacons and has sent none"
    elif time - table.beacon > policy.max_beacon_age_s:
        yield Rule.BEACON_OLD, "the newest time beacon of its owner is too old"


def _another(mark: bytes, newest: bytes) -> bool:
    """Return whether both have one serial, and are not the same policy."""
    return mark[:8] == newest[:8] and mark != newest


def _parties(plan: JobPlan, policy: DataPolicy, rule: Allow) -> Iterator[Refused]:
    known = {policy.parties[name].key for name in rule.parties}
    names = {each.owner for each in plan.inputs} | plan.outputs.receiving
    for name in sorted(names):
        if plan.parties[name].key not in known:
            yield Rule.PARTY, f"{name} takes part"


def _algorithm(plan: JobPlan, rule: Allow) -> Iterator[Refused]:
    ranges = rule.algorithms.get(plan.train.algorithm)
    if ranges is None:
        yield Rule.ALGORITHM, f"the algorithm is {plan.train.algorithm}"
        return
    for name, value in sorted(plan.train.parameters.items()):
        allowed = ranges.get(name)
        if allowed is None:
            refused = value != plan.train.defaults[name]
        else:
            refused = not allowed.holds(value)
        if refused or (name == LEAST_ROWS and int(value) < rule.output.smallest_cohort):
            yield Rule.PARAMETER, f"the parameter {name} is {value!r}"


def _outputs(plan: JobPlan, policy: DataPolicy, rule: Allow) -> Iterator[Refused]:
    for output, (refusing, what) in _OUTPUTS.items():
        allowed = recipients(getattr(rule.output, output), policy.parties)
        known = {each.key for each in allowed}
        for name in sorted(getattr(plan.outputs, output)):
            (given,) = recipients((name,), plan.parties)
            if given.key not in known:
                yield refusing, f"{name} would receive {what}"
            elif given not in allowed:
                yield Rule.RECIPIENT_KEY, f"{what} would be sealed to a key not known as {name}'s"
    if foreign := sorted(plan.outputs.serving - rule.output.serving):
        yield Rule.SERVING, f"measurement {foreign[0]} would serve the model"


def _noise(plan: JobPlan, rule: Allow) -> Iterator[Refused]:
    if rule.output.epsilon is None:
        return
    if plan.privacy is None:
        yield Rule.EPSILON, "the job adds no noise"
        return
    asked = Spent().plus(plan.privacy)
    if asked.epsilon > exact(rule.output.epsilon) or asked.delta > exact(rule.output.delta):
        yield (
            Rule.EPSILON,
            f"a run asks for epsilon {plan.privacy.epsilon:g}, delta {plan.privacy.delta:g}",
        )
