"""Models as ONNX of our own writing say what scikit-learn's say."""

import numpy as np
import onnxruntime
import pytest
from shared_world import (
    A,
    Owner,
    cancer,
    csv_text,
    opened,
    plan_of,
    run,
)

from wardian.inference.onnx_file import verify_onnx
from wardian.learning.boosting.onnx import Scores, trees_classifier
from wardian.learning.shared.joining import sorted_rows
from wardian.learning.shared.trainers.grown import forest_of
from wardian.learning.shared.trainers.trees import _boosted_trees, _forest_trees

NAMES = [f"c{at:02d}" for at in range(30)]


def whole(grown):
    """The trees as they were grown, with leaves of any number of rows."""
    rounds, base = grown
    return forest_of(tree for each in rounds for tree in each.trees), base


def predicted(model: bytes, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert verify_onnx(model)
    session = onnxruntime.InferenceSession(model)
    chances, labels = session.run(["probabilities", "label"], {"input": rows.astype(np.float32)})
    return chances, labels


def test_a_forest_says_what_scikit_learn_says() -> None:
    from sklearn.ensemble import RandomForestClassifier

    data, target, _ = cancer()
    target = target + 2 * (data[:, 0] > 15)  # not of the job: three classes
    pooled = RandomForestClassifier(10, max_depth=5, random_state=1).fit(data, target)
    forest, base = whole(_forest_trees(pooled))
    model = trees_classifier(
        forest, base=base, columns=30, labels=pooled.classes_.tolist(), scores=Scores.PROBABILITIES
    )
    chances, labels = predicted(model, data)
    assert np.abs(chances - pooled.predict_proba(data)).max() < 1e-6
    assert (labels == pooled.predict(data)).mean() > 0.99


@pytest.mark.parametrize("algorithm", ["logistic-regression", "gradient-boosting", "perceptron"])
def test_three_classes_with_names_of_their_own(tmp_path, algorithm) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    data, target, _ = cancer()
    data = data[:, :3]
    classes = np.array([-7, 3, 40])[target + (data[:, 0] < 12) * target]
    columns = {name: data[:, at] for at, name in enumerate("abc")} | {"y": classes}
    owner = Owner(A, tmp_path, csv_text(columns))
    small = {"trees": 5} if algorithm == "gradient-boosting" else {}
    model = opened(
        run(plan_of([owner], ["abc"], algorithm, parameters=small), [owner]).held, "model", A
    )
    chances, labels = predicted(model, data)
    assert chances.shape == (569, 3)
    assert set(labels.tolist()) <= {-7, 3, 40}
    assert (labels == classes).mean() > 0.85
    if algorithm == "gradient-boosting":
        order = sorted_rows({"a": data[:, 0], "b": data[:, 1], "c": data[:, 2], "y": classes})
        pooled = HistGradientBoostingClassifier(
            max_iter=5, max_depth=6, max_leaf_nodes=None, learning_rate=0.3, l2_regularization=1.0,
            min_samples_leaf=20, early_stopping=False, random_state=5,
        ).fit(data[order], classes[order])  # fmt: skip
        exact = data.astype(np.float32).astype(np.float64)
        assert np.abs(chances - pooled.predict_proba(exact)).max() < 1e-5


def test_missing_values_go_where_scikit_learn_has_them_go() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    from wardian.learning.boosting.onnx import Scores, trees_classifier
    from wardian.learning.shared.trainers.trees import _forest_trees

    chance = np.random.default_rng(2)
    rows = chance.normal(size=(400, 3)).astype(np.float32).astype(np.float64)
    rows[chance.random(rows.shape) < 0.2] = np.nan
    labels = (np.isnan(rows[:, 0]) ^ (rows[:, 1] > 0)).astype(int)
    for pooled, of, scores in (
        (HistGradientBoostingClassifier(max_iter=10), _boosted_trees, Scores.LOGITS),
        (
            RandomForestClassifier(10, max_depth=4, random_state=1),
            _forest_trees,
            Scores.PROBABILITIES,
        ),
    ):
        forest, base = whole(of(pooled.fit(rows, labels)))
        model = trees_classifier(forest, base=base, columns=3, labels=[0, 1], scores=scores)
        session = onnxruntime.InferenceSession(model)
        (found,) = session.run(["probabilities"], {"input": rows.astype(np.float32)})
        assert np.abs(found - pooled.predict_proba(rows)).max() < 1e-5
