"""What a broker that waits for its keys answers: the owners, and "not here" to everybody else."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wardian._internal import wire
from wardian._internal.clock import Monotonic
from wardian._internal.log import event
from wardian.attestation.evidence import Evidence
from wardian.broker.frames import FIRST_FRAME_BYTES, FrameStream
from wardian.broker.limits import NO_QUOTE_LEFT, SharedBucket, peer_of
from wardian.broker.recovery.gathering import Gathering
from wardian.broker.recovery.protocol import Contribution, RecoveryHello, RecoveryReceipt
from wardian.broker.recovery.sessions import BrokerVisit
from wardian.broker.refusal import Refusal, RefusalCode
from wardian.errors import FormatError, QueueFull

log = logging.getLogger(__name__)

QUOTES_PER_S: Final = 2.0
QUOTE_BURST: Final = 80
PEER_QUOTES_PER_S: Final = 0.5
PEER_QUOTE_BURST: Final = 16
"""What one address is sure of, and leaves to others: who holds it keeps no owner out."""
NOT_YET: Final = Refusal(
    code=RefusalCode.UNAVAILABLE,
    rule="recovering",
    message="this broker waits for its owners: it has no keys yet",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryMeans:
    """What a broker that waits can do.

    Attributes:
        attest: makes its evidence over 64 bytes; called in another thread.
        agreed_digest: SHA-256 of the measured `wardian.toml`.
        recover: opens the state with what was gathered, for good; raises what is wrong with it.
        ticks: seconds that never go back.
    """

    attest: Callable[[bytes], Evidence]
    agreed_digest: bytes
    recover: Callable[[Gathering], None]
    ticks: Monotonic


class RecoveryPlace:
    """Takes shares until the state is open."""

    __slots__ = ("_gathering", "_means", "_quotes", "recovered")

    recovered: asyncio.Event
    """Set once the state was opened."""

    def __init__(self, gathering: Gathering, means: RecoveryMeans) -> None:
        """Wait for the owners that `gathering` is about."""
        self._gathering, self._means = gathering, means
        self._quotes = SharedBucket(
            per_s=QUOTES_PER_S,
            burst=QUOTE_BURST,
            peer_per_s=PEER_QUOTES_PER_S,
            peer_burst=PEER_QUOTE_BURST,
            now=means.ticks(),
        )
        self.recovered = asyncio.Event()

    async def answer(self, stream: FrameStream, raw: bytes) -> None:
        """Take one owner's share; tell everybody else to come later.

        Raises:
            PolicyDenied, AuthenticationFailed, FormatError: it is refused, and not counted.
            StateRolledBack, SealError: the last one came, and the backup is not to be opened.
            QueueFull: it is asked for more quotes than it makes (retryable).
        """
        hello: RecoveryHello | None = None
        with contextlib.suppress(FormatError):
            hello = wire.decode(raw, RecoveryHello, what="recovery hello")
        if hello is None or self._gathering.complete:
            await stream.send(wire.encode(NOT_YET))
            return
        gathering, means = self._gathering, self._means
        gathering.refuse_impossible(hello.owner)
        if not self._quotes.take(peer_of(stream.host), means.ticks()):
            raise QueueFull(NO_QUOTE_LEFT)
        visit = BrokerVisit(
            raw,
            hello,
            package=gathering.package,
            agreed_digest=means.agreed_digest,
            waits=True,
        )
        evidence = await asyncio.to_thread(means.attest, visit.report_data())
        await stream.send(visit.challenge(evidence))
        contribution = visit.receive(await stream.receive(most=FIRST_FRAME_BYTES))
        recovered = self._take(hello.owner, contribution)
        receipt = RecoveryReceipt(
            have=len(gathering.came), threshold=gathering.package.threshold, recovered=recovered
        )
        try:
            await stream.send(wire.encode(receipt))
        finally:
            if recovered:
                self.recovered.set()

    def _take(self, owner: str, contribution: Contribution) -> bool:
        """Count a share, and open the state with the last one; return whether that was it.

        Where opening fails the share is not counted: what is wrong may be this owner's alone.
        """
        gathering = self._gathering
        gathering.add(owner, contribution)
        event(log, "recovery.share", owner=owner, have=len(gathering.came))
        if not gathering.complete:
            return False
        try:
            self._means.recover(gathering)
        except BaseException as err:
            del gathering.came[owner]
            event(log, "recovery.failed", level=logging.ERROR, error=type(err).__name__)
            raise
        return True
