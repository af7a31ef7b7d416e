"""Ranges of a column's values: all that leaves a party in the placement `bins`.

A value's range is 1 or more; 0 is for a value that is missing. A column with no more different
values than there are ranges loses nothing; of others the ranges hold equally many records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.learning.vertical.rows import own_features

MOST: Final = 255
"""Ranges of a column; with that for missing values a range is one byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """The borders of each column's ranges. They stay with their party.

    Attributes:
        cuts: of each column, ascending: a value lies in range 1 + the number of cuts below it.
    """

    cuts: tuple[NDArray[Any], ...]

    def indices(self, features: NDArray[Any]) -> NDArray[Any]:
        """Return the range of each value, (records, columns) uint8.

        Args:
            features: (records, columns) float64; NaN is a missing value.

        Raises:
            FormatError: not such an array, infinite, or of other columns than the cuts.
        """
        found = own_features(features, columns=len(self.cuts), missing=True)
        indices = np.empty(found.shape, np.uint8)
        for column, cuts in enumerate(self.cuts):
            values = found[:, column]
            ranges = np.searchsorted(cuts, values, side="left") + 1
            indices[:, column] = np.where(np.isnan(values), 0, ranges)
        return indices


def learn_bins(features: NDArray[Any], *, most: int = MOST) -> Bins:
    """Return the ranges for columns like `features`; a constant column has one.

    Args:
        features: (records, columns) float64; NaN is a missing value.
        most: ranges of a column, 2 to 255.

    Raises:
        FormatError: not such an array, or infinite.
    """
    found = own_features(features, empty=True, missing=True)
    return Bins(cuts=tuple(_cuts(column[~np.isnan(column)], most) for column in found.T))


def _cuts(values: NDArray[Any], most: int) -> NDArray[Any]:
    different = np.unique(values)
    if len(different) <= most:
        below, above = different[:-1], different[1:]
        middle: NDArray[Any] = below + (above - below) / 2
        return middle
    shares = np.arange(1, most) / most
    cuts = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    inner: NDArray[Any] = cuts[cuts < different[-1]]
    return inner


def offsets(sizes: Sequence[int]) -> NDArray[Any]:
    """Return where each column's ranges begin when all columns' stand in a row, and the end."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
