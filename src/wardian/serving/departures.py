"""How what waits leaves for the workers: when, with how many others, under which keys.

Requests of one event-loop tick become one sealed message: one pack, one seal, one write. While all
workers are busy requests wait, unsealed, until a worker has nothing to do or they are as many as a
worker has already, for some milliseconds at most: so packs grow with the load, a worker has its
next ones at hand, and what nobody waits for any more is never sent.
"""

import asyncio
import itertools
import time

from wardian._internal import clock
from wardian.crypto.message_header import RequestHeader
from wardian.serving.flights import Flight, Flights
from wardian.serving.open_requests import Counters
from wardian.serving.packing import LaneQueue, Request, stacked
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.seam import FrontQueue
from wardian.serving.tensors import Kind, encode_pack

HELD_BACK_S = 0.01
"""What waits for others to travel with waits no longer: a busy worker may be one that is stuck."""

LARGE_BYTES = 1024**2
"""When as much is under way to a lane, each of its workers holds no more than ..."""
LARGE_CREDIT = 2
"""... so many messages, whatever its credit: one in the engine, and one on the way."""


class Departures:
    """Sends what waits in the lanes, as far as their workers have room.

    Attributes:
        lanes: what waits, by the version of the model that it is for.
        closed: nothing is sealed.
    """

    __slots__ = ("_counters", "_flights", "_loop", "_numbers", "_queue", "closed", "lanes")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        queue: FrontQueue,
        flights: Flights,
        counters: Counters,
    ) -> None:
        """Send nothing yet.

        Args:
            loop: on which everything runs.
            queue: carries the messages.
            flights: keeps account of those under way.
            counters: of packs, and of how long requests waited.
        """
        self._loop, self._queue = loop, queue
        self._flights, self._counters = flights, counters
        self._numbers = itertools.count(1)
        self.lanes: dict[Lane, LaneQueue] = {}
        self.closed = False

    def add(self, request: Request) -> None:
        """`request` waits for its turn in its lane."""
        lane = request.lane
        lane.waiting.append(request)
        if not lane.scheduled:
            self.soon(lane)

    def put_back(self, request: Request) -> None:
        """`request`, which had its turn, waits in front of the others of its payer."""
        lane = request.lane
        lane.waiting.appendleft(request)
        if not lane.scheduled:
            self.soon(lane)

    def soon(self, lane: LaneQueue) -> None:
        """Send what waits in `lane` at the end of this tick of the loop."""
        lane.scheduled = True
        self._loop.call_soon(self.send, lane)

    def all_soon(self) -> None:
        """Send what waits in every lane at the end of this tick."""
        for lane in self.lanes.values():
            self.soon(lane)

    def send(self, lane: LaneQueue) -> None:
        """Send what waits in `lane`, as far as workers have room."""
        lane.scheduled = False
        if self.closed:
            return
        workers = self._room(lane)
        if not workers or self._is_better_later(lane):
            return
        share = -(-lane.open // workers)  # no worker is to idle beside a full one
        while workers:
            if requests := lane.next_pack(share):
                self._depart(lane, requests)
            workers = self._room(lane)

    def room_opened(self, lane: Lane) -> None:
        """Send what waits for the workers of `lane`, if the manifest still has it."""
        queue = self.lanes.get(lane)
        if queue is not None:  # else its workers are leaving
            self.send(queue)

    def _is_better_later(self, lane: LaneQueue) -> bool:
        """Return whether what waits is better sent with more, and has not been held back long."""
        if self._queue.idle(lane.lane) or not lane.few(self._queue.crew(lane.lane)):
            lane.held_since = 0.0
            return False
        now = clock.monotonic()
        if not lane.held_since:
            lane.held_since = now
            self._loop.call_later(HELD_BACK_S, self.room_opened, lane.lane)
        # That timer may come a little early, by the clock that is asked here.
        if now - lane.held_since < HELD_BACK_S / 2:
            return True
        lane.held_since = 0.0
        return False

    def _room(self, lane: LaneQueue) -> int:
        """Return how many workers are to have something of what waits in `lane` now."""
        if not lane.waiting:
            return 0
        most = LARGE_CREDIT if lane.aloft_bytes > LARGE_BYTES else None
        return self._queue.room(lane.lane, most=most)

    def _depart(self, lane: LaneQueue, requests: list[Request]) -> None:
        first = requests[0]
        latest = max([request.deadline for request in requests])
        header = RequestHeader(
            version=lane.lane.version,
            deadline_ms=max(0, int((time.time() + latest - self._loop.time()) * 1000)),
            request_ids=tuple([request.number for request in requests]),
        )
        kind = Kind.SEALED if first.sealed else Kind.INFER
        plaintext = encode_pack(stacked(requests), kind)
        sealed, pending = lane.codec.seal_request(plaintext, header=header)
        message = next(self._numbers)
        flight = Flight(lane, requests, pending, lane.codec, len(sealed))
        self._flights.launch(message, flight)
        now = clock.monotonic()
        for request in requests:
            request.message, request.sent = message, now
        self._counters.packs += 1
        self._counters.of(lane.lane).delay.note(now - first.began, now=now)
        self._queue.send(message, sealed, lane=lane.lane, alone=first.suspect)
