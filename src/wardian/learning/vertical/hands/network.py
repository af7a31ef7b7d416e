"""A party's steps of a split network; see `learning.vertical.network`."""

import secrets
from collections.abc import Mapping
from typing import Final

from wardian._internal.vertical import Network
from wardian.errors import LocalProtocolError, PolicyDenied
from wardian.learning.arrays import ArrayRecord
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.hands.desk import MODEL, Desk, Hand
from wardian.learning.vertical.network.messages import ROWS
from wardian.learning.vertical.network.party import NetworkParty
from wardian.learning.vertical.script import Of, Step

_LAYERS: Final = "layers"
_ASKED: Final = "asked"


def _terms(desk: Desk) -> Network:
    if not isinstance(desk.vertical, Network):
        raise LocalProtocolError("the plan has another model")
    return desk.vertical


def _party(desk: Desk, *, seed: int = 0) -> NetworkParty:
    """Return this party's side, with new layers, or with those of before."""
    terms = _terms(desk)
    made = NetworkParty(
        desk.features(Of.LEARN),
        widths=(*desk.hidden, terms.embeddings[desk.name]),
        rate=terms.rate,
        momentum=terms.momentum,
        seed=seed,
    )
    if _LAYERS in desk.state:
        made.layers.restore(desk.arrays(_LAYERS))
    return made


def _embed(desk: Desk, content: RecordDict) -> RecordDict:
    """Return the embedding of the records asked for, after a step of the slopes of those before.

    Raises:
        PolicyDenied: more records at once, or more steps, than the plan has (rule `vertical-plan`).
    """
    terms, rows = _terms(desk), len(desk.features(Of.LEARN))
    asked = array_of(content, ROWS, ROWS, dtype="int64", shape=(None,))
    if len(asked) > terms.batch or desk.times > terms.epochs * -(-rows // terms.batch):
        raise PolicyDenied("more records or steps than the plan has", rule="vertical-plan")
    seed = secrets.randbits(63)  # nobody else can tell its first weights
    party = _party(desk, seed=seed) if desk.times == 1 else _stepped(desk, content)
    answer = party.embed(content)
    desk.put_arrays(_LAYERS, **party.layers.state())
    desk.put_arrays(_ASKED, rows=asked)
    return answer


def _stepped(desk: Desk, content: RecordDict) -> NetworkParty:
    """Return this party's side after a step of the slopes in `content`."""
    party = _party(desk)
    before = ArrayRecord({ROWS: desk.arrays(_ASKED)["rows"]})
    party.embed(RecordDict({ROWS: before}))  # what was in between is not kept, but made again
    party.step(content)
    return party


def _end(desk: Desk, content: RecordDict) -> RecordDict:
    party = _stepped(desk, content)
    desk.put_arrays(_LAYERS, **party.layers.state())
    desk.state.pop(_ASKED)
    held = {name: each for name, each in party.layers.state().items() if "layer" in name}
    desk.put_arrays(MODEL, **held)
    return RecordDict()


def _answer(desk: Desk, _: RecordDict) -> RecordDict:
    return _party(desk).answer(desk.features(Of.PREDICT))


HANDS: Final[Mapping[Step, Hand]] = {
    Step.EMBED: _embed,
    Step.END: _end,
    Step.ANSWER: _answer,
}
