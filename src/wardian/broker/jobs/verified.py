"""Policies that were read out of the broker's state and verified, so that each is verified once.

A job over many tables needs as many policies, of up to 64 KiB each, on the broker's one thread.
"""

from wardian.broker.jobs.signing import VerifiedPolicy


class VerifiedPolicies:
    """Verified policies by place. They hold as long as the row of the state that they are from.

    There is one for each place and none is ever put out for another, so that no owner has another
    one's verified again; what the state keeps of policies is bounded (`owners.consents`).
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        """Hold none yet."""
        self._held: dict[str, tuple[str, VerifiedPolicy]] = {}

    def find(self, place: str, row: str | None) -> VerifiedPolicy | None:
        """Return the policy about the table at `place`, if it was verified out of that very row.

        Args:
            place: `DataPolicy.place`.
            row: `Store.row_digest` of the row that it stands in now; None where there is none.
        """
        held = self._held.get(place)
        return held[1] if held is not None and held[0] == row else None

    def hold(self, place: str, row: str, policy: VerifiedPolicy) -> None:
        """Hold `policy`, which stands in the row of this digest, in the place of another one."""
        self._held[place] = row, policy
