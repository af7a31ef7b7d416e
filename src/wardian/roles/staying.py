"""A membership in a thread of its own, for a process whose main thread blocks on its queue."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Final

from wardian._internal.log import event
from wardian.errors import WardianError
from wardian.roles.membership import Membership

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""The longest that the main thread waits for news: a renewal takes a fraction of it."""
END_S: Final = 5.0


class Staying:
    """Runs a membership until it is over, or until the process stops."""

    def __init__(self) -> None:
        """Run nothing before `start`."""
        self._membership: Membership | None = None
        self._over: BaseException | None = None
        self._task: asyncio.Task[WardianError] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = threading.Event()
        self._thread: threading.Thread | None = None
        self._leave: Callable[[], None] = lambda: None

    def start(self, membership: Membership, *, leave: Callable[[], None]) -> None:
        """Run `membership`; `leave` is called, in that thread, when it is over."""
        self._membership, self._leave = membership, leave
        self._thread = threading.Thread(
            target=self._work, args=(membership,), name="membership", daemon=True
        )
        self._thread.start()
        self._running.wait()

    def look_now(self) -> None:
        """Ask what is in force and take up what is news; see `Membership.look_now`."""
        if self._membership is not None:
            self._membership.look_now(timeout_s=LOOK_S)

    def stop(self) -> None:
        """End it, if it is not over. What is under way may take a moment, and is not waited for."""
        if self._thread is None:
            return
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(END_S)

    def raise_if_over(self) -> None:
        """Return if it was stopped; else raise why it was over before."""
        if self._over is not None:
            raise self._over

    def _work(self, membership: Membership) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(self._run(membership))
        finally:
            self._running.set()

    async def _run(self, membership: Membership) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        asyncio.get_running_loop().call_soon(self._running.set)
        try:
            self._over = await membership.run()
        except asyncio.CancelledError:
            raise
        except BaseException as err:  # noqa: BLE001 (the main thread raises it)
            event(log, "membership.bug", level=logging.ERROR, error=type(err).__name__)
            self._over = err
        # Here, since `asyncio.run` waits for its threads, in which the host makes quotes and looks
        # names up for as long as it likes.
        self._leave()
