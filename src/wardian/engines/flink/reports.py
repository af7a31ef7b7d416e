"""What a task of Flink says of its worker: whole numbers, since that is what its gauges are.

One gauge holds everything but the reason, so that no reader sees half of a change. A reason is
spread over as many gauges as it needs, seven bytes of UTF-8 each.
"""

from dataclasses import dataclass
from typing import Final

from wardian.engines.engine import WorkerState, WorkerStatus

GROUP: Final = "wardian"
WORKER: Final = "worker"
REASON: Final = "reason"
REASON_WORDS: Final = 43
"""300 bytes."""

_STATES: Final[tuple[WorkerState, ...]] = ("waiting", "starting", "ready", "failed", "stopped")
_ATTEMPT_BITS: Final = 14
_STARTS_BITS: Final = 12
_PID_BITS: Final = 22
_STATUS_BITS: Final = 10
_NO_STATUS: Final = (1 << _STATUS_BITS) - 1
_SIGNALS: Final = 512  # a status is -64 to 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One worker as its task sees it.

    Attributes:
        attempt: of the task, from 0; of another attempt than the running one it is out of date.
        state: of the worker.
        pid: None where there is none.
        starts: in this attempt.
        exit_status: the last one in this attempt.
    """

    attempt: int
    state: WorkerState
    pid: int | None
    starts: int
    exit_status: int | None


def encode(status: WorkerStatus, *, attempt: int) -> int:
    """Return a number below 2^62 that says what `decode` reads."""
    exit_status = status.exit_status
    bits = _NO_STATUS if exit_status is None else exit_status % _SIGNALS
    number = _STATES.index(status.state)
    for value, width in (
        (attempt, _ATTEMPT_BITS),
        (status.starts, _STARTS_BITS),
        (status.pid or 0, _PID_BITS),
        (bits, _STATUS_BITS),
    ):
        number = (number << width) | (value & ((1 << width) - 1))
    return number


def decode(number: int) -> Report | None:
    """Return what `number` says; None: nothing that a task of ours would say."""
    if number < 0:
        return None
    parts = []
    for width in (_STATUS_BITS, _PID_BITS, _STARTS_BITS, _ATTEMPT_BITS):
        parts.append(number & ((1 << width) - 1))
        number >>= width
    if number >= len(_STATES):
        return None
    bits, pid, starts, attempt = parts
    status = None if bits == _NO_STATUS else bits if bits < 256 else bits - _SIGNALS
    return Report(
        attempt=attempt,
        state=_STATES[number],
        pid=pid or None,
        starts=starts,
        exit_status=status,
    )


def same_attempt(report: Report, attempt: int) -> bool:
    """Return whether `report` is of the attempt that Flink counts as `attempt`."""
    return report.attempt == attempt & ((1 << _ATTEMPT_BITS) - 1)


def words(reason: str) -> list[int]:
    """Return at most `REASON_WORDS` numbers, of which `text` makes `reason` again, cut."""
    raw = reason.encode()[: 7 * REASON_WORDS]
    return [int.from_bytes(raw[at : at + 7].ljust(7, b"\0")) for at in range(0, len(raw), 7)]


def text(numbers: list[int]) -> str:
    """Return what `words` was given; printable whatever the numbers are."""
    raw = b"".join((each & ((1 << 56) - 1)).to_bytes(7) for each in numbers[:REASON_WORDS])
    said = raw.rstrip(b"\0").decode(errors="replace")
    return "".join(char if char.isprintable() else "?" for char in said)
