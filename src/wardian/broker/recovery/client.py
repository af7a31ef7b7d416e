"""An owner gives a broker back what only owners can give, once it is verified."""

from wardian._internal.clock import UnixTime
from wardian.attestation.results.result import AttestationResult
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.recovery.protocol import RecoveryReceipt
from wardian.broker.recovery.sessions import OwnerMeans, OwnerVisit
from wardian.broker.refusal import decode_or_raise


async def give_share(
    address: tuple[str, int], *, means: OwnerMeans, now: UnixTime
) -> tuple[RecoveryReceipt, AttestationResult]:
    """Return where the recovery stands after this owner's part, and what the broker is.

    Args:
        address: host and port of the broker.
        means: what the owner brings, and demands.
        now: the clock, Unix seconds.

    Raises:
        TransportError: nobody answers, or the broker is busy.
        AttestationError, PolicyDenied, AuthenticationFailed, FormatError: the broker or its backup
            is not acceptable, or it refuses; nothing was given to it unless it was verified.
    """
    visit = OwnerVisit(means)
    stream = await connect(address)
    try:
        await stream.send(visit.hello())
        share, broker = visit.share(await stream.receive(most=FRAME_BYTES), now=now())
        await stream.send(share)
        raw = await stream.receive(most=FRAME_BYTES)
    finally:
        await stream.close()
    return decode_or_raise(raw, RecoveryReceipt, what="recovery receipt"), broker
