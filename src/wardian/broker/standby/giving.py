"""What every broker that gives its state away does: attest, grant, send. The grant is another's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.evidence import Evidence
from wardian.attestation.results.result import AttestationResult
from wardian.broker.certificates import BROKER
from wardian.broker.frames import ATTESTATION_FRAME_BYTES, FrameStream
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.standby.active_session import ActiveSession
from wardian.broker.standby.channel import Direction, Receiver, Sender
from wardian.broker.standby.messages import TAKEN, StandbyHello
from wardian.crypto.secret import Secret
from wardian.errors import TransportError

TAKING_S: Final = 50.0
"""How long the other one may take to put the state in place; a connection lives 60 s."""
_TAKEN_FRAME_BYTES: Final = 64


class Attesting(Protocol):
    """Makes this broker's evidence and judges another's; `desk.Office` does."""

    async def evidence(self, report_data: bytes) -> Evidence:
        """Return this broker's evidence over `report_data` (64 bytes)."""

    async def verify(
        self, evidence: Evidence, *, policy: AppraisalPolicy, report_data: bytes
    ) -> AttestationResult:
        """Return what `evidence` says now; see `verify_evidence` for what it raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Giver:
    """A broker that gives its state away.

    Attributes:
        attesting: see there.
        manifest: in force.
        ca_certificate: the mesh CA's, DER.
        sign: signs with the mesh CA's key.
        ticks: seconds that never go back.
        grant: given what the other's evidence says, returns what it may have of the master key; on
            return that is written down for good. Or it refuses.
        presented: called with evidence when it came: from here on the visit is decided to its end.
    """

    attesting: Attesting
    manifest: VerifiedManifest
    ca_certificate: bytes
    sign: Callable[[bytes], bytes]
    ticks: Callable[[], float]
    grant: Callable[[AttestationResult], Secret]
    presented: Callable[[Evidence], None]


async def give_keys(
    giver: Giver, stream: FrameStream, raw: bytes, hello: StandbyHello
) -> ActiveSession:
    """Return the session of another broker that has the keys now.

    Raises:
        TransportError: the peer left or was slow.
        PolicyDenied, AttestationError, FormatError: it is not to have them.
        SealError: the grant cannot be made durable.
    """
    session = ActiveSession(
        raw,
        hello,
        manifest=giver.manifest,
        ca_certificate=giver.ca_certificate,
        opened_at=giver.ticks(),
    )
    await stream.send(session.challenge(await giver.attesting.evidence(session.report_data())))
    proof = session.receive(await stream.receive(most=ATTESTATION_FRAME_BYTES), now=giver.ticks())
    giver.presented(proof.evidence)
    result = await giver.attesting.verify(
        proof.evidence,
        policy=appraisal_policy(giver.manifest.manifest, BROKER),
        report_data=proof.report_data,
    )
    keys = giver.grant(result)
    await stream.send(session.answer(keys, sign=giver.sign, now=giver.ticks()))
    return session


async def give_state(stream: FrameStream, session: ActiveSession, pieces: Iterator[bytes]) -> None:
    """Return once the other broker has all of `pieces` in place.

    Raises:
        TransportError: it left, was slow, or says something else.
        AuthenticationFailed: somebody else spoke.
    """
    sender = Sender(session.session_key, Direction.STATE)
    for piece in pieces:
        await stream.send(sender.frame(piece))
    receiver = Receiver(session.session_key, Direction.STATE_TAKEN)
    frame = await stream.receive(most=_TAKEN_FRAME_BYTES, timeout_s=TAKING_S)
    if receiver.content(frame) != TAKEN:
        raise TransportError("the other broker did not take the state")
