"""Trees made by hand, for tests of boosting."""

import numpy as np

from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.forest import LAYOUT, Bounds, empty_forest

BOUNDS = Bounds(columns=3, outputs=1, depth=2, leaf=10.0)

STUMP = {"feature": [1, -1, -1], "left": [1, 0, 0], "missing_left": [True, False, False],
         "value": [0.5, -1.0, 2.0], "size": [3]}  # fmt: skip
DEEP = {"feature": [0, -1, 2, -1, -1], "left": [1, 0, 3, 0, 0],
        "missing_left": [False, False, True, False, False],
        "value": [0.0, 4.0, 1.5, -3.0, 0.25], "size": [5]}  # fmt: skip


def trees(*every: dict, **changes) -> ArrayRecord:
    """The trees one after the other, with some arrays changed."""
    rows = {name: [each for tree in every for each in tree[name]] for name in LAYOUT} | changes
    return ArrayRecord({n: np.asarray(each, LAYOUT.get(n)) for n, each in rows.items()})


def leaf(value: float) -> dict:
    """A tree of one node."""
    return {"feature": [-1], "left": [0], "missing_left": [False], "value": [value], "size": [1]}


def forest(*every: dict, base: float = 0.0, **changes) -> ArrayRecord:
    return ArrayRecord({**trees(*every, **changes), "base": empty_forest(base)["base"]})
