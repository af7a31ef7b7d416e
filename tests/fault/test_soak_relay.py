"""The relay that cuts the network in `bench/soak.py`: silence is silence, and nothing is lost."""

import asyncio
import contextlib
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import soak_relay
from simulators.redis_server import free_port

LARGE = bytes(range(256)) * 8192  # 2 MiB: more than the sockets' buffers hold


class Echo:
    """A server that sends back what it gets, a relay before it, and what the relay is told."""

    def __init__(self) -> None:
        self.link = soak_relay.Link(name="one and other", listen=free_port(), target=free_port())
        self.commands = asyncio.StreamReader()

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._echo, "127.0.0.1", self.link.target)
        self.task = asyncio.ensure_future(soak_relay.relay([self.link], self.commands))
        await asyncio.sleep(0)  # it listens from its first turn on

    async def _echo(self, reader, writer) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def tell(self, act: str) -> None:
        self.commands.feed_data(f"{act} {self.link.name}\n".encode())
        await asyncio.sleep(0.05)

    async def dial(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.link.listen)
        self.writers.append(writer)
        return reader, writer

    writers: list[asyncio.StreamWriter]

    async def close(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.commands.feed_eof()
        await self.task
        self.server.close()
        await asyncio.sleep(0.05)


@pytest.fixture
async def echo():
    echo = Echo()
    echo.writers = []
    await echo.start()
    yield echo
    await echo.close()


async def silent(reader) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), 0.3)
    except TimeoutError:
        return True
    return False


async def test_everything_arrives_in_both_directions(echo) -> None:
    reader, writer = await echo.dial()
    writer.write(LARGE)
    assert await reader.readexactly(len(LARGE)) == LARGE


async def test_a_cut_is_silence_and_what_was_sent_meanwhile_arrives_later(echo) -> None:
    reader, writer = await echo.dial()
    writer.write(b"before")
    assert await reader.readexactly(6) == b"before"
    await echo.tell("cut")
    writer.write(b"meanwhile")
    assert await silent(reader)
    late, new = await echo.dial()  # the kernel connects; nobody accepts
    new.write(b"new")
    assert await silent(late)
    await echo.tell("mend")
    assert await reader.readexactly(9) == b"meanwhile"
    assert await late.readexactly(3) == b"new"


async def test_an_end_is_not_seen_through_a_cut(echo) -> None:
    reader, _ = await echo.dial()
    other, writer = await echo.dial()
    writer.write(b"x")
    await other.readexactly(1)
    await echo.tell("cut")
    echo.server.close()
    assert await silent(reader)
    await echo.tell("mend")


async def test_resets_end_what_is_there_and_what_comes_until_they_are_over(echo) -> None:
    reader, writer = await echo.dial()
    writer.write(b"x")
    await reader.readexactly(1)
    await echo.tell("reset")
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await (await echo.dial())[0].readexactly(1)
    await echo.tell("mend")
    reader, writer = await echo.dial()
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"


async def test_where_nobody_listens_nobody_does(echo) -> None:
    echo.server.close()
    await asyncio.sleep(0.05)
    reader, _ = await echo.dial()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read(1) == b""
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", echo.link.target))
