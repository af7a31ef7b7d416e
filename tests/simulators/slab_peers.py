"""The two ends of the embedded queue without their manners: say whatever the test says."""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import threading
from pathlib import Path

from simulators.data_plane import LANE, RecordingSink

from wardian._internal import wire
from wardian.serving.queue.frames import (
    MAX_FRAME_BYTES,
    Address,
    Frame,
    FrameKind,
    FrameReader,
    Hello,
    frame,
    numbered_frame,
)
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.seam import Delivered
from wardian.serving.queue.slab import Slab
from wardian.serving.queue.slab_front import SlabDepot
from wardian.serving.queue.slab_handover import Offer, fetch_slabs, parse_offer
from wardian.serving.queue.worker import SocketWorkerQueue

LARGE = b"a large sealed message" * 4000


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def pass_descriptors(sock: socket.socket, said: bytes, descriptors: list[int]) -> None:
    rights = struct.pack(f"@{len(descriptors)}i", *descriptors)
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
    sock.sendmsg([said], control)


class RawWorker:
    """A peer of a front end, on the test's loop."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.frames: list[Frame] = []
        self.reader = FrameReader(max_bytes=MAX_FRAME_BYTES)

    async def connect(self, *, credit: int = 4, slabs: bool = True) -> "RawWorker":
        """Come in and be admitted."""
        address = Address.parse(self.path)
        if address.path is None:
            self.stream, self.out = await asyncio.open_connection(address.host, address.port)
        else:
            self.stream, self.out = await asyncio.open_unix_connection(self.path)
        hello = Hello(model=LANE.model, version=LANE.version, credit=credit, slabs=slabs)
        self.out.write(frame(FrameKind.HELLO, wire.encode(hello)))
        assert (await self.next())[:2] == (FrameKind.REQUEST, 0)
        self.say(FrameKind.ANSWER, 0, b"one of us")
        return self

    def say(self, kind: FrameKind, number: int, body: bytes = b"") -> None:
        self.out.write(numbered_frame(kind, number, body))

    async def next(self) -> Frame:
        while not self.frames:
            data = await self.stream.read(2**18)
            if not data:
                raise ConnectionResetError
            self.frames += self.reader.feed(data)
        return self.frames.pop(0)

    async def dropped(self) -> bool:
        """Return True once the front end has hung up."""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while True:
                await self.next()
        return True

    async def offered(self) -> Offer:
        """Return the next offer; what comes before it is left out."""
        while (got := await self.next())[0] != FrameKind.SLABS:
            pass
        return parse_offer(got[1], got[2])

    async def with_slabs(self) -> tuple[Offer, Slab, Slab]:
        """Take what is offered."""
        offer = await self.offered()
        requests, answers = await asyncio.to_thread(fetch_slabs, Path(self.path), offer)
        self.say(FrameKind.TAKEN, offer.generation)
        return offer, requests, answers

    async def close(self) -> None:
        self.out.close()
        with contextlib.suppress(OSError):
            await self.out.wait_closed()


class Front:
    """A true front end that does not look at what it gets."""

    def __init__(self, path: str, **slabs: int) -> None:
        self.sink = RecordingSink()
        self.queue = SocketFrontQueue(Address.parse(path), slabs=SlabDepot(**slabs))
        self.queue.attach(self.sink)
        self.messages = 0

    def send(self, sealed: bytes = LARGE) -> int:
        self.messages += 1
        self.queue.send(self.messages, sealed, lane=LANE, alone=False)
        return self.messages

    async def admitted(self, worker: RawWorker, count: int = 1, **options) -> RawWorker:
        await worker.connect(**options)
        await self.sink.until(lambda: len(self.sink.admitted) >= count)
        return worker

    async def answer(self, worker: RawWorker, message: int, sealed: bytes = b"a") -> None:
        before = len(self.sink.answers)
        worker.say(FrameKind.ANSWER, message, sealed)
        await self.sink.until(lambda: len(self.sink.answers) > before)

    async def close(self) -> None:
        await self.queue.close()
        while self.queue.peers:
            await asyncio.sleep(0.001)


class RawFront:
    """Listens like a front end, and hands to a true worker whatever the test says; in threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.queue = SocketWorkerQueue(Address.parse(path), lane=LANE, slab_from_bytes=1)
        self.taken: list[Delivered] = []
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()
        self.connection = self.accept()

    def _take(self) -> None:
        while (messages := self.queue.take()) is not None:
            self.taken += messages
            self.queue.answer([Delivered(message, b"answer") for message, _ in messages])

    def accept(self) -> socket.socket:
        """Return the next connection on which a worker introduces itself."""
        self.reader = FrameReader(max_bytes=MAX_FRAME_BYTES)
        self.frames: list[Frame] = []
        self.listener.settimeout(20)
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(20)
        assert self.next()[0] == FrameKind.HELLO
        return self.connection

    def say(self, kind: FrameKind, number: int, body: bytes = b"") -> None:
        self.connection.sendall(numbered_frame(kind, number, body))

    def next(self) -> Frame:
        while not self.frames:
            data = self.connection.recv(2**18)
            if not data:
                raise ConnectionResetError
            self.frames += self.reader.feed(data)
        return self.frames.pop(0)

    def comes_again(self) -> bool:
        """Return True once the worker hung up and connected anew."""
        with contextlib.suppress(ConnectionResetError):
            while True:
                self.next()
        self.connection.close()
        self.accept()
        return True

    def offer(self, offer: Offer, descriptors: list[int] | None, said: bytes | None = None) -> int:
        """Offer, pass `descriptors` on (None: nothing at all), and return what it says to have."""
        self.connection.sendall(offer.build())
        fetching, _ = self.listener.accept()
        with fetching:
            fetching.settimeout(20)
            assert fetching.recv(1000) == frame(FrameKind.FETCH, offer.token)
            if descriptors is not None:
                said = said or numbered_frame(FrameKind.SLABS, offer.generation)
                pass_descriptors(fetching, said, descriptors)
            kind, generation, _ = self.next()
        assert kind == FrameKind.TAKEN
        return generation

    def close(self) -> None:
        self.queue.stop()
        self.connection.close()
        self.listener.close()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.queue.close()


def memory(size: int, seals: int = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL):
    """Return the descriptor of a memory of `size` bytes with `seals`."""
    descriptor = os.memfd_create("x", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor
