"""What a run of `soak.py` has shown: which outcomes were disturbed, and what must not have been."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wardian.errors import WardianError
from wardian.serving.loadgen.drive import Ended
from wardian.serving.loadgen.report import Report

DEADLINE_S = 2.0
ALLOWED_OVERRUN_S = 0.1
SLOW_S = 0.25
QUIET_S = 3.0
"""Longer than a deadline: what a fault disturbs shows within one."""


class WrongAnswer(WardianError):
    """An answer is not what the plain model answers."""


@dataclass
class Happened:
    """A fault that was done; times are those of the driver's clock.

    Attributes:
        name: what was done.
        at: when it began.
        deaf: whether clients and the front end could not hear each other while it lasted.
        until: when it was over; of a kill the same moment, since what follows is its recovery.
    """

    name: str
    at: float
    deaf: bool = False
    until: float = float("inf")


@dataclass
class Observed:
    """What is kept of the outcomes: only the disturbed ones, so memory follows the faults."""

    faults: list[Happened] = field(default_factory=list)
    disturbed: list[Ended] = field(default_factory=list)
    overrun_s: float = 0.0
    cut_off: int = 0
    """Requests under way while their client could hear nothing: only its own clock ends them."""

    def note(self, ended: Ended) -> None:
        """Look at one outcome."""
        if ended.asked:  # else no front end ever had it: the client could not connect
            if any(
                each.deaf and each.at < ended.at and ended.asked < each.until
                for each in self.faults
            ):
                self.cut_off += 1
            else:
                self.overrun_s = max(self.overrun_s, ended.at - ended.asked - DEADLINE_S)
        if ended.kind or ended.at - ended.due > SLOW_S:
            self.disturbed.append(ended)


def recoveries(disturbed: Sequence[Ended], faults: Sequence[Happened]) -> list[dict[str, Any]]:
    """Return what each fault disturbed, and how long after its end `QUIET_S` of quiet began.

    On a busy machine requests are slow for other reasons as well, so what comes later than that is
    counted, but does not put off the recovery.

    Args:
        disturbed: outcomes that were errors, or slow.
        faults: in order; an outcome belongs to the last one that had begun before it ended.
    """
    found = []
    for place, fault in enumerate(faults):
        until = faults[place + 1].at if place + 1 < len(faults) else float("inf")
        mine = sorted((each for each in disturbed if fault.at <= each.at < until), key=_end)
        last = fault.until
        for each in mine:
            if each.at - last > QUIET_S:
                break
            last = max(last, each.at)
        found.append(
            {
                "fault": fault.name,
                "lasted_s": fault.until - fault.at,
                "disturbed": len(mine),
                "recovery_s": last - fault.until,
                "errors": sorted({each.kind for each in mine if each.kind}),
            }
        )
    return found


def failures(report: Report, overrun_s: float) -> list[str]:
    """Return what the run has shown that must not be; empty if it is as it should be."""
    wrong = report.errors.get(WrongAnswer.__name__, 0)
    without = report.started - report.answered - report.failed
    said = []
    if wrong:
        said.append(f"{wrong} answers were wrong")
    if report.unasked:
        said.append(f"{report.unasked} answers came twice, or to nobody")
    if without:
        said.append(f"{without} requests had no outcome")
    if overrun_s > ALLOWED_OVERRUN_S:
        said.append(f"an outcome came {1e3 * overrun_s:.0f} ms past its deadline")
    if not report.answered:
        said.append("nothing was answered")
    return said


def unhurt(
    killed: Mapping[str, int], before: Mapping[str, int], after: Mapping[str, int]
) -> list[str]:
    """Return which processes were not started again as often as they were killed."""
    return [
        f"{name} was killed {times} times and started again {after.get(name, 0) - before[name]}"
        for name, times in killed.items()
        if after.get(name, 0) - before[name] < times
    ]


def _end(ended: Ended) -> float:
    return ended.at
