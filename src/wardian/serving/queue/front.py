"""The embedded queue, front end side: workers connect to it; nothing to install, nothing stored.

Whoever can reach the socket may connect and say anything. A peer gets messages only after it
answered the challenge of the lane that it claims; one that breaks the protocol is dropped, and what
it held goes back to the dispatcher. An answer that does not authenticate changes nothing: the
message stays with its worker, whose own answer still counts.
"""

import asyncio
import itertools
import logging
import os

from typing_extensions import override

from wardian._internal.log import event
from wardian.errors import (
    ConfigError,
    LocalProtocolError,
)
from wardian.serving.queue.frames import (
    MAX_FRAME_BYTES,
    Address,
)
from wardian.serving.queue.front_peer import FrontPeer
from wardian.serving.queue.lease import Delivery, Lane, LeaseTable
from wardian.serving.queue.listening import private_socket, remove_stale
from wardian.serving.queue.seam import FrontQueue, FrontSink
from wardian.serving.queue.slab_front import SlabDepot

log = logging.getLogger(__name__)

MAX_PEERS = 256
FORGOTTEN_GRACE_S = 5.0
"""How long a peer may hold a message that nobody waits for any more, before it is dropped.

A message that was spoilt on its way is never answered, and would occupy its lease for ever.
"""
MAX_UNSENT_BYTES = MAX_FRAME_BYTES
"""What may wait to be read by one peer when it is sent more; beyond it the peer is dropped."""


class SocketFrontQueue(FrontQueue):
    """A listening socket, the peers on it and their leases."""

    def __init__(
        self,
        address: Address,
        *,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        slabs: SlabDepot | None = None,
    ) -> None:
        """Listen at `address` once started.

        Args:
            address: where workers connect.
            max_frame_bytes: larger answers are refused.
            slabs: what large messages travel in where `address` is a Unix socket; the usual ones
                if not given.
        """
        self.address = address
        self.max_frame_bytes = max_frame_bytes
        self.slabs = slabs or SlabDepot()
        self.max_unsent_bytes = MAX_UNSENT_BYTES
        self.table = LeaseTable()
        self.peers: dict[int, FrontPeer] = {}
        self._sink: FrontSink | None = None
        self._server: asyncio.Server | None = None
        self._waiting: dict[int, bytes] = {}  # sealed bytes of messages that no worker has yet
        self._numbers = itertools.count(1)

    @property
    def sink(self) -> FrontSink:
        """Who is told."""
        if self._sink is None:
            raise LocalProtocolError("attach a sink before the queue starts")
        return self._sink

    @override
    def attach(self, sink: FrontSink) -> None:
        self._sink = sink

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the address is in use or cannot be bound.
        """
        loop = asyncio.get_running_loop()
        try:
            if (path := self.address.path) is not None:
                remove_stale(path)
                self._server = await loop.create_unix_server(
                    lambda: FrontPeer(self), sock=private_socket(path)
                )
            else:
                self._server = await loop.create_server(
                    lambda: FrontPeer(self), self.address.host, self.address.port
                )
                port = self._server.sockets[0].getsockname()[1]
                self.address = Address(host=self.address.host, port=port)
        except OSError as err:
            reason = os.strerror(err.errno) if err.errno else "cannot be used"
            raise ConfigError(f"queue address {self.address}: {reason}") from err
        event(log, "queue.listening", address=str(self.address))

    async def close(self) -> None:
        """Stop listening and drop every peer; what they held is reported lost."""
        if self._server is None:
            return
        server, self._server = self._server, None  # who was accepted and comes later is let go of
        server.close()
        for peer in list(self.peers.values()):
            peer.drop("closing")
        await server.wait_closed()
        if self.address.path is not None:
            self.address.path.unlink(missing_ok=True)

    @override
    def room(self, lane: Lane, *, most: int | None = None) -> int:
        return self.table.room(lane, most=most)

    @override
    def crew(self, lane: Lane) -> int:
        return self.table.crew(lane)

    @override
    def idle(self, lane: Lane) -> bool:
        return self.table.idle(lane)

    @override
    def send(self, message: int, sealed: bytes, *, lane: Lane, alone: bool) -> None:
        self._waiting[message] = sealed
        self.deliver(self.table.offer(message, lane=lane, alone=alone))

    @override
    def forget(self, message: int, *, lane: Lane) -> None:
        self._waiting.pop(message, None)
        self.deliver(self.table.forget(message, lane=lane))
        holder = self.table.holder(message, lane=lane)
        if holder is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(FORGOTTEN_GRACE_S, self._drop_holder, holder, message)

    @override
    def stalled(self, worker: int) -> bool:
        return self.table.stalled(worker)

    @override
    def rechallenge(self) -> None:
        for peer in list(self.peers.values()):
            peer.rechallenge()

    def _drop_holder(self, worker: int, message: int) -> None:
        if self.table.holds(worker, message):
            self.peers[worker].drop("held for too long what nobody waits for")

    def deliver(self, deliveries: list[Delivery]) -> None:
        """Carry out what the leases decided."""
        for worker, message in deliveries:
            self.peers[worker].request(message, self._waiting.pop(message))

    def enter(self, peer: FrontPeer) -> int | None:
        """Return a new number for `peer`; None if there are too many, or this queue is closed."""
        if self._server is None or len(self.peers) >= MAX_PEERS:
            return None
        number = next(self._numbers)
        self.peers[number] = peer
        return number
