"""Entries of the streams, as they are written and as they are read. Byte forms: `queue-redis.md`.

Every entry is one list of names and values. A name says whose the message is and which; a value is
opaque. What is read was written by anybody, so that nothing here is believed, only bounded.
"""

import re
from typing import Final, NamedTuple

from wardian.errors import PeerProtocolError
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_wire import Reply, words

MAX_ANSWERS: Final = 2048
"""Of one entry of replies."""

_NAME: Final = re.compile(rb"[0-9a-f]{32}")
_ID: Final = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
_REQUEST: Final = re.compile(rb"([0-9a-f]{32}):(0|[1-9][0-9]{0,18})")
_ANSWER: Final = re.compile(rb"(-?)(0|[1-9][0-9]{0,18})(?::([0-9a-f]{32}))?")
_LANE: Final = re.compile(rb"([a-z0-9._-]{1,64}):([1-9][0-9]{0,18})")


class Entry(NamedTuple):
    """One entry of a stream: its id and its fields, names and values in turn."""

    id: bytes
    fields: list[bytes]


class Asked(NamedTuple):
    """A request entry: `message` of the front end `front`; an empty `sealed` is a welcome."""

    front: bytes
    message: int
    sealed: bytes


class Answered(NamedTuple):
    """One answer in an entry of replies.

    Attributes:
        message: its number; 0 for the answer to a challenge.
        worker: who answers the challenge; empty otherwise.
        refused: the worker says that the message did not open; `sealed` is the entry's id.
        sealed: opaque.
    """

    message: int
    worker: bytes
    refused: bool
    sealed: bytes


def request_name(front: bytes, message: int) -> bytes:
    """Return the name under which `message` of `front` stands in its entry."""
    return b"%b:%d" % (front, message)


def xadd_request(
    stream: bytes, front: bytes, message: int, sealed: bytes, *, own: bool
) -> list[bytes]:
    """Return the pieces of the command that puts `sealed` into `stream`; large ones uncopied.

    `own`: the stream is of one worker, and not made anew once that is gone.
    """
    place = (b"XADD", stream, b"NOMKSTREAM", b"*") if own else (b"XADD", stream, b"*")
    head = b"*%d\r\n" % (len(place) + 2) + words(*place, request_name(front, message))
    return [b"%b$%d\r\n" % (head, len(sealed)), sealed, b"\r\n"]


def xadd_answers(stream: bytes, answers: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the pieces of the command that adds `answers` to the replies of one front end.

    Its stream is not made anew: who reads it is gone with it.
    """
    head = b"*%d\r\n" % (4 + 2 * len(answers)) + words(b"XADD", stream, b"NOMKSTREAM", b"*")
    pieces = [head]
    for name, value in answers:
        pieces += (b"$%d\r\n%b\r\n$%d\r\n" % (len(name), name, len(value)), value, b"\r\n")
    return pieces


def parse_streams(reply: Reply, streams: tuple[bytes, ...]) -> dict[bytes, list[Entry]]:
    """Return the entries of a reply to XREAD or XREADGROUP by stream; none where it timed out.

    Entries that were deleted while a worker held them have no fields.

    Raises:
        PeerProtocolError: it is no such reply, or of a stream that was not asked for.
    """
    if reply is None:
        return {}
    found: dict[bytes, list[Entry]] = {}
    for each in _list(reply):
        pair = _list(each)
        if len(pair) != 2 or pair[0] not in streams or pair[0] in found:
            raise PeerProtocolError("Redis: entries of a stream that was not asked for")
        found[_bytes(pair[0])] = [_entry(one) for one in _list(pair[1])]
    return found


def parse_request(entry: Entry) -> Asked:
    """Return the request in `entry`.

    Raises:
        PeerProtocolError: it has another form.
    """
    if len(entry.fields) != 2 or not (name := _REQUEST.fullmatch(entry.fields[0])):
        raise PeerProtocolError("Redis: an entry that is no request")
    return Asked(name[1], int(name[2]), entry.fields[1])


def parse_answers(entry: Entry) -> list[Answered]:
    """Return the answers in `entry`.

    Raises:
        PeerProtocolError: it has another form.
    """
    fields = entry.fields
    if not 0 < len(fields) <= 2 * MAX_ANSWERS or len(fields) % 2:
        raise PeerProtocolError("Redis: an entry that holds no answers")
    answers = []
    for at in range(0, len(fields), 2):
        name = _ANSWER.fullmatch(fields[at])
        if not name:
            raise PeerProtocolError("Redis: an entry that holds no answers")
        answers.append(Answered(int(name[2]), name[3] or b"", bool(name[1]), fields[at + 1]))
    return answers


def parse_id(reply: Reply) -> bytes:
    """Return the id of an entry.

    Raises:
        PeerProtocolError: it is none.
    """
    if not isinstance(reply, bytes) or not _ID.fullmatch(reply):
        raise PeerProtocolError("Redis: not the id of an entry")
    return reply


def parse_pending(reply: Reply) -> list[tuple[bytes, bytes]]:
    """Return id and consumer of each entry in a reply to the extended form of XPENDING.

    Raises:
        PeerProtocolError: it has another form.
    """
    rows = [_list(row) for row in _list(reply)]
    if any(len(row) != 4 for row in rows):
        raise PeerProtocolError("Redis: not a list of pending entries")
    return [(parse_id(row[0]), _bytes(row[1])) for row in rows]


def parse_lanes(reply: Reply) -> list[Lane]:
    """Return the lanes in the members of a set; what is none is left out."""
    matches = [_LANE.fullmatch(member) for member in _members(reply)]
    return [Lane(found[1].decode(), int(found[2])) for found in matches if found]


def parse_names(reply: Reply) -> list[bytes]:
    """Return the names of workers in the members of a set; what is none is left out."""
    return [member for member in _members(reply) if _NAME.fullmatch(member)]


def _members(reply: Reply) -> list[bytes]:
    return [member for member in _list(reply) if isinstance(member, bytes)]


def _entry(reply: Reply) -> Entry:
    pair = _list(reply)
    if len(pair) != 2:
        raise PeerProtocolError("Redis: not an entry")
    fields = [] if pair[1] is None else [_bytes(field) for field in _list(pair[1])]
    return Entry(parse_id(pair[0]), fields)


def _list(reply: Reply) -> list[Reply]:
    if not isinstance(reply, list):
        raise PeerProtocolError("Redis: a reply is not of the kind that was asked for")
    return reply


def _bytes(reply: Reply) -> bytes:
    if not isinstance(reply, bytes):
        raise PeerProtocolError("Redis: a reply is not of the kind that was asked for")
    return reply
