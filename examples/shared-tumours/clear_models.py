"""The same training on clear tables, to compare with: an owner's own model, and the pooled one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from plans import PARAMETERS
from tumour_tables import LABEL, Tumours

from wardian.broker.jobs.merge import OutputTerms
from wardian.learning.shared.joining import Joined, sorted_rows
from wardian.learning.shared.trainers.table import FUNCTIONS
from wardian.learning.shared.trainers.trained import Task

_NOBODY_ASKS = OutputTerms(
    model=frozenset(), metrics=frozenset(), aggregates=frozenset(), serving=frozenset(),
    smallest_join=1, smallest_cohort=1, epsilon=None, delta=None, approvals=frozenset(),
)  # fmt: skip


def trained(tumours: Tumours, rows: NDArray[np.intp], columns: Sequence[str]) -> bytes:
    """Return the model (ONNX) of these rows and columns, in the order of rows that a job has."""
    whole = dict(zip(columns, tumours.values_of(rows, columns).T, strict=True))
    whole[LABEL] = tumours.labels[rows].astype(float)
    order = sorted_rows(whole)
    joined = Joined(
        names=tuple(sorted(columns)),
        columns={name: whole[name][order] for name in columns},
        label=whole[LABEL][order],
        rows=len(rows),
    )
    task = Task(
        joined=joined, parameters=PARAMETERS, terms=_NOBODY_ASKS, privacy=None, noise=None,
        seed=0, measured=False,
    )  # fmt: skip
    model = FUNCTIONS["logistic-regression"](task).model
    assert model is not None  # noqa: S101 (a trainer that learns gives one)
    return model


def accuracy(tumours: Tumours, model: bytes, columns: Sequence[str]) -> float:
    """Return which part of the tumours that nobody has `model` is right about."""
    values = tumours.values_of(tumours.tried, sorted(columns)).astype(np.float32)
    (said,) = InferenceSession(model).run(["label"], {"input": values})
    return float((np.ravel(said) == tumours.labels[tumours.tried]).mean())
