"""The engine Ray, in Wardian's process: a driver is told what to keep, and asked how it is."""

import asyncio
import contextlib
import itertools
import logging
from typing import Final

from wardian._internal import wire
from wardian._internal.clock import monotonic
from wardian._internal.log import event
from wardian.engines.engine import WorkersSpec, WorkerStatus
from wardian.engines.environment import find_python
from wardian.engines.ray.messages import (
    LINE_BYTES,
    Answer,
    Ask,
    Keep,
    Workers,
    line_of,
    parse_answer,
)
from wardian.engines.ray.place import RayPlace, environment
from wardian.engines.restarts import Restarts
from wardian.errors import FormatError, Timeout, TransportError

log = logging.getLogger(__name__)

CONNECT_S: Final = 90.0
"""How long a driver may take to reach the cluster; then another is tried."""
ANSWER_S: Final = 20.0
"""A driver that does not answer for so long hangs, and another takes over."""
SETTLE_S: Final = 40.0
"""Workers that are too many have ended, or have been killed, by then."""
_ENDED: Final = 1
_EXIT_S: Final = 8.0


class RayEngine:
    """An `Engine` over a driver, which is restarted with back-off whenever it dies.

    A driver's actors end with it, and the next one starts them again: nothing of this engine
    outlives it in a cluster of others.
    """

    def __init__(self, place: RayPlace) -> None:
        """Run nothing yet. What `cluster_processes` says is started by others, before or after."""
        self._place = place
        self._spec: WorkersSpec | None = None
        self._replicas = 0
        self._link: _Link | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self, spec: WorkersSpec) -> None:
        """Have a driver place actors; see `Engine.start`. It need not be connected yet."""
        find_python("ray", str(self._place.python))
        self._spec, self._replicas = spec, spec.replicas
        if self._keeping is None:
            spec.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._keeping = asyncio.create_task(self._keep_driver(spec), name="keep Ray's driver")
        elif self._link is not None:
            await self._keep(self._link)

    async def scale(self, replicas: int) -> None:
        """Have more actors, or end the last ones; see `Engine.scale`."""
        if self._spec is None:
            return
        before, self._replicas = self._replicas, replicas
        if self._link is not None:
            try:
                await self._keep(self._link)
            except TransportError:
                self._replicas = before
                raise

    async def status(self) -> tuple[WorkerStatus, ...]:
        """Return what the driver knows; see `Engine.status`. Without one, all of them wait."""
        link, spec = self._link, self._spec
        if link is None or spec is None:
            name = "" if spec is None else spec.name
            return tuple(
                WorkerStatus(name=f"{name}-{number}") for number in range(1, self._replicas + 1)
            )
        return (await link.ask(Ask(id=link.number()), within_s=ANSWER_S)).status()

    async def drain(self) -> None:
        """End every worker by its actor; see `Engine.drain`. The driver stays."""
        self._replicas = 0
        if self._link is not None:
            with contextlib.suppress(TransportError):  # its actors end with it
                await self._keep(self._link)

    async def stop(self) -> None:
        """End every worker, then the driver; see `Engine.stop`."""
        await self.drain()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None

    async def _keep(self, link: "_Link") -> None:
        if self._spec is not None:
            spec = Workers.of(self._spec)
            keep = Keep(id=link.number(), spec=spec, replicas=self._replicas)
            await link.ask(keep, within_s=SETTLE_S)

    async def _keep_driver(self, spec: WorkersSpec) -> None:
        restarts = Restarts()
        while True:
            began = monotonic()
            try:
                await self._run_driver(spec)
            except (OSError, FormatError, TransportError) as err:
                reason = wire.printable(str(err))[:300]
                event(log, "ray.driver-failed", level=logging.WARNING, reason=reason)
            await asyncio.sleep(restarts.delay_s(_ENDED, ran_s=monotonic() - began) or 0.0)

    async def _run_driver(self, spec: WorkersSpec) -> None:
        """Run one driver until it ends, or hangs; nothing is left of it."""
        with (spec.logs / f"{spec.name}-driver.log").open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *(str(self._place.python), "-P", "-m", "wardian.engines.ray.driver"),
                *(self._place.cluster_address(), self._place.node_address),
                *(str(self._place.worker_cpus), str(self._place.own_nodes)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
                env=dict(environment(self._place)),
                cwd="/",
                start_new_session=True,
                limit=LINE_BYTES,
            )
        link = _Link(process)
        hearing = asyncio.create_task(link.hear(), name="hear Ray's driver")
        try:
            await _first(link.connected, hearing, within_s=CONNECT_S)
            self._link = link
            await self._keep(link)
            await self._watch(link, hearing)
        finally:
            self._link = None
            hearing.cancel()
            await asyncio.shield(link.end())
            await asyncio.gather(hearing, return_exceptions=True)

    async def _watch(self, link: "_Link", hearing: "asyncio.Task[None]") -> None:
        """Return when the driver has ended.

        Raises:
            Timeout: it hangs.
        """
        while not hearing.done():
            await asyncio.wait((hearing,), timeout=ANSWER_S / 4)
            if not hearing.done():
                await link.ask(Ask(id=link.number()), within_s=ANSWER_S)
        await hearing


async def _first(
    connected: "asyncio.Future[Answer]", hearing: "asyncio.Task[None]", *, within_s: float
) -> None:
    await asyncio.wait((connected, hearing), timeout=within_s, return_when="FIRST_COMPLETED")
    if hearing.done():
        await hearing
    if not connected.done():
        raise Timeout("no driver of Ray reached the cluster")


class _Link:
    """The pipes to one driver. Orders are answered in whatever order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self.connected: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[0] = self.connected

    def number(self) -> int:
        return next(self._numbers)

    async def ask(self, order: Keep | Ask, *, within_s: float) -> Answer:
        """Return the answer to `order`.

        Raises:
            TransportError: the driver is gone, or does not answer.
        """
        if self._process.stdin is None or self._process.returncode is not None:
            raise TransportError("Ray's driver has ended")
        answered = self._asked[order.id] = asyncio.get_running_loop().create_future()
        try:
            self._process.stdin.write(line_of(order))
            return await asyncio.wait_for(answered, within_s)
        except TimeoutError as err:
            raise Timeout("Ray's driver does not answer") from err
        finally:
            self._asked.pop(order.id, None)

    async def hear(self) -> None:
        """Take answers until the driver ends; whoever waits then hears of that."""
        try:
            while self._process.stdout is not None:
                try:
                    line = await self._process.stdout.readline()
                except ValueError as err:
                    raise FormatError("answer of a driver of Ray: too long") from err
                if not line:
                    return
                answer = parse_answer(line)
                answered = self._asked.get(answer.id)
                if answered is not None and not answered.done():
                    answered.set_result(answer)
        finally:
            for answered in self._asked.values():
                if not answered.done():
                    answered.set_exception(TransportError("Ray's driver has ended"))
            self.connected.exception() if self.connected.done() else None

    async def end(self) -> None:
        """Have it end; late, it is killed."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _EXIT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
