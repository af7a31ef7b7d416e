"""Strategies that a minority of lying parties cannot lead away. Every party counts the same.

They look at each party's numbers, so masked updates are of no use to them. What the parties
measured is still a plain mean, which one of them can move.

Median, trimmed mean: Yin et al., "Byzantine-Robust Distributed Learning", 2018. Krum: Blanchard et
al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", 2017.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from typing_extensions import override

from wardian._internal.consortium import MAX_PARTIES
from wardian.errors import JobFailed
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.reduce import (
    Floats,
    mean_metrics,
    mean_of,
    median,
    median_of,
    reduce,
    squared_distances,
    trimmed_mean,
)
from wardian.learning.replies import Block, Replies
from wardian.learning.strategies.demands import real, whole
from wardian.learning.strategies.fedavg import FedAvg


class Median(FedAvg):
    """The median of each coordinate: holds while fewer than half of a cohort lie."""

    robust = True

    @override
    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        return median(replies, "arrays"), mean_metrics(replies)


class TrimmedMean(FedAvg):
    """The mean of each coordinate without its ends: holds while no more than `cut` lie."""

    robust = True

    def __init__(self, *, cut: float = 0.2) -> None:
        """Leave out the part `cut` of a cohort at each end, rounded up.

        Args:
            cut: above 0, below 0.5.

        Raises:
            ConfigError: it is out of range.
        """
        self._cut = real("cut", cut, above=0, below=0.5)

    @override
    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        return trimmed_mean(replies, "arrays", self._cut), mean_metrics(replies)


class Krum(FedAvg):
    """The updates that lie closest to most others: holds while no more than `liars` lie.

    With `keep` of 1 the model is one party's update, else the mean of as many (multi-Krum). Whole
    numbers and truth values, which are counters, are the median of all.
    """

    robust = True

    def __init__(self, *, liars: int, keep: int = 1) -> None:
        """Withstand `liars` in a cohort that is larger than 2 liars + 2.

        Args:
            liars: 0 or more.
            keep: 1 or more; in each cohort no more than all but `liars`.

        Raises:
            ConfigError: one is out of range.
        """
        self._liars = whole("liars", liars, least=0, most=MAX_PARTIES)
        self._keep = whole("keep", keep, least=1, most=MAX_PARTIES)

    @override
    def configure_train(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        self._demand(len(parties))
        return super().configure_train(number, arrays, config, parties)

    @override
    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        self._demand(len(replies.parties))
        kept = self._kept(squared_distances(replies, "arrays"))

        def reduction(block: Block) -> Floats:
            if block.values.dtype.kind != "f":
                return median_of(block.values)
            return mean_of(block.values, kept)

        return reduce(replies, "arrays", reduction), mean_metrics(replies)

    def _kept(self, distances: Floats) -> list[int]:
        """Return 1 for each party that is kept, else 0.

        Args:
            distances: squared, (parties, parties), 0 of each to itself.

        Raises:
            JobFailed: even the closest lie infinitely far apart.
        """
        nearest = len(distances) - self._liars - 2
        with np.errstate(over="ignore"):
            scores = np.sort(distances, axis=1)[:, 1 : nearest + 1].sum(axis=1)
        best = np.argsort(scores, kind="stable")[: self._keep]  # of equals the first by name
        if not np.isfinite(scores[best]).all():
            raise JobFailed("Krum: the updates lie infinitely far apart")
        return [int(place in best) for place in range(len(distances))]

    def _demand(self, cohort: int) -> None:
        if cohort <= 2 * self._liars + 2:
            raise JobFailed(
                f"Krum: {self._liars} liars take a cohort of {2 * self._liars + 3}, "
                f"and it has {cohort}"
            )
        if self._keep > cohort - self._liars:
            raise JobFailed(
                f"Krum: of a cohort of {cohort} with {self._liars} liars, "
                f"{cohort - self._liars} can be kept, and not {self._keep}"
            )
