"""Boosted trees as arrays of numbers: a closed layout, verified whole without being run.

    feature       int32    (nodes,)  the column that a split asks about; -1: a leaf
    left          int32    (nodes,)  a split's first child, counted in its tree; the second follows
                                     it at once. 0 in a leaf
    missing_left  bool     (nodes,)  whether a record without that column goes left; no in a leaf
    value         float32  (nodes,)  a split: below it, a record goes left; a leaf: what it adds
    size          int32    (trees,)  of how many nodes each tree is
    base          float32  (1,)      a model's alone: what every output begins with

Trees follow one another, each from its root. Children stand behind their parent, and every node but
a root is the child of exactly one: so there is no cycle, and nothing that cannot be reached. Tree t
adds to output t modulo outputs. To append trees is to append arrays.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.arrays import DTYPES, Array, ArrayRecord
from wardian.learning.messages import ArraySpec

LAYOUT: Final = {
    "feature": "int32",
    "left": "int32",
    "missing_left": "bool",
    "value": "float32",
    "size": "int32",
}
"""The arrays of trees, in this order, and their elements."""
NODES: Final = tuple(name for name in LAYOUT if name != "size")
"""Those that have a number of each node."""
BASE: Final = "base"
LEAF: Final = -1
MAX_NODES: Final = 2**26
"""Of a model: 13 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What trees have to keep to.

    Attributes:
        columns: of a record, 1 or more.
        outputs: of the model, 1 or more: the trees are as many for each.
        depth: splits between a root and its deepest leaf, at most.
        leaf: the largest that a leaf adds, or takes away.
    """

    columns: int
    outputs: int
    depth: int
    leaf: float

    @property
    def tree_nodes(self) -> int:
        """How many nodes a tree has at most."""
        return int(2 ** (self.depth + 1)) - 1


def tree_specs(bounds: Bounds, *, trees: int) -> tuple[ArraySpec, ...]:
    """Return the arrays of up to `trees` trees, as long as they can be."""
    nodes = trees * bounds.tree_nodes
    return tuple(
        ArraySpec(name=name, dtype=DTYPES.index(kind), shape=(trees if name == "size" else nodes,))
        for name, kind in LAYOUT.items()
    )


def empty_forest(base: float = 0.0) -> ArrayRecord:
    """Return a model without trees, whose outputs are all `base`."""
    trees = {name: np.zeros(0, kind) for name, kind in LAYOUT.items()}
    return ArrayRecord({**trees, BASE: np.array([base], np.float32)})


def verify_forest(model: ArrayRecord, bounds: Bounds) -> None:
    """Return if `model` is one within `bounds`; errors as `verify_trees`."""
    found = dict(model)
    base = found.pop(BASE, None)
    if base is None or base.dtype.name != "float32" or base.shape != (1,):
        raise FormatError(f"trees: {BASE} is one number of the kind float32")
    if not abs(base[0]) <= bounds.leaf:  # nor is what is no number
        raise FormatError(f"trees: {BASE} is larger than {bounds.leaf}")
    verify_trees(found, bounds)


def verify_trees(trees: Mapping[str, Array], bounds: Bounds) -> None:
    """Return if `trees` are of the layout, whole, and within `bounds`.

    Raises:
        FormatError: they are not; names the first tree that is wrong.
    """
    _demand_layout(trees)
    size, left = trees["size"].astype(np.int64), trees["left"].astype(np.int64)
    feature, value = trees["feature"], trees["value"]
    if len(size) % bounds.outputs:
        raise FormatError(f"trees: {len(size)} are not as many for each of {bounds.outputs}")
    if not ((size >= 1) & (size <= bounds.tree_nodes)).all() or size.sum() != len(feature):
        raise FormatError(f"trees: a tree has 1 to {bounds.tree_nodes} nodes, together all")
    roots = np.cumsum(size) - size
    tree = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(feature)) - roots[tree]
    split = feature >= 0

    def demand(good: NDArray[np.bool_], what: str) -> None:
        if not good.all():
            raise FormatError(f"trees: tree {tree[int(np.argmin(good))]}: {what}")

    demand((feature >= LEAF) & (feature < bounds.columns), "asks about no column")
    demand(np.isfinite(value), "holds what is no finite number")
    demand(split | (np.abs(value) <= bounds.leaf), f"a leaf is larger than {bounds.leaf}")
    demand(split | ((left == 0) & ~trees["missing_left"]), "a leaf has children")
    demand(~split | ((left > place) & (left < size[tree] - 1)), "children lie elsewhere")
    first = (roots[tree] + left)[split]
    parents = np.bincount(np.concatenate([first, first + 1]), minlength=len(feature))
    demand(parents == (place > 0), "a node has no parent, or two")
    deepest = roots
    for _ in range(bounds.depth):
        deepest = deepest[split[deepest]]
        first = roots[tree[deepest]] + left[deepest]
        deepest = np.concatenate([first, first + 1])
    if split[deepest].any():
        wrong = tree[deepest[split[deepest]]].min()
        raise FormatError(f"trees: tree {wrong}: deeper than {bounds.depth}")


def append(model: ArrayRecord, parts: Iterable[ArrayRecord]) -> ArrayRecord:
    """Return `model` with the trees of all `parts` behind its own; all are verified.

    Raises:
        FormatError: there are then too many nodes.
    """
    every = [model, *parts]
    if sum(len(each["feature"]) for each in every) > MAX_NODES:
        raise FormatError(f"trees: a model has at most {MAX_NODES} nodes")
    trees = {name: np.concatenate([each[name] for each in every]) for name in LAYOUT}
    return ArrayRecord({**trees, BASE: model[BASE]})


def _demand_layout(trees: Mapping[str, Array]) -> None:
    if {name: each.dtype.name for name, each in trees.items()} != LAYOUT:
        raise FormatError(f"trees: the arrays are {', '.join(LAYOUT)}, each of its kind")
    if any(each.ndim != 1 for each in trees.values()):
        raise FormatError("trees: an array has more than one dimension")
    if len({len(trees[name]) for name in NODES}) > 1:
        raise FormatError("trees: the arrays of nodes are not of one length")
