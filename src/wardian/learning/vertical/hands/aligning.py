"""A party's steps of an intersection; see `learning.psi`."""

from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

from wardian.crypto.secret import Secret
from wardian.errors import FormatError
from wardian.learning.psi.ecdh import EcdhParty
from wardian.learning.psi.messages import ANSWER, SETUP
from wardian.learning.psi.party import PsiParty
from wardian.learning.records import RecordDict
from wardian.learning.vertical.hands.desk import POSITIONS, Desk, Hand
from wardian.learning.vertical.plans import psi_run, psi_terms
from wardian.learning.vertical.script import Step

_RUNS: Final = "psi-runs"
_KEPT: Final = "psi"


def _member(desk: Desk, *, first: bool = False) -> PsiParty | EcdhParty:
    """Return this party's side of the intersection under way; or of the next one.

    Raises:
        PolicyDenied: it took part as often as it consented to (`psi-runs`), or has more
            identifiers than it may submit (`psi-size`); nothing was tagged.
    """
    begun = int(desk.settings(_RUNS).get("n", 0))
    kept = None if first else Secret(desk.settings(_KEPT)["kept"])
    ecdh = desk.plan.psi is not None and desk.plan.psi.protocol == "ecdh"
    return (EcdhParty if ecdh else PsiParty)(
        psi_terms(desk.plan),
        run=psi_run(desk.run, desk.of),
        name=desk.name,
        signer=desk.signer,
        identifiers=desk.table.of(desk.of).identifiers,
        runs_before=begun if first else begun - 1,
        kept=kept,
    )


def _share(desk: Desk, _: RecordDict) -> RecordDict:
    member = _member(desk, first=True)
    desk.put(_RUNS, n=int(desk.settings(_RUNS).get("n", 0)) + 1)  # counted before the share leaves
    desk.put(_KEPT, kept=member.kept.reveal())
    return member.share()


def _deal(desk: Desk, content: RecordDict) -> RecordDict:
    return _member(desk).deal(content)


def _tags(desk: Desk, content: RecordDict) -> RecordDict:
    member = _member(desk)
    if not isinstance(member, PsiParty):
        raise FormatError("psi: not a step of this protocol")
    return member.tags(content)


def _positions(desk: Desk, content: RecordDict) -> RecordDict:
    member = _member(desk)
    if not isinstance(member, PsiParty):
        raise FormatError("psi: not a step of this protocol")
    return _learnt(desk, member.positions(content))


def _learnt(desk: Desk, found: NDArray[Any]) -> RecordDict:
    desk.put_arrays(POSITIONS + desk.of.value, positions=found)
    desk.state.pop(_KEPT)
    return RecordDict()


def _ecdh(desk: Desk, content: RecordDict) -> EcdhParty:
    member = _member(desk)
    if not isinstance(member, EcdhParty):
        raise FormatError("psi: not a step of this protocol")
    member.begin(content)
    return member


def _blind(desk: Desk, content: RecordDict) -> RecordDict:
    member = _ecdh(desk, content)
    return RecordDict({**member.setup(), **member.request()})


def _again(desk: Desk, content: RecordDict) -> RecordDict:
    return _ecdh(desk, content).answer(content)


def _learn(desk: Desk, content: RecordDict) -> RecordDict:
    def alone(name: str) -> RecordDict:
        return RecordDict({name: content[name]} if name in content else {})

    return _learnt(desk, _ecdh(desk, content).learn(alone(SETUP), alone(ANSWER)))


HANDS: Final[Mapping[Step, Hand]] = {
    Step.SHARE: _share,
    Step.DEAL: _deal,
    Step.TAGS: _tags,
    Step.POSITIONS: _positions,
    Step.BLIND: _blind,
    Step.AGAIN: _again,
    Step.LEARN: _learn,
}
