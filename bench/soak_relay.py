"""A process that stands between parties of a mesh, so that the network between any two can be cut.

Each link listens at one port and forwards to another. It is told on standard input, a line each:

    cut NAME      forward nothing and accept nothing, without closing: a cut is silence
    reset NAME    reset every connection, and each new one
    mend NAME     forward again; what was under way when the link was cut arrives now, as TCP would

    python bench/soak_relay.py '[{"name": "a and b", "listen": 7001, "target": 7002}]'
"""

import asyncio
import json
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import uvloop
from typing_extensions import override

HOST = "127.0.0.1"
_RESET_ON_CLOSE = struct.pack("@ii", 1, 0)


@dataclass(frozen=True)
class Link:
    """Which two parties it stands between; the first connects, the second listens at `target`."""

    name: str
    listen: int
    target: int


class Half(asyncio.Protocol):
    """One of the two connections of a pair: what it receives goes to the other one."""

    def __init__(self, wire: "Wire", other: "Half | None" = None) -> None:
        """Be one of a pair on `wire`, with `other` if that one is there already."""
        self.wire = wire
        self.other = other
        self.transport: asyncio.Transport | None = None
        self._choked = False  # the other one does not take more now
        self._reading = True
        if other is not None:
            other.other = self

    def flow(self) -> None:
        """Read if what is read can be forwarded."""
        reads = not self._choked and not self.wire.silent and self.other is not None
        if self.transport is None or self.transport.is_closing() or reads == self._reading:
            return
        self._reading = reads
        if reads:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def reset(self) -> None:
        """End both connections with a reset."""
        for half in filter(None, (self, self.other)):
            if half.transport is not None:
                reset(half.transport.get_extra_info("socket"))
                half.transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream makes Transports
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire.halves.add(self)
        self.flow()
        if self.other is not None:
            self.other.flow()

    @override
    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    @override
    def pause_writing(self) -> None:
        self._choke(choked=True)

    @override
    def resume_writing(self) -> None:
        self._choke(choked=False)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.wire.halves.discard(self)
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()  # once it has sent what is on its way

    def _choke(self, *, choked: bool) -> None:
        if self.other is not None:
            self.other._choked = choked  # noqa: SLF001 (of the same class)
            self.other.flow()


class Wire:
    """One link while it runs."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.halves: set[Half] = set()
        self.resets = False
        self._open = asyncio.Event()
        self._open.set()
        self._joining: set[asyncio.Task[None]] = set()

    @property
    def silent(self) -> bool:
        """Whether nothing is forwarded."""
        return not self._open.is_set()

    def cut(self) -> None:
        """Forward nothing and accept nothing."""
        self._open.clear()
        self._flow()

    def reset(self) -> None:
        """Reset everything, until it is mended."""
        self.resets = True
        for half in list(self.halves):
            half.reset()

    def mend(self) -> None:
        """Forward everything again."""
        self.resets = False
        self._open.set()
        self._flow()

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections and join each to the target, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            await self._open.wait()
            task = loop.create_task(self._join(sock))
            self._joining.add(task)
            task.add_done_callback(self._joining.discard)

    async def _join(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if self.resets:
            reset(sock)
            sock.close()
            return
        try:
            _, far = await loop.create_connection(partial(Half, self), HOST, self.link.target)
        except OSError:  # nobody listens there now: nor does anybody here
            reset(sock)
            sock.close()
            return
        await loop.connect_accepted_socket(partial(Half, self, far), sock)

    def _flow(self) -> None:
        for half in self.halves:
            half.flow()


def reset(sock: socket.socket) -> None:
    """Let the other end of `sock` see a reset when it is closed."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


async def relay(links: Sequence[Link], commands: asyncio.StreamReader) -> None:
    """Forward on all `links` and do what `commands` says, until it ends."""
    wires = {link.name: Wire(link) for link in links}
    listeners = [socket.create_server((HOST, link.listen), backlog=512) for link in links]
    loop = asyncio.get_running_loop()
    tasks = []
    for wire, listener in zip(wires.values(), listeners, strict=True):
        listener.setblocking(False)  # noqa: FBT003 (the signature is Python's)
        tasks.append(loop.create_task(wire.serve(listener)))
    print("ready", flush=True)
    try:
        while line := (await commands.readline()).decode():
            act, _, name = line.strip().partition(" ")
            wire = wires[name]
            {"cut": wire.cut, "reset": wire.reset, "mend": wire.mend}[act]()
            print(line.strip(), flush=True)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in listeners:
            listener.close()


async def main() -> None:
    """Relay what the argument says, and obey standard input."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    await relay([Link(**each) for each in json.loads(sys.argv[1])], commands)


if __name__ == "__main__":
    uvloop.run(main())
