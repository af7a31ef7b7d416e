"""A party's steps of boosted trees; see `learning.vertical.trees`."""

from collections.abc import Mapping
from typing import Final

from wardian._internal.vertical import Trees
from wardian.errors import LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import RecordDict
from wardian.learning.vertical.hands.desk import MODEL, Desk, Hand
from wardian.learning.vertical.hands.linear import without_labels
from wardian.learning.vertical.script import Of, Step
from wardian.learning.vertical.trees.messages import SPLITS
from wardian.learning.vertical.trees.party import TreeParty


def _party(desk: Desk) -> TreeParty:
    if not isinstance(desk.vertical, Trees):
        raise LocalProtocolError("the plan has another model")
    return TreeParty(desk.features(Of.LEARN), desk.labels(), ranges=desk.vertical.ranges)


def _bins(desk: Desk, _: RecordDict) -> RecordDict:
    return without_labels(_party(desk).bins())


def _splits(desk: Desk, content: RecordDict) -> RecordDict:
    party = _party(desk)
    party.take_splits(content)
    desk.put_arrays(MODEL, splits=party.splits, thresholds=party.thresholds)
    return RecordDict()


def _answer(desk: Desk, _: RecordDict) -> RecordDict:
    party = _party(desk)
    splits = desk.arrays(MODEL)["splits"]
    party.take_splits(RecordDict({SPLITS: ArrayRecord({SPLITS: splits})}))
    return party.answer(desk.features(Of.PREDICT))


HANDS: Final[Mapping[Step, Hand]] = {
    Step.BINS: _bins,
    Step.SPLITS: _splits,
    Step.ANSWER: _answer,
}
