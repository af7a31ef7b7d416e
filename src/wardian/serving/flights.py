"""Messages on their way, and the keys that their answers need. Pure.

A codec that is retired seals nothing any more. Its keys are erased when the last message that was
sealed with it has come back or is waited for by nobody: at the latest that is at the deadline of
the youngest request in it.
"""

from collections.abc import Iterable

import msgspec

from wardian.serving.codec import MessageCodec, Pending
from wardian.serving.packing import LaneQueue, Request


class Flight(msgspec.Struct, eq=False):
    """A message of `size_bytes` that is with the queue or a worker."""

    lane: LaneQueue
    requests: list[Request]
    pending: Pending
    codec: MessageCodec
    size_bytes: int


class Flights:
    """The flights of one front end, by message number."""

    __slots__ = ("_aloft", "_retired")

    def __init__(self) -> None:
        self._aloft: dict[int, Flight] = {}
        self._retired: dict[MessageCodec, int] = {}  # how many flights still need each

    def launch(self, message: int, flight: Flight) -> None:
        """`flight` travels as `message` from now on."""
        self._aloft[message] = flight
        lane = flight.lane
        lane.carried += len(flight.requests)
        lane.aloft_bytes += flight.size_bytes

    def get(self, message: int) -> Flight | None:
        """Return the flight of `message`, if it is still on its way."""
        return self._aloft.get(message)

    def land(self, message: int) -> Flight | None:
        """Take the flight of `message` out and return it, if it was still on its way."""
        flight = self._aloft.pop(message, None)
        if flight is None:
            return None
        lane = flight.lane
        lane.carried -= len(flight.requests)
        lane.aloft_bytes -= flight.size_bytes
        if self._retired and flight.codec in self._retired:
            self._retired[flight.codec] -= 1
            self._erase_unneeded()
        return flight

    def retire(self, codecs: Iterable[MessageCodec]) -> None:
        """Erase each of `codecs` as soon as no answer needs it."""
        for codec in codecs:
            self._retired[codec] = sum(each.codec is codec for each in self._aloft.values())
        self._erase_unneeded()

    def clear(self) -> None:
        """Nobody waits for any of them."""
        self._aloft.clear()
        self._retired = dict.fromkeys(self._retired, 0)
        self._erase_unneeded()

    def _erase_unneeded(self) -> None:
        for codec in [codec for codec, flights in self._retired.items() if not flights]:
            del self._retired[codec]
            codec.erase()
