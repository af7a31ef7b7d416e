"""The processes of a mesh on one machine, and what they say while they start."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from wardian._internal.operator import Operator
from wardian._internal.wire import printable
from wardian.cli.engines.command_line import command_line, passed_on
from wardian.cli.state import StateDir
from wardian.cli.up.screen import Screen
from wardian.engines import Cluster, LocalCluster, ProcessSpec, Supervisor
from wardian.engines.supervisor import ProcessStatus
from wardian.errors import ConfigError, JobFailed, PolicyDenied, Timeout, WardianError
from wardian.tee.launch.launcher import NEWEST_NEEDED

START_TIMEOUT_S, POLL_S = 60.0, 0.2
STOP_RANKS = {"frontend": 0, "zoo": 0, "worker": 1, "broker": 2, "redis": 2}
"""What was accepted is answered before those end who answer it."""
BROKERS = ("broker", "broker-2")
QUEUE_TROUBLES = ("queue.redis_unreachable", "queue.redis_lost")
MOST_ENDS = 3
"""A process that ends so often before it is ready has no luck with another start either."""


class MeshProcesses:
    """Starts launchers under a supervisor and turns what they print into steps and events."""

    def __init__(self, state: StateDir, operator: Operator, screen: Screen) -> None:
        self._state, self._operator, self._screen = state, operator, screen
        self._supervisor = Supervisor(
            on_line=self._on_line, on_ended=self._on_ended, on_failed=self._on_failed
        )
        self._waiting: list[tuple[str, str, asyncio.Future[dict[str, Any]]]] = []
        self._last_error: dict[str, str] = {}
        self._ends: Counter[str] = Counter()
        self._failure: WardianError | None = None
        self.queue_trouble = ""
        """Why the front end does not reach its Redis; empty where it does, or there is none."""
        self.failed: asyncio.Future[WardianError] = asyncio.get_running_loop().create_future()

    def start(self, name: str, *command: str) -> None:
        """Start `wardian COMMAND` as the process `name`."""
        self._supervisor.start(
            ProcessSpec(
                name=name,
                argv=command_line(self._state, *command),
                env=passed_on(),
                log_path=self._state.log(name),
                stop_rank=STOP_RANKS[command[0]],
            )
        )

    async def until(self, process: str, event: str) -> dict[str, Any]:
        """Return the first `event` that `process` prints from now on.

        Raises:
            WardianError: the process gave up, with the reason that it printed.
            Timeout: nothing within a minute.
        """
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((process, event, future))
        loop = asyncio.get_running_loop()
        late = loop.time() + START_TIMEOUT_S
        while not future.done():
            await asyncio.wait({future}, timeout=POLL_S)
            if self._failure is not None:
                raise self._failure
            if self._ends.get(process, 0) >= MOST_ENDS:
                raise JobFailed(f"{process} ends as soon as it starts: {self._reason(process)}")
            if loop.time() > late:
                log = self._state.log(process)
                raise Timeout(f"{process} is not ready after {START_TIMEOUT_S:.0f} s; see {log}")
        return future.result()

    def _reason(self, process: str) -> str:
        return self._last_error.get(process, f"see {self._state.log(process)}")

    def status(self) -> tuple[ProcessStatus, ...]:
        """Return what is known of every process of this machine."""
        return self._supervisor.status()

    @property
    def supervisor(self) -> Supervisor:
        """What keeps them running; servers of an engine may be among them."""
        return self._supervisor

    def cluster(self) -> Cluster:
        """Return this machine as what workers run on."""
        return LocalCluster(self._supervisor, stop_rank=STOP_RANKS["worker"])

    async def stop(self, *, below: str | None = None) -> None:
        """End every process; with `below`, those alone that end before the ones of that command."""
        await self._supervisor.stop(below=None if below is None else STOP_RANKS[below])

    def _on_line(self, process: str, line: str) -> None:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            if line.startswith("error: "):
                self._last_error[process] = line.removeprefix("error: ")
            return
        if not isinstance(record, dict) or not isinstance(record.get("event"), str):
            return
        if record["event"] == "failed":  # a role says why it ends
            self._last_error[process] = printable(str(record.get("reason")))
        if process == "frontend":
            self._note_queue(record)
        if process in BROKERS:  # what another process prints of a release is hearsay
            self._show(record)
        for entry in list(self._waiting):
            if entry[:2] == (process, record["event"]):
                self._waiting.remove(entry)
                if not entry[2].done():
                    entry[2].set_result(record)

    def _note_queue(self, record: dict[str, Any]) -> None:
        if record["event"] in QUEUE_TROUBLES:
            self.queue_trouble = printable(str(record.get("why")))[:200]
        elif record["event"] == "queue.redis_connected":
            self.queue_trouble = ""

    def _show(self, record: dict[str, Any]) -> None:
        """Show what a person wants to see of the start; the rest is in the logs."""
        step = STEPS.get(record["event"])
        # A role that was taken over prints what it likes; it costs a line of the screen.
        with contextlib.suppress(KeyError, TypeError, ValueError):
            if step:
                step(self._screen, record)

    def _on_ended(self, status: ProcessStatus) -> None:
        self._ends[status.name] += 1

    def _on_failed(self, status: ProcessStatus) -> None:
        reason = self._reason(status.name)
        refused = status.exit_status == 3
        self._failure = (
            PolicyDenied(f"{status.name} was refused: {reason}", rule="start")
            if refused
            else ConfigError(f"{status.name}: {reason}")
        )
        if not self.failed.done():
            self.failed.set_result(self._failure)


def _show_release(screen: Screen, record: dict[str, Any]) -> None:
    """Show that the broker attested a workload and what it gave it."""
    role, model, kind = record["role"], record.get("model"), record["kind"]
    if kind in {"queue", "request"} and role == "worker":
        return  # a worker's keys of the epoch come with its model key, which is the news
    if kind == "access":
        screen.step("key", "released", f"access to Redis, to that {role}")
        return
    screen.attested(role, record["measurement"], simulated=bool(record.get("simulated")))
    what = f"{model} version {record['version']}" if kind == "model" else f"queue of {model}"
    if kind == "secret":
        what = f"secret {record['secret']}"
    screen.step("key", "released", f"{what} to that {role}, key {record['key_id'][:16]}…")


def _show_refusal(screen: Screen, record: dict[str, Any]) -> None:
    screen.warn(f"the broker refused a {record.get('role', 'stranger')}: rule {record.get('rule')}")


def _show_confinement(screen: Screen, record: dict[str, Any]) -> None:
    """Show what confines the roles here, and what this kernel leaves open if it is an old one."""
    version = int(record["landlock"])
    what = f"Landlock version {version} and " if version else ""
    screen.step("roles", "confined", f"to their manifests by {what}a filter of system calls")
    if version < NEWEST_NEEDED:
        screen.warn(f"this kernel leaves open to each role: {printable(str(record['still']))}")


STEPS: dict[str, Callable[[Screen, dict[str, Any]], None]] = {
    "role.confined": _show_confinement,
    "broker.release": _show_release,
    "broker.refusal": _show_refusal,
}
"""Events of the processes' logs that `up` shows."""
