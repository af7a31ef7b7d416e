"""What a worker says of itself in the lines that it prints."""

import json
from typing import Final

from wardian._internal.wire import printable

LINE_BYTES: Final = 64 * 1024
"""Of a longer line nothing is heard. It stands in the log all the same."""
_REASON_CHARACTERS: Final = 300


class Heard:
    """Whether one worker serves, and why it ended, in its own words. It may lie: it costs service.

    Attributes:
        ready: it said that it serves.
        reason: what it said last of why it ends; printable, at most 300 characters.
    """

    __slots__ = ("ready", "reason")

    def __init__(self) -> None:
        """Have heard nothing."""
        self.ready, self.reason = False, ""

    def hear(self, line: str) -> None:
        """Take one line, without its end."""
        if len(line) > LINE_BYTES:
            return
        if line.startswith("error: "):
            self.reason = printable(line.removeprefix("error: ")[:_REASON_CHARACTERS])
            return
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            return
        if not isinstance(record, dict):
            return
        if record.get("event") == "worker.ready":
            self.ready = True
        elif record.get("event") == "failed":
            self.reason = printable(str(record.get("reason"))[:_REASON_CHARACTERS])

    def ended(self) -> None:
        """Note that it ended: whatever comes next has to say again that it serves."""
        self.ready = False
