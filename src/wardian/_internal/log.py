"""Logs as JSON lines: an event's name and closed fields, never content.

A room says `log = logging.getLogger(__name__)` and `event(log, "model.opened", model="digits")`.
Only a process's entry point configures a handler. What may appear in a field is what an operator
may read: names, digests, counts, durations, error classes. Never a payload, a key, a token.

What others say, libraries and Python itself, may quote all of these (`hpack` writes every header
that it decodes, at the level `debug`, which a host sets): of that, only who said it, where, and the
class of an error are written.
"""

import json
import logging
import sys
import threading
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, TypeAlias

from typing_extensions import override

Field: TypeAlias = str | int | float | bool | None
_OURS: Final = "wardian"
_log = logging.getLogger(__name__)


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
        }
        if record.name.partition(".")[0] == _OURS:
            line |= {"event": record.getMessage(), **getattr(record, "fields", {})}
        else:
            where = f"{record.filename}:{record.lineno}"
            line |= {"event": "library.warned", "library": record.name, "where": where}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__  # the class: a message may quote content
        return json.dumps(line)


def configure(*, role: str, level: str = "info", stream: IO[str] | None = None) -> None:
    """Send every event of this process at `level` or above to `stream` (default: stderr).

    Of libraries, that they warn: no `level` has them say more.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(role=role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(level.upper())


def silence_others() -> None:
    """Let nothing but events come out of this process, whose output a host reads.

    Python prints the text of an exception that nobody caught, and what libraries warn of: both may
    quote content. Of the first an event is left, with its class and places; of the second nothing,
    since whether there is a warning may hang on content as well.
    """
    logging.raiseExceptions = False
    warnings.showwarning = _unsaid
    sys.excepthook = lambda kind, _, trace: _uncaught(kind, trace)
    threading.excepthook = lambda given: _uncaught(given.exc_type, given.exc_traceback)
    sys.unraisablehook = lambda given: _uncaught(given.exc_type, given.exc_traceback)


def _unsaid(*_: Any, **__: Any) -> None:
    """Say nothing of a warning."""


def _uncaught(kind: type[BaseException], trace: TracebackType | None) -> None:
    steps = traceback.walk_tb(trace)
    where = " ".join(f"{Path(frame.f_code.co_filename).name}:{line}" for frame, line in steps)
    event(_log, "process.uncaught", level=logging.ERROR, kind=kind.__name__, where=where)
