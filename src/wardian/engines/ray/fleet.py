"""The actors of one engine, kept as many as are wanted. Runs in a driver, in Ray's environment."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from wardian._internal.clock import monotonic
from wardian.engines.engine import WorkersSpec, WorkerStatus
from wardian.engines.restarts import Restarts
from wardian.engines.tending import GRACE_S

STALE_S: Final = 3.0
"""An actor whose beat takes longer has no process: it waits for room, or is being started."""
STOP_S: Final = GRACE_S + 5.0
_DEAD: Final = 1


@dataclass(slots=True)
class _Placed:
    """One worker's actor."""

    status: WorkerStatus
    began: float
    actor: Any = None
    beat: Any = None
    process: int | None = None
    starts_before: int = 0
    starts: int = 0
    restarts: Restarts = field(default_factory=Restarts)
    due: float = 0.0

    def heard(self, told: dict[str, Any]) -> None:
        """Take what a beat returned; a new process of the actor counts its starts from none."""
        process = told.pop("actor")
        if process != self.process:
            self.starts_before, self.process = self.starts_before + self.starts, process
        self.starts = told["starts"]
        self.status = WorkerStatus(**{**told, "starts": self.starts_before + self.starts})


@dataclass(slots=True)
class _Ending:
    actor: Any
    stop: Any
    until: float


class Fleet:
    """Actors of one engine. Of one thread: `turn` is called again and again."""

    def __init__(
        self, ray: Any, actor: type, *, cpus: float, now: Callable[[], float] = monotonic
    ) -> None:
        """Keep nothing yet.

        Args:
            ray: the module, connected to a cluster.
            actor: the class of the actors.
            cpus: what each takes.
            now: seconds.
        """
        self._ray, self._now = ray, now
        # Tried again for ever by Ray itself: what a lost process was doing was only a beat.
        self._actor = ray.remote(actor).options(
            num_cpus=cpus, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD"
        )
        self._spec: WorkersSpec | None = None
        self._placed: list[_Placed] = []
        self._ending: list[_Ending] = []

    @property
    def settled(self) -> bool:
        """Whether no actor is on its way out."""
        return not self._ending

    def keep(self, spec: WorkersSpec, replicas: int) -> None:
        """Have `replicas` actors; the last ones go first, each once its worker has ended."""
        self._spec = spec
        surplus = self._placed[replicas:]
        del self._placed[replicas:]
        for each in surplus:
            if each.actor is not None:
                self._end(each)
        for number in range(len(self._placed) + 1, replicas + 1):
            name = f"{spec.name}-{number}"
            self._placed.append(_Placed(WorkerStatus(name=name), self._now()))

    def workers(self) -> tuple[WorkerStatus, ...]:
        """Return how they are."""
        return tuple(self._status(each) for each in self._placed)

    def turn(self, wait_s: float) -> None:
        """Note what happened within about `wait_s`, and have every actor do its next beat."""
        for number, each in enumerate(self._placed, 1):
            self._begin(each, number)
        waiting = [each.beat for each in self._placed if each.beat is not None]
        waiting += [each.stop for each in self._ending]
        if not waiting:
            threading.Event().wait(wait_s)
            return
        self._ray.wait(waiting, num_returns=1, timeout=wait_s)
        done, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for each in self._placed:
            if each.beat in done:
                self._take(each)
        self._ending = list(self._still_ending(done))

    def _begin(self, each: _Placed, number: int) -> None:
        if self._spec is None or each.beat is not None or self._now() < each.due:
            return
        if each.actor is None:
            each.actor = self._actor.remote(self._spec.to_plain(), number)
        each.beat, each.began = each.actor.beat.remote(), self._now()

    def _take(self, each: _Placed) -> None:
        beat, each.beat = each.beat, None
        try:
            each.heard(self._ray.get(beat))
            each.began, each.restarts = self._now(), Restarts()
        except self._ray.exceptions.RayError as err:  # dead for good, or its class did not load
            each.actor = None
            delay_s = each.restarts.delay_s(_DEAD, ran_s=self._now() - each.began)
            each.due = self._now() + (delay_s or 0.0)
            each.status = replace(each.status, state="waiting", pid=None, reason=type(err).__name__)

    def _status(self, each: _Placed) -> WorkerStatus:
        late = each.actor is None or self._now() - each.began > STALE_S
        if each.status.state in {"failed", "waiting"} or not late:
            return each.status
        return replace(each.status, state="waiting", place="", pid=None)

    def _end(self, each: _Placed) -> None:
        self._ending.append(_Ending(each.actor, each.actor.stop.remote(), self._now() + STOP_S))

    def _still_ending(self, done: list[Any]) -> Iterator[_Ending]:
        for each in self._ending:
            if each.stop in done or self._now() > each.until:
                self._ray.kill(each.actor, no_restart=True)
            else:
                yield each
