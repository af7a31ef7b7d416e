"""Logs as JSON lines: an event's name and closed fields, never content.

A room says `log = logging.getLogger(__name__)` and `event(log, "model.opened", model="digits")`.
Only a process's entry point configures a handler. What may appear in a field is what an operator
may read: names, digests, counts, durations, error classes. Never a payload, a key, a token.
"""

import json
import logging
import sys
from typing import IO, TypeAlias

from typing_extensions import override

Field: TypeAlias = str | int | float | bool | None


def event(log: logging.Logger, name: str, /, *, level: int = logging.INFO, **fields: Field) -> None:
    """Log the event `name` with `fields`."""
    log.log(level, name, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object a line: time, level, process role, event, fields."""

    def __init__(self, *, role: str) -> None:
        super().__init__()
        self._role = role

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Field] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "role": self._role,
            "event": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__  # the class: a message may quote content
        return json.dumps(line)


def configure(*, role: str, level: str = "info", stream: IO[str] | None = None) -> None:
    """Send every record of this process at `level` or above to `stream` (default: stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(role=role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
