"""How a worker gets the slabs that its front end made: descriptors, over a connection of their own.

A descriptor travels beside bytes of a Unix socket (unix(7), SCM_RIGHTS), and neither asyncio's
transports nor uvloop's send or take one. So the front end sends a token over the connection that
the worker was admitted on. The worker shows it on a new one, on which the front end writes this
once, past a transport that never has anything to write.

Descriptors go from front end to worker alone. Those that anybody sends to a front end, the kernel
closes: it reads without asking for them.
"""

import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from wardian.errors import PeerProtocolError
from wardian.serving.queue.frames import FrameKind, frame, numbered_frame
from wardian.serving.queue.slab import Slab, adopt, is_size

TOKEN_BYTES = 32
FETCH_TIMEOUT_S = 1.0
"""How long a worker waits for descriptors, once a connection: without them it works as well."""

_OFFER = struct.Struct(">32sQQ")
_DESCRIPTORS = struct.Struct("@2i")


class Offer(NamedTuple):
    """What a front end says of a pair of slabs before it passes them on.

    Attributes:
        generation: names the pair; 1 or more.
        token: whoever shows it gets the descriptors, once.
        requests_bytes: size of the slab that the front end writes.
        answers_bytes: of the one that the worker writes.
    """

    generation: int
    token: bytes
    requests_bytes: int
    answers_bytes: int

    def build(self) -> bytes:
        """Return the SLABS frame."""
        return numbered_frame(FrameKind.SLABS, self.generation, _OFFER.pack(*self[1:]))


def parse_offer(generation: int, body: bytes) -> Offer:
    """Return the offer in a SLABS frame.

    Raises:
        PeerProtocolError: not of that form, or sizes that no slab has.
    """
    if len(body) != _OFFER.size or not generation:
        raise PeerProtocolError("an offer of slabs has another form")
    offer = Offer(generation, *_OFFER.unpack(body))
    if not is_size(offer.requests_bytes) or not is_size(offer.answers_bytes):
        raise PeerProtocolError("slabs of a size that none has")
    return offer


def send_descriptors(connection: int, descriptors: tuple[int, int], *, generation: int) -> None:
    """Send the descriptors of requests and answers over a connection, beside a SLABS frame.

    Args:
        connection: descriptor of a Unix socket that a transport owns and has not written to.
        descriptors: of the two slabs; they stay open.
        generation: of the pair.

    Raises:
        OSError: the other side is gone.
    """
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTORS.pack(*descriptors))
    with socket.socket(fileno=os.dup(connection)) as own:
        own.sendmsg([numbered_frame(FrameKind.SLABS, generation)], [rights])


def fetch_slabs(path: Path, offer: Offer) -> tuple[Slab, Slab]:
    """Return the slabs of `offer`: of requests, to read, and of answers, to write.

    Args:
        path: where the front end listens.
        offer: made by it, or by whoever is there instead.

    Raises:
        OSError: nobody is there, or nothing comes in time.
        PeerProtocolError: what comes is no such pair of slabs.
    """
    with socket.socket(socket.AF_UNIX) as sock, contextlib.ExitStack() as closing:
        sock.settimeout(FETCH_TIMEOUT_S)
        sock.connect(str(path))
        sock.sendall(frame(FrameKind.FETCH, offer.token))
        expected = numbered_frame(FrameKind.SLABS, offer.generation)
        said, descriptors, more = _receive(sock, len(expected))
        for descriptor in descriptors:
            closing.callback(os.close, descriptor)
        if len(descriptors) != 2 or more or said != expected:
            raise PeerProtocolError("slabs were offered, and something else was passed")
        requests = adopt(descriptors[0], offer.requests_bytes, writes=False)
        try:
            return requests, adopt(descriptors[1], offer.answers_bytes, writes=True)
        except PeerProtocolError:
            requests.close()
            raise


def _receive(sock: socket.socket, length: int) -> tuple[bytes, tuple[int, ...], bool]:
    """Return what comes next, at most two descriptors with it, and whether there were more.

    The kernel closes those for which there is no space.
    """
    space = socket.CMSG_LEN(_DESCRIPTORS.size)
    said, ancillary, flags, _ = sock.recvmsg(length, space, socket.MSG_CMSG_CLOEXEC)
    descriptors: tuple[int, ...] = ()
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            count = len(data) // struct.calcsize("@i")
            descriptors += struct.unpack(f"@{count}i", data[: 4 * count])
    return said, descriptors, bool(flags & socket.MSG_CTRUNC)
