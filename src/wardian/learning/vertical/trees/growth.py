"""Growing one tree from ranges and derivatives, as XGBoost's `hist` does: level by level. Pure."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.learning.vertical.trees.bins import offsets
from wardian.learning.vertical.trees.plan import TreePlan

LEAF: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One tree: node 0 is the root; a node's children come after it.

    Attributes:
        column: (nodes,) int32, the column that a node asks for; -1: it is a leaf.
        cut: (nodes,) int32, the highest range that goes left.
        left: (nodes,) int32, the left child; the right one comes next. A leaf's is itself.
        value: (nodes,) float64, what a leaf adds; 0 for the others.
    """

    column: NDArray[Any]
    cut: NDArray[Any]
    left: NDArray[Any]
    value: NDArray[Any]


class Grower:
    """Grows trees over the same records.

    Attributes:
        rows: how many records.
    """

    def __init__(self, indices: NDArray[Any], plan: TreePlan) -> None:
        """Hold `indices`, (records, columns) uint8, the range of each value; one column or more."""
        self._plan = plan
        self.rows, self._columns = indices.shape
        self._by_column = np.ascontiguousarray(indices.T)  # (columns, records)
        self._starts = offsets(indices.max(axis=0).astype(np.int64) + 1)
        ends = np.zeros(self._starts[-1], bool)
        ends[self._starts[1:] - 1] = True  # a column's last range leaves nothing on the right
        self._ends = ends

    def grow(self, slopes: NDArray[Any], bends: NDArray[Any]) -> tuple[Tree, NDArray[Any]]:
        """Return the tree for these derivatives, and what it adds to each record.

        Args:
            slopes: (records,) float64, first derivatives of the loss.
            bends: (records,) float64, second derivatives, above 0.

        Returns:
            The tree, and (records,) float64.
        """
        column, cut, left = [LEAF], [0], [0]
        node = np.zeros(self.rows, np.int64)  # where each record is
        level = [0]
        for _ in range(self._plan.depth):
            split = self._best(node, level, slopes, bends)
            if not split:
                break
            children = []
            for parent, (at, highest) in split.items():
                column[parent], cut[parent], left[parent] = at, highest, len(column)
                children += [len(column), len(column) + 1]
                column += [LEAF, LEAF]
                cut += [0, 0]
                left += children[-2:]
            node = self._sent(node, np.array(column), np.array(cut), np.array(left))
            level = children
        value = self._values(node, len(column), slopes, bends)
        value[np.array(column) != LEAF] = 0.0
        kind = np.int32
        tree = Tree(
            column=np.array(column, kind),
            cut=np.array(cut, kind),
            left=np.array(left, kind),
            value=value,
        )
        return tree, value[node]

    def _sent(
        self, node: NDArray[Any], column: NDArray[Any], cut: NDArray[Any], left: NDArray[Any]
    ) -> NDArray[Any]:
        """Return where each record goes from `node`; one on a leaf stays."""
        asked = column[node]
        found = self._by_column[asked, np.arange(self.rows)]
        return np.where(asked == LEAF, node, left[node] + (found > cut[node]))

    def _values(
        self, node: NDArray[Any], nodes: int, slopes: NDArray[Any], bends: NDArray[Any]
    ) -> NDArray[Any]:
        slope = np.bincount(node, weights=slopes, minlength=nodes)
        bend = np.bincount(node, weights=bends, minlength=nodes)
        worth: NDArray[Any] = -self._plan.rate * slope / (bend + self._plan.l2 + 1e-300)
        return worth

    def _best(
        self, node: NDArray[Any], level: list[int], slopes: NDArray[Any], bends: NDArray[Any]
    ) -> dict[int, tuple[int, int]]:
        """Return the best column and cut of each node of `level` that is worth splitting."""
        slot_of = np.full(max(level) + 1, -1)
        slot_of[level] = np.arange(len(level))
        rows = np.flatnonzero(node >= level[0])  # a level's nodes are those that came last
        slots = slot_of[node[rows]]
        left = self._sums(rows, slots, len(level), slopes, bends)  # (2, slots, ranges)
        whole = np.stack([np.bincount(slots, each[rows], len(level)) for each in (slopes, bends)])[
            :, :, None
        ]
        gain = self._gain(left, whole)
        best = gain.argmax(axis=1)
        found = {}
        for slot, at in enumerate(best):
            if gain[slot, at] > self._plan.least_gain:
                column = int(np.searchsorted(self._starts, at, side="right")) - 1
                found[level[slot]] = column, int(at - self._starts[column])
        return found

    def _gain(self, left: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
        """Return what a split after each range gains, (slots, ranges); -inf where there is none."""
        right = whole - left
        light = np.minimum(left[1], right[1]) < self._plan.least_weight
        with np.errstate(divide="ignore", invalid="ignore"):
            gain: NDArray[Any] = 0.5 * (self._score(left) + self._score(right) - self._score(whole))
        gain[light | self._ends] = -np.inf
        return gain

    def _score(self, sums: NDArray[Any]) -> NDArray[Any]:
        score: NDArray[Any] = sums[0] ** 2 / (sums[1] + self._plan.l2)
        return score

    def _sums(
        self,
        rows: NDArray[Any],
        slots: NDArray[Any],
        count: int,
        slopes: NDArray[Any],
        bends: NDArray[Any],
    ) -> NDArray[Any]:
        """Return the sums of both derivatives up to each range: (2, slots, ranges)."""
        sums = np.empty((2, count, int(self._starts[-1])))
        weights = slopes[rows], bends[rows]
        for column, first in enumerate(self._starts[:-1]):
            size = int(self._starts[column + 1] - first)
            places = slots * size + self._by_column[column, rows]
            for kind, weight in enumerate(weights):
                found = np.bincount(places, weight, count * size).reshape(count, size)
                np.cumsum(found, axis=1, out=sums[kind, :, first : first + size])
        return sums
