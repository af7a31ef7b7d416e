"""How the records of one stream ended: numbers for the log, by closed reasons, never content."""

from collections import Counter
from typing import Literal, TypeAlias

Why: TypeAlias = Literal[
    "undecodable", "wrong-shape", "model-failed", "late", "unwritable-result", "fatal"
]
"""Why a record's answer is `NaN`.

undecodable         not what their clients write, or with columns that Wardian does not read
wrong-shape         names, types, shapes or values that the model does not take
model-failed        the model, or its workers, failed on it
late                no answer within several deadlines, although workers were there
unwritable-result   the model's answer has no form that their clients read: texts, nothing
fatal               it was handed out again and again, and no process of this role survived it
"""
Dropped: TypeAlias = Literal["no-uri", "too-large", "key-taken"]
"""Why a record has no answer at all.

no-uri      nobody can wait for it
too-large   more than fits into memory, so that not even its uri was read
key-taken   Redis refused to write it: the key of its result is there, and is no hash
"""


class Counts:
    """What happened to the records of one stream since the start."""

    __slots__ = ("answered", "claimed", "dropped", "nan", "read", "repeated")

    def __init__(self) -> None:
        self.read = 0
        self.answered = 0
        self.claimed = 0  # of `read`, those that another process, or this one before, left behind
        self.repeated = 0  # waited for a worker, and were asked again
        self.nan: Counter[Why] = Counter()
        self.dropped: Counter[Dropped] = Counter()

    def fields(self) -> dict[str, int]:
        """Return them as fields of an event; reasons that did not occur are left out."""
        return {
            "read": self.read,
            "claimed": self.claimed,
            "repeated": self.repeated,
            **self.outcomes(),
        }

    def outcomes(self) -> dict[str, int]:
        """Return how many ended how; reasons that did not occur are left out."""
        return {
            "answered": self.answered,
            **{f"nan_{why}": count for why, count in sorted(self.nan.items())},
            **{f"dropped_{why}": count for why, count in sorted(self.dropped.items())},
        }
