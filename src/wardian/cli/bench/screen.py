"""One line that shows a load while it runs; without a terminal, one line when it begins."""

import sys
from types import TracebackType
from typing import Final, Self, TextIO

from wardian.serving.loadgen.load import Load
from wardian.serving.loadgen.report import Tally

_EVERY_S: Final = 0.25
_CLEAR: Final = "\r\x1b[K"


class LiveLine:
    """Shows how one load goes."""

    def __init__(self, load: Load, *, stream: TextIO | None = None) -> None:
        """Show `load` on `stream`, by default stderr: stdout is for the figures."""
        self._load = load
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._next_s = 0.0

    def __enter__(self) -> Self:
        if not self._live:
            self._stream.write(f"{self._load.label}, {self._load.seconds:g} s\n")
            self._stream.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._stream.write(_CLEAR)
            self._stream.flush()

    def show(self, seconds: float, tally: Tally) -> None:
        """Show the counts after `seconds`."""
        if not self._live or seconds < self._next_s:
            return
        self._next_s = seconds + _EVERY_S
        self._stream.write(_CLEAR + line(self._load, seconds, tally))
        self._stream.flush()


def line(load: Load, seconds: float, tally: Tally) -> str:
    """Return one line that says how `load` goes after `seconds`; at most 100 characters."""
    shown = [f"{load.label}  {min(seconds, load.seconds):.0f}/{load.seconds:g} s"]
    shown.append(f"{tally.latency.count:,} answered")
    p50, p99 = tally.latency.percentile(50), tally.latency.percentile(99)
    if p50 is not None and p99 is not None:
        shown.append(f"p50 {1e3 * p50:.1f} p99 {1e3 * p99:.1f} ms")
    if tally.failed:
        shown.append(f"{tally.failed:,} errors")
    if tally.not_started:
        shown.append(f"{tally.not_started:,} not started")
    return "  ".join(shown)[:100]
