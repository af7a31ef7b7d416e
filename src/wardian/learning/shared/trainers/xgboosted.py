"""Gradient boosting by XGBoost, from batches, with leaves that rows enough stand behind.

XGBoost knows no least number of rows of a leaf, but a least sum of second derivatives. Of two
classes one of these is p (1 - p), which is never above 1/4; of more it is 2 p (1 - p), never above
1/2. So a leaf whose sum is `min_leaf_rows` quarters, or halves, has `min_leaf_rows` rows or more:
that is what it is told. It is stricter than it need be once rows are well told apart. Nobody has to
believe that: behind training every row goes down every tree by code of our own, and if a leaf was
reached by fewer, nothing comes out.

Rows come in the order of the plan's inputs and of their files, 65536 at a time, and are held as the
numbers of their bins (a byte for each value, two above 256 bins, four where any value is missing):
sums in XGBoost hang on the order, and so do bins of more than a batch. Nothing is written anywhere.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.boosters import trees_of
from wardian.learning.boosting.forest import BASE, LEAF
from wardian.learning.boosting.onnx import Scores, trees_classifier
from wardian.learning.boosting.predicting import leaf_records, margins
from wardian.learning.shared.extra import extra
from wardian.learning.shared.rows import Batch, Sources, apart, even_batches
from wardian.learning.shared.trainers.leaves import kept_forest, refuse_many_nodes
from wardian.learning.shared.trainers.survey import Survey, surveyed
from wardian.learning.shared.trainers.tell import Tally, fifth
from wardian.learning.shared.trainers.trained import Task, Trained

STEEPEST: Final = {True: 0.25, False: 0.5}
"""The largest second derivative of one row, of two classes and of more."""

Labelled = tuple[NDArray[np.float32], NDArray[np.int64], Sources]
"""Columns (rows, columns), NaN where a value is missing; places of classes, and sources (rows,)."""


def xgboost(task: Task) -> Trained:
    """Return a model of classes. Missing values have a side in each split.

    Raises:
        FormatError: the label is not of classes, a number has no place in 32 bits, or there may be
            more nodes than a model holds.
        PolicyDenied: the rules `join-small` and `cohort-small`.
        ConfigError: XGBoost is not installed.
    """
    task.terms.refuse_small_cohort(task.whole("min_leaf_rows"))
    extra("xgboost")
    survey = surveyed(task, classes=True, missing=True, narrow=True)

    def every() -> Iterator[Labelled]:
        return (_labelled(task, survey, batch) for _, batch in _placed(task))

    def kept() -> Iterator[Labelled]:
        return _parted(task, survey, tried=False)

    outputs = 1 if len(survey.classes) == 2 else len(survey.classes)
    refuse_many_nodes(task, outputs=outputs, rows=survey.rows)
    forest = _counted(task, _boosted(task, survey, every), every())
    model = trees_classifier(
        forest,
        base=np.zeros(outputs),
        columns=len(task.rows.names),
        labels=survey.classes.tolist(),
        scores=Scores.LOGITS,
    )
    if not task.measured:
        return Trained(model=model)
    some, tally = _counted(task, _boosted(task, survey, kept), kept()), Tally(task)
    for values, places, sources in _parted(task, survey, tried=True):
        scores = margins(some, values, outputs=outputs)
        found = scores[:, 0] > 0 if outputs == 1 else scores.argmax(axis=1)
        tally.add(sources, found == places)
    return Trained(model=model, metrics=tally.accuracy())


def _placed(task: Task) -> Iterator[tuple[int, Batch]]:
    """Yield batches, each with how many rows are before it."""
    begin = 0
    for batch in even_batches(task.rows.batches()):
        yield begin, batch
        begin += batch.rows


def _labelled(task: Task, survey: Survey, batch: Batch) -> Labelled:
    if batch.label is None:
        raise FormatError("no label")
    values = np.empty((batch.rows, len(task.rows.names)), np.float32)
    with np.errstate(over="ignore"):
        for place, name in enumerate(task.rows.names):
            values[:, place] = batch.columns[name]
    if np.isinf(values).any():
        raise FormatError("columns or label: not of numbers that this trainer takes")
    return values, survey.places(batch.label), batch.sources


def _parted(task: Task, survey: Survey, *, tried: bool) -> Iterator[Labelled]:
    """Yield the rows that are tried, or those that are not."""
    for begin, batch in _placed(task):
        values, places, sources = _labelled(task, survey, batch)
        chosen = fifth(task, begin, batch.rows, survey.rows) == tried
        if chosen.any():
            yield values[chosen], places[chosen], sources[chosen]


def _boosted(task: Task, survey: Survey, rows: Callable[[], Iterator[Labelled]]) -> ArrayRecord:
    """Return the trees that XGBoost grows from `rows`, with a base of 0."""
    library, two = extra("xgboost"), len(survey.classes) == 2
    settings: dict[str, Any] = {
        "objective": "binary:logistic" if two else "multi:softprob",
        "tree_method": "hist",
        "device": "cpu",
        "nthread": 1,
        "verbosity": 0,
        "seed": task.seed % 2**31,
        "base_score": 0.5,
        "max_depth": task.whole("depth"),
        "max_bin": task.whole("bins"),
        "learning_rate": task.number("learning_rate"),
        "lambda": task.number("l2"),
        "min_child_weight": task.whole("min_leaf_rows") * STEEPEST[two],
    }
    if not two:
        settings["num_class"] = len(survey.classes)
    matrix = library.QuantileDMatrix(_iterated(rows), max_bin=task.whole("bins"), nthread=1)
    booster = library.train(settings, matrix, task.whole("trees"))
    # Of two classes a base of 0.5 is a margin of 0; of more it is the same for each of them.
    return _bounded({**trees_of(booster), BASE: np.zeros(1, np.float32)}, survey)


def _bounded(arrays: dict[str, NDArray[Any]], survey: Survey) -> ArrayRecord:
    """Return the trees without bounds that lie beyond all values of a column.

    Where a split parts missing values from all others, XGBoost's bound is twice the largest value,
    or the smallest: it would tell that of one row, and parts the same if it is any further out.
    """
    feature, bound = arrays["feature"], arrays["value"]
    split, column = feature != LEAF, np.maximum(feature, 0)
    furthest = np.finfo(np.float32).max
    above = split & (bound > survey.highest.astype(np.float32)[column])
    below = split & (bound <= survey.lowest.astype(np.float32)[column])
    value = np.where(above, furthest, np.where(below, -furthest, bound)).astype(np.float32)
    return ArrayRecord({**arrays, "value": value})


def _iterated(rows: Callable[[], Iterator[Labelled]]) -> Any:
    """Return `rows` as XGBoost goes through them, several times."""

    class Batches(extra("xgboost").DataIter):  # type: ignore[misc]
        """In memory alone: without a prefix for its cache XGBoost has none on a disk."""

        def __init__(self) -> None:
            super().__init__(release_data=True)
            self._batches = rows()

        def next(self, input_data: Callable[..., Any]) -> bool:
            found = next(self._batches, None)
            if found is None:
                return False
            input_data(data=found[0], label=found[1].astype(np.float32))
            return True

        def reset(self) -> None:
            self._batches = rows()

    return Batches()


def _counted(task: Task, forest: ArrayRecord, rows: Iterator[Labelled]) -> ArrayRecord:
    """Return `forest` with leaves that rows enough of each owner end in; see `leaves`.

    Raises:
        PolicyDenied: the rule `cohort-small`: too few rows of all end in one.
    """
    found = np.zeros((len(forest["feature"]), len(task.rows.owners)), np.int64)
    for values, _, sources in rows:
        for source, own in apart(sources):
            found[:, source] += leaf_records(forest, values[own])
    return kept_forest(task.terms, forest, found)
