"""Memory that two processes share: sealed messages lie in it, and nothing else ever does.

Whoever has the other end may write into it at any time, and so may the host. So nothing is decided
by what lies there: a message is copied out once, and the copy is authenticated and opened (TRUST
T10). It is sealed in memory of its own and copied in: a cipher that writes its output where others
can change it before its tag is computed would sign what they wrote.

A slab is a `memfd` of a size that is sealed: were it made shorter under a reader, reading would
kill the process (SIGBUS). The byte table is in `docs/reference/queue-socket.md`.
"""

import errno
import fcntl
import mmap
import os
import struct
from typing import NamedTuple

from wardian.errors import LocalProtocolError, PeerProtocolError
from wardian.serving.queue.blocks import GRAIN_BYTES

MAX_SLAB_BYTES = 1024**3
_FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE of Linux's fcntl(2); Python has no name for it
_NOEXEC_SEAL = 0x8  # MFD_NOEXEC_SEAL of memfd_create(2), likewise
_PLACE = struct.Struct(">QLL")
_BACKING_BYTES = 1024**2  # how much memory is asked for at a time

AVAILABLE = hasattr(os, "memfd_create") and hasattr(fcntl, "F_ADD_SEALS")
"""Whether this Python, on this system, can make and take slabs."""


class Place(NamedTuple):
    """Where a message lies: in the slabs of which generation, from which byte, how many."""

    generation: int
    offset: int
    length: int

    def build(self) -> bytes:
        """Return the bytes of this place."""
        return _PLACE.pack(*self)


def parse_place(body: bytes) -> Place:
    """Return the place in `body`, of which nothing is known yet but its form.

    Raises:
        PeerProtocolError: too short or too long.
    """
    if len(body) != _PLACE.size:
        raise PeerProtocolError("a place in a slab has another length")
    return Place(*_PLACE.unpack(body))


class Slab:
    """A mapped slab. One side writes, the other reads; neither believes what it finds."""

    __slots__ = ("_backed_bytes", "_descriptor", "_map", "size_bytes")

    def __init__(self, mapped: mmap.mmap, descriptor: int | None) -> None:
        """Made by `create` and `adopt` alone; owns the descriptor of what it writes to."""
        self._map = mapped
        self._descriptor = descriptor
        self._backed_bytes = 0
        self.size_bytes = len(mapped)

    def write(self, offset: int, sealed: bytes) -> bool:
        """Put `sealed` at `offset`, where it fits; return False if the system has no memory.

        Memory is asked for before it is touched: that would be a signal and not an error.
        """
        stop = offset + len(sealed)
        if stop > self._backed_bytes and not self._back(stop):
            return False
        self._map[offset:stop] = sealed
        return True

    def read(self, place: Place) -> bytes:
        """Return a copy of what lies at `place` at this moment: the only look that is taken at it.

        Raises:
            PeerProtocolError: `place` is not all within this slab, or does not begin a block.
        """
        _, start, length = place
        if start < 0 or start % GRAIN_BYTES or not 0 < length <= self.size_bytes - start:
            raise PeerProtocolError("a place outside of its slab")
        return self._map[start : start + length]

    def close(self) -> None:
        """Unmap it."""
        self._map.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _back(self, stop: int) -> bool:
        """Return whether there is memory up to `stop`."""
        if self._descriptor is None:
            raise LocalProtocolError("this side reads the slab and does not write it")
        start = self._backed_bytes
        span = min(self.size_bytes, stop + -stop % _BACKING_BYTES) - start
        try:
            os.posix_fallocate(self._descriptor, start, span)
        except OSError:
            return False
        self._backed_bytes = start + span
        return True


def create(size_bytes: int, *, writes: bool) -> tuple[Slab, int]:
    """Return a new slab, and the descriptor to pass on, which the caller closes.

    Args:
        size_bytes: a multiple of `GRAIN_BYTES`, at most `MAX_SLAB_BYTES`.
        writes: whether this side is the one that writes; the other cannot map it for writing then.

    Raises:
        OSError: the system gives no such memory.
    """
    descriptor = _new_memory()
    try:
        os.ftruncate(descriptor, size_bytes)
        slab = _mapped(descriptor, size_bytes, writes=writes)
        seals = _FIXED_SIZE | (_FUTURE_WRITE if writes else 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        except OSError:
            slab.close()
            raise
    except OSError:
        os.close(descriptor)
        raise
    return slab, descriptor


def adopt(descriptor: int, size_bytes: int, *, writes: bool) -> Slab:
    """Return the slab behind a descriptor that another process sent; the caller closes that.

    Args:
        descriptor: of anything.
        size_bytes: which size the other side says that it has; any number.
        writes: whether this side is the one that writes.

    Raises:
        PeerProtocolError: it is no slab: not of that size, or not of that size for ever.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        if seals & _FIXED_SIZE != _FIXED_SIZE:
            raise PeerProtocolError("what was passed as a slab could be made shorter")
        if os.fstat(descriptor).st_size != size_bytes:  # after the seals: now it stays as it is
            raise PeerProtocolError("what was passed as a slab has another size")
        return _mapped(descriptor, size_bytes, writes=writes)
    except (OSError, ValueError) as err:
        raise PeerProtocolError("what was passed as a slab is none, or cannot be mapped") from err


def is_size(size_bytes: int) -> bool:
    """Return whether a slab may have `size_bytes`."""
    return 0 < size_bytes <= MAX_SLAB_BYTES and not size_bytes % GRAIN_BYTES


def _new_memory() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("wardian-slab", flags | _NOEXEC_SEAL)
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise
        return os.memfd_create("wardian-slab", flags)  # before Linux 6.3


def _mapped(descriptor: int, size_bytes: int, *, writes: bool) -> Slab:
    access = mmap.PROT_READ | (mmap.PROT_WRITE if writes else 0)
    mapped = mmap.mmap(descriptor, size_bytes, flags=mmap.MAP_SHARED, prot=access)
    return Slab(mapped, os.dup(descriptor) if writes else None)


_FIXED_SIZE = (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL) if AVAILABLE else 0
