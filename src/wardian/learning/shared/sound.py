"""What is wrong with a table shows in the table alone, before any of it is joined.

An owner that leaves a hole in one row, or puts a number there that no trainer takes, would learn
whether somebody else has that row if it were looked for in the join: the job fails, or it does not.
So each table is looked through whole, as its owner could do alone.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.broker.jobs.plan import Input, JobPlan
from wardian.broker.jobs.trainers import TRAINERS
from wardian.errors import FormatError
from wardian.learning.shared.columns import Columns

LARGEST: Final = 1e37
"""Of numbers: 32 bits hold them, and 64 bits hold sums of as many products as there are rows."""
MOST_CLASSES: Final = 1024


def refuse_unsound(plan: JobPlan, used: Input, table: Columns) -> None:
    """Return if the trainer of `plan` takes every row of `table`, by itself.

    Args:
        plan: the job.
        used: the input that the table is.
        table: as it was read, whole.

    Raises:
        FormatError: a value or a label is missing or too large, or a label is no class. Says in
            whose table, and in which column; never in which row.
    """
    where, trainer = f"{used.owner}, table {used.table}", TRAINERS[plan.train.algorithm]
    for name in sorted(used.columns):
        values = table[name]
        if values.dtype != object:
            _refuse_values(values, f"{where}: column {name}", missing=trainer.missing)
    if used.label is not None:
        label = table[used.label]
        if np.isnan(label).any():
            raise FormatError(f"{where}: a row has no label")
        _refuse_values(label, f"{where}: the label", missing=False)
        if trainer.classes:
            classes_of(label, f"{where}: the label", private=plan.privacy is not None)


def classes_of(
    label: NDArray[np.float64], where: str = "the label", *, private: bool = False
) -> NDArray[np.int64]:
    """Return the classes in `label`, sorted.

    Args:
        label: (rows,).
        where: what an error calls it.
        private: whether they have to be 0 and 1.

    Raises:
        FormatError: it is not of whole numbers of 32 bits, or of more than 1024 of them; or other
            ones where noise is made.
    """
    if private and not np.isin(label, (0.0, 1.0)).all():
        raise FormatError(f"{where}: with [privacy] classes are 0 and 1")
    if not (np.isfinite(label) & (label == np.trunc(label)) & (np.abs(label) < 2**31)).all():
        raise FormatError(f"{where}: classes are whole numbers of 32 bits")
    found: NDArray[np.int64] = np.unique(label.astype(np.int64))
    if len(found) > MOST_CLASSES:
        raise FormatError(f"{where}: more than {MOST_CLASSES} classes")
    return found


def _refuse_values(values: NDArray[Any], where: str, *, missing: bool) -> None:
    if not missing and np.isnan(values).any():
        raise FormatError(f"{where}: a value is missing, and this trainer takes none")
    if (np.abs(values) > LARGEST).any():
        raise FormatError(f"{where}: a number is larger than {LARGEST:g}")
