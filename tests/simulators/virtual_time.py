"""An event loop whose clock stands still while there is work, and jumps to the next timer else."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    loop: "VirtualLoop"

    def select(self, timeout: float | None = None):
        if timeout is None:
            raise RuntimeError("nothing is left to wait for: the test hangs")
        self.loop.now += max(timeout, 0.0) + (
            1e-9 if timeout > 0 else 0.0
        )  # past the timer, not at it
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 1000.0
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.now


class LoopAlarm:
    """As `loadgen.alarm.Alarm`, on the loop's own timers."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.callback = callback
        self.timer: asyncio.TimerHandle | None = None

    def at(self, when: float) -> None:
        self.close()
        self.timer = self.loop.call_at(when, self.callback)

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
