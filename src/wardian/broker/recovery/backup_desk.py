"""The desk that hands out backups: ciphertext, as the host has it anyway, to whoever asks."""

import logging
from typing import Final

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.log import event
from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FrameStream
from wardian.broker.limits import Bucket, PeerBuckets, Place
from wardian.broker.recovery.backup import BackupHeader, BackupRequest, read_sealed_key
from wardian.broker.recovery.keeper import current_package
from wardian.errors import QueueFull

log = logging.getLogger(__name__)

BACKUPS_PER_S: Final = 0.05
BACKUP_BURST: Final = 5
PEER_PER_S: Final = 0.02
PEER_BURST: Final = 2
"""Of one address: a stranger leaves some for the operator. Each holds the rows in memory."""


class BackupDesk(Desk[BackupRequest]):
    """Answers with the state as it is at one moment."""

    __slots__ = ("_backups", "_of_one", "_office")

    def __init__(self, office: Office) -> None:
        """Back up the state of `office`."""
        self._office = office
        self._backups = Bucket(per_s=BACKUPS_PER_S, burst=BACKUP_BURST, now=office.ticks())
        self._of_one = PeerBuckets(per_s=PEER_PER_S, burst=PEER_BURST)

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: BackupRequest
    ) -> None:
        """Send the frames of a backup, if this broker's state is still the newest."""
        if not self._of_one.take(place.peer, self._office.ticks()):
            raise QueueFull(
                "the broker is asked for more backups than it gives one address: ask later"
            )
        self._office.spend(self._backups, "backups than it gives")
        authority = self._office.authority
        authority.store.confirm()
        header = BackupHeader(
            sealed_key=read_sealed_key(authority.store.path), package=current_package(authority)
        )
        _, pieces = authority.store.snapshot()
        await stream.send(wire.encode(header))
        for piece in pieces:
            await stream.send(piece)
        event(log, "broker.backup", generation=authority.store.generation)
