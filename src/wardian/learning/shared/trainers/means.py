"""K-means by passes over the rows: centres that each stand for no fewer rows than a cohort.

    scale     columns are brought to mean 0 and deviation 1
    sample    up to 16384 rows, those whose hash under the job's seed is smallest: the same rows,
              in the same order, wherever they stand. Scikit-learn's k-means begins there, ten times
    passes    Lloyd's: each row goes to its nearest centre, each centre to the mean of its rows, by
              exact sums, until none moves
    cohort    the centre of the fewest rows is given up while these are too few, and its rows go to
              the others. So there may be fewer clusters than were asked for. Of tables that are
              stacked, each owner has a cohort of rows there

A centre that is given out is the mean of the rows that were counted for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.learning.centres import clusters
from wardian.learning.shared.cohort import stands
from wardian.learning.shared.exact import (
    LEAST_DEVIATION,
    Floats,
    Moments,
    Parts,
    Products,
    dot,
    exponents_of,
    split,
)
from wardian.learning.shared.extra import extra
from wardian.learning.shared.rows import apart
from wardian.learning.shared.trainers.blocks import Block, blocks
from wardian.learning.shared.trainers.survey import Survey, measured, surveyed
from wardian.learning.shared.trainers.tell import mixed
from wardian.learning.shared.trainers.trained import Task, Trained

SAMPLE_ROWS: Final = 2**14
STARTS: Final = 10
_STILL: Final = 1e-6
"""Deviations: a centre that moves less far stands still."""


def k_means(task: Task) -> Trained:
    """Return a model of clusters: which is nearest to a row, and how far each is.

    Metrics are how many clusters there are, the rows of each, and the mean square distance of rows
    from their centre.

    Raises:
        FormatError: a value is missing, or too large.
        PolicyDenied: the rules `join-small` and `cohort-small`.
        ConfigError: scikit-learn is not installed.
    """
    survey = surveyed(task, classes=False)
    moments = measured(task, survey).whole
    space = _Space(survey, moments)
    sample = space.scaled(_sampled(task)).T
    found = _lloyd(task, space, _begun(task, sample))
    varied = int(np.count_nonzero(np.sqrt(np.diag(moments.covariance)) > LEAST_DEVIATION))
    near = (found.rows * np.square(found.centres).sum(axis=1)).sum() / survey.rows
    return Trained(
        model=clusters(
            found.centres, mean=survey.lowest + moments.mean, deviation=moments.deviation
        ),
        metrics={
            "clusters": len(found.centres),
            "rows": found.rows.tolist(),
            "mean_square_distance": max(0.0, float(varied - near)),
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clusters:
    """Centres (clusters, columns), in deviations from the mean, and the rows of each.

    `sources` are its rows of each owner's tables, (clusters, owners).
    """

    centres: Floats
    sources: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows of each, (clusters,)."""
        found: NDArray[np.int64] = self.sources.sum(axis=1)
        return found


class _Space:
    """Columns at mean 0 and deviation 1, on grids."""

    __slots__ = ("_moments", "_survey", "grids")

    def __init__(self, survey: Survey, moments: Moments) -> None:
        self._survey, self._moments = survey, moments
        furthest = np.maximum(moments.mean, np.abs(survey.highest - survey.lowest - moments.mean))
        self.grids = exponents_of(furthest / moments.deviation) + 1

    def scaled(self, values: Floats) -> Floats:
        """Return `values`, (columns, rows), scaled."""
        found = self._survey.shifted(values) - self._moments.mean[:, None]
        return found / self._moments.deviation[:, None]

    def parts(self, block: Block) -> Parts:
        return split(self.scaled(block.values), self.grids)


def _sampled(task: Task) -> Floats:
    """Return rows of chance, (columns, rows), in an order of chance; equal rows count each."""
    held: list[tuple[NDArray[np.uint64], Floats]] = []
    most, waiting = np.uint64(2**64 - 1), 0
    for block in blocks(task):
        ranks = np.full(block.rows, task.seed, np.uint64)
        for values in block.values + 0.0:  # minus zero is zero
            ranks = mixed(ranks ^ values.view(np.uint64))
        near = ranks <= most
        held.append((ranks[near], block.values[:, near]))
        waiting += len(held[-1][0])
        if waiting > 2 * SAMPLE_ROWS:
            held = [_smallest(held)]
            most, waiting = held[0][0].max(), SAMPLE_ROWS
    ranks, values = _smallest(held)
    return values[:, np.lexsort([*values, ranks])]


def _smallest(
    held: Sequence[tuple[NDArray[np.uint64], Floats]],
) -> tuple[NDArray[np.uint64], Floats]:
    """Return the rows of the smallest ranks: of equal ones, which are of equal rows, any."""
    ranks = np.concatenate([each for each, _ in held])
    values = np.hstack([each for _, each in held])
    if len(ranks) <= SAMPLE_ROWS:
        return ranks, values
    kept = np.argpartition(ranks, SAMPLE_ROWS - 1)[:SAMPLE_ROWS]
    return ranks[kept], values[:, kept]


def _begun(task: Task, sample: Floats) -> Floats:
    """Return centres to begin with, at most as many as there are different rows in `sample`."""
    different = len(np.unique(sample, axis=0))
    fitted: Any = extra("sklearn.cluster").KMeans(
        min(task.whole("clusters"), different),
        n_init=STARTS,
        max_iter=task.whole("max_iterations"),
        random_state=task.seed,
        algorithm="lloyd",
    )
    with extra("threadpoolctl").threadpool_limits(limits=1):
        centres: Floats = fitted.fit(sample).cluster_centers_
    return centres


def _lloyd(task: Task, space: _Space, centres: Floats) -> _Clusters:
    """Return centres of rows enough that stand still, or moved as often as they may."""
    moved = 0
    while True:
        found = _moved(task, space, centres)
        moved += 1
        there = found.rows > 0
        still = there.all() and np.abs(found.centres - centres).max() <= _STILL
        centres = found.centres[there]
        if not still and moved < task.whole("max_iterations"):
            continue
        large = stands(task.terms, found.sources[there])
        if there.all() and large.all():
            return found
        if not large.all():
            fewest = found.sources[there].min(axis=1)
            centres = np.delete(centres, int(fewest.argmin()), axis=0)


def _moved(task: Task, space: _Space, centres: Floats) -> _Clusters:
    """Return the means of the rows that are nearest to each of `centres`; where none is, it."""
    count, grids = len(centres), space.grids
    half = np.square(centres).sum(axis=1)[:, None] / 2
    sources, sums = np.zeros((count, len(task.rows.owners)), np.int64), Products(count, len(grids))
    for block in blocks(task):
        parts = space.parts(block)
        nearest = (dot(centres, grids, parts) - half).argmax(axis=0)
        own = np.arange(count)[:, None] == nearest[None, :]
        sums.add([own * 2.0**17], parts)
        for source, rows in apart(block.sources):
            sources[:, source] += own[:, rows].sum(axis=1)
    found = sources.sum(axis=1)[:, None]
    total = sums.floats(np.zeros(count, np.int64), grids)
    means = np.where(found > 0, total / np.maximum(found, 1), centres)
    return _Clusters(centres=means, sources=sources)
