"""What the role `zoo` says to the Redis of its clients, and what it reads from there. Pure.

Commands of Redis 5 alone, which is what Cluster Serving needs: no XAUTOCLAIM, no XPENDING IDLE.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from wardian.errors import PeerProtocolError
from wardian.serving.queue.redis_entries import Entry, parse_id, parse_streams
from wardian.serving.queue.redis_wire import Refusal, Reply, command, words

GROUP: Final = b"serving"
"""Their consumer group. Consumers of theirs may be in it beside ours."""
VALUE: Final = b"value"
"""The field of a result's hash."""
_HSET: Final = b"*4\r\n$4\r\nHSET\r\n$%%d\r\n%%b\r\n%b$%%d\r\n%%b\r\n" % words(VALUE)
_LARGEST: Final = 2**64 - 1  # of either number in an id


class Pending(NamedTuple):
    """A record that was handed to a consumer and is not acknowledged.

    Attributes:
        id: of the stream's entry.
        idle_ms: since it was handed out, or its holder last said that it has it.
        deliveries: how often it was handed out.
    """

    id: bytes
    idle_ms: int
    deliveries: int


class Result(NamedTuple):
    """How a record ended: `key` and `value` are None where nobody can be told."""

    id: bytes
    key: bytes | None
    value: bytes | None


def make_group(job: bytes) -> bytes:
    """Make the group, from the oldest record on, and the stream if it is not there."""
    return command(b"XGROUP", b"CREATE", job, GROUP, b"0", b"MKSTREAM")


def read_new(job: bytes, consumer: bytes, *, count: int, block_ms: int) -> bytes:
    """Read up to `count` records that nobody was given yet."""
    return command(
        b"XREADGROUP", b"GROUP", GROUP, consumer, b"COUNT", count, b"BLOCK", block_ms,
        b"STREAMS", job, b">",
    )  # fmt: skip


def list_pending(job: bytes, consumer: bytes, *, after: bytes, count: int) -> bytes:
    """List what `consumer` holds, from the id `after` on."""
    return command(b"XPENDING", job, GROUP, after, b"+", count, consumer)


def claim(job: bytes, consumer: bytes, *, idle_ms: int, ids: Iterable[bytes]) -> bytes:
    """Take the records `ids` over that have been idle for so long."""
    return command(b"XCLAIM", job, GROUP, consumer, idle_ms, *ids)


def keep(job: bytes, consumer: bytes, ids: Iterable[bytes]) -> bytes:
    """Say that `consumer` still has the records `ids`; that is no delivery."""
    return command(b"XCLAIM", job, GROUP, consumer, 0, *ids, b"JUSTID")


def join(job: bytes, consumer: bytes) -> bytes:
    """Make `consumer` known to those who look for what one of us left behind."""
    return command(b"SADD", b"wardian:zoo:%b" % job, consumer)


def list_consumers(job: bytes) -> bytes:
    """List the consumers that are, or were, of this role. Theirs are never looked at."""
    return command(b"SMEMBERS", b"wardian:zoo:%b" % job)


def write_results(job: bytes, results: list[Result], *, ttl_s: int) -> list[bytes]:
    """Return one transaction, in pieces: results are written, and their records deleted, or not.

    It has `2 + commands` replies before that of EXEC; see `parse_written`.
    """
    pieces = [command(b"MULTI")]
    expire = b"*3\r\n$6\r\nEXPIRE\r\n$%%d\r\n%%b\r\n%b" % words(b"%d" % ttl_s)
    for result in results:
        key, value = result.key, result.value
        if key is not None and value is not None:  # two of these for each record: in one go
            length = len(key)
            pieces.append(_HSET % (length, key, len(value), value))
            pieces.append(expire % (length, key))
    ids = [result.id for result in results]
    pieces.append(command(b"XACK", job, GROUP, *ids))
    pieces.append(command(b"XDEL", job, *ids))
    pieces.append(command(b"EXEC"))
    return pieces


def parse_new(reply: Reply, job: bytes) -> list[Entry]:
    """Return the records in the reply to `read_new`.

    Raises:
        PeerProtocolError: it is another reply.
    """
    _accept(reply)
    return parse_streams(reply, (job,)).get(job, [])


def parse_claimed(reply: Reply, job: bytes) -> list[Entry]:
    """Return the records in the reply to `claim`; one that was deleted meanwhile has no fields.

    Raises:
        PeerProtocolError: it is another reply.
    """
    _accept(reply)
    if not isinstance(reply, list):
        raise PeerProtocolError("Redis: not a list of records")
    there: list[Reply] = [each for each in reply if each is not None]
    return parse_streams([[job, there]], (job,))[job]


def parse_pending(reply: Reply, *, after: bytes) -> list[Pending]:
    """Return what stands in the reply to `list_pending`: in order, so that a list has an end.

    Raises:
        PeerProtocolError: it is another reply, goes back, or has an id that there cannot be.
    """
    _accept(reply)
    found = []
    least = _numbers(after)
    for row in reply if isinstance(reply, list) else [None]:
        if not isinstance(row, list) or len(row) != 4:
            raise PeerProtocolError("Redis: not a list of pending records")
        name, _, idle, deliveries = row
        if not isinstance(idle, int) or not isinstance(deliveries, int):
            raise PeerProtocolError("Redis: not a list of pending records")
        found.append(Pending(parse_id(name), idle, deliveries))
        numbers = _numbers(found[-1].id)
        if numbers < least or max(numbers) > _LARGEST:
            raise PeerProtocolError("Redis: pending records that are not in order")
        least = (numbers[0], numbers[1] + 1)
    return found


def next_id(entry: bytes) -> bytes | None:
    """Return the id after `entry`; None: it is the last that there can be."""
    milliseconds, number = _numbers(entry)
    if number < _LARGEST:
        return b"%d-%d" % (milliseconds, number + 1)
    return b"%d-0" % (milliseconds + 1) if milliseconds < _LARGEST else None


def parse_consumers(reply: Reply) -> list[bytes]:
    """Return the names in the reply to `list_consumers`.

    Raises:
        PeerProtocolError: it is another reply.
    """
    _accept(reply)
    if not isinstance(reply, list):
        raise PeerProtocolError("Redis: not a set of names")
    return [each for each in reply if isinstance(each, bytes)]


def refused_writes(reply: Reply) -> int | None:
    """Return how many commands of a transaction were refused; None: nothing of it was done.

    Raises:
        PeerProtocolError: `reply` is not EXEC's.
    """
    if isinstance(reply, Refusal):
        return None
    if not isinstance(reply, list):
        raise PeerProtocolError("Redis: not the end of a transaction")
    return sum(isinstance(each, Refusal) for each in reply)


def _numbers(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number)


def _accept(reply: Reply) -> None:
    if isinstance(reply, Refusal):
        raise PeerProtocolError(f"Redis: refuses ({reply.code})")
