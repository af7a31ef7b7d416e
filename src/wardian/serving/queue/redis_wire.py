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
    """The data ends within a value; at least `need` bytes must be there to go on."""

    def __init__(self, need: int) -> None:
        super().__init__()
        self.need = need


class ReplyReader:
    """Cuts a stream into replies, whatever the pieces in which it arrives."""

    __slots__ = ("_chunks", "_elements", "_need", "_size", "max_bytes")

    def __init__(self, *, max_bytes: int) -> None:
        """Accept replies of up to `max_bytes`."""
        self.max_bytes = max_bytes
        self._chunks: list[bytes] = []
        self._size = 0
        self._need = 0
        self._elements = 0

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
        at, end = 0, len(data)
        while at < end:
            self._elements = MAX_ELEMENTS
            try:
                reply, stop = self._value(data, at, MAX_DEPTH)
            except _Short as short:
                self._keep(data[at:] if at else data, short.need - at)
                break
            replies.append(reply)
            at = stop
        return replies

    def _keep(self, rest: bytes, need: int) -> None:
        if need > self.max_bytes:
            raise PeerProtocolError(f"Redis: a reply of more than {self.max_bytes} bytes")
        self._chunks.append(rest)
        self._size, self._need = len(rest), need

    def _value(self, data: bytes, at: int, depth: int) -> tuple[Reply, int]:
        """Return the value at `at` and where the next one starts.

        Raises:
            _Short: it is not whole.
            PeerProtocolError: it is none, or too large.
        """
        stop = data.find(_END, at, at + MAX_LINE_BYTES)
        if stop < 0:
            if len(data) - at >= MAX_LINE_BYTES:
                raise PeerProtocolError("Redis: a line is too long")
            raise _Short(len(data) + 1)
        kind, line, after = data[at], data[at + 1 : stop], stop + 2
        if kind == _DOLLAR:
            return _string(data, _length(line), after)
        if kind == _STAR:
            return self._array(data, _length(line), after, depth)
        if kind == _COLON:
            return _integer(line), after
        if kind == _PLUS:
            return line, after
        if kind == _MINUS:
            return _refusal(line), after
        raise PeerProtocolError("Redis: not a reply")

    def _array(self, data: bytes, count: int, at: int, depth: int) -> tuple[Reply, int]:
        if count < 0:
            return None, at
        self._elements -= count
        if self._elements < 0 or not depth:
            raise PeerProtocolError("Redis: a reply of too many elements")
        values: list[Reply] = []
        size, find = len(data), data.find
        for _ in range(count):
            if at >= size:
                raise _Short(at + 1)
            if data[at] == _DOLLAR:  # nearly all: a whole string, without a call for it
                stop = find(_END, at, at + _MAX_DIGITS + 3)
                digits = data[at + 1 : stop]
                if stop > 0 and digits.isdigit():
                    end = stop + 2 + int(digits)
                    if data[end : end + 2] == _END:
                        values.append(data[stop + 2 : end])
                        at = end + 2
                        continue
            value, at = self._value(data, at, depth - 1)
            values.append(value)
        return values, at


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


def _string(data: bytes, length: int, at: int) -> tuple[Reply, int]:
    """Return the string of `length` bytes at `at`, and where the next value starts."""
    if length < 0:
        return None, at
    end = at + length
    if len(data) < end + 2:
        raise _Short(end + 2)
    if data[end : end + 2] != _END:
        raise PeerProtocolError("Redis: a string does not end where it should")
    return data[at:end], end + 2


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
