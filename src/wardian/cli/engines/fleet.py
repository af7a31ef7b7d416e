"""All workers of a mesh: one engine for each model, on one cluster."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from wardian._internal.clock import monotonic
from wardian._internal.log import event
from wardian.engines import Cluster, Engine, WorkersSpec, WorkerStatus
from wardian.errors import (
    ConfigError,
    JobFailed,
    PolicyDenied,
    Timeout,
    TransportError,
    WardianError,
)

log = logging.getLogger(__name__)

POLL_S: Final = 0.2
MOST_ENDS: Final = 3
"""A worker that ends so often before it is ready has no luck with another start either."""
REFUSED: Final = 3


class Fleet:
    """Starts, watches and scales the workers of every model alike."""

    def __init__(self, cluster: Cluster) -> None:
        """Run nothing yet, on `cluster`, which whoever made it starts."""
        self._cluster = cluster
        self._engines: dict[str, Engine] = {}
        self._known: tuple[WorkerStatus, ...] = ()

    async def start(self, specs: Iterable[WorkersSpec]) -> None:
        """Have the engine run `specs`.

        Raises:
            ConfigError: the engine is not installed here, or does not take them.
            TransportError: the engine does not answer.
        """
        for spec in specs:
            engine = self._engines[spec.name] = self._cluster.engine()
            await engine.start(spec)

    async def until_ready(self, timeout_s: float) -> None:
        """Return when every worker serves.

        Raises:
            PolicyDenied, ConfigError: one gave up, with the reason that it printed.
            JobFailed: one ends as soon as it starts.
            Timeout: not within `timeout_s`.
        """
        late = monotonic() + timeout_s
        while True:
            found = await self.status()
            if found and all(each.state == "ready" for each in found):
                return
            for each in found:
                if each.state != "ready" and each.starts > MOST_ENDS:
                    raise JobFailed(f"{each.name} ends as soon as it starts: {each.reason}")
            if (failed := failure(found)) is not None:
                raise failed
            if monotonic() > late:
                missing = ", ".join(each.name for each in found if each.state != "ready")
                raise Timeout(f"{missing or 'the workers'}: not ready after {timeout_s:.0f} s")
            await asyncio.sleep(POLL_S)

    async def status(self) -> tuple[WorkerStatus, ...]:
        """Return what is known of every worker; of one whose engine is away, what was known."""
        known = {each.name: each for each in self._known}
        found: list[WorkerStatus] = []
        for name, engine in self._engines.items():
            try:
                found += await engine.status()
            except TransportError as err:
                event(log, "engine.silent", level=logging.WARNING, workers=name, why=str(err)[:200])
                found += [each for each in known.values() if each.name.startswith(f"{name}-")]
        self._known = tuple(found)
        return self._known

    async def scale(self, replicas: int) -> None:
        """Have `replicas` workers of each model run, at least 1.

        Raises:
            TransportError: the engine does not answer.
            ConfigError: it has no room for them.
        """
        await asyncio.gather(*(engine.scale(replicas) for engine in self._engines.values()))

    async def stop(self) -> None:
        """End every worker: each answers what it holds."""
        await asyncio.gather(*(engine.stop() for engine in self._engines.values()))


def failure(found: Iterable[WorkerStatus]) -> WardianError | None:
    """Return what a worker gave up for, if one did."""
    for each in found:
        if each.state == "failed":
            reason = each.reason or f"exit status {each.exit_status}"
            if each.exit_status == REFUSED:
                return PolicyDenied(f"{each.name} was refused: {reason}", rule="start")
            return ConfigError(f"{each.name}: {reason}")
    return None
