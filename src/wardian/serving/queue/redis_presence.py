"""What a front end asks Redis about workers: who is there, and what those hold that are gone."""

from collections.abc import Collection
from typing import Final, NamedTuple

from wardian.errors import PeerProtocolError
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_access import GROUP, Keys, lane_name
from wardian.serving.queue.redis_entries import (
    parse_lanes,
    parse_names,
    parse_pending,
    parse_streams,
)
from wardian.serving.queue.redis_session import Link
from wardian.serving.queue.redis_wire import Reply, command

MAX_LANES: Final = 256
MAX_WORKERS: Final = 256
"""Workers of all lanes together that a front end knows; further ones get nothing from it."""
MAX_CREDIT: Final = 1024
DEAD_FRONT_END_MS: Final = 60_000
"""A message that a worker holds for so long is waited for by nobody."""

_PAGE: Final = 1000


class Present(NamedTuple):
    """Who is there: the credit of each worker by lane and name; and who is not, of the sets."""

    credit: dict[tuple[Lane, bytes], int]
    absent: list[tuple[Lane, bytes]]
    empty: list[Lane]


async def look(link: Link, keys: Keys, *, known: Collection[bytes] = ()) -> Present:
    """Return which workers are there; what Redis says of them is untrusted, and bounded.

    Raises:
        TransportError: no answer, or not of the form that was asked for.
    """
    credit: dict[tuple[Lane, bytes], int] = {}
    absent: list[tuple[Lane, bytes]] = []
    empty: list[Lane] = []
    for lane in parse_lanes(await link.call(command(b"SMEMBERS", keys.lanes)))[:MAX_LANES]:
        names = parse_names(await link.call(command(b"SMEMBERS", keys.workers(lane))))
        names.sort(key=lambda name: name not in known)  # invented ones do not crowd out the true
        names = names[: MAX_WORKERS - len(credit)]
        if not names:
            empty.append(lane)
            continue
        presence = await link.call(command(b"MGET", *map(keys.presence, names)))
        if not isinstance(presence, list) or len(presence) != len(names):
            raise PeerProtocolError("Redis: not the presence of the workers asked for")
        for name, value in zip(names, presence, strict=True):
            if value is None:
                absent.append((lane, name))
            else:
                credit[lane, name] = _credit(value)
    return Present(credit, absent, empty)


async def tidy(link: Link, keys: Keys, present: Present) -> None:
    """Take workers that are not there out of the sets; one that comes back enters itself anew."""
    for lane, name in present.absent:
        await link.call(command(b"SREM", keys.workers(lane), name))
    for lane in present.empty:
        await link.call(command(b"SREM", keys.lanes, lane_name(lane)))


async def held_by(link: Link, stream: bytes, worker: bytes) -> list[bytes]:
    """Return the entries of `stream` that `worker` took and is not done with."""
    found = await _pending(link, stream, worker=worker)
    return [entry for entry, _ in found]


async def held(link: Link, stream: bytes) -> list[tuple[bytes, bytes]]:
    """Return the entries of `stream` that workers hold, and who each."""
    return await _pending(link, stream)


async def exists(link: Link, stream: bytes, entry: bytes) -> bool:
    """Return whether `entry` is in `stream`, taken by a worker or not."""
    ms, _, sequence = entry.partition(b"-")
    before = b"%d-%d" % (
        (int(ms), int(sequence) - 1) if int(sequence) else (int(ms) - 1, 2**64 - 1)
    )
    reply = await link.call(command(b"XREAD", b"COUNT", 1, b"STREAMS", stream, before))
    return any(found.id == entry for found in parse_streams(reply, (stream,)).get(stream, []))


async def is_held(link: Link, stream: bytes, entry: bytes) -> bytes | None:
    """Return who holds `entry` of `stream`, if somebody does."""
    reply = await link.call(command(b"XPENDING", stream, GROUP, entry, entry, 1))
    found = parse_pending(reply) if isinstance(reply, list) else []
    return found[0][1] if found and found[0][0] == entry else None


async def remove(link: Link, stream: bytes, entries: list[bytes]) -> None:
    """Take `entries` off `stream`, whoever holds them."""
    if entries:
        await link.call(command(b"XACK", stream, GROUP, *entries))
        await link.call(command(b"XDEL", stream, *entries))


async def claim_abandoned(link: Link, stream: bytes, front: bytes) -> list[bytes]:
    """Return some of the entries that were held for so long that nobody can wait for them."""
    asked = command(
        b"XAUTOCLAIM", stream, GROUP, front, DEAD_FRONT_END_MS, b"0-0", b"COUNT", 100, b"JUSTID"
    )
    reply = await link.call(asked)
    if not isinstance(reply, list) or len(reply) < 2 or not isinstance(reply[1], list):
        return []  # no such group: nothing is held
    return [entry for entry in reply[1] if isinstance(entry, bytes)]


async def forget_consumer(link: Link, stream: bytes, worker: bytes) -> None:
    """Take `worker` out of the group of `stream`, which remembers every name; not if it holds any.

    What it held would be nobody's any more, and never read again.
    """
    if not await held_by(link, stream, worker):
        await link.call(command(b"XGROUP", b"DELCONSUMER", stream, GROUP, worker))


async def _pending(
    link: Link, stream: bytes, *, worker: bytes | None = None
) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    start = b"-"
    while True:
        consumer = (worker,) if worker is not None else ()
        asked = command(b"XPENDING", stream, GROUP, start, b"+", _PAGE, *consumer)
        page = _rows(await link.call(asked))
        found += page
        if len(page) < _PAGE or len(found) >= MAX_WORKERS * MAX_CREDIT:
            return found
        start = b"(" + page[-1][0]


def _rows(reply: Reply) -> list[tuple[bytes, bytes]]:
    return parse_pending(reply) if isinstance(reply, list) else []  # no such group


def _credit(value: Reply) -> int:
    if not isinstance(value, bytes) or not value.isdigit() or len(value) > 4:
        return 0
    return min(int(value), MAX_CREDIT)
