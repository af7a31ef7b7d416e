"""What is read of a table, by column: numbers or texts, as the plan uses them."""

import enum
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wardian.broker.jobs.plan import Input
from wardian.errors import FormatError

Columns: TypeAlias = Mapping[str, NDArray[Any]]
"""By name: float64, NaN where there is none; or objects that are texts, None where there is none.
All are of one length."""

MOST_ROWS: Final = 2**27
MOST_COLUMNS: Final = 4096
"""Of a table, those that are not used included."""
BATCH_ROWS: Final = 2**16
MAX_TEXT: Final = 1024
"""Characters of a text, and of a number that is written as one."""


class Kind(enum.Enum):
    """What a column is read as."""

    NUMBER = "number"
    TEXT = "text"


def kinds_of(used: Input, texts: Iterable[str] = ()) -> dict[str, Kind]:
    """Return what each column that a plan uses of a table is read as.

    Args:
        used: the plan's input.
        texts: further columns that are texts, such as those that rows are grouped by.

    Returns:
        By name, sorted: the identifier is a text, also where it consists of digits; what is learnt
        from, and the label, are numbers.
    """
    read_as_text = {*texts, used.identifier}
    return {name: Kind.TEXT if name in read_as_text else Kind.NUMBER for name in sorted(used.used)}


def row_count(columns: Columns) -> int:
    """Return how many rows `columns`, one or more, have."""
    return len(next(iter(columns.values())))


def joined_batches(
    batches: Iterable[Columns], kinds: Mapping[str, Kind]
) -> dict[str, NDArray[Any]]:
    """Return the rows of all `batches`, by column.

    Raises:
        FormatError: there is no row at all, or more than 2**27.
    """
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in kinds}
    rows = 0
    for batch in batches:
        rows += row_count(batch)
        if rows > MOST_ROWS:
            raise FormatError(f"more than {MOST_ROWS} rows")
        for name, values in batch.items():
            parts[name].append(values)
    if not rows:
        raise FormatError("no rows")
    return {name: np.concatenate(values) for name, values in parts.items()}


def names_of(found: Iterable[str], kinds: Mapping[str, Kind]) -> list[str]:
    """Return the names of a table's columns, if all that are wanted are there once.

    Raises:
        FormatError: one is missing, or there twice; or there are more than 4096.
    """
    names = list(found)
    if len(names) > MOST_COLUMNS:
        raise FormatError(f"more than {MOST_COLUMNS} columns")
    for name in kinds:
        if names.count(name) != 1:
            raise FormatError(f"column {name}: " + ("not there" if name not in names else "twice"))
    return names
