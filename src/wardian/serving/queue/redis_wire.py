"""RESP2, the protocol of Redis: commands to bytes in one pass, replies under strict bounds.

Redis' host may send anything. So a reply is parsed here, in memory-safe code, and not by a C
extension: such a parser believes the number of elements that an array announces, and a line of
twenty bytes reserves gigabytes of an enclave's memory. Bounded are the bytes of a reply, its
elements, its depth and its lines; nothing of the announced size is reserved before it has come. At
the first byte that does not fit the connection is of no use any more. A reply that wraps a few
large strings, as all of ours do, costs about half a microsecond an element.

Source: redis.io, "Redis serialization protocol specification", version 2.
"""

from typing import Final, NamedTuple, TypeAlias

from wardian.errors import PeerProtocolError

MAX_ELEMENTS: Final = 20_000
"""Of one reply, those of its arrays counted together."""
MAX_DEPTH: Final = 5  # XREAD: streams, stream, entries, entry, fields
MAX_LINE_BYTES: Final = 512

NO_ROOM: Final = ("OOM", "MISCONF")
"""Codes of the refusals that mean that Redis' memory, or its disk, is full."""

_END: Final = b"\r\n"
_DOLLAR, _STAR, _COLON, _PLUS, _MINUS = b"$*:+-"
_MAX_DIGITS: Final = 19
_FRAMING_BYTES: Final = 32  # about what one element needs beside its content


class Refusal(NamedTuple):
    """An error reply. `code` is its first word, in capitals; `text` is the host's: never logged."""

    code: str
    text: bytes


Reply: TypeAlias = "bytes | int | Refusal | list[Reply] | None"


class _Short(Exception):
    """The data ends within the value at `at`; at least `need` bytes must be there to go on."""

    def __init__(self, at: int, need: int) -> None:
        super().__init__()
        self.at, self.need = at, need


class _Array:
    """An array that is not whole: its values so far, and how many are missing."""

    __slots__ = ("left", "values")

    def __init__(self, left: int) -> None:
        self.values: list[Reply] = []
        self.left = left

    def take(self, data: bytes, at: int) -> int:
        """Take the strings and numbers that are whole at `at`, nearly all that comes.

        Returns where they end; what else may stand there is for who asked.
        """
        values, size, find, left = self.values, len(data), data.find, self.left
        while left and at < size:
            kind = data[at]
            stop = find(_END, at, at + _MAX_DIGITS + 3)
            if stop < 0:
                break
            digits = data[at + 1 : stop]
            if not digits.isdigit():
                break
            if kind == _DOLLAR:
                start = stop + 2
                end = start + int(digits)
                if data[end : end + 2] != _END:
                    break
                values.append(data[start:end])
                at = end + 2
            elif kind == _COLON:
                values.append(int(digits))
                at = stop + 2
            else:
                break
            left -= 1
        self.left = left
        return at


_OPENED: Final[list["Reply"]] = []
"""In the place of an array whose values are still to come."""


