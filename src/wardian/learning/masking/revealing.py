"""The last step of a masked round, at the coordinator: shares come in, and the sum goes out.

    revealed() ... total()

From here on a round must not be begun anew: parties may have revealed, and the same updates summed
over another list would give single ones away. So whoever carries the messages keeps `encode` where
it is safe before anybody is shown `agreements`; after a crash `decode` goes on, and asks those who
`signed` for the same once more.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from wardian.crypto.masks import Ring
from wardian.errors import AuthenticationFailed, LocalProtocolError, PolicyDenied, SealError
from wardian.learning.masking.messages import (
    Advertisement,
    Agreements,
    Names,
    PartySignature,
    Record,
    Revealed,
    Sharing,
    decode,
    encode,
)
from wardian.learning.masking.plan import MaskingPlan
from wardian.learning.masking.unmasking import Unmasking
from wardian.learning.masking.verifying import verify_enough


class Summed(Record, frozen=True, kw_only=True):
    """What the coordinator knows when the list of survivors is agreed on, beside the sum."""

    number: int
    advertisements: tuple[Advertisement, ...]
    sharings: dict[str, Sharing]
    survivors: Names
    signatures: tuple[PartySignature, ...]


class Revealing:
    """What is left of a round once its survivors are agreed on.

    Attributes:
        faults: parties that did not keep to the protocol, and how.
    """

    __slots__ = ("_over", "_plan", "_revealed", "_scope", "_sum", "_summed", "_unmasking", "faults")

    def __init__(
        self,
        plan: MaskingPlan,
        summed: Summed,
        total: Ring,
        *,
        faults: dict[str, str] | None = None,
    ) -> None:
        """Wait for shares.

        Args:
            plan: what everybody agreed to.
            summed: who came, shared, survived and signed.
            total: the sum of the survivors' masked vectors, (elements,); it is written to.
            faults: known before.
        """
        self._plan, self._summed, self._sum = plan, summed, total
        self._scope = plan.scope(summed.number)
        self._revealed: set[str] = set()
        self._over = False
        self.faults: Final = {} if faults is None else faults
        self._unmasking = Unmasking(
            plan,
            scope=self._scope,
            advertisements={each.party: each for each in summed.advertisements},
            sharings=summed.sharings,
            survivors=summed.survivors,
        )

    @property
    def survivors(self) -> tuple[str, ...]:
        """Whose vectors are in the sum, sorted."""
        return self._summed.survivors

    @property
    def signed(self) -> tuple[str, ...]:
        """Who agreed to that, sorted."""
        return tuple(each.party for each in self._summed.signatures)

    @property
    def number(self) -> int:
        """Of the round; see `MaskingPlan.scope`."""
        return self._summed.number

    def agreements(self) -> bytes:
        """Return message 8, for all who signed."""
        return encode(Agreements(scope=self._scope, signatures=self._summed.signatures))

    def revealed(self, party: str, raw: bytes) -> None:
        """Take message 9 of `party`.

        Raises:
            FormatError: it is malformed.
            AuthenticationFailed: a share is not the one that was dealt; the party stands in
                `faults`, and nothing of its message counts.
            PolicyDenied: of who did not sign, shares that the list does not ask for, or too late.
        """
        self._plan.index(party)
        if self._over:
            raise PolicyDenied("masking: revealed: not the time for this", rule="mask-order")
        if party not in self.signed:
            raise PolicyDenied("masking: revealed: of who is lost to the round", rule="mask-order")
        message = decode(raw, Revealed, scope=self._scope)
        try:
            self._unmasking.take(party, message)
        except AuthenticationFailed:
            self.faults[party] = "it revealed a share that is not the one that was dealt to it"
            raise
        self._revealed.add(party)

    def total(self) -> Ring:
        """Return the sum of the survivors' vectors, (elements,). It is the caller's.

        Raises:
            PolicyDenied: too few revealed; or what somebody shared does not fit what it advertised,
                and it stands in `faults` (rule `mask-shares`).
        """
        if self._over:
            raise LocalProtocolError("masking: the round is over")
        self._over = True
        verify_enough(self._revealed, plan=self._plan, what="revealed")
        secrets, liars = {}, []
        for dealer in sorted(self._summed.sharings):
            try:
                secrets[dealer] = self._unmasking.put_together(dealer)
            except AuthenticationFailed:
                self.faults[dealer] = "it shared something else than it advertised"
                liars.append(dealer)
        if liars:
            raise PolicyDenied(
                f"masking: of no use, because of {', '.join(liars)}", rule="mask-shares"
            )
        self._unmasking.take_off(self._sum, secrets)
        return self._sum

    def encode(self) -> Mapping[str, bytes]:
        """Return all of this, before the first share came, as bytes by name."""
        return {"summed": msgspec.msgpack.encode(self._summed), "sum": self._sum.tobytes()}

    @classmethod
    def decode(cls, kept: Mapping[str, bytes], plan: MaskingPlan) -> "Revealing":
        """Return what `encode` gave.

        Raises:
            SealError: it is none, or of another plan.
        """
        try:
            summed = msgspec.msgpack.decode(kept["summed"], type=Summed)
            total = np.frombuffer(kept["sum"], "<u8").copy()
        except (KeyError, ValueError, msgspec.DecodeError) as err:
            raise SealError("masking: what was kept is damaged") from err
        known = set(summed.sharings) | set(summed.survivors)
        if total.shape != (plan.elements,) or not known <= set(plan.parties):
            raise SealError("masking: what was kept is of another plan")
        return cls(plan, summed, total)
