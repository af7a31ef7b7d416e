"""What a party does when it is asked, by the plan: the steps of its model, and of aligning."""

from collections.abc import Mapping

import numpy as np

from wardian._internal.vertical import Linear, Trees, Vertical
from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.hands import aligning, linear, network, trees
from wardian.learning.vertical.hands.desk import PREDICTED, Desk, Hand
from wardian.learning.vertical.script import PREDICTIONS, Of, Step


def hands(vertical: Vertical | None) -> Mapping[Step, Hand]:
    """Return what answers each step that a plan with this model can have."""
    if vertical is None:
        return aligning.HANDS
    model = {Linear: linear.HANDS, Trees: trees.HANDS}.get(type(vertical), network.HANDS)
    own = {Step.LABELS: _labels, Step.PREDICTIONS: _predictions}
    return {**aligning.HANDS, **own, **model}


def _labels(desk: Desk, _: RecordDict) -> RecordDict:
    found = desk.labels()
    if found is None:
        raise FormatError("labels: this party has none")
    return RecordDict({"labels": ArrayRecord({"labels": found})})


def _predictions(desk: Desk, content: RecordDict) -> RecordDict:
    """Keep what the model says of this party's records to predict.

    Raises:
        FormatError: not one number, or one of each class, of each record.
    """
    places = desk.positions(Of.PREDICT)
    rows = desk.table.of(Of.PREDICT).rows if places is None else len(places)
    classes = getattr(desk.vertical, "classes", 0)
    shape = (rows, classes) if classes else (rows,)
    found = array_of(content, PREDICTIONS, PREDICTIONS, dtype="float64", shape=shape)
    desk.put_arrays(PREDICTED, predictions=np.array(found))
    return RecordDict()
