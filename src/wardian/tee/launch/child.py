"""What a launcher owes the process that it started: its signals, its end, its status."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no role behind, whatever happens to the launcher's own code."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def forwarded_signals(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass SIGTERM and SIGINT on to the role. Python lets only the main thread do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def forward(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(returncode: int) -> int:
    """Return an exit status as shells give it: a signal N is 128 + N."""
    return returncode if returncode >= 0 else 128 - returncode
