"""A timer of an event loop that is exact to some ten microseconds, where the system has one.

Timers of asyncio and uvloop are exact to a millisecond, which is longer than an answer takes: a
load generator would measure its own timer. Linux' timerfd is a descriptor that becomes readable.
"""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Final

from wardian._internal.clock import monotonic

_MONOTONIC: Final = 1  # CLOCK_MONOTONIC, which `monotonic` is on Linux
_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC if sys.platform == "linux" else 0
_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME


class Alarm:
    """Calls back at a time; one time at a time."""

    def __init__(self, callback: Callable[[], None]) -> None:
        """Made on the running loop; set to no time."""
        self._loop = asyncio.get_running_loop()
        self._callback = callback
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor = _timerfd()
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._ring)

    def at(self, when: float) -> None:
        """Call back at `when`, of the monotonic clock, and at no time that was set before."""
        if self._descriptor >= 0:
            _set(self._descriptor, when)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, when - monotonic()), self._callback)

    def close(self) -> None:
        """Call back no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _ring(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # it was set anew between the wake-up and now
            return
        self._callback()


class _Setting(ctypes.Structure):
    """Struct itimerspec (timerfd_settime(2)): interval, then first expiry."""

    _fields_ = [  # type: ignore[mutable-override]  # ctypes asks for it
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    ]


def _timerfd() -> int:
    """Return a new timer's descriptor, or -1 where there is none."""
    if _LIBC is None:
        return -1
    try:
        return int(_LIBC.timerfd_create(_MONOTONIC, _FLAGS))
    except AttributeError:  # a C library without it
        return -1


def _set(descriptor: int, when: float) -> None:
    when = max(when, 1e-9)  # zero would turn it off
    seconds = int(when)
    setting = _Setting(0, 0, seconds, max(1, int((when - seconds) * 1e9)))
    if _LIBC is not None:
        _LIBC.timerfd_settime(descriptor, _ABSOLUTE, ctypes.byref(setting), None)


_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
