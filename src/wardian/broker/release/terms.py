"""Whether a line's terms allow one more release now. Pure: counts and times are arguments."""

from dataclasses import dataclass

from wardian.broker.mesh.lines import Line, ReleaseTerms
from wardian.errors import PolicyDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the broker knows about a line when it decides.

    Attributes:
        uses: releases so far of this secret, or of this version of the model.
        now: the broker's time, Unix seconds.
        beacon: the time in the newest beacon of the line's owner; None if there was none.
    """

    uses: int
    now: int
    beacon: int | None

    @property
    def time(self) -> int:
        """The time for this owner's lines: the broker's, or what the owner itself says is past.

        A beacon that is ahead of everybody else's clock thereby ends what its own owner gave, and
        nothing of anybody else.
        """
        return max(self.now, self.beacon or 0)


def refuse_over(line: Line, standing: Standing) -> None:
    """Return if time has not ended `line`: what a renewal has to meet, too.

    Raises:
        PolicyDenied: the rule `line-expired`, `beacon-missing` or `beacon-old`.
    """
    refuse_ended(line.terms, standing, whose=f"the owner of {line.said}")


def refuse_ended(terms: ReleaseTerms, standing: Standing, *, whose: str) -> None:
    """Return if time has not ended what an owner gives on `terms`.

    Args:
        terms: of which the times count here, and the uses do not.
        standing: what the broker knows of that owner.
        whose: the owner, for people.

    Raises:
        PolicyDenied: as `refuse_over`.
    """
    time = standing.time
    if terms.not_after is not None and time > terms.not_after:
        raise PolicyDenied(
            f"{whose} does not release it any more: its time is over", rule="line-expired"
        )
    if terms.max_beacon_age_s is None:
        return
    if standing.beacon is None:
        raise PolicyDenied(f"{whose} demands time beacons and has sent none", rule="beacon-missing")
    if time - standing.beacon > terms.max_beacon_age_s:
        raise PolicyDenied(
            f"the newest time beacon of {whose} is older than its terms allow", rule="beacon-old"
        )


def refuse_spent(line: Line, standing: Standing) -> None:
    """Return if there is a use of `line` left.

    Raises:
        PolicyDenied: the rule `uses-exhausted`.
    """
    if line.terms.max_uses is not None and standing.uses >= line.terms.max_uses:
        raise PolicyDenied(
            f"the owner of {line.said} granted {line.terms.max_uses} release(s), and all were had",
            rule="uses-exhausted",
        )
