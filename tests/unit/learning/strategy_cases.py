"""Models and answers for the tests of strategies."""

from collections.abc import Mapping, Sequence

import numpy as np

from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import MetricRecord
from wardian.learning.replies import HeldReplies
from wardian.learning.strategies.strategy import Strategy


def model(seed: int, *, kind: str = "float32", scale: float = 1.0) -> ArrayRecord:
    """A matrix, a scalar, an array of nothing, and a counter."""
    source = np.random.default_rng(seed)
    return ArrayRecord(
        {
            "weight": (scale * source.standard_normal((5, 7))).astype(kind),
            "scale": np.array(scale * source.standard_normal(), kind),
            "empty": np.zeros((0, 3), kind),
            "batches": np.array([seed], np.int64),
        }
    )


def reply(
    arrays: ArrayRecord, examples: int = 1, control: ArrayRecord | None = None, **metrics
) -> tuple[dict[str, ArrayRecord], MetricRecord]:
    records = {"arrays": arrays} if control is None else {"arrays": arrays, "control": control}
    return records, MetricRecord({"num-examples": examples, **metrics})


def held(updates: Mapping[str, ArrayRecord], examples: Mapping[str, int] | None = None):
    return HeldReplies({p: reply(each, (examples or {}).get(p, 1)) for p, each in updates.items()})


def course(
    strategy: Strategy, first: ArrayRecord, rounds: Sequence[int], parties: int = 5
) -> ArrayRecord:
    """The model after `rounds`, in which each party moves the model its own way."""
    arrays = first
    for number in rounds:
        answers = {}
        for place in range(parties):
            source = np.random.default_rng([number, place])

            def moved(array, source=source):
                if array.dtype.kind != "f":
                    return array + 1
                return (array + 0.1 * source.standard_normal(array.shape)).astype(array.dtype)

            record = {
                name: ArrayRecord({n: moved(a) for n, a in arrays.items()})
                for name in strategy.records
            }
            answers[f"p{place}"] = (record, MetricRecord({"num-examples": place + 1}))
        arrays, _ = strategy.aggregate_train(number, arrays, HeldReplies(answers))
    return arrays
