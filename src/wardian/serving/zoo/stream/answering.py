"""One record to one value, whatever happens: an answer, `NaN`, or it waits until there is one.

What is wrong with a record, or with what the model makes of it, is `NaN`: their clients know no
other error. What is wrong with the mesh just now (no worker, no room, another manifest) is not the
record's fault: it waits, and is asked again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from wardian._internal.log import event
from wardian._internal.zoo_redis import ZooJob
from wardian.errors import (
    ConnectionLost,
    FormatError,
    QueueFull,
    RequestError,
    Timeout,
    WardianError,
)
from wardian.inference.spec import Array
from wardian.serving.descriptions import Description, ModelInfo
from wardian.serving.packing import Outcome
from wardian.serving.zoo.columns import Columns
from wardian.serving.zoo.filters import Filter, parse_filter
from wardian.serving.zoo.records import parse_record
from wardian.serving.zoo.results import NAN, encode_result
from wardian.serving.zoo.stream.counts import Counts, Why
from wardian.serving.zoo.stream.inputs import Taken, model_inputs, record_outputs
from wardian.serving.zoo.stream.record_encryption import RecordOpener
from wardian.serving.zoo.stream.window import Window

log = logging.getLogger(__name__)

RETRY_S: Final = 0.1
"""How soon what waits is asked again."""
MOST_LATE: Final = 3
"""Deadlines that a record may miss although workers are there; the window shrinks meanwhile."""
_PASSING: Final = frozenset({404, 421, 503})
"""Statuses of what passes: no such version yet, another manifest, nobody serves it."""


class Dispatching(Protocol):
    """What is needed of `dispatch.Dispatcher`."""

    def description(self, model: str, version: int | None) -> Description:
        """Return what would answer; see there."""

    def submit(
        self,
        *,
        model: str,
        version: int | None,
        inputs: dict[str, Array],
        outputs: tuple[str, ...] | None,
        deadline_s: float,
        done: Callable[[Outcome], None],
    ) -> None:
        """Accept a request; see there."""

    def catalog(self) -> dict[str, ModelInfo]:
        """Return the models; see there."""


@dataclass(slots=True, eq=False)
class _Record:
    columns: Columns
    give: Callable[[bytes], None]
    description: Description | None = None
    alone: bool = False
    late: int = 0


class Answering:
    """Answers the records of one stream. Everything runs on one event loop."""

    def __init__(
        self,
        dispatcher: Dispatching,
        job: ZooJob,
        *,
        deadline_s: float,
        max_bytes: int,
        window: Window,
        counts: Counts,
        room: Callable[[], None] = lambda: None,
    ) -> None:
        """Answer by `dispatcher`.

        Args:
            dispatcher: reaches the workers.
            job: which model, and how its answer is written.
            deadline_s: of one request to it.
            max_bytes: of a record's data.
            window: is told what is late.
            counts: are kept.
            room: called when nothing waits any more.

        Raises:
            ConfigError: `job` names a post-processing that there is not.
        """
        self._dispatcher, self._job, self._deadline_s = dispatcher, job, deadline_s
        self._max_bytes, self._window, self._counts = max_bytes, window, counts
        self.room = room
        self._filter: Filter | None = parse_filter(job.top_n or "")
        self._opener = RecordOpener() if job.record_encrypted else None
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Record] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether records wait because the mesh cannot take them."""
        return bool(self._waiting)

    def answer(self, fields: dict[bytes, bytes], give: Callable[[bytes], None]) -> None:
        """Answer the record with these `fields`.

        `give` gets the value, once, now or later; or never, where this process ends before that.
        """
        try:
            # Of an HTTP body with several instances their server took the first.
            columns = parse_record(
                fields, max_bytes=self._max_bytes, max_json_bytes=self._max_bytes
            )[0]
            if self._opener is not None:
                columns = self._opener.open(columns)
        except FormatError as err:
            self._nan(give, "undecodable", err)
            return
        self._ask(_Record(columns, give))

    def nan(self, give: Callable[[bytes], None], why: Why) -> None:
        """Answer `NaN`, and count why."""
        self._nan(give, why, None)

    def close(self) -> None:
        """Ask nothing again."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def _ask(self, record: _Record) -> None:
        try:
            taken = self._take(record)
            self._dispatcher.submit(
                model=self._job.model,
                version=self._job.version,
                inputs=taken.inputs,
                outputs=None,
                deadline_s=self._deadline_s,
                done=partial(self._ended, record),
            )
        except FormatError as err:
            self._nan(record.give, "wrong-shape", err)
        except WardianError as err:
            self._fail(record, err)

    def _take(self, record: _Record) -> Taken:
        """Return the model's inputs, of whichever version would answer now."""
        description = self._dispatcher.description(self._job.model, self._job.version)
        taken = model_inputs(record.columns, description.inputs, renamed=self._job.columns)
        record.description, record.alone = description, taken.alone
        return taken

    def _ended(self, record: _Record, outcome: Outcome) -> None:
        if outcome.outputs is None:
            self._fail(record, outcome.error or ConnectionLost("no outcome"))
            return
        specs = record.description.outputs if record.description is not None else ()
        try:
            arrays = record_outputs(outcome.outputs, specs, alone=record.alone)
            if self._filter is not None:
                value = self._filter.text(arrays).encode()
            else:
                value = encode_result(arrays)
        except FormatError as err:
            self._nan(record.give, "unwritable-result", err)
            return
        self._counts.answered += 1
        record.give(value)

    def _fail(self, record: _Record, err: WardianError) -> None:
        """Let `record` wait if another try may help; else its answer is `NaN`."""
        if isinstance(err, RequestError) and err.status not in _PASSING:
            self._nan(record.give, "wrong-shape", err)
        elif isinstance(err, Timeout) and self._served():
            record.late += 1
            self._window.late(now=self._loop.time())
            if record.late >= MOST_LATE:
                self._nan(record.give, "late", err)
            else:
                self._wait(record)
        elif isinstance(err, Timeout | ConnectionLost | QueueFull | RequestError):
            self._wait(record)
        else:
            self._nan(record.give, "model-failed", err)

    def _served(self) -> bool:
        info = self._dispatcher.catalog().get(self._job.model)
        return info is not None and info.serves(self._job.version)

    def _wait(self, record: _Record) -> None:
        self._waiting.append(record)
        if self._timer is None:
            self._timer = self._loop.call_later(RETRY_S, self._ask_again)

    def _ask_again(self) -> None:
        """Ask for those that wait, until one has to wait again."""
        self._timer = None
        turn, self._waiting = self._waiting, deque()
        while turn and not self._waiting:
            self._counts.repeated += 1
            self._ask(turn.popleft())
        self._waiting += turn
        if self._waiting and self._timer is None:
            self._timer = self._loop.call_later(RETRY_S, self._ask_again)
        if not self._waiting:
            self.room()

    def _nan(self, give: Callable[[bytes], None], why: Why, err: WardianError | None) -> None:
        self._counts.nan[why] += 1
        if self._counts.nan[why] == 1:  # the first of its kind says more; all are counted
            event(
                log,
                "zoo.first-nan",
                level=logging.WARNING,
                model=self._job.model,
                why=why,
                kind="" if err is None else type(err).__name__,
                reason=_reason(err),
            )
        give(NAN)


def _reason(err: WardianError | None) -> str:
    """Return what is known of `err` that quotes nothing of a record."""
    return str(err)[:200] if isinstance(err, FormatError) else ""
