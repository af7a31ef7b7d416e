"""What a request of Cluster Serving holds: named columns, each a tensor, strings or an image."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from wardian.errors import FormatError
from wardian.inference.spec import Array

MAX_COLUMNS: Final = 64
MAX_NAME_CHARS: Final = 256
MAX_AXES: Final = 16
MAX_STRINGS: Final = 65_536
"""Strings in one column; each is an object of its own."""
MAX_DENSE_ELEMENTS: Final = 2**31 - 1
"""Elements that a sparse tensor may have as a dense one, zeros included."""


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A tensor: float32, C order, 0 to `MAX_AXES` axes; it may be read-only."""

    array: Array


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """A tensor of which only some elements are given.

    Attributes:
        indices: int32, (values, axes): where each value stands; within `shape`.
        values: float32, (values,).
        shape: of the dense tensor, at most `MAX_DENSE_ELEMENTS` elements.
    """

    indices: Array
    values: Array
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Strings:
    """A tensor of strings, of one axis."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """An image as a file holds it (JPEG, PNG): what the base64 said, not looked at."""

    raw: bytes


Column: TypeAlias = Dense | Sparse | Strings | Image
Columns: TypeAlias = dict[str, Column]
"""In the order in which they were sent: their server gave them to the model by place."""


def column_name(name: str, known: Columns | set[str]) -> str:
    """Return `name`, which is fit for a column and not yet among `known`.

    Raises:
        FormatError: empty, too long, or used before.
    """
    if not 0 < len(name) <= MAX_NAME_CHARS:
        raise FormatError(
            f"a column's name has {len(name)} characters, 1 to {MAX_NAME_CHARS} were expected"
        )
    if name in known:
        raise FormatError("two columns have one name")
    return name


def bound_columns(count: int) -> None:
    """Return if a request may have `count` columns.

    Raises:
        FormatError: none, or too many.
    """
    if not 0 < count <= MAX_COLUMNS:
        raise FormatError(f"{count} columns, 1 to {MAX_COLUMNS} were expected")
