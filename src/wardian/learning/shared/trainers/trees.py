"""Random forest and gradient boosting, by scikit-learn, as ONNX that workers serve.

`min_leaf_rows` is how many rows, each counted once, stand behind what a leaf says. It may not be
smaller than the smallest cohort that owners demand. Nobody has to believe scikit-learn that it
keeps to it: see `leaves`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.onnx import Scores, trees_classifier
from wardian.learning.boosting.predicting import margins
from wardian.learning.shared.extra import extra
from wardian.learning.shared.trainers.grown import Grown, forest_of
from wardian.learning.shared.trainers.leaves import kept, reached, refuse_many_nodes, refuse_small
from wardian.learning.shared.trainers.linear import fitting
from wardian.learning.shared.trainers.tell import held_out
from wardian.learning.shared.trainers.trained import Predict, Task, Trained


def random_forest(task: Task) -> Trained:
    """Return a model of classes: the mean of what trees say. Missing values have a side in each.

    Raises:
        FormatError: the label is not of classes.
        PolicyDenied: the rule `cohort-small`.
        ConfigError: scikit-learn is not installed.
    """
    return _trained(task, _forest, _forest_trees, Scores.PROBABILITIES)


def gradient_boosting(task: Task) -> Trained:
    """Return a model of classes; errors as `random_forest`."""
    return _trained(task, _boosted, _boosted_trees, Scores.LOGITS)


def _trained(task: Task, grow: Any, trees: Any, scores: Scores) -> Trained:
    task.terms.refuse_small_cohort(task.whole("min_leaf_rows"))
    features = task.joined.features()
    classes, places = task.classes()
    refuse_many_nodes(task, outputs=len(classes), rows=len(places))

    def grown(chosen: NDArray[np.bool_]) -> tuple[ArrayRecord, NDArray[np.float64]]:
        some = features if chosen.all() else features[chosen]
        fitted = grow(task, some, places[chosen])
        rounds, base = trees(fitted)
        return forest_of(_counted(task, rounds, features, chosen)), base

    forest, base = grown(np.ones(len(places), bool))
    model = trees_classifier(
        forest, base=base, columns=features.shape[1], labels=classes.tolist(), scores=scores
    )
    if not task.measured:
        return Trained(model=model)

    def fit(kept: NDArray[np.bool_]) -> Predict:
        some, begun = grown(kept)
        return lambda tried: _said(margins(some, tried, outputs=len(begun)) + begun)

    return Trained(model=model, metrics=held_out(task, features, places).accuracy(fit))


def _said(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which class has the largest score, (rows,)."""
    return np.asarray(scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(axis=1))


def _counted(
    task: Task, rounds: "Iterable[Round]", features: NDArray[Any], chosen: NDArray[np.bool_]
) -> Iterator[Grown]:
    """Yield the trees of `rounds`, which learnt from the rows `chosen`, within the cohort."""
    places, sources, owners = np.flatnonzero(chosen), task.joined.sources, len(task.joined.owners)
    for round_ in rounds:
        rows = places if round_.rows is None else places[round_.rows]
        shape, counts = None, np.zeros((0, owners), np.int64)
        for tree in round_.trees:
            if tree.left is not shape:  # trees of one shape are counted once
                counts = reached(tree, features, rows, sources, owners, bits=round_.bits)
                shape = tree.left
            refuse_small(task.terms, tree, counts)
            yield kept(task.terms, tree, counts)


def _forest(task: Task, features: NDArray[Any], places: NDArray[Any]) -> Any:
    forest = extra("sklearn.ensemble").RandomForestClassifier(
        n_estimators=task.whole("trees"),
        max_depth=task.whole("depth"),
        min_samples_leaf=task.whole("min_leaf_rows"),
        random_state=task.seed,
        n_jobs=1,
    )
    return fitting(forest, features, places)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Trees that were grown together, one for each output.

    Attributes:
        trees: of an output each.
        rows: places of those that they learnt from, each once; None: of all.
        bits: what a value is compared as.
    """

    trees: Sequence[Grown]
    rows: NDArray[np.intp] | None
    bits: type


def _forest_trees(fitted: Any) -> tuple[Iterator[Round], NDArray[np.float64]]:
    """Return the trees, one a class of each of scikit-learn's, and what scores begin with."""
    outputs, count = len(fitted.classes_), len(fitted.estimators_)

    def grown() -> Iterator[Round]:
        for estimator, rows in zip(fitted.estimators_, fitted.estimators_samples_, strict=True):
            tree = estimator.tree_
            chances = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
            shape: dict[str, Any] = {
                "feature": tree.feature,
                "threshold": tree.threshold,
                "left": tree.children_left,
                "right": tree.children_right,
                "missing_left": tree.missing_go_to_left,
            }
            trees = [Grown(**shape, value=each / count) for each in chances.T]
            yield Round(trees=trees, rows=np.unique(rows), bits=np.float32)

    return grown(), np.zeros(outputs)


def _boosted(task: Task, features: NDArray[Any], places: NDArray[Any]) -> Any:
    empty = np.isnan(features).all(axis=0)  # scikit-learn fails at such a column
    if empty.any():
        features = np.where(empty, 0.0, features)
    boosted = extra("sklearn.ensemble").HistGradientBoostingClassifier(
        max_iter=task.whole("trees"),
        max_depth=task.whole("depth"),
        max_leaf_nodes=None,
        learning_rate=task.number("learning_rate"),
        l2_regularization=task.number("l2"),
        min_samples_leaf=task.whole("min_leaf_rows"),
        early_stopping=False,
        random_state=task.seed,
    )
    return fitting(boosted, features, places)


def _boosted_trees(fitted: Any) -> tuple[Iterator[Round], NDArray[np.float64]]:
    def grown() -> Iterator[Round]:
        for round_ in fitted._predictors:  # noqa: SLF001  scikit-learn has no other way to them
            trees = [_histogram_tree(predictor.nodes) for predictor in round_]
            yield Round(trees=trees, rows=None, bits=np.float64)

    base = np.ravel(fitted._baseline_prediction)  # noqa: SLF001
    return grown(), base.astype(np.float64)


def _histogram_tree(nodes: Any) -> Grown:
    if nodes["is_categorical"].any():
        raise FormatError("trees: a split by category")
    leaf = nodes["is_leaf"].astype(bool)
    return Grown(
        feature=nodes["feature_idx"],
        threshold=nodes["num_threshold"],
        left=np.where(leaf, 0, nodes["left"]),
        right=np.where(leaf, 0, nodes["right"]),
        missing_left=nodes["missing_go_to_left"],
        value=nodes["value"],
    )
