"""A stream of frames on sockets: what comes in pieces, too much, too little, too late, or not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from wardian.broker.frames import HEADER, SPACE_BYTES, FrameStream
from wardian.errors import ConnectionLost, FormatError, PeerProtocolError, Timeout


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[FrameStream, FrameStream]]:
    """Give both ends of one connection."""
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[FrameStream] = asyncio.Queue()
    server = await loop.create_server(lambda: FrameStream(came.put_nowait), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, near = await loop.create_connection(FrameStream, "127.0.0.1", port)
        far = await came.get()
        try:
            yield near, far
        finally:
            near.abort()
            far.abort()


async def test_who_cut_a_connection_says_nothing_more_on_it() -> None:
    async with pair() as (stream, other):
        await stream.send(b"one", b"two")
        assert [await other.receive(most=3), await other.receive(most=3)] == [b"one", b"two"]
        stream.abort()
        with pytest.raises(ConnectionLost, match="closed"):
            await stream.send(b"three")
        with pytest.raises(ConnectionLost):
            await other.receive(most=5)


@pytest.mark.parametrize("step", [1, 3, 4, 7, 5000, SPACE_BYTES + 1])
async def test_frames_are_whole_however_they_come(step: int) -> None:
    sizes = [1, 2, 3, 4, 5, SPACE_BYTES - 8, 1, SPACE_BYTES, 3 * SPACE_BYTES + 1, 1]
    sizes = sizes if step > 4 else sizes[:5]
    said = [bytes([index]) * size for index, size in enumerate(sizes)]
    raw = b"".join(HEADER.pack(len(each)) + each for each in said)
    async with pair() as (near, far):

        async def trickle() -> None:
            for at in range(0, len(raw), step):
                near._transport.write(raw[at : at + step])
                await asyncio.sleep(0)

        trickling = asyncio.create_task(trickle())
        heard = []
        for index, each in enumerate(said):
            if index % 2:
                space = bytearray(len(each))
                await far.receive_into(memoryview(space))
                heard.append(bytes(space))
            else:
                heard.append(await far.receive(most=len(each)))
        assert heard == said
        await trickling


async def test_who_is_not_listened_to_has_to_wait() -> None:
    async with pair() as (near, far):
        with pytest.raises(Timeout, match="did not take"):
            await near.send(bytes(50_000_000), timeout_s=0.1)
        assert far._end <= SPACE_BYTES
        with pytest.raises(PeerProtocolError, match="50000000 bytes"):
            await far.receive(most=49_999_999)


async def test_a_frame_of_another_length_than_was_to_come() -> None:
    async with pair() as (near, far):
        await near.send(b"four")
        for size in (0, 3, 5):
            with pytest.raises(FormatError, match="4 bytes"):
                await far.receive_into(memoryview(bytearray(size)))
        assert await far.receive(most=4) == b"four"
        near._transport.write(HEADER.pack(0))
        with pytest.raises(PeerProtocolError):
            await far.receive_into(memoryview(bytearray(0)))


async def test_who_trickles_is_late_all_the_same() -> None:
    async with pair() as (near, far):

        async def trickle() -> None:
            near._transport.write(HEADER.pack(1_000_000))
            while True:
                near._transport.write(b"x")
                await asyncio.sleep(0.001)

        trickling = asyncio.create_task(trickle())
        with pytest.raises(Timeout, match="no whole message"):
            await far.receive(most=1_000_000, timeout_s=0.1)
        trickling.cancel()


async def test_what_came_before_the_end_is_heard() -> None:
    async with pair() as (near, far):
        await near.send(b"goodbye", b"half")
        near._transport.write(HEADER.pack(9) + b"no")
        await near.close()
        assert await far.receive(most=7) == b"goodbye"
        assert await far.receive(most=4) == b"half"
        with pytest.raises(ConnectionLost, match="before a whole message"):
            await far.receive(most=9)


async def test_who_shows_no_certificate() -> None:
    async with pair() as (near, _):
        with pytest.raises(ConnectionLost, match="showed no certificate"):
            near.peer_certificate()
