"""Named arrays: a model's parameters, an update, statistics. Numbers alone; nothing unpickles."""

import re
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wardian.errors import FormatError

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]

DTYPES: Final = ("float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool")
"""Kinds of elements, little endian; their places in this list are what travels."""
KINDS: Final = tuple(np.dtype(name).newbyteorder("<") for name in DTYPES)
PLACES: Final = {kind: place for place, kind in enumerate(KINDS)}
"""Of the kinds, by kind."""
MAX_ARRAYS: Final = 4096
MAX_DIMENSIONS: Final = 8
MAX_ELEMENTS: Final = 2**32
NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}\Z")
"""Of an array, a metric, a setting or a record."""
_names = lru_cache(maxsize=4096)(NAME.match)  # the same ones in every round


class ArrayRecord(Mapping[str, Array]):
    """Arrays by name, in the order in which they were given. They are not copied; do not write.

    Two records fit each other if names, order, shapes and kinds of elements are the same.
    """

    __slots__ = ("_arrays",)

    def __init__(
        self,
        arrays: Mapping[str, Array] | Iterable[tuple[str, Array]] | None = None,
        *,
        numpy_ndarrays: Sequence[Array] | None = None,
        torch_state_dict: "Mapping[str, torch.Tensor] | None" = None,
    ) -> None:
        """Hold `arrays`, or `numpy_ndarrays` named by their places, or a PyTorch state.

        Raises:
            FormatError: a name, a kind of elements or a size that is not accepted.
        """
        if torch_state_dict is not None:
            given = {name: value.detach().cpu().numpy() for name, value in torch_state_dict.items()}
        elif numpy_ndarrays is not None:
            given = {str(place): each for place, each in enumerate(numpy_ndarrays)}
        else:
            given = dict(arrays or {})
        if len(given) > MAX_ARRAYS:
            raise FormatError(f"arrays: {len(given)}, at most {MAX_ARRAYS} are accepted")
        self._arrays = {name: _plain(name, array) for name, array in given.items()}

    @override
    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    @override
    def __len__(self) -> int:
        return len(self._arrays)

    @override
    def items(self) -> ItemsView[str, Array]:
        return self._arrays.items()

    @override
    def values(self) -> ValuesView[Array]:
        return self._arrays.values()

    @override
    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ArrayRecord)
            and self.fits(other)
            and all(
                a.tobytes() == b.tobytes()
                for a, b in zip(self.values(), other.values(), strict=True)
            )
        )

    __hash__ = None  # type: ignore[assignment]

    @override
    def __repr__(self) -> str:  # never the numbers
        return f"ArrayRecord({len(self)} arrays, {self.nbytes} bytes)"

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def elements(self) -> int:
        """Number of all elements."""
        return sum(array.size for array in self._arrays.values())

    def to_numpy_ndarrays(self) -> list[Array]:
        """Return the arrays in their order."""
        return list(self._arrays.values())

    def to_torch_state_dict(self) -> "dict[str, torch.Tensor]":
        """Return copies as tensors, for `load_state_dict`. Needs PyTorch."""
        import torch  # noqa: PLC0415

        return {name: torch.from_numpy(array.copy()) for name, array in self._arrays.items()}

    def fits(self, other: Self) -> bool:
        """Return whether `other` has the same names, order, shapes and kinds of elements."""
        return list(self) == list(other) and all(
            mine.shape == its.shape and mine.dtype == its.dtype
            for mine, its in zip(self.values(), other.values(), strict=True)
        )


def all_finite(array: Array) -> bool:
    """Return whether no element of `array` is NaN or infinite."""
    return bool(np.count_nonzero(np.isfinite(array)) == array.size)


def name_of(name: object, *, what: str) -> str:
    """Return `name` if it may be one; raises FormatError else."""
    if not isinstance(name, str) or not _names(name):
        raise FormatError(f"{what}: a name is 1 to 128 of A-Z a-z 0-9 _ . / -")
    return name


def _plain(name: str, array: Any) -> Array:
    name_of(name, what="arrays")
    found: Array = np.asarray(array)
    kind = found.dtype
    if kind not in PLACES:  # big endian, or the platform's second name for a kind
        if kind.name not in DTYPES:
            raise FormatError(f"arrays: {name}: elements of kind {kind.name} are not accepted")
        kind = KINDS[DTYPES.index(kind.name)]
    if found.ndim > MAX_DIMENSIONS or found.size > MAX_ELEMENTS:
        raise FormatError(f"arrays: {name}: too large")
    return np.asarray(found, dtype=kind, order="C")
