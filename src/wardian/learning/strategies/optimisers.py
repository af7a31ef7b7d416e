"""Server optimisers: what the parties changed, on average, is a gradient that the server follows.

The mean of the changes drives momentum or Adam's or Yogi's moments, in float64, for arrays of real
numbers; whole numbers and truth values are counters, of which the model takes the mean.

FedAvgM: Hsu et al., "Measuring the Effects of Non-Identical Data Distribution", 2019. FedAdam and
FedYogi: Reddi et al., "Adaptive Federated Optimization", 2021, algorithm 2.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from typing_extensions import override

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import MetricRecord, RecordDict
from wardian.learning.reduce import Floats, examples, mean_metrics, mean_of, reduce
from wardian.learning.replies import Block, Replies
from wardian.learning.strategies.demands import real, share
from wardian.learning.strategies.fedavg import FedAvg
from wardian.learning.strategies.kept import beside, demand_kept, demand_like


class _Optimiser(FedAvg):
    """FedAvg whose mean change goes through moments before it reaches the model."""

    _names: ClassVar[tuple[str, ...]]
    """Of the moments."""

    def __init__(self, first: Mapping[str, float]) -> None:
        """Begin each moment with its number in `first`."""
        self._first = dict(first)
        self._kept: dict[str, ArrayRecord] = {}

    @abstractmethod
    def _step(self, change: Floats, *moments: Floats) -> Floats:
        """Return by what the model moves; `moments` hold afterwards what they are then.

        Args:
            change: the mean of what the parties changed, (coordinates).
            moments: in the order of `_names`, (coordinates) each, to be written to.
        """

    @override
    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        weights = examples(replies)
        moments = {
            name: beside(arrays, self._kept.get(name), first=self._first[name])
            for name in self._names
        }

        def reduction(block: Block) -> Floats:
            mean = mean_of(block.values, weights)
            if block.values.dtype.kind != "f":
                return mean
            part = slice(block.start, block.start + mean.size)
            before = arrays[block.array].reshape(-1)[part].astype(np.float64)
            parts = [each[block.array].reshape(-1)[part] for each in moments.values()]
            moved = self._step(mean - before, *parts)
            if not all(np.isfinite(each).all() for each in parts):
                raise FormatError(f"{block.array}: the sum is no finite number")
            return before + moved

        model, metrics = reduce(replies, "arrays", reduction), mean_metrics(replies)
        self._kept = {name: ArrayRecord(each) for name, each in moments.items()}
        return model, metrics

    @override
    def state(self) -> RecordDict:
        return RecordDict(self._kept)

    @override
    def restore(self, state: RecordDict) -> None:
        if state:
            demand_like(state, self._names)
        self._kept = {name: demand_kept(state, name) for name in state}


class FedAvgM(_Optimiser):
    """FedAvg with momentum: v = momentum v + change; the model moves by lr v."""

    _names: ClassVar[tuple[str, ...]] = ("momentum",)

    def __init__(self, *, lr: float = 1.0, momentum: float = 0.9) -> None:
        """Move by `lr`, above 0, with `momentum`, from 0 to below 1.

        Raises:
            ConfigError: one is out of range.
        """
        super().__init__({"momentum": 0.0})
        self._lr, self._momentum = real("lr", lr, above=0), share("momentum", momentum)

    @override
    def _step(self, change: Floats, *moments: Floats) -> Floats:
        (v,) = moments
        v *= self._momentum
        v += change
        return self._lr * v


class _Adaptive(_Optimiser):
    """m = beta_1 m + (1 - beta_1) change; the model moves by lr m / (sqrt(v) + tau)."""

    _names: ClassVar[tuple[str, ...]] = ("m", "v")

    def __init__(self, *, lr: float, beta_1: float, beta_2: float, tau: float) -> None:
        self._lr, self._tau = real("lr", lr, above=0), real("tau", tau, above=0)
        self._beta_1, self._beta_2 = share("beta_1", beta_1), share("beta_2", beta_2)
        # Algorithm 2 has v begin with tau squared or more: with 0 the first step is not bounded
        # by what parties changed.
        super().__init__({"m": 0.0, "v": self._tau**2})

    @override
    def _step(self, change: Floats, *moments: Floats) -> Floats:
        m, v = moments
        m *= self._beta_1
        m += (1 - self._beta_1) * change
        self._second(v, change * change)
        return self._lr * m / (np.sqrt(v) + self._tau)

    @abstractmethod
    def _second(self, v: Floats, square: Floats) -> None:
        """Move `v` towards `square`, in place."""


class FedAdam(_Adaptive):
    """Adam at the server: v = beta_2 v + (1 - beta_2) change^2."""

    def __init__(
        self, *, lr: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.99, tau: float = 1e-3
    ) -> None:
        """Move by `lr`.

        Args:
            lr: above 0. The paper tunes it for each task, mostly to 0.01 to 0.1.
            beta_1: of the first moment, from 0 to below 1.
            beta_2: of the second moment, from 0 to below 1.
            tau: above 0; how far the method adapts: the larger, the less.

        Raises:
            ConfigError: one is out of range.
        """
        super().__init__(lr=lr, beta_1=beta_1, beta_2=beta_2, tau=tau)

    @override
    def _second(self, v: Floats, square: Floats) -> None:
        v *= self._beta_2
        v += (1 - self._beta_2) * square


class FedYogi(_Adaptive):
    """Yogi at the server: v = v - (1 - beta_2) change^2 sign(v - change^2)."""

    def __init__(
        self, *, lr: float = 0.01, beta_1: float = 0.9, beta_2: float = 0.99, tau: float = 1e-3
    ) -> None:
        """Move by `lr`; see `FedAdam`."""
        super().__init__(lr=lr, beta_1=beta_1, beta_2=beta_2, tau=tau)

    @override
    def _second(self, v: Floats, square: Floats) -> None:
        v -= (1 - self._beta_2) * square * np.sign(v - square)
