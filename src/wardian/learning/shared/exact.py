"""Sums over rows that are the same whatever order, and whatever pieces, the rows come in.

Every value is brought to a grid of its column first: 51 bits below the column's largest, which is
what a double holds of it, and in three parts of 17 bits. Products of parts are whole numbers, and
so few bits long that sums of a block of them are exact in floating point, in whatever order a
matrix product takes them; blocks are added up as whole numbers. Nothing is rounded but each value,
by itself: here, and before where its column's lowest was taken off. So rows may come as files,
owners and batches have them: the last bit is the same.

Source: Ozaki, Ogita, Oishi and Rump, "Error-free transformations of matrix multiplication by using
fast routines of matrix multiplication", Numerical Algorithms 59 (2012), for the splitting.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Parts: TypeAlias = Sequence[Floats]
"""Whole numbers of at most 17 bits and a sign, (columns, rows) each, the largest first."""

PART_BITS: Final = 17
PARTS: Final = 3
BLOCK_ROWS: Final = 2**13
"""At most so many rows are summed in floating point: 2**34 * 2**13 is below 2**53."""
_SMALLEST: Final = -900
_FOLDED: Final = 2**26
"""Rows after which sums of 64 bits go over to whole numbers without end."""
_LOG2_E: Final = float.fromhex("0x1.71547652b82fep+0")
_LN2: Final = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
"""The logarithm of 2 in two parts. The first has 32 bits, so that whole multiples are exact."""
_TERMS: Final = tuple(1.0 / math.factorial(power) for power in range(14))
LEAST_DEVIATION: Final = 1e-30
UNIT: Final = 2 * PART_BITS * (PARTS - 1)
"""Sums of products are in units of 2**-68, times the grids' own."""


def exponents_of(largest: ArrayLike) -> NDArray[np.int64]:
    """Return of each column an e so that none of its values is larger than 2**e.

    Args:
        largest: of the values without their signs, finite, (columns,).
    """
    _, found = np.frexp(np.asarray(largest, np.float64))
    return np.maximum(found.astype(np.int64), _SMALLEST)


def exp(values: Floats) -> Floats:
    """Return e to the power of each of `values`, by basic operations alone.

    These are rounded alike everywhere (IEEE 754), while a library's own may differ by the last bit
    from one kind of processor to the next. Two results with one noise would then show more than
    the noise hides.

    Args:
        values: -700 to 700. The result is within two units of the last place.
    """
    whole = np.rint(values * _LOG2_E)
    rest = (values - whole * _LN2[0]) - whole * _LN2[1]
    found = np.full_like(rest, _TERMS[-1])
    for term in _TERMS[-2::-1]:
        found = found * rest + term
    return np.ldexp(found, whole.astype(np.int64))


def split(values: Floats, exponents: NDArray[np.int64], *, parts: int = PARTS) -> list[Floats]:
    """Return `values`, (columns, rows), in `parts` parts; what is finer than the grid is rounded.

    Args:
        values: finite, none larger than 2**exponents of its column.
        exponents: (columns,).
        parts: 1 to 3.
    """
    rest = values * np.ldexp(1.0, -exponents)[:, None]
    found = []
    for _ in range(parts):
        rest *= 2.0**PART_BITS
        part = np.rint(rest)
        rest -= part
        found.append(part)
    return found


def dot(weights: Floats, exponents: NDArray[np.int64], parts: Parts) -> Floats:
    """Return `weights` times the columns, (outputs, rows): of each row by itself, to the last bit.

    A plain matrix product would take a row's sum in an order that hangs on the row's place.

    Args:
        weights: (outputs, columns), finite.
        exponents: of the grids that `parts` are of.
        parts: of at most `BLOCK_ROWS` rows.
    """
    scaled = weights * np.ldexp(1.0, exponents)[None, :]
    own = exponents_of(np.abs(scaled).max(initial=0.0, axis=1))
    found = np.zeros((len(weights), parts[0].shape[1]))
    for weight in reversed(range(PARTS)):
        for at, part in enumerate(split(scaled, own)[: weight + 1]):
            found += (part @ parts[weight - at]) * 2.0 ** (-PART_BITS * (weight + 2))
    return found * np.ldexp(1.0, own)[:, None]


