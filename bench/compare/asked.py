"""The loop of a program that is asked in JSON lines: in by stdin, out by what was its stdout.

Libraries print to stdout as they like; from here on that goes to stderr.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def answer_all(begin: Callable[[], dict[str, Any]], answer: Callable[..., dict[str, Any]]) -> None:
    """Say what `begin` returns, then what `answer` returns to each line's fields, until the end.

    An exception ends the program: its text is the last line of stderr.
    """
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _say(told, begin())
    for line in sys.stdin:
        _say(told, answer(**json.loads(line)))


def _say(sink: Any, what: dict[str, Any]) -> None:
    sink.write(json.dumps(what) + "\n")
    sink.flush()
