"""`consortium.toml`: what parties agreed to before they learn together. It is measured.

The digest is part of the coordinator's measurement: whoever verified its evidence knows that it
runs this algorithm, so many rounds, with no smaller a cohort, and for nobody but these parties.
"""

from typing import Annotated, Any

import msgspec

from wardian._internal.settings import Name, PositiveInt, PublicKey, Settings
from wardian._internal.vertical import PsiTable, Vertical, demand_psi, demand_vertical

Scalar = bool | int | float | str
Metric = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}\Z")]
MAX_PARTIES = 1024


class RunTerms(Settings, frozen=True, kw_only=True):
    """`[run]`: how long, and with how many."""

    rounds: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """Of a strategy, 1 or more; other plans say elsewhere how long they last."""
    quorum: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTIES)]
    """The smallest cohort whose answers become a model: with fewer a round does not stand, so that
    nobody lets one party's update through alone (TRUST T16). No evaluation of fewer is told."""
    sample: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """The part of those who attend that is asked in a round, at least the quorum."""
    gather_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 30.0
    """How long a round waits for the others once the quorum attends; all there: not at all."""
    answer_s: Annotated[float, msgspec.Meta(gt=0, le=2_592_000)] = 600.0
    """Within which a party answers; after it the round goes on without it."""
    attempts: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    """How often a round is tried in which too few answered, before the run fails."""
    evaluate_every: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    """After how many rounds the parties evaluate the model on their own data; 0: never."""
    max_update_bytes: PositiveInt = 2 * 1024**3
    """Largest answer, and model."""
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    """Of who is asked in which round."""


class PrivacyTerms(Settings, frozen=True, kw_only=True):
    """`[privacy]`: what all models of the run together may say of any one party."""

    epsilon: Annotated[float, msgspec.Meta(gt=0)]
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    clip: Annotated[float, msgspec.Meta(gt=0)]
    """The longest update (L2 norm over all arrays); with `quantile`, that of the first round."""
    quantile: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """The share of updates that should not be clipped, which `clip` then follows; None: fixed."""
    clip_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.2
    bit_noise: Annotated[float, msgspec.Meta(gt=0)] | None = None
    noise: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """The noise's standard deviation over `clip`; None: the least that the budget takes."""
    expected: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTIES)] | None = None
    """By how many parties a sum is divided; None: the quorum."""


class MaskingTerms(Settings, frozen=True, kw_only=True):
    """`[masking]`: the coordinator learns sums, and no single update."""

    bound: Annotated[float, msgspec.Meta(gt=0)] = 64.0
    """The largest absolute value by which a parameter changes in a round, or of a metric."""
    fraction_bits: Annotated[int, msgspec.Meta(ge=0, le=52)] = 24
    """Changes are rounded to multiples of 2^-fraction_bits."""
    max_examples: Annotated[int, msgspec.Meta(ge=1, le=2**40)] = 2**20
    """The most records that a party may say it has."""
    metrics: Annotated[tuple[Metric, ...], msgspec.Meta(max_length=64)] = ()
    """Of what parties measure in training: whose weighted means are told. Nothing else is."""


class PartyTerms(Settings, frozen=True, kw_only=True):
    """`[parties.NAME]`: who takes part."""

    key: PublicKey
    """Its public key, as `wardian party keygen` prints it."""


class Consortium(Settings, frozen=True, kw_only=True):
    """`consortium.toml`."""

    name: Name
    run: RunTerms
    strategy: dict[str, Any] | None = None
    """`[strategy]`: its `name` and its settings; see `docs/reference/consortium.md`."""
    psi: PsiTable | None = None
    """`[psi]`: records are aligned, before `[vertical]` or for themselves."""
    vertical: Vertical | None = None
    """`[vertical]`: a model over columns that different parties have."""
    privacy: PrivacyTerms | None = None
    masking: MaskingTerms | None = None
    app: Annotated[dict[str, Scalar], msgspec.Meta(max_length=1024)] = msgspec.field(
        default_factory=dict
    )
    """`[app]`: settings of the parties' own code, the same for all: `run_config` there."""
    parties: Annotated[dict[Name, PartyTerms], msgspec.Meta(min_length=1, max_length=MAX_PARTIES)]
    initial: Name | None = None
    """Who gives the first model; None: the first by name who attends."""

    def __post_init__(self) -> None:
        """Refuse two parties with one key, and a quorum that there cannot be."""
        keys = {each.key[-64:] for each in self.parties.values()}
        if len(keys) < len(self.parties):
            raise ValueError("`parties` names one key twice")
        if self.run.quorum > len(self.parties):
            raise ValueError("`run.quorum` is above the number of parties")
        if self.initial not in {None, *self.parties}:
            raise ValueError("`initial` is none of `parties`")
        if self.strategy is not None:
            self._demand_strategy(self.strategy)
        elif self.vertical is None and self.psi is None:
            raise ValueError("`strategy`, `vertical` or `psi` is missing")
        else:
            self._demand_aligned()

    def _demand_strategy(self, strategy: dict[str, Any]) -> None:
        """Refuse what does not go with federated rounds."""
        if self.vertical is not None or self.psi is not None:
            raise ValueError("`strategy` goes with neither `vertical` nor `psi`")
        if "name" not in strategy:
            raise ValueError("`strategy.name` is missing")
        if strategy.get("parties", len(self.parties)) != len(self.parties):
            raise ValueError("`strategy.parties` is not the number of `parties`: leave it out")
        if not self.run.rounds:
            raise ValueError("`run.rounds` is missing")

    def _demand_aligned(self) -> None:
        """Refuse what does not go with records that all parties have."""
        if self.run.rounds:
            raise ValueError("`run.rounds` is for `strategy` alone")
        if self.run.quorum != len(self.parties) or self.run.sample != 1:
            raise ValueError("`run.quorum` and `run.sample`: every party is needed here")
        if self.initial is not None:
            raise ValueError("`initial` is for `strategy` alone")
        if self.privacy is not None or self.masking is not None:
            raise ValueError("`privacy` and `masking` are for `strategy` alone")
        if self.vertical is not None:
            demand_vertical(self.vertical, frozenset(self.parties))
        if self.psi is not None:
            demand_psi(self.psi, self.vertical, frozenset(self.parties))
