"""What holds for what comes out of a job: what every owner of an input allows, and no more.

Recipients are those that all name, the smallest join and cohort the largest that one demands,
epsilon the least, and everybody's approvals are needed. So no owner's word is outvoted.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

from wardian.broker.jobs.parties import Recipient, recipients
from wardian.broker.jobs.policy import Allow, DataPolicy
from wardian.broker.jobs.rules import Rule
from wardian.broker.mesh.lines import ReleaseTerms
from wardian.errors import PolicyDenied

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """One owner's policy, and the rule of it that allows the job."""

    policy: DataPolicy
    allow: Allow

    @property
    def serving_terms(self) -> ReleaseTerms:
        """How long a model of the owner's table is served: no longer than the table is given."""
        return ReleaseTerms(
            not_after=self.allow.expires_at, max_beacon_age_s=self.policy.max_beacon_age_s
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTerms:
    """What one owner demands before anything leaves: `needed` of the parties with these keys."""

    needed: int
    of: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTerms:
    """The output policy of a job.

    Attributes:
        model, metrics, aggregates: who may have them.
        serving: measurements, in hex, that may be given the model to serve it.
        smallest_join: rows, 1 or more.
        smallest_cohort: rows behind any number that is told, 1 or more.
        epsilon, delta: the most that the run may spend; None: every owner does without noise.
        approvals: each of which is needed.
    """

    model: frozenset[Recipient]
    metrics: frozenset[Recipient]
    aggregates: frozenset[Recipient]
    serving: frozenset[str]
    smallest_join: int
    smallest_cohort: int
    epsilon: float | None
    delta: float | None
    approvals: frozenset[ApprovalTerms]

    def refuse_small_join(self, rows: int) -> None:
        """Return if a join of so many `rows` may be used; PolicyDenied, rule `join-small`."""
        if rows < self.smallest_join:
            raise PolicyDenied("too few rows are in the join", rule=Rule.JOIN)

    def refuse_small_cohort(self, rows: int) -> None:
        """Return if a number with so many `rows` behind it may be told; rule `cohort-small`."""
        if rows < self.smallest_cohort:
            raise PolicyDenied("too few rows stand behind a number", rule=Rule.COHORT)

    def approved_by(self, approved: Collection[str]) -> bool:
        """Return whether those with the keys `approved`, in hex, are enough for every owner."""
        return all(len(each.of.intersection(approved)) >= each.needed for each in self.approvals)

    def refuse_unapproved(self, approved: Collection[str]) -> None:
        """Return if those with the keys `approved` are enough; rule `export-approvals`.

        Args:
            approved: public keys in hex, whose signatures over this export were verified.
        """
        if not self.approved_by(approved):
            raise PolicyDenied("too few of those who have to approve did", rule=Rule.APPROVAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRelease:
    """The release policy of a model that was made of several owners' tables.

    Attributes:
        measurements: who may be given its key, in hex; never empty.
        terms: of each owner, by public key in hex. Every one has to hold, at every release: a model
            is served no longer than any of the tables could have been used.
    """

    measurements: frozenset[str]
    terms: tuple[tuple[str, ReleaseTerms], ...]


def merge_outputs(agreed: Iterable[Agreed]) -> OutputTerms:
    """Return what all of `agreed`, at least one, allow to come out.

    Raises:
        PolicyDenied: the rule `output-empty`: nobody may have anything.
    """
    each = tuple(agreed)
    outputs = [one.allow.output for one in each]
    epsilons = [one.epsilon for one in outputs if one.epsilon is not None]
    terms = OutputTerms(
        model=_common(recipients(one.allow.output.model, one.policy.parties) for one in each),
        metrics=_common(recipients(one.allow.output.metrics, one.policy.parties) for one in each),
        aggregates=_common(
            recipients(one.allow.output.aggregates, one.policy.parties) for one in each
        ),
        serving=_common(one.serving for one in outputs),
        smallest_join=max((one.smallest_join for one in outputs), default=1),
        smallest_cohort=max((one.smallest_cohort for one in outputs), default=1),
        epsilon=min(epsilons, default=None),
        delta=min((one.delta for one in outputs if one.epsilon is not None), default=None),
        approvals=frozenset(_approvals(each)),
    )
    if not (terms.model or terms.metrics or terms.aggregates or terms.serving):
        raise PolicyDenied("owners agree on nobody who may have anything", rule=Rule.OUTPUT)
    return terms


def model_release(agreed: Iterable[Agreed]) -> ModelRelease:
    """Return who may be given the model to serve it, and on which terms.

    Raises:
        PolicyDenied: the rule `output-empty`: no code that all of `agreed` name.
    """
    each = tuple(agreed)
    measurements = _common(one.allow.output.serving for one in each)
    if not measurements:
        raise PolicyDenied("owners agree on no code that may serve the model", rule=Rule.OUTPUT)
    terms = {(one.policy.owner_key, one.serving_terms) for one in each}
    return ModelRelease(measurements=measurements, terms=tuple(sorted(terms, key=_by_owner)))


def _approvals(agreed: Iterable[Agreed]) -> Iterable[ApprovalTerms]:
    for one in agreed:
        demanded = one.allow.output.approvals
        if demanded is not None:
            keys = frozenset(one.policy.parties[name].key for name in demanded.of)
            yield ApprovalTerms(needed=demanded.needed, of=keys)


def _common(sets: Iterable[frozenset[T]]) -> frozenset[T]:
    """Return what is in every one of `sets`; nothing where there are none."""
    listed = list(sets)
    return reduce(frozenset.intersection, listed) if listed else frozenset()


def _by_owner(terms: tuple[str, ReleaseTerms]) -> tuple[str, int, int]:
    owner, each = terms
    return owner, each.not_after or 0, each.max_beacon_age_s or 0
