"""The desk where who runs Redis gets its certificate and its ACL file, whoever it is."""

import logging
from typing import Final

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.log import event
from wardian.broker.certificates import parse_csr
from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FrameStream
from wardian.broker.infrastructure.keeping import ROLE, Infrastructure
from wardian.broker.infrastructure.messages import QueueFiles, QueueFilesRequest
from wardian.broker.limits import Bucket, PeerBuckets, Place
from wardian.errors import AuthenticationFailed, FormatError, PolicyDenied, QueueFull

log = logging.getLogger(__name__)

FILES_PER_S: Final = 0.05
FILES_BURST: Final = 16
PEER_PER_S: Final = 0.02
PEER_BURST: Final = 8
"""Of one address: a stranger leaves some for the operator. Each is an audit line, for good."""


class QueueFilesDesk(Desk[QueueFilesRequest]):
    """Answers with what a server of Redis needs."""

    __slots__ = ("_infrastructure", "_of_all", "_of_one", "_office")

    def __init__(self, office: Office) -> None:
        """Give out of the state of `office`."""
        self._office = office
        self._infrastructure = Infrastructure(office.authority)
        self._of_all = Bucket(per_s=FILES_PER_S, burst=FILES_BURST, now=office.ticks())
        self._of_one = PeerBuckets(per_s=PEER_PER_S, burst=PEER_BURST)

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: QueueFilesRequest
    ) -> None:
        """Answer, if this broker's state is the newest; the audit line is counted before.

        Raises:
            QueueFull: asked more often than it gives.
            FormatError, AuthenticationFailed, PolicyDenied: the certificate request is none, or
                names nobody.
            SealError: another broker counted, or it cannot be made durable.
        """
        office = self._office
        if not self._of_one.take(place.peer, office.ticks()):
            raise QueueFull("the broker gives one address no more certificates now: ask later")
        office.spend(self._of_all, "certificates of servers than it gives")
        office.authority.store.confirm()
        try:
            files = self._infrastructure.server_files(parse_csr(first.csr))
        except (FormatError, AuthenticationFailed, PolicyDenied) as err:
            office.refuse_rationed(err, role=ROLE)
            raise
        certificate, ca, acl = files
        answer = QueueFiles(certificate=certificate, infrastructure_ca=ca, users_acl=acl)
        await stream.send(wire.encode(answer))
        event(log, "broker.queue-files", generation=office.authority.store.generation)
