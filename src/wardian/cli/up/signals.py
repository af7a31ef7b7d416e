"""Waiting for a signal beside whatever else there is to wait for."""

import asyncio
import signal
from typing import Any


def on_signals() -> "asyncio.Future[None]":
    """Return a future that SIGINT or SIGTERM completes."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def signalled() -> None:
        if not stop.done():
            stop.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled)
    return stop


async def first(*futures: "asyncio.Future[Any]") -> None:
    """Return when the first of `futures` is done; raise what it raised, or the error that it is."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    for future in futures:
        result = future.result() if future.done() else None
        if isinstance(result, Exception):
            raise result
