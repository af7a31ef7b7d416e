"""The four statements of collateral, and how long each lasts."""

import enum
from dataclasses import dataclass
from typing import Final

WARN_BEFORE_S: Final = 7 * 24 * 3600
"""How long before its end collateral "expires soon", at most: Intel's lives for 30 days, and a week
is what a person needs who is away for some days. What lives for less than 28 days is warned of
when a quarter of its life is left, so that a short life is not one long warning."""
_QUARTER: Final = 4


class Part(enum.StrEnum):
    """The four statements, by the name of the field of `Collateral`."""

    PCK_CRL = "pck_crl"
    ROOT_CA_CRL = "root_ca_crl"
    TCB_INFO = "tcb_info"
    QE_IDENTITY = "qe_identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """When a statement was made, when it ends, and which evaluation of the TCB it is.

    Attributes:
        issued: Unix time.
        ends: Unix time: its own next update, or the end of a certificate above it if that is first.
        evaluation: tcbEvaluationDataNumber, which the vendor raises at each TCB recovery; 0 for a
            revocation list, which has none. (Intel's CRL numbers do not grow.)
    """

    issued: int
    ends: int
    evaluation: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        """What grows from each statement of a kind to the next: evaluation first, then time."""
        return self.evaluation, self.issued

    def expires_soon(self, now: int, *, warn_before_s: int | None = None) -> bool:
        """Return whether at `now` less than the margin is left; see `WARN_BEFORE_S`.

        Args:
            now: Unix time, seconds.
            warn_before_s: the margin in seconds; by default that of `WARN_BEFORE_S`.
        """
        margin = min(WARN_BEFORE_S, (self.ends - self.issued) // _QUARTER)
        return self.ends - now < (margin if warn_before_s is None else warn_before_s)
