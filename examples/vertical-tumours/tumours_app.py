"""A clinic and a laboratory who know different things of the same tumours: what each of them runs.

scikit-learn's bundled breast cancer data (569 tumours, UCI, CC BY 4.0), in two parts. The clinic
has what was measured on the whole and what each tumour was; the laboratory has the texture of
nuclei. Each has tumours that the other does not know, and its own order. Of those that came in last
nobody knows yet what they are: the run says it, to the clinic alone.

    wardian party clinic --app examples/vertical-tumours/tumours_app.py ...
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

from wardian.learning.app import Context
from wardian.learning.vertical.app import ColumnsApp, Records, Table

NEW = 100
"""Tumours that came in last."""
COLUMNS = {"clinic": slice(0, 12), "laboratory": slice(12, 30)}
MISSING = {"clinic": 0, "laboratory": 7}
"""Of ten tumours each does not know one."""


def scaled(columns: NDArray[Any]) -> NDArray[Any]:
    """Return `columns` with mean 0 and deviation 1: each party does that with its own."""
    found: NDArray[Any] = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    return np.ascontiguousarray(found, np.float64)


def load(context: Context) -> Table:
    """Return the table of the party that runs this."""
    measured, kinds = load_breast_cancer(return_X_y=True)
    columns = scaled(measured[:, COLUMNS[context.party]])
    names = [f"tumour-{number:04}" for number in range(len(columns))]
    known = np.arange(len(columns) - NEW)
    known = known[known % 10 != MISSING[context.party]]
    order = np.random.default_rng(MISSING[context.party]).permutation(known)
    return Table(
        identifiers=[names[at] for at in order],
        features=columns[order],
        labels=kinds[order].astype(np.float64) if context.party == "clinic" else None,
        predict=Records(identifiers=names[-NEW:], features=columns[-NEW:]),
    )


app = ColumnsApp(load)