class Products:
    """Sums over rows of the products of any column of one kind with any of another."""

    __slots__ = ("_rows", "_sums", "_whole")

    def __init__(self, first: int, second: int) -> None:
        """Begin with 0 for each of `first` times `second` pairs of columns."""
        self._sums = np.zeros((PARTS, first, second), np.int64)
        self._whole: NDArray[Any] = np.zeros((first, second), object)
        self._rows = 0

    def add(self, first: Parts, second: Parts) -> None:
        """Add the rows of a block, at most `BLOCK_ROWS`; products below the unit are left out."""
        width = second[0].shape[0]
        for at, part in enumerate(first):
            others = second[: PARTS - at]
            found = part @ np.concatenate(others).T
            for behind in range(len(others)):
                block = found[:, behind * width : (behind + 1) * width]
                self._sums[at + behind] += block.astype(np.int64)
        self._rows += first[0].shape[1]
        if self._rows >= _FOLDED:
            self._fold()

    def total(self) -> NDArray[Any]:
        """Return the sums, (first, second) whole numbers in units of 2**-68 and of both grids."""
        self._fold()
        return self._whole

    def floats(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Floats:
        """Return the sums as the nearest numbers of 64 bits, by the exponents of both grids."""
        grid = first[:, None] + second[None, :]
        found: Floats = np.ldexp((self.total() / 2**UNIT).astype(np.float64), grid)
        return found

    def _fold(self) -> None:
        for at in range(PARTS):
            self._whole = self._whole + self._sums[at].astype(object) * 2 ** (
                PART_BITS * (PARTS - 1 - at)
            )
        self._sums[:] = 0
        self._rows = 0


class Powers:
    """Of each column how many values there are, their sum, and the sum of their squares."""

    __slots__ = ("_counts", "_squares", "_sums")

    def __init__(self, columns: int) -> None:
        """Begin with 0 for each of `columns`."""
        self._counts: NDArray[Any] = np.zeros(columns, object)
        self._sums: NDArray[Any] = np.zeros(columns, object)
        self._squares: NDArray[Any] = np.zeros(columns, object)

    def add(self, there: NDArray[np.bool_], parts: Parts) -> None:
        """Add the rows of a block; a value that is not `there`, (columns, rows), is 0."""
        self._counts = self._counts + there.sum(axis=1).astype(object)
        for at, part in enumerate(parts):
            own = part.sum(axis=1).astype(np.int64).astype(object)
            self._sums = self._sums + own * 2 ** (PART_BITS * (PARTS - 1 - at))
            for behind, other in enumerate(parts):
                found = np.einsum("ij,ij->i", part, other).astype(np.int64).astype(object)
                self._squares = self._squares + found * 2 ** (
                    PART_BITS * (2 * PARTS - 2 - at - behind)
                )

    def moments(self, exponents: NDArray[np.int64]) -> list[tuple[int, float, float | None]]:
        """Return count, mean and deviation of each column; no deviation of fewer than two values.

        Args:
            exponents: of the grids.
        """
        found: list[tuple[int, float, float | None]] = []
        unit = 2 ** (PART_BITS * PARTS)
        for count, total, squares, grid in zip(
            self._counts, self._sums, self._squares, exponents, strict=True
        ):
            mean = math.ldexp(total / (count * unit), int(grid)) if count else 0.0
            apart = count * squares - total * total  # exact
            spread = apart / (count * (count - 1) * unit * unit) if count > 1 else None
            deviation = None if spread is None else math.ldexp(spread**0.5, int(grid))
            found.append((count, mean, deviation))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Of some columns, of all rows.

    Attributes:
        rows: how many.
        mean: (columns,).
        covariance: (columns, columns), in shares of all rows.
    """

    rows: int
    mean: Floats
    covariance: Floats

    @property
    def deviation(self) -> Floats:
        """Standard deviation of each column; of one that is, or is all but, constant 1."""
        return settled(np.sqrt(np.maximum(np.diag(self.covariance), 0.0)))


def settled(deviation: Floats) -> Floats:
    """Return by what columns of `deviation` are divided: below 1e-30 by 1, as where it is 0.

    Else weights of columns as they were would be beyond 32 bits.
    """
    return np.where(deviation > LEAST_DEVIATION, deviation, 1.0)


def moments_of(products: Products, exponents: NDArray[np.int64]) -> Moments:
    """Return the moments of columns, from their products with one another and with a 1 each.

    Args:
        products: of (1, columns) with (1, columns), of one row at least.
        exponents: of the columns, without the 1, whose exponent is 0.
    """
    total = products.total()
    count, sums = total[0, 0], total[0, 1:]
    centred = total[1:, 1:] * count - sums[:, None] * sums[None, :]  # exact, however far from 0
    return Moments(
        rows=int(count >> UNIT),
        mean=np.ldexp((sums / count).astype(np.float64), exponents),
        covariance=np.ldexp(
            (centred / (count * count)).astype(np.float64), exponents[:, None] + exponents[None, :]
        ),
    )


def plus(one: Products, other: Products) -> Products:
    """Return the sums of the rows of both."""
    found = Products(*one.total().shape)
    found._whole = one.total() + other.total()  # noqa: SLF001  its own kind
    return found
