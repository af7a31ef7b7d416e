"""`consortium.toml`: what parties agreed to before they learn together. It is measured.

The digest is part of the coordinator's measurement: whoever verified its evidence knows that it
runs this algorithm, so many rounds, with no smaller a cohort, and for nobody but these parties.
"""

from typing import Annotated, Any

import msgspec

from wardian._internal.settings import Name, PositiveInt, PublicKey, Settings
from wardian._internal.vertical import PsiTable, Vertical, demand_psi, demand_vertical

Scalar = bool | int | float | str
MAX_PARTIES = 1024


class RunTerms(Settings, frozen=True, kw_only=True):
    """`[run]`: how long, and with how many."""

    rounds: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """Of a strategy, 1 or more; other plans say elsewhere how long they last."""
    quorum: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTIES)]
    """The smallest cohort whose answers become a model: with fewer a round does not stand, so that
    nobody lets one party's update through alone (TRUST T16)."""
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
        if self.vertical is not None:
            demand_vertical(self.vertical, frozenset(self.parties))
        if self.psi is not None:
            demand_psi(self.psi, self.vertical, frozenset(self.parties))
