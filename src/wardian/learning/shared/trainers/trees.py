"""Random forest and gradient boosting, by scikit-learn, as ONNX that workers serve.

`min_leaf_rows` is how many rows, each counted once, stand behind what a leaf says. It may not be
smaller than the smallest cohort that owners demand.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.boosting.forest import MAX_NODES
from wardian.learning.boosting.onnx import Scores, trees_classifier
from wardian.learning.shared.extra import extra
from wardian.learning.shared.trainers.grown import Grown, forest_of
from wardian.learning.shared.trainers.linear import fitting
from wardian.learning.shared.trainers.tell import held_out
from wardian.learning.shared.trainers.trained import Predict, Task, Trained


def random_forest(task: Task) -> Trained:
    """Return a model of classes: the mean of what trees say. Missing values have a side in each.

    Raises:
        FormatError: the label is not of classes.
        PolicyDenied: the rule `cohort-small`.
        ConfigError: scikit-learn is not installed, or a parameter is out of its range.
    """
    return _trained(task, _forest, _forest_trees, Scores.PROBABILITIES)


def gradient_boosting(task: Task) -> Trained:
    """Return a model of classes; errors as `random_forest`."""
    return _trained(task, _boosted, _boosted_trees, Scores.LOGITS)


def _trained(task: Task, grow: Any, trees: Any, scores: Scores) -> Trained:
    task.terms.refuse_small_cohort(task.whole("min_leaf_rows"))
    features = task.joined.features()
    classes, places = task.classes()
    _refuse_many_nodes(task, outputs=len(classes), rows=len(places))
    fitted = grow(task, features, places)
    forest, base = trees(fitted)
    model = trees_classifier(
        forest, base=base, columns=features.shape[1], labels=classes.tolist(), scores=scores
    )
    if not task.measured:
        return Trained(model=model)

    def fit(some: NDArray[Any], labels: NDArray[Any]) -> Predict:
        found = grow(task, some, labels)
        return lambda tried: np.asarray(found.predict(tried))

    return Trained(model=model, metrics=held_out(task, features, places).accuracy(fit))


def _refuse_many_nodes(task: Task, *, outputs: int, rows: int) -> None:
    """Return if all trees together cannot grow beyond what a model holds, before any does."""
    leaves = min(2 ** task.whole("depth"), max(1, rows // task.whole("min_leaf_rows")))
    if task.whole("trees") * outputs * 2 * leaves > MAX_NODES:
        raise FormatError(
            f"trees: so many, of this depth and for {outputs} classes, may have more than "
            f"{MAX_NODES} nodes: ask for fewer, or for larger leaves"
        )


def _forest(task: Task, features: NDArray[Any], places: NDArray[Any]) -> Any:
    forest = extra("sklearn.ensemble").RandomForestClassifier(
        n_estimators=task.whole("trees"),
        max_depth=task.whole("depth"),
        min_samples_leaf=task.whole("min_leaf_rows"),
        random_state=task.seed,
        n_jobs=1,
    )
    return fitting(forest, features, places)


def _forest_trees(fitted: Any) -> tuple[Any, NDArray[np.float64]]:
    """Return the trees, one a class of each of scikit-learn's, and what scores begin with."""
    outputs, count = len(fitted.classes_), len(fitted.estimators_)

    def grown() -> Iterator[Grown]:
        for estimator in fitted.estimators_:
            tree = estimator.tree_
            chances = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
            for output in range(outputs):
                yield Grown(
                    feature=tree.feature,
                    threshold=tree.threshold,
                    left=tree.children_left,
                    right=tree.children_right,
                    missing_left=tree.missing_go_to_left,
                    value=chances[:, output] / count,
                )

    return forest_of(grown()), np.zeros(outputs)


def _boosted(task: Task, features: NDArray[Any], places: NDArray[Any]) -> Any:
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


def _boosted_trees(fitted: Any) -> tuple[Any, NDArray[np.float64]]:
    def grown() -> Iterator[Grown]:
        for round_ in fitted._predictors:  # noqa: SLF001  scikit-learn has no other way to them
            for predictor in round_:
                yield _histogram_tree(predictor.nodes)

    base = np.ravel(fitted._baseline_prediction)  # noqa: SLF001
    return forest_of(grown()), base.astype(np.float64)


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
