"""What a run does: the course that its plan names."""

from typing import Protocol

from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.course import Course
from wardian.learning.coordinator.run import Run
from wardian.learning.coordinator.vertical import VerticalCourse
from wardian.learning.planned import planned_strategy


class RunsItsCourse(Protocol):
    """A run from where it stands to its end."""

    async def run(self) -> ArrayRecord:
        """Return what all parties have of the run, once it is over and told."""


def course_of(run: Run) -> RunsItsCourse:
    """Return the course that the plan of `run` names.

    Raises:
        ConfigError: the plan's strategy is none.
        FormatError, SealError: what is kept is not this plan's.
    """
    if run.plan.strategy is not None:
        return Course(run, planned_strategy(run.plan, run=run.id, secret=run.secret))
    return VerticalCourse(run)
