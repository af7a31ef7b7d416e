"""The same training on clear tables, to compare with: an owner's own model, and the pooled one."""

import hashlib
from collections.abc import Sequence
from statistics import mean

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from plans import PARAMETERS
from tumour_tables import LABEL, TABLES, Tumours, load_tumours

from wardian.broker.jobs.merge import OutputTerms
from wardian.errors import JobFailed
from wardian.learning.shared.joining import Joined, sorted_rows
from wardian.learning.shared.trainers.table import FUNCTIONS
from wardian.learning.shared.trainers.trained import Task

SHUFFLES = 20
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
        sources=np.zeros(len(rows), np.uint8),
        owners=(frozenset(),),
        rows=len(rows),
    )
    task = Task(
        rows=joined, parameters=PARAMETERS, terms=_NOBODY_ASKS, privacy=None, noise=None,
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


def compare(tumours: Tumours, model: bytes) -> None:
    """Try the joint model and that of the pooled clear table; and who is how good on the whole."""
    print(f"\nOn {len(tumours.tried)} tumours that nobody had")
    pooled = trained(tumours, tumours.joint, tumours.names)
    print(f"  pooled, in the clear {accuracy(tumours, pooled, tumours.names):.4f}")
    print(f"  joint, sealed        {accuracy(tumours, model, tumours.names):.4f}")
    if hashlib.sha256(model).digest() != hashlib.sha256(pooled).digest():
        raise JobFailed("the joint model is not the one of the pooled table")
    print("  the two are the same, byte by byte")
    print(f"\nAlone and together, in the clear, dealt out in {SHUFFLES} other ways")
    others = [load_tumours(shuffle=1 + number) for number in range(SHUFFLES)]
    for owner in TABLES:
        print(f"  {owner:10} alone {mean(alone(each, owner) for each in others):.4f}")
    together = (
        accuracy(each, trained(each, each.joint, each.names), each.names) for each in others
    )
    print(f"  together         {mean(together):.4f}")


def alone(tumours: Tumours, owner: str) -> float:
    """Return how good the model is that `owner` learns from its own table."""
    columns = tumours.columns[owner]
    return accuracy(tumours, trained(tumours, tumours.rows(owner), columns), columns)
