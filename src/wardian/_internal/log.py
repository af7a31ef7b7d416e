"""Logs as JSON lines: an event's name and closed fields, never content.

A room says `log = logging.getLogger(__name__)` and `event(log, "model.opened", model="digits")`.
Only a process's entry point configures a handler. What may appear in a field is what an operator
may read: names, digests, counts, durations, error classes. Never a payload, a key, a token.

What others say, libraries and Python itself, may quote all of these (`hpack` writes every header
that it decodes, at the level `debug`, which a host sets): of that, only who said it, where, and the
class of an error are written. What they print themselves goes nowhere (`silence_others`).
"""

import json
import logging
import os
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
_OUTPUTS: Final = (1, 2)
_STANDARD_ERROR: Final = 2
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


def silence_others() -> IO[str]:
    """Let nothing but events come out of this process, whose output a host reads.

    Python prints the text of an exception that nobody caught, and what libraries warn of: both may
    quote content. Of the first an event is left, with its class and places; of the second nothing,
    since whether there is a warning may hang on content as well. What a library prints by itself,
    in Python or in C, is written to nothing, and so is what Python says if a hook fails.

    Returns:
        Where events go, for `configure`: what was standard error.
    """
    own = _own_output()
    logging.raiseExceptions = False
    warnings.showwarning = _unsaid
    sys.excepthook = lambda kind, _, trace: _uncaught(kind, trace)
    threading.excepthook = lambda given: _uncaught(given.exc_type, given.exc_traceback)
    sys.unraisablehook = lambda given: _uncaught(given.exc_type, given.exc_traceback)
    return own


def _own_output() -> IO[str]:
    """Return what was standard error; both outputs lead to nothing from here on."""
    for each in filter(None, (sys.stdout, sys.stderr)):
        each.flush()
    nothing = os.open(os.devnull, os.O_RDWR)
    while nothing <= _STANDARD_ERROR:  # the host closed this one: else events' could be put there
        nothing = os.open(os.devnull, os.O_RDWR)
    own = os.dup(_STANDARD_ERROR)
    for output in _OUTPUTS:
        os.dup2(nothing, output)
    os.close(nothing)
    # Whoever forgets it does not close it: there are events until the process ends.
    return open(own, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _unsaid(*_: Any, **__: Any) -> None:
    """Say nothing of a warning."""


def _uncaught(kind: type[BaseException], trace: TracebackType | None) -> None:
    steps = traceback.walk_tb(trace)
    where = " ".join(f"{Path(frame.f_code.co_filename).name}:{line}" for frame, line in steps)
    event(_log, "process.uncaught", level=logging.ERROR, kind=kind.__name__, where=where)
