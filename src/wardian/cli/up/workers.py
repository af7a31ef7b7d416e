"""The workers of `wardian up`: on the engine that the operator chose, as many as asked for."""

import asyncio
import contextlib
import logging
from typing import Final

from wardian._internal.clock import monotonic
from wardian._internal.log import event
from wardian._internal.operator import Operator
from wardian.cli.engines.choice import open_cluster
from wardian.cli.engines.command_line import workers_of
from wardian.cli.engines.fleet import Fleet, failure
from wardian.cli.state import StateDir
from wardian.cli.up.mesh import MeshProcesses
from wardian.cli.up.screen import Screen
from wardian.engines import WorkerStatus
from wardian.errors import ConfigError, TransportError

log = logging.getLogger(__name__)

READY_S: Final = {"local": 60.0, "flink": 240.0, "ray": 240.0}
"""How long workers may take to serve, by engine: the servers of one take a minute on a busy day."""


class Workers:
    """Starts, watches, scales and ends them."""

    def __init__(
        self, state: StateDir, operator: Operator, processes: MeshProcesses, screen: Screen
    ) -> None:
        """Run nothing yet."""
        self._state, self._operator, self._screen = state, operator, screen
        self._cluster = open_cluster(state, operator, processes)
        self._fleet = Fleet(self._cluster)
        self._replicas = operator.worker.replicas
        self._seen: tuple[int, ...] = ()
        self._scaling: asyncio.Task[None] | None = None

    @property
    def local(self) -> bool:
        """Whether they are processes of this one."""
        return self._operator.engine == "local"

    async def start(self, models: tuple[str, ...], *, queue: tuple[str, ...]) -> None:
        """Start the cluster, then the workers of `models`; return when they serve.

        Args:
            models: as in wardian.toml.
            queue: options that say where the queue is.

        Raises:
            WardianError: they do not serve; the text says why.
        """
        began, engine = monotonic(), self._operator.engine
        await self._cluster.start()
        if not self.local:
            self._screen.step("engine", "up", f"{engine} after {monotonic() - began:.1f} s")
        specs = [
            workers_of(self._state, model, replicas=self._replicas, queue=queue) for model in models
        ]
        await self._fleet.start(specs)
        await self._fleet.until_ready(READY_S[engine])
        if not self.local:
            for each in await self._fleet.status():
                self._screen.step("worker", "placed", f"{each.name} by {engine} on {each.place}")
        self._seen = self._stat()

    async def look(self) -> tuple[WorkerStatus, ...]:
        """Return the workers that are not processes of this one, after taking up what changed.

        Raises:
            PolicyDenied, ConfigError: one gave up.
        """
        seen = self._stat()
        if seen != self._seen and (self._scaling is None or self._scaling.done()):
            self._seen = seen
            self._scaling = asyncio.create_task(self._scale(), name="scale")
        found = await self._fleet.status()
        if (failed := failure(found)) is not None:
            raise failed
        return () if self.local else found

    async def _scale(self) -> None:
        """Have as many workers as operator.toml says now; what is wrong there changes nothing."""
        try:
            replicas = self._state.load_operator().worker.replicas
            if replicas == self._replicas:
                return
            await self._fleet.scale(replicas)
        except (ConfigError, TransportError) as err:
            event(log, "workers.not-scaled", level=logging.ERROR, reason=str(err)[:300])
            self._screen.warn(f"workers stay at {self._replicas}: {err}")
            return
        self._screen.step("workers", "scaled", f"from {self._replicas} to {replicas} a model")
        self._replicas = replicas

    async def stop(self) -> None:
        """End the workers, which answer what they hold; then what they ran on."""
        if self._scaling is not None:
            self._scaling.cancel()
            await asyncio.gather(self._scaling, return_exceptions=True)
        await self._fleet.stop()
        await self._cluster.stop()

    def _stat(self) -> tuple[int, ...]:
        with contextlib.suppress(FileNotFoundError):
            found = self._state.operator.stat()
            return found.st_mtime_ns, found.st_size, found.st_ino
        return ()
