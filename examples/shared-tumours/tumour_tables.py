"""Three owners' tables of tumours, and what their joint model is compared with.

scikit-learn's bundled breast cancer data (569 tumours, UCI, CC BY 4.0). A clinic has the mean of
what was measured, a laboratory the rest of it, of tumours that overlap; a hospital has other
tumours, whole. A quarter of all nobody has: on those the models are tried.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

TRIED = 142
"""Tumours that no owner has."""
HELD = {"clinic": slice(0, 280), "laboratory": slice(60, 330), "hospital": slice(330, 427)}
"""Which of the others each owner has, in an order that is shuffled once."""
TABLES = {"clinic": "means", "laboratory": "details", "hospital": "tumours"}
IDENTIFIER, LABEL = "tumour", "benign"


@dataclass(frozen=True)
class Tumours:
    """All of them: `values` (tumours, 30), what each is (0 or 1), and the names of the columns."""

    values: NDArray[np.float64]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        """Which columns each owner has."""
        return {
            "clinic": self.names[:10],
            "laboratory": self.names[10:],
            "hospital": self.names,
        }

    def features(self) -> tuple[str, ...]:
        """Return the columns in the order of the joint model: of stacked rows, by name."""
        return tuple(sorted(self.names))

    def rows(self, owner: str) -> NDArray[np.intp]:
        """Return which tumours `owner` has."""
        return np.arange(len(self.labels))[HELD[owner]]

    @property
    def tried(self) -> NDArray[np.intp]:
        """Which tumours nobody has."""
        return np.arange(len(self.labels))[-TRIED:]

    @property
    def joint(self) -> NDArray[np.intp]:
        """Which tumours the joint model learns from: of all of those every column is known."""
        both = np.intersect1d(self.rows("clinic"), self.rows("laboratory"))
        return np.concatenate([both, self.rows("hospital")])

    def values_of(self, rows: NDArray[np.intp], columns: Sequence[str]) -> NDArray[np.float64]:
        """Return (rows, columns)."""
        places = np.array([self.names.index(name) for name in columns])
        return np.asarray(self.values[np.ix_(rows, places)])

    def table(self, owner: str) -> bytes:
        """Return the table of `owner` as CSV: an identifier, its columns, and what each is."""
        rows, columns = self.rows(owner), self.columns[owner]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([IDENTIFIER, *columns, LABEL])
        for row, values in zip(rows, self.values_of(rows, columns), strict=True):
            writer.writerow([f"t{row:04}", *map(repr, values.tolist()), int(self.labels[row])])
        return text.getvalue().encode()


def load_tumours(*, shuffle: int = 0) -> Tumours:
    """Return the tumours in an order of chance, of which each `shuffle` has another."""
    bundled = load_breast_cancer()
    order = np.random.default_rng(shuffle).permutation(len(bundled.target))
    return Tumours(
        values=bundled.data[order],
        labels=bundled.target[order].astype(np.int64),
        names=tuple(str(name).replace(" ", "_") for name in bundled.feature_names),
    )
