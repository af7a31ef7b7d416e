"""The processes and links of a mesh that `soak.py` disturbs, and the ways to disturb them."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from processes import children
from soak_disk import fill
from soak_machines import REDIS
from soak_redis import FORGET
from soak_relay import Link

from wardian._internal.clock import monotonic

FROZEN_S = 5.0
FULL_S = 6.0
RESTART_S = 20.0
"""How long a process that was killed may take to run again before the next fault comes."""


class Cluster:
    """The processes of one mesh, as its status file names them, and the links between."""

    def __init__(
        self, state: Path, relay: "subprocess.Popen[bytes]", links: Iterable[Link]
    ) -> None:
        """Act on the mesh of a state directory.

        Args:
            state: the state directory of `wardian up`.
            relay: the process of `soak_relay.py`, with pipes.
            links: what it relays.
        """
        self.state = state
        self._relay = relay
        self.links = [link.name for link in links]

    def starts(self) -> dict[str, int]:
        """Return how often each process was started."""
        status = json.loads((self.state / "run" / "status.json").read_text())
        return {str(each["name"]): int(each["starts"]) for each in status["processes"]}

    def workers(self) -> list[str]:
        """Return the names of the workers."""
        return [name for name in self.starts() if name.startswith("worker")]

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the role itself, or the Redis: the child of its launcher."""
        status = json.loads((self.state / "run" / "status.json").read_text())
        (pid,) = [each["pid"] for each in status["processes"] if each["name"] == name]
        for child in children(pid):
            with suppress(ProcessLookupError):
                os.kill(child, number)

    async def kill(self, name: str) -> None:
        """End it at once."""
        self.signal(name, signal.SIGKILL)

    async def forget(self) -> None:
        """End Redis at once; it starts with nothing."""
        (self.state / "redis" / FORGET).touch()
        await self.kill(REDIS)

    async def kill_all(self, names: Sequence[str]) -> None:
        """End them in one moment, as a machine that loses its power."""
        for name in names:
            self.signal(name, signal.SIGKILL)

    async def freeze(self, name: str) -> None:
        """Stop it for a while."""
        async with self.frozen([name]):
            await asyncio.sleep(FROZEN_S)

    @asynccontextmanager
    async def frozen(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Stop them until the block ends."""
        for name in names:
            self.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            for name in names:
                self.signal(name, signal.SIGCONT)

    async def disturb(self, act: str, link: str, seconds: float, kills: Sequence[str] = ()) -> None:
        """`cut` or `reset` a link for a while, and kill meanwhile."""
        await self._tell(f"{act} {link}")
        try:
            await self.kill_all(kills)
            await asyncio.sleep(seconds)
        finally:
            await self._tell(f"mend {link}")

    async def fill_disk(self, kills: Sequence[str]) -> None:
        """Leave no byte on the state directory's file system for a while, and kill meanwhile."""
        until = monotonic() + FULL_S
        filling = asyncio.ensure_future(
            asyncio.to_thread(fill, self.state, lambda: monotonic() > until)
        )
        await asyncio.sleep(1.0)
        await self.kill_all(kills)
        await filling

    async def restarted(self, before: dict[str, int], killed: tuple[str, ...]) -> None:
        """Return when those that were `killed` run again, or have had their time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RESTART_S):
                for name in killed:
                    while self.starts()[name] <= before[name]:  # noqa: ASYNC110 (another process)
                        await asyncio.sleep(0.25)

    async def _tell(self, line: str) -> None:
        """Let the relay do it; return when it is done."""
        into, out = self._relay.stdin, self._relay.stdout
        if into is None or out is None:
            raise SystemExit("the relay has no pipes")
        into.write(f"{line}\n".encode())
        into.flush()
        said = (await asyncio.to_thread(out.readline)).decode().strip()
        if said != line:
            raise SystemExit(f"the relay did not do {line!r}")
