"""What a consortium's plan says of aligning and of columns, as the two sides take it. Pure."""

from wardian._internal import wire
from wardian._internal.consortium import Consortium
from wardian._internal.vertical import Linear, Network, NoiseTable, Trees
from wardian.errors import ConfigError
from wardian.learning.psi.terms import PsiTerms
from wardian.learning.vertical.linear.descent import LinearPlan, Loss
from wardian.learning.vertical.network.plan import NetworkPlan
from wardian.learning.vertical.noise import NoiseTerms
from wardian.learning.vertical.trees.plan import Objective, TreePlan


def psi_terms(plan: Consortium) -> PsiTerms:
    """Return who intersects, of how many identifiers, how often.

    Raises:
        ConfigError: the plan says nothing of it, or what there cannot be.
    """
    given = plan.psi
    keys = {name: bytes.fromhex(each.key) for name, each in plan.parties.items()}
    caps, runs = ({}, 0) if given is None else (given.caps, given.runs)
    return PsiTerms(keys=keys, caps=caps, runs=runs)


def verify_aligned(plan: Consortium) -> None:
    """Return if a run of `plan` over aligned records could begin.

    Raises:
        ConfigError: names what is out of range.
    """
    if plan.psi is not None:
        psi_terms(plan)
    if isinstance(plan.vertical, Linear):
        linear_plan(plan.vertical)
    elif isinstance(plan.vertical, Trees):
        tree_plan(plan.vertical)
    elif plan.vertical is not None:
        network_plan(plan.vertical)
    if plan.vertical is not None and plan.vertical.noise is not None:
        noise_terms(plan.vertical.noise)


def psi_run(run: bytes, of: str) -> bytes:
    """Return what names the intersection of the records `of` that `run` makes; one name each."""
    return wire.fields("wardian psi of a run v1", run, of.encode())


def linear_plan(given: Linear) -> LinearPlan:
    """Return the regression that a plan states."""
    return LinearPlan(
        loss=Loss(given.loss), l2=given.l2, rounds=given.rounds, tolerance=given.tolerance
    )


def tree_plan(given: Trees) -> TreePlan:
    """Return the trees that a plan states."""
    return TreePlan(
        objective=Objective(given.objective),
        rounds=given.rounds,
        depth=given.depth,
        rate=given.rate,
        l2=given.l2,
        least_gain=given.least_gain,
        least_weight=given.least_weight,
        classes=given.classes,
    )


def network_plan(given: Network) -> NetworkPlan:
    """Return the network that a plan states."""
    return NetworkPlan(
        classes=given.classes,
        embeddings=given.embeddings,
        hidden=given.hidden,
        epochs=given.epochs,
        batch=given.batch,
        rate=given.rate,
        momentum=given.momentum,
        seed=given.seed,
    )


def noise_terms(given: NoiseTable | None) -> NoiseTerms:
    """Return what the owner of the labels grants.

    Raises:
        ConfigError: nothing: then no error leaves.
    """
    if given is None:
        raise ConfigError("`vertical.noise` is missing")
    return NoiseTerms(mu=given.mu, clip=given.clip)
