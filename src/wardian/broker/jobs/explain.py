"""Policies and plans for people: what a policy allows, and who still has to agree to a plan.

Every line is made of files that the reader has; nothing is believed, and nothing is asked.
"""

import time
from collections.abc import Iterable, Iterator

from wardian.attestation.appraisal.policy_file import PolicyFile
from wardian.broker.jobs.decision import Verdict, agreements
from wardian.broker.jobs.merge import OutputTerms, merge_outputs
from wardian.broker.jobs.parties import Parties, Recipient
from wardian.broker.jobs.plan import JobPlan, Outputs, plan_digest
from wardian.broker.jobs.policy import EVERY_COLUMN, Allow, DataPolicy, Output, Range

AT_THE_RUN = (
    "releases and epsilon that are left, a newer or withdrawn policy, time beacons, the evidence "
    "of the job, the rows in the join, approvals"
)


def explain_policy(policy: DataPolicy, *, now: int) -> list[str]:
    """Return what `policy` allows, a line each; `now` (Unix seconds) says which rules are over."""
    of = f"table {policy.table} of {policy.owner} ({short(policy.owner_key)})"
    lines = [f"{of}, mesh {policy.mesh}, serial {policy.serial}"]
    if policy.revoked:
        return [*lines, "  WITHDRAWN: nobody gets it"]
    if not policy.allow:
        return [*lines, "  no rule: nobody gets it"]
    lines += [f"  {line}" for line in _whole(policy)]
    for rule in sorted(policy.allow, key=lambda rule: rule.name):
        over = ", which is OVER" if now > rule.expires_at else ""
        lines.append(f"rule {rule.name} allows a job of which all this holds")
        lines += [f"  {name:<9} {text}" for name, text in _rule(rule, over=over)]
    return lines


def explain_plan(plan: JobPlan, verdicts: Iterable[Verdict]) -> list[str]:
    """Return who has to agree to `plan`, who does, and why others do not, a line each."""
    judged, inputs = tuple(verdicts), {plan.place(each): each for each in plan.inputs}
    lines = [
        f"job {plan.name} for {plan.purpose}, mesh {plan.mesh}",
        f"  digest    {plan_digest(plan).hex()}",
        f"  runs      {_algorithm(plan)}",
        f"  gives     {_gives(plan.outputs)}",
        f"  spends    {_spends(plan)}",
        "owners who have to agree",
    ]
    for each in judged:
        said = f"agrees, by rule {each.allow.name}" if each.allow else "REFUSES"
        lines.append(f"  {each.who} ({short(each.owner)}), table {each.table}: {said}")
        lines.append(f"    uses {_listed(inputs[each.place].used)}")
        for refusal in each.refusals:
            where = f"rule {refusal.allow}" if refusal.allow else "the policy"
            lines.append(f"    {where}: {refusal.reason} ({refusal.rule})")
    if all(each.allow for each in judged):
        lines += ["what then holds", *(f"  {line}" for line in _terms(plan, judged))]
    return [*lines, f"known only at the run: {AT_THE_RUN}"]


def short(key: str) -> str:
    """Return enough of a key to tell it from others."""
    return f"{key[:16]}…"


def _whole(policy: DataPolicy) -> Iterator[str]:
    for name, party in sorted(policy.parties.items()):
        yield f"party     {name}, by the key {party.key}"
        if party.seal_to is not None:
            yield f"          which is sealed to under {party.seal_to}"
    if policy.code is not None:
        yield from _code(policy.code)
    yield f"releases  {policy.uses:,} in all, whichever rule allows them"
    if policy.max_beacon_age_s is None:
        yield "beacons   none demanded: when rules are over, the broker's clock alone says"
    else:
        yield f"beacons   the owner's newest is at most {policy.max_beacon_age_s:,} s old"
    if policy.budget is not None:
        yield f"budget    {_epsilon(policy.budget.epsilon, policy.budget.delta)} for all runs"


