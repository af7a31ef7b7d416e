"""A Redis as a child of this process: told to end when we are, dead when we are dead."""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wardian._internal.clock import monotonic
from wardian.tee.launch.child import die_with_parent, ended, exit_status, forwarded_signals
from wardian.tee.launch.lifeline import Lifeline

GRACE_S: Final = 5.0
"""How long it may take to end: it keeps nothing."""
READY: Final = "Ready to accept connections"
"""What Redis, of every version, and Valkey say when they listen."""
_CHUNK_BYTES: Final = 64 * 1024


class Server:
    """Runs one server to its end."""

    def __init__(
        self,
        program: str,
        conf: Path,
        *,
        told: Callable[[str], None],
        lifeline: Lifeline | None,
    ) -> None:
        """Prepare to run it.

        Args:
            program: its path.
            conf: its settings.
            told: called with each line that it prints, without its end.
            lifeline: when it is over, the server is told to end.
        """
        self._command = [program, str(conf)]
        self._told, self._lifeline = told, lifeline
        self._deadline: float | None = None
        self._rest = b""

    def run(self) -> int:
        """Return its exit status when it has ended; 128 + N if signal N ended it."""
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={},  # it needs none of ours
            start_new_session=True,  # a terminal's Ctrl-C reaches it once: through us
            preexec_fn=die_with_parent,  # noqa: PLW1509 (one system call)
        )

        def end() -> None:
            self._deadline = self._deadline or monotonic() + GRACE_S
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

        with process, ended(process), forwarded_signals(end):
            self._attend(process, end)
            return exit_status(process.wait())

    def _attend(self, process: subprocess.Popen[bytes], end: Callable[[], None]) -> None:
        """Pass on what it prints until it prints no more."""
        if process.stdout is None:
            return
        output: int = process.stdout.fileno()
        while True:
            watched = [output]
            timeouts = [] if self._deadline is None else [max(0.05, self._deadline - monotonic())]
            if self._lifeline is not None:
                watched.append(self._lifeline.descriptor)
                if (wait_s := self._lifeline.wait_s()) is not None:
                    timeouts.append(wait_s)
            ready = select.select(watched, [], [], min(timeouts, default=None))[0]
            if self._lifeline is not None and self._lifeline.over():
                self._lifeline = None
                end()
            if output in ready and not self._pass_on(os.read(output, _CHUNK_BYTES)):
                return
            if self._deadline is not None and monotonic() > self._deadline:
                process.kill()

    def _pass_on(self, printed: bytes) -> bool:
        """Tell whole lines; return whether there may be more."""
        *lines, rest = (self._rest + printed).split(b"\n")
        self._rest = rest[-_CHUNK_BYTES:]  # of a line without end only the last of it is told
        if not printed and rest:
            lines.append(rest)
        for line in lines:
            self._told(line.decode(errors="replace").rstrip("\r"))
        return bool(printed)
