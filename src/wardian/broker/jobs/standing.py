"""What the broker knows when it decides about a job: counts and times, as arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from wardian.attestation.claims import Claims
from wardian.broker.jobs.plan import Privacy
from wardian.errors import LocalProtocolError


def exact(number: float) -> Fraction:
    """Return `number` as it is written: ten runs of 0.1 are exactly a budget of 1."""
    return Fraction(repr(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What runs over a table have spent of its budget, exactly; they add up."""

    epsilon: Fraction = Fraction(0)
    delta: Fraction = Fraction(0)

    def plus(self, run: Privacy | None) -> "Spent":
        """Return what is spent after one more `run`; one without noise is not counted."""
        if run is None:
            return self
        return Spent(epsilon=self.epsilon + exact(run.epsilon), delta=self.delta + exact(run.delta))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStanding:
    """What the broker knows of one owner's table.

    Attributes:
        uses: releases of its key so far, whichever policy and rule allowed them.
        spent: what these spent.
        newest: `policy_mark` of the newest policy that was ever seen; None if there was none.
        beacon: the time in the owner's newest time beacon, Unix seconds; None if there was none.
    """

    uses: int = 0
    spent: Spent = Spent()
    newest: bytes | None = None
    beacon: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the broker knows of a job.

    Attributes:
        now: the broker's time, Unix seconds.
        claims: of evidence of the job, which binds the digest of its plan.
        tables: by `DataPolicy.place`, each table of the job.
        rows: of the join; None where nobody can know them yet. The job asks again then, with
            `OutputTerms.refuse_small_join`.
    """

    now: int
    claims: Claims
    tables: Mapping[str, TableStanding]
    rows: int | None = None

    def table(self, place: str) -> TableStanding:
        """Return what is known of the table at `place`.

        Raises:
            LocalProtocolError: the caller did not look it up; nothing is assumed of it.
        """
        if place not in self.tables:
            raise LocalProtocolError("the standing of a table of the job is missing")
        return self.tables[place]

    def time(self, table: TableStanding) -> int:
        """Return the time for this owner: the broker's, or what the owner itself says is past."""
        return max(self.now, table.beacon or 0)
