"""A stream of frames whose connection this side has closed."""

import asyncio

import pytest

from wardian.broker.frames import FrameStream
from wardian.errors import ConnectionLost


async def test_who_cut_a_connection_says_nothing_more_on_it() -> None:
    came: asyncio.Queue[FrameStream] = asyncio.Queue()
    server = await asyncio.start_server(
        lambda reader, writer: came.put_nowait(FrameStream(reader, writer)), "127.0.0.1", 0
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        stream = FrameStream(*await asyncio.open_connection("127.0.0.1", port))
        other = await came.get()
        await stream.send(b"one", b"two")
        assert [await other.receive(most=3), await other.receive(most=3)] == [b"one", b"two"]
        stream.abort()
        with pytest.raises(ConnectionLost, match="closed"):
            await stream.send(b"three")
        with pytest.raises(ConnectionLost):
            await other.receive(most=5)
        other.abort()
