"""The launcher's loop over one role: its questions, what it prints, its lifeline, and its end."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final

from wardian._internal.clock import monotonic
from wardian.tee.launch.child import GRACE_S
from wardian.tee.launch.lifeline import Lifeline

CHANNEL_TIMEOUT_S: Final = 10.0
"""A role that begins a question ends it within this time, and takes its answer."""

_CHUNK_BYTES: Final = 64 * 1024


class Attendance:
    """Attends to one role until it is gone. Whoever was told to end and does not is killed."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        channel: socket.socket,
        output: int,
        lifeline: Lifeline | None,
    ) -> None:
        """Attend to `process`.

        Args:
            process: the role; it starts no other process.
            channel: on which it asks.
            output: the reading end of what it prints; it is copied to standard error.
            lifeline: when it is over, the role is told to end.
        """
        self._process = process
        self._channel: socket.socket | None = channel
        self._output: int | None = output
        self._lifeline = lifeline
        self._deadline: float | None = None
        channel.settimeout(CHANNEL_TIMEOUT_S)

    def end(self) -> None:
        """Tell the role to end, and remember when."""
        if self._deadline is None:
            self._deadline = monotonic() + GRACE_S
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def run(self, answer: Callable[[socket.socket], bool]) -> None:
        """Return when the role has ended. `answer` takes a question, and says if more may come."""
        while self._output is not None:  # its end closes it: a role has no children to hold it
            ready = self._wait()
            if self._lifeline is not None and self._lifeline.over():
                self._lifeline = None
                self.end()
            if self._output in ready:
                self._copy()
            if self._channel is not None and self._channel.fileno() in ready:
                self._attend(self._channel, answer)
            if self._deadline is not None and monotonic() > self._deadline:
                self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        if self._process.poll() is None:  # it closed what it prints to, and went on
            self._process.kill()

    def _wait(self) -> list[int]:
        watched = [] if self._output is None else [self._output]
        timeouts = [] if self._deadline is None else [max(0.05, self._deadline - monotonic())]
        if self._channel is not None:
            watched.append(self._channel.fileno())
        if self._lifeline is not None:
            watched.append(self._lifeline.descriptor)
            if (wait_s := self._lifeline.wait_s()) is not None:
                timeouts.append(wait_s)
        return select.select(watched, [], [], min(timeouts, default=None))[0]

    def _attend(self, channel: socket.socket, answer: Callable[[socket.socket], bool]) -> None:
        """Answer a question; a role that asks no more has ended, or has to."""
        if answer(channel):
            return
        channel.close()  # a role that broke the protocol must not wait for an answer
        self._channel = None
        if self._deadline is None:
            self._deadline = monotonic() + GRACE_S

    def _copy(self) -> None:
        """Copy what the role printed to standard error. A full disk costs lines, never the role."""
        printed = b"" if self._output is None else os.read(self._output, _CHUNK_BYTES)
        if not printed:
            self._output = None
        elif sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.buffer.write(printed)
                sys.stderr.buffer.flush()
