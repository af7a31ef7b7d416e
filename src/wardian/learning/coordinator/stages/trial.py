"""Every model over columns, tried at its smallest: does this process have all that they need?

A role opens no file but those that its measurement names, and numpy imports some of its own parts
only when they are used. So the self-test uses them.
"""

import numpy as np

from wardian.crypto.secret import Secret
from wardian.errors import JobFailed
from wardian.learning.coordinator.stages.stage import one
from wardian.learning.psi.intersection import intersect, refuse_duplicates
from wardian.learning.records import RecordDict
from wardian.learning.vertical.linear.coordinator import FeaturesRegression
from wardian.learning.vertical.linear.descent import LinearPlan
from wardian.learning.vertical.linear.messages import FEATURES, LABELS, PARTIAL
from wardian.learning.vertical.network.coordinator import SplitNetwork
from wardian.learning.vertical.network.messages import EMBEDDING
from wardian.learning.vertical.network.plan import NetworkPlan
from wardian.learning.vertical.noise import NoiseTerms
from wardian.learning.vertical.trees.coordinator import BinsBoosting
from wardian.learning.vertical.trees.messages import BINS, SIDES
from wardian.learning.vertical.trees.plan import Objective, TreePlan

_ROWS = 8


def try_columns() -> str:
    """Return what was found once an intersection and each model were made.

    Raises:
        JobFailed: one of them is not what it has to be.
    """
    tags = np.arange(2 * _ROWS, dtype=np.int64).reshape(-1, 2)
    refuse_duplicates(tags)
    if len(intersect([tags, tags[::-1], tags[2:]])) != _ROWS - 2:
        raise JobFailed("self-test: an intersection is another one")
    values = np.arange(_ROWS, dtype=np.float64)[:, None] / _ROWS
    labels = np.arange(_ROWS) // (_ROWS // 2) * 1.0
    made = (_regression(values, labels), _trees(labels), _network(values, labels))
    if not all(np.isfinite(each).all() and len(each) == _ROWS for each in made):
        raise JobFailed("self-test: a model predicts no numbers")
    return "an intersection, a regression, trees and a network"


def _regression(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    made = FeaturesRegression(LinearPlan(rounds=3), parties=["a"], labels_of="a")
    made.take("a", RecordDict({**one(FEATURES, values), **one(LABELS, labels)}))
    return made.fit().predict({"a": one(PARTIAL, values[:, 0])})


def _trees(labels: np.ndarray) -> np.ndarray:
    plan = TreePlan(objective=Objective.SOFTMAX, classes=2, rounds=1, depth=2, least_weight=0.1)
    made = BinsBoosting(plan, parties=["a"], labels_of="a")
    ranges = np.arange(1, _ROWS + 1, dtype=np.uint8)[:, None]
    made.take("a", RecordDict({**one(BINS, ranges), **one(LABELS, labels)}))
    forest = made.grow()
    sides = np.zeros((_ROWS, forest.questions["a"]), bool)
    return forest.predict({"a": one(SIDES, sides)})


def _network(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    plan = NetworkPlan(classes=2, embeddings={"a": 1}, hidden=(2,), epochs=1, batch=_ROWS)
    noise = plan.noise(NoiseTerms(), seed=Secret(bytes(32)))
    made = SplitNetwork(plan, noise, one(LABELS, labels))
    made.take("a", one(EMBEDDING, values))
    made.learn()
    made.restore(made.state())
    return made.predict({"a": one(EMBEDDING, values)})
