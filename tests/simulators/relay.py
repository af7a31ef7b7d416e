"""The network between a party and its coordinator: a relay that carries TLS records, or spoils it.

It holds no key. It sees what whoever owns the network sees: records, their lengths and their times.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Direction = Literal["up", "down"]
"""From the party to the coordinator, or back."""
HEADER_BYTES: Final = 5
"""Of a TLS record; bytes 3 and 4 say how long it is (RFC 8446, 5.1)."""


@dataclass(eq=False)
class Wire:
    """One connection through the relay.

    Attributes:
        number: of those that reached the coordinator, counted from 0.
        records: which have come so far, by direction, as they came.
        silent: nothing that comes is passed on, not even an end.
        ending: how it ends once what was returned last is passed on: by FIN, or by RST, with which
            the system forgets what is still under way.
    """

    number: int
    streams: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    records: dict[Direction, list[bytes]] = field(default_factory=lambda: {"up": [], "down": []})
    silent: bool = False
    ending: Literal["FIN", "RST"] | None = None

    def end(self) -> None:
        """End it on both sides."""
        for each in self.streams:
            if self.ending == "RST":
                reset(each)
            else:
                each.close()


def reset(stream: asyncio.StreamWriter) -> None:
    """End a connection by RST."""
    linger = struct.pack("ii", 1, 0)
    stream.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    stream.transport.abort()


Treat = Callable[[Wire, Direction, bytes], Awaitable[Sequence[bytes]]]
"""Told of a record as it comes, counted already; returns what is passed on in its place."""


async def carry(wire: Wire, direction: Direction, record: bytes) -> Sequence[bytes]:
    """Pass it on."""
    return (record,)


class Relay:
    """Carries every connection to the coordinator at `target`. Use `start`, then `aclose`."""

    def __init__(self, target: int, *, treat: Treat = carry) -> None:
        self.target, self.treat = target, treat
        self.wires: list[Wire] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen on loopback, and return the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def aclose(self) -> None:
        """Cut every connection, and stop."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def seen(self) -> bytes:
        """Every byte that was carried, in both directions."""
        return b"".join(
            record for wire in self.wires for records in wire.records.values() for record in records
        )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._connect(reader, writer)
        except asyncio.CancelledError:
            pass  # asyncio's server has no use for it
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return  # no coordinator listens now, and none does for the party
        wire = Wire(len(self.wires), (writer, onward))
        self.wires.append(wire)
        try:
            await asyncio.gather(
                self._pass(wire, "up", reader, onward), self._pass(wire, "down", there, writer)
            )
        finally:
            onward.transport.abort()

    async def _pass(
        self,
        wire: Wire,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(HEADER_BYTES)
                record = head + await reader.readexactly(int.from_bytes(head[3:], "big"))
                wire.records[direction].append(record)
                for piece in await self.treat(wire, direction, record):
                    if not wire.silent:
                        writer.write(piece)
                await writer.drain()
                if wire.ending is not None:
                    wire.end()
                    return
        if wire.silent:
            await asyncio.Event().wait()  # the other side is not told
        writer.close()


class RelayThread:
    """A relay beside a test that is not asynchronous."""

    def __init__(self, target: int, *, treat: Treat = carry) -> None:
        self.relay = Relay(target, treat=treat)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self.relay.start(), self._loop).result(10)

    def stop(self) -> None:
        """Cut every connection, and stop."""
        asyncio.run_coroutine_threadsafe(self.relay.aclose(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
