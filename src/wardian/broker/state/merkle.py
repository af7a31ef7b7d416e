"""The Merkle tree over the audit lines: RFC 6962, section 2.1. Pure: no file, clock or key.

A root of 32 bytes stands for all lines in their order. That a line is among them, and that one tree
is the beginning of another, takes a few dozen hashes to prove and nothing but the roots to verify.

The hash of a leaf and that of a node begin with different bytes, so that no node passes for a line
nor a line for a node: a tree of other lines with the same root cannot be made.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from wardian.errors import AuthenticationFailed, LocalProtocolError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()
"""The root of no lines (RFC 6962, 2.1)."""

FORKED: Final = (
    "the audit log does not go on from where it stood before: it was altered, cut short or forked"
)
_NOT_INCLUDED: Final = "the proof does not show that this line is in the audit log"

_STRIDE: Final = 4
"""Of the levels of complete subtrees, every fourth is kept; the others cost up to seven hashes."""


def leaf_hash(line: bytes) -> bytes:
    """Return the hash of one line as a leaf (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\0" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two others (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Peaks:
    """A tree reduced to the roots of its complete subtrees: enough to append, and for the root.

    Attributes:
        size: how many leaves.
        hashes: one for each bit that is set in `size`, the largest subtree first.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def appended(self, line: bytes) -> "Peaks":
        """Return the tree with one more leaf."""
        hashes, above, size = list(self.hashes), leaf_hash(line), self.size
        while size & 1:
            above, size = node_hash(hashes.pop(), above), size >> 1
        return Peaks(self.size + 1, (*hashes, above))

    @property
    def root(self) -> bytes:
        """The root of the tree, 32 bytes."""
        if not self.hashes:
            return EMPTY_ROOT
        *others, root = self.hashes
        for left in reversed(others):
            root = node_hash(left, root)
        return root


NO_PEAKS: Final = Peaks()


class Tree:
    """The whole tree, in memory: proofs for any line and any earlier size, in O(log n).

    A line costs about 34 bytes. One thread.
    """

    __slots__ = ("_kept",)

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        """Hold the tree over `lines`, of which only the hashes are kept."""
        self._kept = [bytearray()]  # the hashes of complete subtrees of 1, 16, 256, ... leaves
        for line in lines:
            self.append(line)

    @property
    def size(self) -> int:
        """How many lines."""
        return len(self._kept[0]) // HASH_BYTES

    def append(self, line: bytes) -> None:
        """Let `line` be the next leaf."""
        self._kept[0] += leaf_hash(line)
        size, level = self.size, 0
        while size % (1 << _STRIDE) == 0:
            size, level = size >> _STRIDE, level + 1
            if level == len(self._kept):
                self._kept.append(bytearray())
            self._kept[level] += _fold(self._kept[level - 1][-(HASH_BYTES << _STRIDE) :])

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` lines, or of all."""
        wanted = self.size if size is None else size
        self._refuse_outside(0 <= wanted <= self.size)
        return self._over(0, wanted) if wanted else EMPTY_ROOT

    def inclusion(self, index: int, *, size: int) -> tuple[bytes, ...]:
        """Return the proof that leaf `index`, counted from 0, is in the tree of the first `size`.

        The audit path of RFC 6962, 2.1.1: the leaf's own neighbour first.
        """
        self._refuse_outside(0 <= index < size <= self.size)
        path, low, high = [], 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append(self._over(middle, high))
                high = middle
            else:
                path.append(self._over(low, middle))
                low = middle
        return tuple(reversed(path))

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of the first `first` lines is the beginning of another.

        The proof of RFC 6962, 2.1.2; empty where `first` is 0 or `second`, which needs none.
        """
        self._refuse_outside(0 <= first <= second <= self.size)
        if first == 0:
            return ()
        proof, low, high = [], 0, second
        while high != first:
            middle = low + _split(high - low)
            if first <= middle:
                proof.append(self._over(middle, high))
                high = middle
            else:
                proof.append(self._over(low, middle))
                low = middle
        if low:
            proof.append(self._over(low, high))
        return tuple(reversed(proof))

    def _over(self, low: int, high: int) -> bytes:
        """Return the hash over the lines from `low` to before `high`, which a split made."""
        lines = high - low
        if lines & (lines - 1) == 0:
            return self._complete(lines.bit_length() - 1, low // lines)
        middle = low + _split(lines)
        return node_hash(self._over(low, middle), self._over(middle, high))

    def _complete(self, height: int, index: int) -> bytes:
        """Return the hash of the complete subtree number `index` among those of 2**`height`."""
        level, above = divmod(height, _STRIDE)
        size = HASH_BYTES << above
        return _fold(self._kept[level][index * size : (index + 1) * size])

    @staticmethod
    def _refuse_outside(inside: bool) -> None:  # noqa: FBT001 (a private statement of fact)
        if not inside:
            raise LocalProtocolError("a Merkle proof was asked for beyond the tree")


def verify_inclusion(
    line: bytes, *, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Return if `line` is leaf `index` of the tree of `size` leaves with this `root`.

    Args:
        line: the raw line, untrusted.
        index: its place counted from 0, untrusted.
        size: of the tree; trusted with `root`, which does not say it: a head names both.
        path: the proof, untrusted.
        root: 32 bytes.

    Raises:
        AuthenticationFailed: it is not, or the proof has a hash too many or too few.
    Source: RFC 9162, 2.1.3.2.
    """
    at, last, found = index, size - 1, leaf_hash(line)
    if not 0 <= index < size:
        raise AuthenticationFailed(_NOT_INCLUDED)
    for each in path:
        if last == 0:
            raise AuthenticationFailed(_NOT_INCLUDED)
        if at & 1 or at == last:
            found = node_hash(each, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, each)
        at, last = at >> 1, last >> 1
    if last != 0 or found != root:
        raise AuthenticationFailed(_NOT_INCLUDED)


def verify_consistency(
    *, first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Return if the tree of `first` leaves is the beginning of that of `second` leaves.

    Args:
        first: the size of the tree that is trusted.
        first_root: its root.
        second: the size of the one that is to be; a head names it together with its root.
        second_root: its root.
        proof: untrusted.

    Raises:
        AuthenticationFailed: it is not, or the proof has a hash too many or too few.
    Source: RFC 9162, 2.1.4.2; the sizes 0 and equal ones, which it leaves out, take no proof.
    """
    if not 0 < first < second:
        same = first_root == (EMPTY_ROOT if first == 0 else second_root)
        if proof or not same or not 0 <= first <= second:
            raise AuthenticationFailed(FORKED)
        return
    hashes = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = hashes[0] if hashes else b""
    for each in hashes[1:]:
        if last == 0:
            raise AuthenticationFailed(FORKED)
        if at & 1 or at == last:
            old, new = node_hash(each, old), node_hash(each, new)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, each)
        at, last = at >> 1, last >> 1
    if last != 0 or old != first_root or new != second_root:
        raise AuthenticationFailed(FORKED)


def _split(size: int) -> int:
    """Return the largest power of two below `size`, which is 2 or more (RFC 6962, 2.1)."""
    return 1 << (size - 1).bit_length() - 1


def _fold(hashes: bytearray | bytes) -> bytes:
    """Return the root over a power of two of hashes that stand one behind the other."""
    row = [bytes(hashes[at : at + HASH_BYTES]) for at in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]