def _code(code: PolicyFile) -> Iterator[str]:
    if code.measurements:
        yield f"code      measurement {', '.join(sorted(code.measurements))}"
    if code.signer:
        yield (
            f"code      signed by {code.signer}, product {code.product_id}, "
            f"version {code.min_svn} or higher"
        )
    if code.tdx:
        yield "code      a trust domain by its registers"
    if code.simulation_root_sha256:
        yield "platform  SIMULATED: no hardware protects anything"
    else:
        machines = f"{len(code.platforms)} listed" if code.platforms else "ANY machine"
        yield f"platform  {machines}, {' or '.join(sorted(code.tcb_statuses))}"
    if code.advisories:
        yield f"accepted  in spite of {_listed(code.advisories)}"


def _rule(rule: Allow, *, over: str) -> Iterator[tuple[str, str]]:
    output = rule.output
    yield "for", _listed(rule.purposes)
    yield "with", _listed(rule.parties)
    yield "columns", "ALL" if EVERY_COLUMN in rule.columns else _listed(rule.columns)
    for name, ranges in sorted(rule.algorithms.items()):
        within = [f"{parameter} {_range(each)}" for parameter, each in sorted(ranges.items())]
        yield "by", f"{name}: {', '.join([*within, 'all else as by default'])}"
    yield "until", f"{_time(rule.expires_at)}{over}"
    yield "gives", _gives(output)
    yield "rows", f"{output.smallest_join:,} or more in the join"
    yield "cohort", f"{output.smallest_cohort:,} rows or more behind every number"
    yield "a run", _noise(output)
    if output.approvals is not None:
        yield "leaves", f"once {output.approvals.needed} of {_listed(output.approvals.of)} approve"


def _range(each: Range) -> str:
    if each.exact is not None:
        return f"= {each.exact}"
    if each.one_of is not None:
        return f"one of {', '.join(map(str, each.one_of))}"
    if each.min is None:
        return f"up to {each.max}"
    return f"from {each.min}" if each.max is None else f"from {each.min} to {each.max}"


def _noise(output: Output) -> str:
    if output.epsilon is None:
        return "WITHOUT NOISE: what comes out may tell of single people"
    return f"spends up to {_epsilon(output.epsilon, output.delta)}"


def _gives(output: Output | Outputs) -> str:
    named = {"model": output.model, "metrics": output.metrics, "aggregates": output.aggregates}
    found = [f"{what} to {_listed(names)}" for what, names in named.items() if names]
    if output.serving:
        found.append(f"the model to be served by {_listed(output.serving)}")
    return "; ".join(found) or "nothing to anybody"


def _algorithm(plan: JobPlan) -> str:
    parameters = (f"{name} {value}" for name, value in sorted(plan.train.parameters.items()))
    return ", ".join([plan.train.algorithm, *parameters])


def _spends(plan: JobPlan) -> str:
    if plan.privacy is None:
        return "no epsilon: it adds NO NOISE"
    return _epsilon(plan.privacy.epsilon, plan.privacy.delta)


def _terms(plan: JobPlan, verdicts: Iterable[Verdict]) -> Iterator[str]:
    agreed = agreements(verdicts)
    terms = merge_outputs(agreed)  # all agree to what the plan gives, so somebody is left
    names = _names(plan.parties)
    for what in ("model", "metrics", "aggregates"):
        yield f"{what:<10}may go to {_known(getattr(terms, what), names)}"
    yield f"rows      {terms.smallest_join:,} or more in the join"
    yield f"cohort    {terms.smallest_cohort:,} rows or more behind every number"
    yield from _approvals(terms, names)
    for each in agreed:
        yield f"until     {_time(each.allow.expires_at)}, says {names[each.policy.owner_key]}"


def _approvals(terms: OutputTerms, names: dict[str, str]) -> Iterator[str]:
    for each in sorted(terms.approvals, key=lambda each: (each.needed, sorted(each.of))):
        of = _listed(names.get(key, short(key)) for key in each.of)
        yield f"leaves    once {each.needed} of {of} approve"


def _known(found: Iterable[Recipient], names: dict[str, str]) -> str:
    return _listed(names.get(each.key, short(each.key)) for each in found) or "nobody"


def _names(parties: Parties) -> dict[str, str]:
    return {party.key: name for name, party in parties.items()}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _epsilon(epsilon: float, delta: float) -> str:
    return f"epsilon {epsilon:g}, delta {delta:g}"


def _time(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(min(max(at, 0), 2**40)))
