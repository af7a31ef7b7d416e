"""A thread for a party's app: its work is long, and the connection has to live meanwhile."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Self, TypeAlias, TypeVar

T = TypeVar("T")

Work: TypeAlias = Callable[[], Any]


class AppThread:
    """One thread that does one thing after the other, from `start` on until `end`."""

    __slots__ = ("_loop", "_thread", "_todo")

    def __init__(self) -> None:
        """Belong to the loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._todo: SimpleQueue[tuple[Work, asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="app")

    def start(self) -> Self:
        """Begin, and return itself."""
        self._thread.start()
        return self

    def end(self) -> None:
        """Take nothing more. What is under way goes on to its end, and is lost."""
        self._todo.put(None)

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Return what is done when `work` is, with what it returns or raises."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._todo.put((work, done))
        return done

    def _serve(self) -> None:
        while (item := self._todo.get()) is not None:
            work, done = item
            try:
                found, error = work(), None
            except BaseException as err:  # noqa: BLE001 (whoever awaits it decides)
                found, error = None, err
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_settle, done, found, error)


def _settle(done: "asyncio.Future[T]", found: T, error: BaseException | None) -> None:
    if done.done():  # it was cancelled
        return
    if error is None:
        done.set_result(found)
    else:
        done.set_exception(error)
