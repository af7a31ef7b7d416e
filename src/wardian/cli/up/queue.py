"""`wardian up --queue`: which queue the mesh has, and the Redis that it starts for it."""

from typing import Final

from wardian._internal.operator import Operator
from wardian.cli.queue_place import find_queue
from wardian.cli.redis.program import find_server
from wardian.cli.resolving import free_port
from wardian.cli.state import StateDir
from wardian.cli.up.mesh import MeshProcesses
from wardian.cli.up.screen import Screen

LOCAL: Final = "redis"
"""What stands for a Redis that is started here."""
HOST: Final = "127.0.0.1"


class Queue:
    """The queue of one run of the command."""

    def __init__(self, chosen: str | None) -> None:
        """Take what the person `chosen`: `redis`, or what `find_queue` takes; None: nothing."""
        self._local = chosen == LOCAL
        self._chosen = f"rediss://{HOST}:{free_port([HOST])}" if self._local else chosen
        self._elsewhere: str | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """What tells a front end, or a worker, where its queue is."""
        return () if self._chosen is None else ("--queue", self._chosen)

    def demand_possible(self, state: StateDir, operator: Operator) -> None:
        """Return if there can be such a queue; asked before anything is made or started.

        Raises:
            ConfigError: there is no Redis to start, or the address is none; says what to do.
        """
        way = find_queue(state, operator, self._chosen)
        if self._local:
            find_server()
        elif way.redis:
            self._elsewhere = self._chosen or operator.queue.redis

    async def start(self, processes: MeshProcesses, screen: Screen) -> None:
        """Start the Redis, if it is one of our own; return when it listens.

        It gets its files from the broker, which is to be up, with its manifest.

        Raises:
            WardianError: it does not come up; the text says why.
        """
        if not self._local:
            if self._elsewhere is not None:
                screen.step("queue", "elsewhere", self._elsewhere)
            return
        processes.start("redis", "redis", *self.options)
        ready = await processes.until("redis", "redis.ready")
        screen.step(
            "redis", "started", f"port {int(ready['port'])}, TLS 1.3, keeps nothing on disk"
        )
