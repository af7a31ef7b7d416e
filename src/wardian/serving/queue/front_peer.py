"""One worker's connection to the embedded queue: introduced, challenged, admitted, heard.

It gets messages only after it answered the challenge of the lane that it claims. Whatever else it
says ends the connection, and what it held goes back.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.log import event
from wardian.errors import CryptoError, PeerProtocolError, WardianError
from wardian.serving.queue.frames import (
    CHALLENGE,
    MAX_GREETING_BYTES,
    FrameKind,
    FrameReader,
    Hello,
    message_head,
    numbered_frame,
)
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.listening import without_delay
from wardian.serving.queue.slab_front import PeerSlabs

if TYPE_CHECKING:
    from wardian.serving.queue.front import SocketFrontQueue

log = logging.getLogger(__name__)

GREETING_TIMEOUT_S: Final = 10.0
MAX_STRIKES: Final = 16
"""Answers of one peer that nobody waits for or that do not authenticate, before it is dropped."""


class FrontPeer(asyncio.Protocol):
    """One connection: greeting, then challenged, then admitted to a lane; challenged again later.

    While a challenge after the first is open the worker is admitted and proving: it keeps what it
    holds and gets nothing new.
    """

    def __init__(self, queue: "SocketFrontQueue") -> None:
        self._queue = queue
        self._reader = FrameReader(max_bytes=MAX_GREETING_BYTES)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self._hello: Hello | None = None
        self._lane: Lane | None = None  # once admitted
        self._credit = 0
        self._proving = False
        self._strikes = 0
        self._slabs: PeerSlabs | None = None  # once offered
        self._takes_slabs = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream server makes Transports
        number = self._queue.enter(self)
        if number is None:
            self.drop("not taken in")
            return
        self._number = number
        without_delay(transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(GREETING_TIMEOUT_S, self.drop, "did not introduce itself")

    @override
    def data_received(self, data: bytes) -> None:
        try:
            for kind, number, body in self._reader.feed(data):
                self._receive(kind, number, body)
        except WardianError as err:
            self.drop(str(err))
            return
        if self._lane is not None and self._queue.table.room(self._lane):
            self._queue.sink.room_opened(self._lane)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        queue = self._queue
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._slabs is not None:
            self._slabs.close()
        queue.peers.pop(self._number, None)
        if self._hello is None:
            return
        lost = queue.table.leave(self._number)
        event(
            log, "queue.worker_left", worker=self._number, model=self._hello.model, held=len(lost)
        )
        queue.sink.gone(self._number)
        if lost:
            queue.sink.lost(lost)

    def rechallenge(self) -> None:
        """Let the worker prove anew that it is one of its lane; drop who was not admitted yet."""
        if self._hello is None:
            return  # it will be challenged when it introduces itself
        if self._lane is None:
            self.drop("challenged under keys that are over")
            return
        try:
            sealed = self._queue.sink.challenge(self._number, self._lane)
        except WardianError as err:
            self.drop(str(err))
            return
        self._proving = True
        self._queue.deliver(self._queue.table.set_credit(self._number, 0))
        self._await_proof()
        self.request(CHALLENGE, sealed)

    def request(self, message: int, sealed: bytes) -> None:
        """Pass a message to the worker."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # a connection that just broke is reported soon
        if transport.get_write_buffer_size() > self._queue.max_unsent_bytes:
            self.drop("does not read what it gets")
            return
        if len(sealed) >= self._queue.slabs.from_bytes and message != CHALLENGE:
            self._request_large(transport, message, sealed)
            return
        transport.writelines((message_head(FrameKind.REQUEST, message, sealed), sealed))

    def _request_large(self, transport: asyncio.Transport, message: int, sealed: bytes) -> None:
        """Pass a message in the slab, or by the socket where there is none or it is full."""
        slabs, counts = self._slabs, self._queue.slabs.counts
        if slabs is not None and slabs.in_use and (head := slabs.write(message, sealed)):
            counts.carried += 1
            transport.write(head)
            return
        counts.by_socket += 1
        self._offer_slabs(transport)
        transport.writelines((message_head(FrameKind.REQUEST, message, sealed), sealed))

    def _offer_slabs(self, transport: asyncio.Transport) -> None:
        """Offer slabs to a peer that takes them and has none, if there is memory for them."""
        if self._takes_slabs and self._slabs is None:
            self._slabs = self._queue.slabs.make()
            if self._slabs is not None:
                transport.write(self._slabs.offer())

    def drop(self, reason: str) -> None:
        """End the connection at once; the rest follows when it is lost."""
        if self._transport is not None and not self._transport.is_closing():
            event(log, "queue.peer_dropped", worker=self._number, reason=reason)
            self._transport.abort()

    def _receive(self, kind: int, number: int, body: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._lane is not None:
            self._receive_admitted(kind, number, body)
        elif self._hello is None and kind == FrameKind.HELLO:
            self._greet(wire.decode(body, Hello, what="hello"))
        elif self._hello is None and kind == FrameKind.FETCH:
            self._hand_over(self._transport, body)
        elif self._hello is not None and kind == FrameKind.ANSWER:
            self._admit(self._hello, number, body)
        else:
            raise PeerProtocolError("frame out of turn")

    def _receive_admitted(self, kind: int, number: int, body: bytes) -> None:
        if kind == FrameKind.ANSWER:
            self._answer(number, body)
        elif kind == FrameKind.ANSWER_AT and self._slabs is not None:
            self._answer_at(self._slabs, number, body)
        elif kind == FrameKind.CREDIT:
            self._set_credit(number)
        elif kind == FrameKind.TAKEN and self._slabs is not None:
            if not self._slabs.taken(number):
                self._slabs.close()
                self._slabs, self._takes_slabs = None, False
        else:
            raise PeerProtocolError("frame out of turn")

    def _hand_over(self, transport: asyncio.Transport, token: bytes) -> None:
        """Send descriptors over this connection, which is for that alone, and end it."""
        sock = transport.get_extra_info("socket")
        if self._queue.address.path is None or sock is None:
            raise PeerProtocolError("fetches slabs where there are none")
        try:
            self._queue.slabs.hand_over(token, sock.fileno())
        except OSError:
            self.drop("went without its slabs")
            return
        transport.close()

    def _greet(self, hello: Hello) -> None:
        lane = Lane(hello.model, hello.version)
        sealed = self._queue.sink.challenge(self._number, lane)
        self._hello = hello
        self.request(CHALLENGE, sealed)

    def _admit(self, hello: Hello, message: int, sealed: bytes) -> None:
        if message != CHALLENGE:
            raise PeerProtocolError("answered before it was admitted")
        queue = self._queue
        queue.sink.admit(self._number, sealed)
        if self._timer is not None:
            self._timer.cancel()
        self._reader.max_bytes = queue.max_frame_bytes
        self._lane = Lane(hello.model, hello.version)
        self._credit = hello.credit
        self._takes_slabs = hello.slabs and queue.address.path is not None
        queue.deliver(queue.table.join(self._number, lane=self._lane, credit=hello.credit))

    def _await_proof(self) -> None:
        """Drop a worker that has nothing else to do and does not prove itself in time."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(GREETING_TIMEOUT_S, self._unproven)

    def _unproven(self) -> None:
        if self._queue.table.held(self._number):
            self._await_proof()  # it is busy with what it holds
        else:
            self.drop("did not prove itself anew")

    def _prove(self, sealed: bytes) -> None:
        queue = self._queue
        try:
            queue.sink.admit(self._number, sealed)
        except CryptoError as err:
            self._strike(str(err))
            return
        self._proving = False
        if self._timer is not None:
            self._timer.cancel()
        queue.deliver(queue.table.set_credit(self._number, self._credit))

    def _answer(self, message: int, sealed: bytes) -> None:
        if message == CHALLENGE and self._proving:
            self._prove(sealed)
        elif not self._queue.table.holds(self._number, message):
            self._strike("answered what it does not hold")
        else:
            if len(sealed) >= self._queue.slabs.from_bytes and self._transport is not None:
                self._queue.slabs.counts.by_socket += 1
                self._offer_slabs(self._transport)
            self._accept(message, sealed)

    def _answer_at(self, slabs: PeerSlabs, message: int, body: bytes) -> None:
        """Read an answer out of its slab; not for a message that the worker does not hold."""
        if not self._queue.table.holds(self._number, message):
            self._strike("answered what it does not hold")
            return
        sealed = slabs.read(body)
        self._queue.slabs.counts.carried += 1
        self._accept(message, sealed, lies_in_slab=True)

    def _accept(self, message: int, sealed: bytes, *, lies_in_slab: bool = False) -> None:
        queue = self._queue
        try:
            queue.sink.answered(message, sealed)
        except WardianError as err:
            self._strike(str(err))
            return
        if self._slabs is not None:
            self._slabs.answered(message)
            if lies_in_slab and self._transport is not None:
                self._transport.write(numbered_frame(FrameKind.RELEASED, message))
        queue.deliver(queue.table.answered(self._number, message))
        self._leave_if_done()

    def _set_credit(self, credit: int) -> None:
        self._credit = min(credit, 1024)
        if not self._proving or not self._credit:
            self._queue.deliver(self._queue.table.set_credit(self._number, self._credit))
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        """Close once a worker that takes no more holds nothing more: it waits for that to end."""
        if not self._credit and self._transport and not self._queue.table.held(self._number):
            self._transport.close()

    def _strike(self, reason: str) -> None:
        self._strikes += 1
        event(log, "queue.answer_refused", level=logging.WARNING, worker=self._number, why=reason)
        if self._strikes >= MAX_STRIKES:
            raise PeerProtocolError("too many answers that do not count")