class ReplyReader:
    """Cuts a stream into replies, whatever the pieces in which it arrives.

    What was parsed of a reply is kept, and not parsed again when its next piece comes.
    """

    __slots__ = ("_chunks", "_elements", "_need", "_open", "_size", "_taken", "max_bytes")

    def __init__(self, *, max_bytes: int) -> None:
        """Accept replies of up to `max_bytes`."""
        self.max_bytes = max_bytes
        self._chunks: list[bytes] = []
        self._size = 0
        self._need = 0
        self._open: list[_Array] = []  # the outermost first
        self._taken = 0  # bytes of their reply that were parsed with earlier pieces
        self._elements = MAX_ELEMENTS

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that `data` completes.

        Raises:
            PeerProtocolError: not RESP2, or larger than allowed; the stream is of no use.
        """
        if self._chunks:
            self._chunks.append(data)
            self._size += len(data)
            if self._size < self._need:
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
        replies: list[Reply] = []
        at, begun, opened = 0, 0, self._open
        while at < len(data):
            try:
                value, at = self._next(data, at)
            except _Short as short:
                at = short.at
                self._bound(short.need - begun)
                self._chunks.append(data[at:] if at else data)
                self._size, self._need = len(data) - at, short.need - at
                break
            if opened and value is not _OPENED:
                value = self._put(value)
            if value is not _OPENED:
                replies.append(value)
                self._bound(at - begun)
                begun, self._taken, self._elements = at, 0, MAX_ELEMENTS
        self._bound(at - begun)
        self._taken += at - begun
        return replies

    def _bound(self, size: int) -> None:
        """Return if a reply may have `size` bytes beside those taken with earlier pieces."""
        if self._taken + size > self.max_bytes:
            raise PeerProtocolError(f"Redis: a reply of more than {self.max_bytes} bytes")

    def _put(self, value: Reply) -> Reply:
        """Put `value` where it belongs; return the reply that is whole with it, or `_OPENED`.

        An array that is whole with its last value belongs somewhere as well, and so on.
        """
        opened = self._open
        while opened:
            last = opened[-1]
            last.values.append(value)
            last.left -= 1
            if last.left:
                return _OPENED
            value = opened.pop().values
        return value

    def _next(self, data: bytes, at: int) -> tuple[Reply, int]:
        """Return the value at `at`, or an array that is whole there, and where the next one starts.

        Raises:
            _Short: it is not whole.
            PeerProtocolError: it is none, or too large.
        """
        if self._open:
            last = self._open[-1]
            at = last.take(data, at)
            if not last.left:
                return self._open.pop().values, at
        stop = data.find(_END, at, at + MAX_LINE_BYTES)
        if stop < 0:
            if len(data) - at >= MAX_LINE_BYTES:
                raise PeerProtocolError("Redis: a line is too long")
            raise _Short(at, len(data) + 1)
        kind, line, after = data[at], data[at + 1 : stop], stop + 2
        if kind == _DOLLAR:
            return _string(data, _length(line), at, after)
        if kind == _STAR:
            return self._array(_length(line)), after
        if kind == _COLON:
            return _integer(line), after
        if kind == _PLUS:
            return line, after
        if kind == _MINUS:
            return _refusal(line), after
        raise PeerProtocolError("Redis: not a reply")

    def _array(self, count: int) -> Reply:
        if count < 0:
            return None
        self._elements -= count
        if self._elements < 0 or len(self._open) == MAX_DEPTH:
            raise PeerProtocolError("Redis: a reply of too many elements")
        if not count:
            return []
        self._open.append(_Array(count))
        return _OPENED


def command(*words: bytes | int) -> bytes:
    """Return one command as an array of bulk strings."""
    pieces = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else b"%d" % word
        pieces += (b"$%d\r\n" % len(raw), raw, _END)
    return b"".join(pieces)


def words(*parts: bytes) -> bytes:
    """Return `parts` as bulk strings, to stand within a command whose head is written elsewhere."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


def entry_bytes(sealed: int) -> int:
    """Return about how large a reply is that carries one entry with `sealed` bytes."""
    return sealed + _FRAMING_BYTES * 16


def _string(data: bytes, length: int, at: int, after: int) -> tuple[Reply, int]:
    """Return the string of `length` bytes behind the head from `at` to `after`, and its end."""
    if length < 0:
        return None, after
    end = after + length
    if len(data) < end + 2:
        raise _Short(at, end + 2)
    if data[end : end + 2] != _END:
        raise PeerProtocolError("Redis: a string does not end where it should")
    return data[after:end], end + 2


def _length(digits: bytes) -> int:
    """Return the announced length; -1 means null.

    Raises:
        PeerProtocolError: it is no number.
    """
    if digits.isdigit() and len(digits) <= _MAX_DIGITS:
        return int(digits)
    if digits == b"-1":
        return -1
    raise PeerProtocolError("Redis: a length is no number")


def _integer(digits: bytes) -> int:
    if digits.removeprefix(b"-").isdigit() and len(digits) <= _MAX_DIGITS + 1:
        return int(digits)
    raise PeerProtocolError("Redis: an integer is no number")


def _refusal(line: bytes) -> Refusal:
    word = line.split(b" ", 1)[0]
    known = word.isalpha() and word.isupper() and len(word) <= 16
    return Refusal(word.decode() if known else "ERR", line)
