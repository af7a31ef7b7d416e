"""The desk that tells front ends what is in force."""

from typing import Final

from typing_extensions import override

from wardian._internal import wire
from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FrameStream
from wardian.broker.limits import PeerBuckets, Place
from wardian.broker.release.in_force import ForceRequest, InForce
from wardian.errors import QueueFull

CONFIRMED_S: Final = 1.0
"""For how long it is taken for known that this broker's state is the newest."""


class ForceDesk(Desk[ForceRequest]):
    """Answers what is in force, as long as this broker's state is the newest."""

    __slots__ = ("_confirmed_at", "_office", "_polls")

    def __init__(self, office: Office) -> None:
        """Tell what the authority of `office` has in force."""
        self._office = office
        limits = office.limits
        self._polls = PeerBuckets(per_s=limits.polls_per_s, burst=limits.poll_burst)
        self._confirmed_at: float | None = None

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: ForceRequest
    ) -> None:
        """Answer; a broker in whose place another one counts does not.

        Raises:
            QueueFull: this peer asks more often than it may.
            TransportError: there is no manifest yet.
            SealError: another broker counted, or nobody knows.
        """
        office, authority = self._office, self._office.authority
        if not self._polls.take(place.peer, office.ticks()):
            raise QueueFull("the broker is asked more often than it answers: ask later")
        manifest = authority.manifest
        self._confirm()
        answer = InForce(
            manifest_digest=manifest.digest.hex(),
            manifest_version=manifest.manifest.version,
            epoch=authority.epoch,
            issuing_ca=authority.issuer.certificate,
        )
        await stream.send(wire.encode(answer))

    def _confirm(self) -> None:
        """Ask the counter whether this state is the newest, unless it said so a moment ago."""
        now = self._office.ticks()
        if self._confirmed_at is None or not 0 <= now - self._confirmed_at <= CONFIRMED_S:
            self._office.authority.store.confirm()
            self._confirmed_at = now
