"""A party's steps of a regression; see `learning.vertical.linear`."""

import math
from collections.abc import Mapping
from typing import Final

from wardian._internal.vertical import Linear
from wardian.errors import FormatError, PolicyDenied
from wardian.learning.received import setting_of
from wardian.learning.records import ConfigRecord, RecordDict
from wardian.learning.vertical.hands.desk import MODEL, Desk, Hand
from wardian.learning.vertical.linear.messages import L2, LABELS, STEEPNESS
from wardian.learning.vertical.linear.party import LinearParty
from wardian.learning.vertical.script import Of, Step

_HEAD: Final = "head"
_DESCENT: Final = "descent"


def _party(desk: Desk) -> LinearParty:
    return LinearParty(desk.features(Of.LEARN), desk.labels())


def without_labels(content: RecordDict) -> RecordDict:
    """Return `content` without labels: they are asked for, and sent, for themselves."""
    return RecordDict({name: record for name, record in content.items() if name != LABELS})


def _features(desk: Desk, _: RecordDict) -> RecordDict:
    return without_labels(_party(desk).features())


def _weights(desk: Desk, content: RecordDict) -> RecordDict:
    party = _party(desk)
    party.take_weights(content)
    desk.put_arrays(MODEL, weights=party.weights)
    return RecordDict()


def _start(desk: Desk, _: RecordDict) -> RecordDict:
    return without_labels(_party(desk).start())


def _sums(desk: Desk, content: RecordDict) -> RecordDict:
    party = _party(desk)
    if desk.times == 1:
        _begin(desk, content)
        party.begin(content)
    else:
        _go_on(desk, party)
        party.step(content)
    _keep(desk, party)
    return party.partial()


def _begin(desk: Desk, content: RecordDict) -> None:
    """Keep how to descend.

    Raises:
        FormatError: it is no way to descend.
        PolicyDenied: the plan shrinks coefficients otherwise (rule `vertical-plan`).
    """
    steepness, l2 = setting_of(content, STEEPNESS, float), setting_of(content, L2, float)
    if not isinstance(desk.vertical, Linear) or l2 != desk.vertical.l2:
        raise PolicyDenied("the plan has another `l2`", rule="vertical-plan")
    if not 0 < steepness < math.inf:
        raise FormatError("steepness: a finite number above 0")
    desk.put(_HEAD, steepness=steepness, l2=l2)


def _go_on(desk: Desk, party: LinearParty) -> None:
    about, found = desk.settings(_HEAD), desk.arrays(_DESCENT)
    party.begin(
        RecordDict({name: _setting(name, about[name]) for name in (STEEPNESS, L2)}),
    )
    party.go_on(found["weights"], found["ahead"], int(about["steps"]))


def _setting(name: str, value: float) -> ConfigRecord:
    return ConfigRecord({name: value})


def _keep(desk: Desk, party: LinearParty) -> None:
    descent = party.descent
    desk.put_arrays(_DESCENT, weights=descent.weights, ahead=descent.ahead)
    about = desk.settings(_HEAD)
    desk.put(_HEAD, steepness=about[STEEPNESS], l2=about[L2], steps=descent.steps)


def _end(desk: Desk, content: RecordDict) -> RecordDict:
    party = _party(desk)
    _go_on(desk, party)
    party.step(content)
    desk.put_arrays(MODEL, weights=party.weights)
    desk.state.pop(_DESCENT)
    return RecordDict()


def _answer(desk: Desk, _: RecordDict) -> RecordDict:
    party = LinearParty(desk.features(Of.LEARN), desk.labels())
    party.keep_weights(desk.arrays(MODEL)["weights"])
    return party.answer(desk.features(Of.PREDICT))


HANDS: Final[Mapping[Step, Hand]] = {
    Step.FEATURES: _features,
    Step.WEIGHTS: _weights,
    Step.START: _start,
    Step.SUMS: _sums,
    Step.END: _end,
    Step.ANSWER: _answer,
}
