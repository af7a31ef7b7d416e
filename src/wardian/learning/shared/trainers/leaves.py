"""Rows behind leaves: each is counted once more by code of ours, and splits are taken back.

    reached   of each node, how many rows of each owner come by
    refused   a leaf of fewer rows than the smallest cohort ends the job, whatever the library's own
              limit was: it did not hold
    kept      of tables that are stacked, a split stays where on both sides stands a cohort of each
              owner's rows. Where one does not, the two sides become one leaf, that says the mean of
              what those below it said, by their rows

An owner that makes rows up could fill a leaf else, and take them off. Nor is a leaf kept that one
owner has no row in: were it, it would say that of somebody whom another looks for by rows made up.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.broker.jobs.merge import OutputTerms
from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.forest import LEAF, MAX_NODES
from wardian.learning.shared.cohort import stands
from wardian.learning.shared.trainers.grown import Grown, forest_of
from wardian.learning.shared.trainers.trained import Task

Counts = NDArray[np.int64]
"""(nodes, owners): of rows."""


def refuse_many_nodes(task: Task, *, outputs: int, rows: int) -> None:
    """Return if all trees together cannot grow beyond what a model holds, before any does.

    Args:
        task: of which each tree has `depth`, and `min_leaf_rows` behind each leaf.
        outputs: trees that grow together.
        rows: that are learnt from.

    Raises:
        FormatError: they can.
    """
    leaves = min(2 ** task.whole("depth"), max(1, rows // task.whole("min_leaf_rows")))
    if task.whole("trees") * outputs * 2 * leaves > MAX_NODES:
        raise FormatError(
            "trees: so many, of this depth and for so many classes, may have more than "
            f"{MAX_NODES} nodes: ask for fewer, or for larger leaves"
        )


def reached(
    tree: Grown,
    values: NDArray[Any],
    rows: NDArray[np.intp],
    sources: NDArray[Any],
    owners: int,
    *,
    bits: type,
) -> Counts:
    """Return how many of `rows` come by each node, of each of so many owners.

    Args:
        tree: as its library has it.
        values: (all rows, columns).
        rows: places of those that the tree learnt from.
        sources: whose all rows are, (all rows,).
        owners: how many there are.
        bits: as what the library compares a value.
    """
    own, node = sources[rows].astype(np.int64), np.zeros(len(rows), np.int64)
    size = len(tree.feature)
    found = np.zeros(size * owners, np.int64)
    while len(rows):
        found += np.bincount(node * owners + own, minlength=size * owners)
        inner = tree.left[node] > 0
        rows, own, node = rows[inner], own[inner], node[inner]
        value = values[rows, tree.feature[node]].astype(bits)
        left = np.where(np.isnan(value), tree.missing_left[node], value <= tree.threshold[node])
        node = np.where(left, tree.left[node], tree.right[node]).astype(np.int64)
    return found.reshape(size, owners)


def refuse_small(terms: OutputTerms, tree: Grown, counts: Counts) -> None:
    """Return if rows enough end in every leaf; PolicyDenied, rule `cohort-small`."""
    terms.refuse_small_cohort(int(counts.sum(axis=1)[_leaves(tree)].min()))


def kept(terms: OutputTerms, tree: Grown, counts: Counts) -> Grown:
    """Return `tree` with the splits that have a cohort of each owner on both sides."""
    small = ~stands(terms, counts)
    inner = tree.left > 0
    cut = inner & (small[np.where(inner, tree.left, 0)] | small[np.where(inner, tree.right, 0)])
    if not cut.any():
        return tree
    rows, value = counts.sum(axis=1), tree.value.astype(np.float64)
    for nodes in reversed(list(_inner(tree))):
        sides = (tree.left[nodes], tree.right[nodes])
        total = sum(rows[side] * value[side] for side in sides)
        value[nodes] = total / np.maximum(1, rows[nodes])
    return replace(tree, left=np.where(cut, 0, tree.left), value=value)


def kept_forest(terms: OutputTerms, forest: ArrayRecord, ended: Counts) -> ArrayRecord:
    """Return `forest`, with a base of 0, likewise.

    Args:
        terms: of all owners.
        forest: verified; see `learning.boosting.forest`.
        ended: of all its nodes, how many rows of each owner end in it.

    Raises:
        PolicyDenied: the rule `cohort-small`: too few rows end in a leaf.
    """
    trees, root = [], 0
    for size in forest["size"].tolist():
        nodes = slice(root, root + size)
        tree, counts = _tree(forest, nodes), ended[nodes].copy()
        refuse_small(terms, tree, counts)
        if counts.shape[1] > 1:
            for inner in reversed(list(_inner(tree))):
                counts[inner] = counts[tree.left[inner]] + counts[tree.right[inner]]
            tree = kept(terms, tree, counts)
        trees.append(tree)
        root += size
    return forest_of(trees)


def _tree(forest: ArrayRecord, nodes: slice) -> Grown:
    feature, left, value = (forest[name][nodes] for name in ("feature", "left", "value"))
    below = np.nextafter(value, np.float32(-np.inf))  # what is below a bound is at most this
    return Grown(
        feature=feature,
        threshold=below.astype(np.float64),
        left=left,
        right=np.where(feature == LEAF, 0, left + 1),
        missing_left=forest["missing_left"][nodes],
        value=value.astype(np.float64),
    )


def _inner(tree: Grown) -> Iterator[NDArray[np.int64]]:
    """Yield the splits of each depth, from the root on."""
    nodes = np.zeros(1, np.int64)
    while len(nodes := nodes[tree.left[nodes] > 0]):
        yield nodes
        nodes = np.concatenate([tree.left[nodes], tree.right[nodes]]).astype(np.int64)


def _leaves(tree: Grown) -> NDArray[np.int64]:
    inner = list(_inner(tree))
    if not inner:
        return np.zeros(1, np.int64)
    below = np.concatenate([side[nodes] for nodes in inner for side in (tree.left, tree.right)])
    found: NDArray[np.int64] = below[tree.left[below] <= 0].astype(np.int64)
    return found
