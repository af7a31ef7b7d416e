"""Results that nobody has read yet, by uri: shared by the queues of one name in one process."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from wardian._internal.clock import Monotonic, monotonic
from wardian.errors import QueueFull

MAX_KEPT: Final = 100_000
"""Results that are kept; then those go that have been there for longest."""
KEPT_S: Final = 3600.0
"""How long a result is kept that nobody reads."""
MAX_PENDING: Final = 10_000
"""Records that may be under way."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a record: `value` for its reader, and `why` where that is no answer."""

    value: Any
    since: float
    why: str = ""


class Mailbox:
    """Results by uri. Thread-safe."""

    def __init__(self, *, clock: Monotonic = monotonic) -> None:
        """Hold nothing."""
        self._clock = clock
        self._lock = threading.Lock()
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._pending = 0

    def begin(self) -> None:
        """A record goes under way.

        Raises:
            QueueFull: as many are as may be.
        """
        with self._lock:
            if self._pending >= MAX_PENDING:
                raise QueueFull(f"{MAX_PENDING} records are under way; try again shortly")
            self._pending += 1

    def cancel(self) -> None:
        """A record that was to go under way does not."""
        with self._lock:
            self._pending -= 1

    def end(self, uri: str, value: Any, *, why: str = "") -> None:
        """A record came to its end; a result of the same uri that was not read is replaced."""
        with self._lock:
            self._pending -= 1
            now = self._clock()
            self._results.pop(uri, None)
            self._results[uri] = Result(value, now, why)
            while self._results and (
                len(self._results) > MAX_KEPT
                or now - next(iter(self._results.values())).since > KEPT_S
            ):
                self._results.popitem(last=False)

    def find(self, uri: str, *, remove: bool) -> Result | None:
        """Return the result of `uri`, if it is there."""
        with self._lock:
            return self._results.pop(uri, None) if remove else self._results.get(uri)

    def take_all(self) -> dict[str, Any]:
        """Return every value that is there, and forget it."""
        with self._lock:
            taken, self._results = self._results, OrderedDict()
        return {uri: each.value for uri, each in taken.items()}

    @property
    def pending(self) -> int:
        """How many records are under way."""
        return self._pending


class Mailboxes:
    """The mailboxes of this process, by name."""

    def __init__(self, make: Callable[[], Mailbox] = Mailbox) -> None:
        """Have none."""
        self._make = make
        self._lock = threading.Lock()
        self._by_name: dict[str, Mailbox] = {}

    def of(self, name: str) -> Mailbox:
        """Return the mailbox of `name`."""
        with self._lock:
            if name not in self._by_name:
                self._by_name[name] = self._make()
            return self._by_name[name]


OF_PROCESS: Final = Mailboxes()
