"""Slabs as a worker has them: what its front end passed on, for as long as they are connected.

The front end may be anybody. What it says is checked against the slabs that really came; what lies
in them is copied out before anything looks at it, and at most as much at a time as fits a slab.
"""

import logging
from pathlib import Path

from wardian._internal.log import event
from wardian.errors import PeerProtocolError
from wardian.serving.queue.blocks import Blocks
from wardian.serving.queue.frames import FrameKind, numbered_frame
from wardian.serving.queue.slab import Place, Slab, parse_place
from wardian.serving.queue.slab_handover import fetch_slabs, parse_offer

log = logging.getLogger(__name__)


class WorkerSlabs:
    """A pair of slabs: requests to read, answers to write."""

    def __init__(self, generation: int, requests: Slab, answers: Slab) -> None:
        """Own and use these slabs."""
        self.generation = generation
        self._requests, self._answers = requests, answers
        self._blocks = Blocks(answers.size_bytes)
        self._left_bytes = requests.size_bytes

    def begin(self) -> None:
        """What was read before is done with: as much as fits the slab may be read again."""
        self._left_bytes = self._requests.size_bytes

    def read(self, body: bytes) -> bytes:
        """Return a copy of what a REQUEST_AT frame points at, whatever it is.

        Raises:
            PeerProtocolError: it points elsewhere; or with those since `begin` it is more than the
                slab holds, so that some of them overlap, and copies would fill our memory.
        """
        place = parse_place(body)
        if place.generation != self.generation:
            raise PeerProtocolError("a message in slabs that this worker has not")
        self._left_bytes -= place.length
        if self._left_bytes < 0:
            raise PeerProtocolError("messages in a slab overlap")
        return self._requests.read(place)

    def write(self, message: int, sealed: bytes) -> bytes | None:
        """Return the ANSWER_AT frame of an answer that lies in the slab now, None if it cannot."""
        offset = self._blocks.take(message, len(sealed))
        if offset is None:
            return None
        if not self._answers.write(offset, sealed):
            self._blocks.give_back(message)
            return None
        place = Place(self.generation, offset, len(sealed))
        return numbered_frame(FrameKind.ANSWER_AT, message, place.build())

    def released(self, message: int) -> None:
        """The answer to `message` was read, says the front end; if not, it has lost it."""
        self._blocks.give_back(message)

    def close(self) -> None:
        """Let go of the memory."""
        self._requests.close()
        self._answers.close()


def take_offer(path: Path, generation: int, body: bytes) -> WorkerSlabs | None:
    """Return the slabs of a SLABS frame, or None if there are none such: the socket will do.

    Raises:
        PeerProtocolError: the frame is no offer.
    """
    offer = parse_offer(generation, body)
    try:
        requests, answers = fetch_slabs(path, offer)
    except (OSError, PeerProtocolError) as err:
        event(log, "queue.no_slab", level=logging.WARNING, error=type(err).__name__)
        return None
    return WorkerSlabs(generation, requests, answers)
