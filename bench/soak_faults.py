"""What `soak.py` does to a mesh: kills, frozen processes, cuts of the network, a full disk."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from processes import children
from soak_disk import fill
from soak_judge import QUIET_S, Happened, Observed
from soak_machines import BROKER, CLIENT, FRONTEND, REDIS
from soak_redis import FORGET
from soak_relay import Link

from wardian._internal.clock import monotonic

FROZEN_S = 5.0
CUT_S = 10.0
RESET_S = 2.0
FULL_S = 6.0
LONGEST_PAUSE_S = 15.0
RESTART_S = 20.0
"""How long a process that was killed may take to run again before the next fault comes."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that can be done to a mesh.

    Attributes:
        name: as it stands in the results.
        act: does it, and returns when it is over.
        lasts_s: how long that takes.
        kills: the processes that it ends.
        deaf: whether clients and the front end cannot hear each other meanwhile.
    """

    name: str
    act: Callable[[], Awaitable[None]]
    lasts_s: float = 0.0
    kills: tuple[str, ...] = ()
    deaf: bool = False


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
        self._links = [link.name for link in links]

    def starts(self) -> dict[str, int]:
        """Return how often each process was started."""
        status = json.loads((self.state / "run" / "status.json").read_text())
        return {str(each["name"]): int(each["starts"]) for each in status["processes"]}

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

    async def freeze(self, name: str) -> None:
        """Stop it for a while."""
        self.signal(name, signal.SIGSTOP)
        try:
            await asyncio.sleep(FROZEN_S)
        finally:
            self.signal(name, signal.SIGCONT)

    async def disturb(self, act: str, link: str, seconds: float) -> None:
        """`cut` or `reset` a link for a while."""
        await self._tell(f"{act} {link}")
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._tell(f"mend {link}")

    async def fill_disk(self, kills: tuple[str, ...]) -> None:
        """Leave no byte on the state directory's file system for a while, and kill meanwhile."""
        until = monotonic() + FULL_S
        filling = asyncio.ensure_future(
            asyncio.to_thread(fill, self.state, lambda: monotonic() > until)
        )
        await asyncio.sleep(1.0)
        for name in kills:
            await self.kill(name)
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

    def faults(self, *, small_disk: bool) -> list[Fault]:
        """Return all that can be done to it, in the order in which it is done."""
        names = list(self.starts())
        worker = next(name for name in names if name.startswith("worker"))
        found = [_kill(name, partial(self.kill, name)) for name in names if name != REDIS]
        if REDIS in names:
            found += [
                _kill(REDIS, partial(self.kill, REDIS), " (it comes back with its data)"),
                _kill(REDIS, self.forget, " (it comes back with nothing)"),
            ]
        for name in filter(names.__contains__, (worker, FRONTEND, REDIS)):
            found.append(
                Fault(
                    name=f"SIGSTOP of {name}, {FROZEN_S:g} s",
                    act=partial(self.freeze, name),
                    lasts_s=FROZEN_S,
                    deaf=name == FRONTEND,
                )
            )
        found += [self._disk(())] * small_disk + [self._disk((worker, BROKER))] * small_disk
        return found + self._cuts(worker)

    def _disk(self, kills: tuple[str, ...]) -> Fault:
        meanwhile = f", kill -9 of {' and '.join(kills)} meanwhile" if kills else ""
        return Fault(
            name=f"disk full, {FULL_S:g} s{meanwhile}",
            act=partial(self.fill_disk, kills),
            lasts_s=FULL_S,
            kills=kills,
        )

    def _cuts(self, worker: str) -> list[Fault]:
        """Return a cut of each pair of parties, one worker standing for all, and two resets."""
        found = []
        for link in self._links:
            one, _, other = link.partition(" and ")
            if one not in (CLIENT, FRONTEND, worker):
                continue
            acts = [("cut", CUT_S)]
            if other != BROKER:
                acts.append(("reset", RESET_S))
            for act, seconds in acts:
                found.append(
                    Fault(
                        name=f"{link}: {act} off, {seconds:g} s".replace("reset off", "resets"),
                        act=partial(self.disturb, act, link, seconds),
                        lasts_s=seconds,
                        deaf=one == CLIENT and act == "cut",
                    )
                )
        return found


def _kill(name: str, act: Callable[[], Awaitable[None]], how: str = "") -> Fault:
    return Fault(name=f"kill -9 of {name}{how}", act=act, kills=(name,))


@dataclass
class Injected:
    """What was done in a run: how often each process was killed, and which faults never came."""

    killed: Counter[str]
    not_done: list[str]


async def inject(
    cluster: Cluster, faults: list[Fault], seconds: float, observed: Observed
) -> Injected:
    """Do one fault after the other within `seconds`; again from the first while time is.

    Between two there is quiet for longer than what tells that the first is over. Cancelled: the
    fault that lasts is ended.
    """
    done = Injected(Counter(), [])
    shortest = QUIET_S + 1.0
    spare = seconds - sum(each.lasts_s for each in faults)
    pause = min(max(spare / (len(faults) + 1), shortest), LONGEST_PAUSE_S)
    until = monotonic() + seconds - shortest
    turn = 0
    while True:
        await asyncio.sleep(pause)
        fault = faults[turn % len(faults)]
        if monotonic() + fault.lasts_s > until:
            break
        before = cluster.starts()
        happened = Happened(fault.name, monotonic(), deaf=fault.deaf)
        observed.faults.append(happened)
        print(f"{fault.name} ...", file=sys.stderr, flush=True)
        await fault.act()
        happened.until = monotonic() if fault.lasts_s else happened.at
        done.killed.update(fault.kills)
        turn += 1
        await cluster.restarted(before, fault.kills)
    done.not_done = [fault.name for fault in faults[turn:]]
    return done
