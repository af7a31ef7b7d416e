"""What a forest says of records, by arithmetic of our own: XGBoost is not needed."""

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.arrays import Array, ArrayRecord
from wardian.learning.boosting.forest import BASE, LEAF, NODES


def margins(forest: ArrayRecord, records: Array, *, outputs: int = 1) -> NDArray[np.float32]:
    """Return the sum of the trees for each record, before any objective makes a chance of it.

    Args:
        forest: verified; see `forest`.
        records: (records, columns) of real numbers; NaN: the record has none there.
        outputs: of the model.

    Returns:
        (records, outputs). Sums are in float32, tree by tree, as XGBoost's are.

    Raises:
        FormatError: `records` has another shape, or fewer columns than the trees ask about.
    """
    columns = int(forest["feature"].max(initial=LEAF)) + 1
    if records.ndim != 2 or records.shape[1] < columns:
        raise FormatError(f"records: {records.shape}, and the trees ask about {columns} columns")
    values = records.astype(np.float32)
    found = np.full((len(values), outputs), forest[BASE][0], np.float32)
    root = 0
    for at, size in enumerate(forest["size"].tolist()):
        tree = slice(root, root + size)
        found[:, at % outputs] += _leaves({name: forest[name][tree] for name in NODES}, values)
        root += size
    return found


def leaf_records(forest: ArrayRecord, records: Array) -> NDArray[np.int64]:
    """Return how many of `records` end in each node, (nodes,): 0 in those that are no leaves.

    Args:
        forest: verified; see `forest`.
        records: (records, columns), with as many columns as the trees ask about.
    """
    values = records.astype(np.float32)
    found = np.zeros(len(forest["feature"]), np.int64)
    root = 0
    for size in forest["size"].tolist():
        tree = {name: forest[name][root : root + size] for name in NODES}
        found[root : root + size] = np.bincount(_nodes(tree, values), minlength=size)
        root += size
    return found


def _leaves(tree: dict[str, Array], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what each record's leaf of one tree adds, (records,)."""
    leaves: NDArray[np.float32] = tree["value"][_nodes(tree, values)]
    return leaves


def _nodes(tree: dict[str, Array], values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the leaf of one tree that each record ends in, (records,)."""
    rows = np.arange(len(values))
    node = np.zeros(len(values), np.int64)
    while (asked := tree["feature"][node]).max(initial=LEAF) > LEAF:
        value = values[rows, asked]  # of a leaf the last column, which is then of no account
        left = np.where(np.isnan(value), tree["missing_left"][node], value < tree["value"][node])
        node = np.where(asked > LEAF, tree["left"][node] + ~left, node)
    return node
