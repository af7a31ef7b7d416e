"""What came of asking a cohort to train, however it was asked."""

from dataclasses import dataclass
from typing import Final

from wardian.learning.replies import Replies
from wardian.learning.rounds import Outcome

MAX_REASON: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a round's cohort answered.

    Attributes:
        outcome: who did.
        replies: what, as the strategy sees it.
        bytes: of all answers.
        began: when they were asked, by the run's `ticks`.
    """

    outcome: Outcome
    replies: Replies
    bytes: int
    began: float
