"""What the operator says about the versions of models, for a front end: at its start, and live.

The launcher of a front end looks at `operator.toml` while it runs, and hands each split that holds
on in a file that the front end may read. All front ends of a state directory write the same.
"""

import json
import logging
import os
import threading
from pathlib import Path
from typing import Final

from wardian._internal import settings
from wardian._internal.agreed import Agreed
from wardian._internal.files import replace_file
from wardian._internal.log import event
from wardian._internal.operator import Operator
from wardian.cli.state import StateDir
from wardian.errors import ConfigError

log = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""How often `operator.toml` is looked at."""


def traffic_file(state: StateDir) -> Path:
    """Return where the split that holds now is written, in a directory of its own."""
    return state.root.resolve() / "traffic" / "split.json"


class TrafficWatch:
    """Hands on what `operator.toml` says of the split of traffic, whenever it changes."""

    def __init__(self, state: StateDir) -> None:
        """Hand on what it says now.

        Raises:
            ConfigError: it is wrong; says on which line.
        """
        self._state = state
        self._seen = self._stat()
        traffic_file(state).parent.mkdir(mode=0o700, exist_ok=True)
        self._write()

    def start(self) -> None:
        """Look every second, on a thread of its own, until the process ends."""
        threading.Thread(target=self._run, name="traffic", daemon=True).start()

    def _run(self) -> None:
        never = threading.Event()
        while not never.wait(POLL_S):
            self.look()

    def look(self) -> None:
        """Hand on what changed. What is wrong is logged with its line, and what was stays."""
        try:
            seen = self._stat()
            if seen != self._seen:
                self._seen = seen
                self._write()
        except (OSError, ConfigError) as err:
            event(log, "traffic.refused", level=logging.ERROR, reason=str(err)[:500])

    def _stat(self) -> tuple[int, ...]:
        if not self._state.operator.exists():
            return ()
        found = os.stat(self._state.operator)  # noqa: PTH116 (one call, many times)
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _write(self) -> None:
        traffic = find_traffic(self._state, self._state.load_operator())
        replace_file(traffic_file(self._state), json.dumps({"traffic": traffic}).encode())


def find_traffic(state: StateDir, operator: Operator) -> dict[str, dict[str, int]]:
    """Return how the requests for each model are divided over its versions.

    Raises:
        ConfigError: wardian.toml has no such model; says on which line.
    """
    if operator.models and state.agreed.exists():
        known = settings.load(state.agreed, Agreed).models
        for name in operator.models:
            if name not in known:
                line = settings.line_of(["models", name], settings.read(state.operator))
                raise ConfigError(
                    f"{state.operator}, line {line}: wardian.toml has no model {name!r}; it has: "
                    f"{', '.join(sorted(known))}"
                )
    return {name: place.traffic for name, place in operator.models.items() if place.traffic}
