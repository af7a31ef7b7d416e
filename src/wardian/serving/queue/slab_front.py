"""Slabs as a front end has them: made when a peer's messages are large, and within a budget.

Each admitted peer has a pair of its own, one for each direction, so that none can write over
another's messages. Where there is none (TCP, no such system, no budget, a peer that takes none) or
it is full, messages go by the socket.
"""

import contextlib
import itertools
import logging
import os
import secrets
from dataclasses import dataclass

from wardian._internal.log import event
from wardian.errors import PeerProtocolError
from wardian.serving.queue import slab_handover
from wardian.serving.queue.blocks import Blocks
from wardian.serving.queue.frames import LARGE_BYTES, FrameKind, numbered_frame
from wardian.serving.queue.slab import AVAILABLE, Place, Slab, create, parse_place

log = logging.getLogger(__name__)

SLAB_BYTES = 32 * 1024**2
"""Size of a peer's slab for one direction: what is in use of it counts, not this."""

ALL_SLABS_BYTES = 1024**3
"""What the slabs of all peers may have together: those of 16. Who comes later uses the socket."""


@dataclass(slots=True)
class SlabCounts:
    """What happened since the start; for metrics."""

    carried: int = 0  # large messages that travelled in a slab, in both directions
    by_socket: int = 0  # large ones that did not


class SlabDepot:
    """All slabs of one front end."""

    def __init__(
        self,
        *,
        size_bytes: int = SLAB_BYTES,
        budget_bytes: int = ALL_SLABS_BYTES,
        from_bytes: int = LARGE_BYTES,
    ) -> None:
        """Offer slabs as long as there is room in the budget.

        Args:
            size_bytes: of the slab for one direction; whole pages.
            budget_bytes: what all slabs may have together; 0 for no slabs.
            from_bytes: messages of this size and more travel in slabs.
        """
        self.counts = SlabCounts()
        self.from_bytes = from_bytes
        self._size_bytes = size_bytes
        self._left_bytes = budget_bytes if AVAILABLE else 0
        self._generations = itertools.count(1)
        self._pairs: set[PeerSlabs] = set()
        self._offered: dict[bytes, PeerSlabs] = {}  # by token

    def used_bytes(self) -> int:
        """Return how much of the slabs holds messages to workers at this moment."""
        return sum(pair.used_bytes for pair in self._pairs)

    def make(self) -> "PeerSlabs | None":
        """Return a new pair, or None where there is no memory for it."""
        if self._left_bytes < 2 * self._size_bytes:
            return None
        try:
            requests, first = create(self._size_bytes, writes=True)
            try:
                answers, second = create(self._size_bytes, writes=False)
            except OSError:
                requests.close()
                os.close(first)
                raise
        except OSError as err:
            event(log, "queue.no_slab", level=logging.WARNING, error=type(err).__name__)
            self._left_bytes = 0  # it will be no different for the next
            return None
        self._left_bytes -= 2 * self._size_bytes
        pair = PeerSlabs(
            self, next(self._generations), (requests, answers), descriptors=(first, second)
        )
        self._pairs.add(pair)
        self._offered[pair.token] = pair
        return pair

    def hand_over(self, token: bytes, connection: int) -> None:
        """Send the descriptors of the offer that `token` is of over `connection`.

        Raises:
            PeerProtocolError: there is no such offer, or it was fetched before.
            OSError: nobody is there to take them.
        """
        pair = self._offered.pop(token, None)
        if pair is None:
            raise PeerProtocolError("fetches slabs that are not offered")
        pair.pass_on(connection)

    def forget(self, pair: "PeerSlabs") -> None:
        """`pair` is closed."""
        self._offered.pop(pair.token, None)
        if pair in self._pairs:
            self._pairs.remove(pair)
            self._left_bytes += 2 * self._size_bytes


class PeerSlabs:
    """The pair of one peer: offered, then passed on, then in use."""

    def __init__(
        self,
        depot: SlabDepot,
        generation: int,
        slabs: tuple[Slab, Slab],
        *,
        descriptors: tuple[int, int],
    ) -> None:
        """Made by `SlabDepot.make` alone; owns slabs and descriptors."""
        self.token = secrets.token_bytes(slab_handover.TOKEN_BYTES)
        self.in_use = False
        self._depot = depot
        self._generation = generation
        self._requests, self._answers = slabs
        self._descriptors: tuple[int, ...] = descriptors
        self._blocks = Blocks(self._requests.size_bytes)

    @property
    def used_bytes(self) -> int:
        """How much of the slab for requests is in use."""
        return self._blocks.used_bytes

    def offer(self) -> bytes:
        """Return the SLABS frame."""
        sizes = self._requests.size_bytes, self._answers.size_bytes
        return slab_handover.Offer(self._generation, self.token, *sizes).build()

    def pass_on(self, connection: int) -> None:
        """Send the descriptors over `connection`; they are closed here afterwards."""
        first, second = self._descriptors
        try:
            slab_handover.send_descriptors(connection, (first, second), generation=self._generation)
        finally:
            self._close_descriptors()

    def taken(self, generation: int) -> bool:
        """Return whether the peer uses this pair from now on; it said that it does, or 0.

        Raises:
            PeerProtocolError: it cannot have it, has another, or said so before.
        """
        if self.in_use or generation not in (0, self._generation):
            raise PeerProtocolError("takes slabs that it was not offered")
        if generation and self._descriptors:
            raise PeerProtocolError("takes slabs that it did not fetch")
        self.in_use = bool(generation)
        return self.in_use

    def write(self, message: int, sealed: bytes) -> bytes | None:
        """Return the REQUEST_AT frame of a message that lies in the slab now, None if it cannot."""
        offset = self._blocks.take(message, len(sealed))
        if offset is None:
            return None
        if not self._requests.write(offset, sealed):
            self._blocks.give_back(message)
            return None
        place = Place(self._generation, offset, len(sealed))
        return numbered_frame(FrameKind.REQUEST_AT, message, place.build())

    def read(self, body: bytes) -> bytes:
        """Return a copy of what an ANSWER_AT frame points at, whatever it is.

        Raises:
            PeerProtocolError: it points elsewhere.
        """
        place = parse_place(body)
        if not self.in_use or place.generation != self._generation:
            raise PeerProtocolError("an answer in slabs that the peer has not")
        return self._answers.read(place)

    def answered(self, message: int) -> None:
        """Nobody looks at the block of `message` any more."""
        self._blocks.give_back(message)

    def close(self) -> None:
        """Let go of the memory; the peer may still have it."""
        self._close_descriptors()
        self._requests.close()
        self._answers.close()
        self._depot.forget(self)

    def _close_descriptors(self) -> None:
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._descriptors = ()
