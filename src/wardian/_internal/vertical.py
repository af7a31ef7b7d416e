"""`[psi]` and `[vertical]` of `consortium.toml`: columns of the same records, at different parties.

The ranges are those of what is made of them (`learning.vertical.plans`), so that a plan that nobody
could run is refused when its file is read.
"""

from typing import Annotated, Literal

import msgspec

from wardian._internal.settings import Name, Settings

MAX_ALIGNED: int = 64
"""Parties whose records are aligned, or who have columns of one model."""
_MAX_TREES = 10_000

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Width = Annotated[int, msgspec.Meta(ge=1, le=65_536)]


class PsiTable(Settings, frozen=True, kw_only=True):
    """`[psi]`: which records all parties have, by their identifiers."""

    protocol: Literal["tags", "ecdh"]
    caps: Annotated[
        dict[Name, Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]],
        msgspec.Meta(min_length=2, max_length=MAX_ALIGNED),
    ]
    """How many identifiers each party may submit."""
    runs: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    """How many intersections a party takes part in: each is a chance to ask about others."""


class NoiseTable(Settings, frozen=True, kw_only=True):
    """`[vertical.noise]`: what the owner of the labels grants; see `learning.vertical.noise`."""

    mu: Positive
    """How distinguishable two labels of a record are by all that leaves."""
    clip: Positive = 1.0
    """The largest norm of a record's error."""


class Linear(Settings, frozen=True, kw_only=True, tag_field="model", tag="linear"):
    """`model = "linear"`: logistic or linear regression."""

    placement: Literal["features", "embeddings"]
    labels: Name
    predict: Name | None = None
    noise: NoiseTable | None = None
    loss: Literal["logistic", "squared"] = "logistic"
    l2: NotNegative = 1e-3
    rounds: Count = 5000
    tolerance: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 1e-13


class Trees(Settings, frozen=True, kw_only=True, tag_field="model", tag="trees"):
    """`model = "trees"`: gradient-boosted trees."""

    placement: Literal["bins"]
    labels: Name
    predict: Name | None = None
    noise: None = None
    objective: Literal["squared", "logistic", "softmax"] = "logistic"
    rounds: Annotated[int, msgspec.Meta(ge=1, le=_MAX_TREES)] = 100
    depth: Annotated[int, msgspec.Meta(ge=1, le=10)] = 6
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    l2: NotNegative = 1.0
    least_gain: NotNegative = 0.0
    least_weight: Annotated[float, msgspec.Meta(ge=1e-3, le=1e9)] = 1.0
    classes: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    ranges: Annotated[int, msgspec.Meta(ge=2, le=255)] = 255
    """Of a column, at most."""

    def __post_init__(self) -> None:
        """Refuse classes that there cannot be, and too many trees."""
        if (self.objective == "softmax") != (self.classes >= 2):
            raise ValueError("`classes` is 2 to 256 with `softmax`, else unset")
        if self.classes == 1 or self.rounds * max(self.classes, 1) > _MAX_TREES:
            raise ValueError(f"`rounds` times `classes` is at most {_MAX_TREES} trees")


class Network(Settings, frozen=True, kw_only=True, tag_field="model", tag="network"):
    """`model = "network"`: a classifier whose first layers are the parties'."""

    placement: Literal["embeddings"]
    labels: Name
    predict: Name | None = None
    noise: NoiseTable | None = None
    classes: Annotated[int, msgspec.Meta(ge=2, le=65_536)]
    embeddings: Annotated[dict[Name, Width], msgspec.Meta(min_length=1, max_length=MAX_ALIGNED)]
    """How many numbers each party makes of a record."""
    hidden: Annotated[tuple[Width, ...], msgspec.Meta(max_length=16)] = ()
    epochs: Count = 30
    batch: Count = 32
    rate: Positive = 0.05
    momentum: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.9
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


Vertical = Linear | Trees | Network


def demand_psi(psi: PsiTable, vertical: Vertical | None, parties: frozenset[str]) -> None:
    """Return if `psi` is of these parties, and enough for `vertical`.

    Raises:
        ValueError: it is not; names the key.
    """
    if set(psi.caps) != parties:
        raise ValueError("`psi.caps` says for each of `parties`, and for nobody else, how many")
    if psi.protocol == "ecdh" and len(parties) != 2:
        raise ValueError("`psi.protocol`: `ecdh` is for two parties")
    if vertical is not None and vertical.predict is not None and psi.runs < 2:
        raise ValueError("`psi.runs`: records to predict are aligned, too, so it is 2 or more")


def demand_vertical(vertical: Vertical, parties: frozenset[str]) -> None:
    """Return if `vertical` is of these parties, and complete.

    Raises:
        ValueError: it is not; names the key.
    """
    if not 2 <= len(parties) <= MAX_ALIGNED:
        raise ValueError(f"`parties`: 2 to {MAX_ALIGNED} have columns of one model")
    if vertical.labels not in parties:
        raise ValueError("`vertical.labels` is none of `parties`")
    if vertical.predict not in {None, *parties}:
        raise ValueError("`vertical.predict` is none of `parties`")
    noised = vertical.placement == "embeddings"
    if noised and vertical.noise is None:
        raise ValueError("`vertical.noise` is missing: errors of `embeddings` tell labels")
    if not noised and vertical.noise is not None:
        raise ValueError("`vertical.noise` is for the placement `embeddings` alone")
    if isinstance(vertical, Network):
        without = parties - set(vertical.embeddings)
        if not set(vertical.embeddings) <= parties or not without <= {vertical.labels}:
            raise ValueError(
                "`vertical.embeddings` names each of `parties`; who has the labels can do without"
            )
