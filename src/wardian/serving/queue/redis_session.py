"""How a connection to Redis begins: log in, find the server that has the keys. Written once.

A front end's connection is asynchronous, a worker's blocks; both dial through a `Link`, and
`run_blocking` drives the same coroutine where nothing ever waits. The addresses that a Sentinel or
a node of a Cluster names are the host's word: whoever answers there must have a certificate of the
infrastructure CA under the server's name, as at every other address.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from wardian.errors import ConnectionLost, PeerProtocolError, TransportError, WardianError
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_access import RedisAccess
from wardian.serving.queue.redis_wire import Refusal, Reply, command

MAX_HOPS: Final = 4
"""Redirections that are followed before an attempt is given up."""

_MOVED: Final = re.compile(rb"MOVED [0-9]{1,5} ([0-9A-Fa-f.:]{2,45}):([0-9]{1,5})")
_RUN_ID: Final = re.compile(rb"run_id:([0-9a-f]{40})\r\n")

T = TypeVar("T")


class Link(Protocol):
    """A connection on which one command at a time is answered."""

    async def call(self, data: bytes) -> Reply:
        """Return the reply to the command in `data`.

        Raises:
            TransportError: the connection is lost.
        """

    def close(self) -> None:
        """End the connection."""


L = TypeVar("L", bound=Link)


async def open_session(
    access: RedisAccess, dial: Callable[[Address], Awaitable[L]], *, first: bytes
) -> tuple[L, Address]:
    """Return a connection that is logged in, to the server that has this mesh's keys, and where.

    Args:
        access: where and as whom.
        dial: connects, TLS included.
        first: an idempotent command on one of the mesh's keys; it is carried out.

    Raises:
        TransportError: none of the addresses led there; the last one's reason.
    """
    failure: WardianError = ConnectionLost("Redis: no address is given")
    for address in access.addresses:
        try:
            return await _follow(access, dial, address, first)
        except TransportError as err:
            failure = err
        except OSError as err:
            failure = ConnectionLost(f"Redis: cannot be reached ({type(err).__name__})")
    raise failure


async def _follow(
    access: RedisAccess, dial: Callable[[Address], Awaitable[L]], start: Address, first: bytes
) -> tuple[L, Address]:
    address = start
    if access.sentinel is not None:
        address = await _master(access, dial, start, access.sentinel)
    for _ in range(MAX_HOPS):
        link = await dial(address)
        try:
            await _log_in(access, link)
            reply = await link.call(first)
            moved = _moved(reply)
            if moved is None:
                accept(reply)
                return link, address
        except BaseException:
            link.close()
            raise
        link.close()
        address = moved
    raise PeerProtocolError("Redis: sent from one node to the next")


async def _master(
    access: RedisAccess, dial: Callable[[Address], Awaitable[L]], address: Address, name: str
) -> Address:
    """Return where the Sentinel at `address` says that the master is."""
    link = await dial(address)
    try:
        await _log_in(access, link)
        asked = command(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name.encode())
        reply = await link.call(asked)
    finally:
        link.close()
    if not isinstance(reply, list) or len(reply) != 2:
        raise PeerProtocolError("Redis: the Sentinel knows no such master")
    host, port = reply
    if not isinstance(host, bytes) or not isinstance(port, bytes):
        raise PeerProtocolError("Redis: the Sentinel names no address")
    return _address(host, port)


async def _log_in(access: RedisAccess, link: Link) -> None:
    secret = access.password.reveal()
    reply = await link.call(command(b"AUTH", access.username.encode(), secret))
    if reply != b"OK":
        code = reply.code if isinstance(reply, Refusal) else "no status"
        raise PeerProtocolError(f"Redis: does not let this role in ({code})")


async def run_id(link: Link) -> bytes:
    """Return which start of the server this is.

    Raises:
        PeerProtocolError: it does not say.
    """
    reply = await link.call(command(b"INFO", b"server"))
    found = _RUN_ID.search(reply) if isinstance(reply, bytes) else None
    if not found:
        raise PeerProtocolError("Redis: does not say which start of it this is")
    return found[1]


def accept(reply: Reply) -> None:
    """Return if `reply` to a command that makes a group says that it is there now.

    Raises:
        PeerProtocolError: it does not.
    """
    if isinstance(reply, Refusal) and reply.code != "BUSYGROUP":  # the group is there: as wanted
        raise PeerProtocolError(f"Redis: refuses to begin ({reply.code})")


def _moved(reply: Reply) -> Address | None:
    """Return the address of the node that has the keys, if that is what `reply` says."""
    if not isinstance(reply, Refusal) or reply.code != "MOVED":
        return None
    found = _MOVED.fullmatch(reply.text)
    if not found:
        raise PeerProtocolError("Redis: sends away to no address")
    return _address(found[1], found[2])


def _address(host: bytes, port: bytes) -> Address:
    try:
        ip = ipaddress.ip_address(host.decode("ascii"))
        number = int(port) if port.isdigit() else 0
    except ValueError as err:
        raise PeerProtocolError("Redis: sends away to no IP address") from err
    if not 0 < number < 65536:
        raise PeerProtocolError("Redis: sends away to no port")
    return Address(host=str(ip), port=number)


def run_blocking(steps: Coroutine[Any, Any, T]) -> T:
    """Return what `steps` returns, where every link in it blocks and nothing is waited for."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise PeerProtocolError("a blocking connection waited for something else")
