"""A relay between a front end and its worker that does what a hostile host would."""

import asyncio
import contextlib
import os
import random
import socket
import struct
from collections.abc import Callable

from wardian.serving.queue.frames import FrameKind

TO_WORKER, TO_FRONT = "to worker", "to front"
WORK = (FrameKind.REQUEST, FrameKind.ANSWER, FrameKind.REQUEST_AT, FrameKind.ANSWER_AT)
Frame = tuple[int, bytes]
Trick = Callable[[str, Frame], list[Frame] | None]
"""Gets each frame; returns what is passed on instead, or None to break the connection off."""


class Relay:
    """Listens at `path`, connects to `target`, and plays `trick` on every frame."""

    def __init__(self, path: str, target: str) -> None:
        self.path, self.target = path, target
        self.trick: Trick = lambda _, frame: [frame]
        self.tasks: dict[asyncio.Task, asyncio.StreamWriter] = {}
        self.fetches: list[asyncio.Future] = []
        self.closing = False

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self.enter, self.path)

    async def close(self) -> None:
        self.closing = True
        self.server.close()
        tasks = dict(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self.fetches, return_exceptions=True)
        for writer in tasks.values():  # of a task, too, that was cancelled before it began
            await closed(writer)

    def enter(self, worker_in, worker_out) -> None:
        """Take a connection in; no coroutine, which asyncio would begin after `close`."""
        if self.closing:
            worker_out.close()
            return
        task = asyncio.ensure_future(self.accept(worker_in, worker_out))
        self.tasks[task] = worker_out
        task.add_done_callback(self.tasks.pop)

    async def accept(self, worker_in, worker_out) -> None:
        try:
            first = await read_frame(worker_in)
            if first is not None and first[0] == FrameKind.FETCH:
                connection = worker_out.get_extra_info("socket").fileno()
                fetching = asyncio.ensure_future(asyncio.to_thread(self.fetch, first, connection))
                self.fetches.append(fetching)
                await asyncio.shield(fetching)
            elif first is not None:
                await self.connect(first, worker_in, worker_out)
        finally:
            await closed(worker_out)

    async def connect(self, first: Frame, worker_in, worker_out) -> None:
        """Pass on what both sides say after the worker's first frame."""
        front_in, front_out = await asyncio.open_unix_connection(self.target)
        self.pass_on(TO_FRONT, first, front_out)
        pumps = [
            asyncio.ensure_future(self.pump(TO_FRONT, worker_in, front_out)),
            asyncio.ensure_future(self.pump(TO_WORKER, front_in, worker_out)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            front_out.close()  # first: whoever waits below may be cancelled
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            await closed(front_out)

    def fetch(self, asked: Frame, connection: int) -> None:
        """Pass on the descriptors of slabs, which the front end sends over such a connection."""
        with socket.socket(socket.AF_UNIX) as front, socket.socket(fileno=os.dup(connection)) as to:
            front.connect(self.target)
            front.sendall(packed(asked))
            said, rights, _, _ = front.recvmsg(1000, 1000)
            to.sendmsg([said], rights)
            for _, _, data in rights:
                for descriptor in struct.unpack(f"@{len(data) // 4}i", data):
                    os.close(descriptor)

    async def pump(self, direction: str, reader, writer) -> None:
        while frame := await read_frame(reader):
            if not self.pass_on(direction, frame, writer):
                return

    def pass_on(self, direction: str, frame: Frame, writer) -> bool:
        """Do what the trick says; return whether the connection goes on."""
        passed_on = self.trick(direction, frame)
        if passed_on is None:
            return False
        for each in passed_on:
            writer.write(packed(each))
        return True


async def closed(writer) -> None:
    """Return once `writer` is closed."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def read_frame(reader) -> Frame | None:
    """Return the next frame, or None at the end."""
    try:
        length, kind = struct.unpack(">IB", await reader.readexactly(5))
        return kind, await reader.readexactly(length - 1)
    except (asyncio.IncompleteReadError, OSError):
        return None


def packed(frame: Frame) -> bytes:
    kind, body = frame
    return struct.pack(">IB", len(body) + 1, kind) + body


def is_work(frame: Frame) -> bool:
    """Return whether `frame` carries requests or answers, and not a challenge."""
    kind, body = frame
    return kind in WORK and body[:8] != bytes(8)


def on_work(trick: Callable[[str, Frame], list[Frame] | None]) -> Trick:
    """Play `trick` on requests and answers alone, so that the worker is admitted first."""
    return lambda direction, frame: trick(direction, frame) if is_work(frame) else [frame]


def duplicate(_: str, frame: Frame) -> list[Frame]:
    return [frame, frame]


class Reorder:
    """Holds each frame back until another of its direction came."""

    def __init__(self) -> None:
        self.held: dict[str, Frame] = {}

    def __call__(self, direction: str, frame: Frame) -> list[Frame]:
        if direction not in self.held:
            self.held[direction] = frame
            return []
        return [frame, self.held.pop(direction)]


class Replay:
    """Sends everything that it has seen in a direction again, under new numbers and old ones."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Frame]] = {TO_WORKER: [], TO_FRONT: []}

    def __call__(self, direction: str, frame: Frame) -> list[Frame]:
        kind, body = frame
        old = self.seen[direction][-3:]
        again = [(kind, body[:8] + was[8:]) for _, was in old]
        self.seen[direction].append(frame)
        return [*again, *old, frame]


class Flip:
    """Changes one bit of each sealed message, another one each time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def __call__(self, _: str, frame: Frame) -> list[Frame]:
        kind, body = frame
        changed = bytearray(body)
        changed[self.random.randrange(8, len(body))] ^= 1 << self.random.randrange(8)
        return [(kind, bytes(changed))]


class ForgeFirst(Flip):
    """Sends a forgery before each true frame: the true one must still count."""

    def __call__(self, direction: str, frame: Frame) -> list[Frame]:
        return [*super().__call__(direction, frame), frame]


class Swap:
    """Gives each answer the number of the one before it."""

    def __init__(self) -> None:
        self.last = bytes(8)

    def __call__(self, direction: str, frame: Frame) -> list[Frame]:
        kind, body = frame
        if direction == TO_WORKER:
            return [frame]
        number, self.last = self.last, body[:8]
        return [(kind, number + body[8:]), (kind, body)]


def truncate(_: str, frame: Frame) -> list[Frame]:
    kind, body = frame
    return [(kind, body[: len(body) // 2])]


class Reflect:
    """Answers each request with itself, before the true answer."""

    def __init__(self) -> None:
        self.requests: dict[bytes, bytes] = {}

    def __call__(self, direction: str, frame: Frame) -> list[Frame]:
        kind, body = frame
        if direction == TO_WORKER:
            self.requests[body[:8]] = body
            return [frame]
        return [(kind, self.requests[body[:8]]), frame]


def drop(_: str, __: Frame) -> list[Frame]:
    return []


def break_off(_: str, __: Frame) -> None:
    return None
