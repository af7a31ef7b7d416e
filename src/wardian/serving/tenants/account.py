"""One tenant as one front-end process knows it: its terms, and what it has used of them."""

from typing import TYPE_CHECKING, Final

from wardian.serving.tenants.limits import DAY_S, Allowance, DayCount, whole_seconds
from wardian.serving.tenants.refusals import TenantRefused, Why

if TYPE_CHECKING:
    from wardian.serving.tenants.lists import TenantTerms

ACCEPTED: Final = "accepted"
_LIMITS: Final = (Why.RATE, Why.OPEN, Why.SHARE, Why.BYTES, Why.QUOTA)


class Account:
    """What a tenant may still do. It outlives the list that it came with: see `use`.

    Attributes:
        terms: those in force.
        open: its inferences that are accepted and unanswered.
        outcomes: how many inferences were accepted, and how many refused for which limit.
    """

    __slots__ = ("_bytes", "_day", "_rate", "open", "outcomes", "terms")

    def __init__(self, terms: "TenantTerms", *, now: float) -> None:
        """Begin with nothing used; `now` is monotonic."""
        self.terms = terms
        self.open = 0
        self.outcomes = dict.fromkeys((ACCEPTED, *(str(why) for why in _LIMITS)), 0)
        self._rate = Allowance(rate=terms.rate_per_s, burst=terms.burst, now=now)
        self._bytes: Allowance | None = None
        self._day = DayCount()
        self.use(terms, now=now)

    def use(self, terms: "TenantTerms", *, now: float) -> None:
        """Go on under `terms`: a new list gives nobody back what was used."""
        self.terms = terms
        self._rate.change(rate=terms.rate_per_s, burst=terms.burst)
        most = terms.max_bytes_per_s
        if most is None:
            self._bytes = None
        elif self._bytes is None:
            self._bytes = Allowance(rate=most, burst=most, now=now)
        else:
            self._bytes.change(rate=most, burst=most)

    def look(self, now: float) -> None:
        """Account for a request, an inference or not, against the rate.

        Raises:
            TenantRefused: 429; more a second than it may.
        """
        wait_s = self._rate.wait_s(now)
        if wait_s:
            raise self._refused(Why.RATE, wait_s)
        self._rate.take()

    def begin(self, size_bytes: int, *, now: float, unix_s: int, room: int) -> None:
        """Account for an inference, beside the rate; it is open until `end`.

        Args:
            size_bytes: of its inputs; looked at only if that is limited.
            now: monotonic seconds.
            unix_s: Unix seconds, for the day.
            room: how many requests, of whomever, the front end could still accept.

        Raises:
            TenantRefused: 429, with the limit and when to come back; then nothing was used.
        """
        terms = self.terms
        if self.open >= terms.max_open:
            raise self._refused(Why.OPEN, 1)
        # Never more than is left for others: with n tenants that take what they can, whoever comes
        # next finds a part of n + 1 (dynamic thresholds; Choudhury and Hahne, 1998).
        if self.open >= room:
            raise self._refused(Why.SHARE, 1)
        quota = terms.quota
        if quota is not None and self._day.spent(unix_s, quota=quota):
            raise self._refused(Why.QUOTA, DAY_S - unix_s % DAY_S)
        if self._bytes is not None:
            wait_s = self._bytes.wait_s(now, need=size_bytes)
            if wait_s:
                raise self._refused(Why.BYTES, wait_s)
            self._bytes.take(size_bytes)
        if quota is not None:
            self._day.add()
        self.open += 1
        self.outcomes[ACCEPTED] += 1

    def end(self) -> None:
        """An inference that began is answered, or was not accepted after all."""
        self.open -= 1

    def _refused(self, why: Why, wait_s: float) -> TenantRefused:
        self.outcomes[why] += 1
        return TenantRefused(why, retry_after_s=whole_seconds(wait_s))
