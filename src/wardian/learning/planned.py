"""The strategy that a plan names, with the privacy that it demands."""

from wardian._internal.consortium import Consortium, PrivacyTerms
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError
from wardian.learning.masking.plan import verify_maskable
from wardian.learning.masking.vectors import verify_masking
from wardian.learning.privacy.central import CentralPrivacy
from wardian.learning.privacy.clipping import AdaptiveClip, FixedClip
from wardian.learning.privacy.gaussian import gaussian_epsilon, noise_within
from wardian.learning.privacy.ledger import Ledger, Terms
from wardian.learning.strategies.strategy import Strategy
from wardian.learning.strategies.terms import build_strategy
from wardian.learning.vertical.plans import verify_aligned


def planned_strategy(plan: Consortium, *, run: bytes, secret: Secret) -> Strategy:
    """Return the strategy of `plan`, as it is at the beginning of a run.

    Args:
        plan: what the parties agreed to.
        run: 32 bytes that name the run.
        secret: 32 bytes that only the coordinator knows, the same as long as the run lasts.

    Raises:
        ConfigError: names the setting that is wrong, or the two that exclude each other.
    """
    if plan.strategy is None:
        raise ConfigError("the plan has no strategy")
    strategy = build_strategy(plan.strategy, parties=len(plan.parties))
    if plan.masking is not None:
        name = str(plan.strategy["name"])
        verify_maskable(strategy=name, robust=strategy.robust, clips=plan.privacy is not None)
        verify_masking(plan, records=strategy.records)
    if plan.privacy is not None:
        return _private(strategy, plan, plan.privacy, run=run, secret=secret)
    return strategy


def verify_plan(plan: Consortium) -> None:
    """Return if a run of `plan` could begin; raise ConfigError as `planned_strategy`."""
    if plan.strategy is None:
        verify_aligned(plan)
    else:
        planned_strategy(plan, run=bytes(32), secret=Secret(bytes(32)))


def _private(
    strategy: Strategy, plan: Consortium, terms: PrivacyTerms, *, run: bytes, secret: Secret
) -> CentralPrivacy:
    parties, rounds = len(plan.parties), plan.run.rounds
    granted = Terms(run=run, epsilon=terms.epsilon, delta=terms.delta, parties=parties)
    granted.verify()
    noise = terms.noise or noise_within(
        epsilon=terms.epsilon, delta=terms.delta, rounds=rounds, parties=parties
    )
    costs = gaussian_epsilon((granted.releases(rounds, noise=noise),), terms.delta)
    if not costs <= terms.epsilon:
        raise ConfigError(
            f"privacy: {rounds} rounds with noise {noise:g} cost an epsilon of {costs:.3g}, and "
            f"the budget is {terms.epsilon:g}"
        )
    return CentralPrivacy(
        strategy,
        clipping=_clipping(terms),
        noise=noise,
        expected=terms.expected or plan.run.quorum,
        ledger=Ledger(granted, accountant=gaussian_epsilon),
        secret=secret,
    )


def _clipping(terms: PrivacyTerms) -> FixedClip | AdaptiveClip:
    if terms.quantile is None:
        return FixedClip(norm=terms.clip)
    return AdaptiveClip(
        initial=terms.clip,
        quantile=terms.quantile,
        rate=terms.clip_rate,
        bit_noise=terms.bit_noise,
    )
