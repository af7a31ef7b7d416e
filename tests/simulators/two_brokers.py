"""A second broker of a toy mesh, in a thread of its own: the active one blocks while it answers."""

import asyncio
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from toy_mesh import MASTER_KEY, NOW, Counter, ToyMesh

from wardian.broker.standby.course import Heard
from wardian.broker.standby.door import Door
from wardian.broker.standby.follower import Home, seek
from wardian.broker.standby.identity import nobody
from wardian.broker.standby.place import StandbyPlace
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store

T = TypeVar("T")
Address = tuple[str, int]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T], *, timeout_s: float = 20) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
        """Begin `work` there; await its end from here."""
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def close(self) -> None:
        self.run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class SecondBroker:
    """A broker that stands by: its files, its door, and what it keeps of the master key."""

    def __init__(self, mesh: ToyMesh, path: Path, *, port: int = 0, **changes: Any) -> None:
        self.mesh, self.path = mesh, path
        self.key: MasterKey | None = None
        self.kept: list[MasterKey] = []
        self.place = StandbyPlace()
        self.inside = Loop()
        self.home = Home(
            **{
                "path": path,
                "agreed": mesh.agreed,
                "attest": mesh.attest("broker"),
                "tee": "simulated",
                "now": lambda: NOW,
                "load_key": lambda: self.key,
                "keep_key": self.keep,
                **changes,
            }
        )
        self.port = port or free_port()
        self.door = self.inside.run(self._open())

    async def _open(self) -> Door:
        door = Door(self.place.answer, context=nobody(now=NOW))
        await door.start("127.0.0.1", self.port)
        return door

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.port

    def keep(self, key: MasterKey) -> None:
        self.key = key
        self.kept.append(key)

    def seek(self, peer: Address) -> "asyncio.Future[Heard]":
        return self.inside.start(seek(peer, self.home, self.place))

    def kept_up(self) -> bool:
        following = self.place.following
        return following is not None and following.begun.is_set()

    def open(self, counter: Counter) -> Store:
        return Store(self.path, master_key=self.key or MASTER_KEY, counter=counter.seam)

    def close(self) -> None:
        if not self.inside.loop.is_closed():
            self.inside.run(self.door.aclose())
            self.inside.close()
