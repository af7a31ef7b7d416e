"""Asking a broker for proofs, and visiting it as a witness."""

from collections.abc import Callable
from dataclasses import dataclass

from wardian._internal import wire
from wardian._internal.clock import UnixTime, unix_time
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.refusal import decode_or_raise
from wardian.broker.transparency.cosigning import WitnessedHead
from wardian.broker.transparency.heads import SignedHead
from wardian.broker.transparency.proofs import ProofRequest, Proofs, demand_answer
from wardian.broker.transparency.sender import demand_sender
from wardian.broker.transparency.witnessing import WitnessMemory, WitnessSession


async def read_proofs(
    address: tuple[str, int],
    request: ProofRequest,
    *,
    ca_spki: bytes | None = None,
    now: UnixTime = unix_time,
) -> Proofs:
    """Return the proofs that the process at `address` answers with, **unverified**.

    Args:
        address: host and port.
        request: what is asked for.
        ca_spki: the mesh CA's key (DER) that somebody vouches for: then it is the broker of that CA
            that answers (`sender`). None: whoever answers there does.
        now: Unix seconds.

    Raises:
        TransportError: nobody answers there, or not as a broker, or as that broker, does.
        FormatError, AuthenticationFailed: it is the broker of another CA.
        PolicyDenied: beyond the log (rule `audit-range`).
    """
    stream = await connect(address)
    try:
        await stream.send(wire.encode(request))
        proofs = decode_or_raise(await stream.receive(most=FRAME_BYTES), Proofs, what="proofs")
        demand_sender(
            stream,
            proofs.witnessed.head,
            mesh_ca=proofs.mesh_ca,
            issuing_ca=proofs.issuing_ca,
            ca_spki=ca_spki,
            now=now,
        )
    finally:
        await stream.close()
    demand_answer(request, proofs)
    return proofs


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What came of a witness's visit.

    Attributes:
        signed: the head that was remembered and signed.
        shown: what the broker shows from now on, this witness's signature among it.
        set_back: whether the witness's memory was older than what its key had signed.
    """

    signed: SignedHead
    shown: WitnessedHead
    set_back: bool


async def visit(
    address: tuple[str, int],
    session: WitnessSession,
    *,
    remember: Callable[[WitnessMemory], None],
    now: UnixTime,
) -> Visit:
    """Carry out one visit: verify that the log goes on, remember, sign.

    Args:
        address: host and port of the broker.
        session: a fresh one.
        remember: makes its argument durable before it returns.
        now: the witness's clock, Unix seconds.

    Raises:
        TransportError: nobody answers there, or not as the broker of the log watched does.
        AuthenticationFailed: the log does not go on from what was signed (`session.offer` is what
            the broker showed), or is another mesh's.
        PolicyDenied: the broker refuses, or its clock differs from the witness's.
    """
    stream = await connect(address)
    try:
        await stream.send(session.hello())
        offer = await stream.receive(most=FRAME_BYTES)
        kept = session.examine(offer, certificate=stream.peer_certificate(), now=now())
        remember(kept)
        await stream.send(session.cosignature())
        shown = session.receipt(await stream.receive(most=FRAME_BYTES))
    finally:
        await stream.close()
    return Visit(signed=kept.head, shown=shown, set_back=session.set_back)
