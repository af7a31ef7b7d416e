"""The coordinator of a masked round. Pure: messages in, messages out; see `revealing` for the end.

    advertised() ... keys() --> shared() ... deliveries() --> masked() ... survivors()
                 --> signed() ... agreed() --> revealed() ... total()

Whoever carries the messages says when a step is over: by calling what comes after it. From then on
its messages are refused, and the party is lost to the round. A step that fewer than the threshold
took ends the round: `PolicyDenied` with the rule `mask-threshold`, and parties reveal nothing.

Of a party's messages of one kind the first counts; more of them change nothing. What is refused
concerns its sender alone. Vectors are added up as they come, so one is in memory, however many
there are. Who certainly lied, or is complained of, stands in `faults`.
"""

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np

from wardian.crypto.hpke import refuse_unusable
from wardian.crypto.masks import Ring
from wardian.errors import FormatError, LocalProtocolError, PolicyDenied
from wardian.learning.masking.messages import (
    COMMITMENT_BYTES,
    Advertisement,
    Agreement,
    Dealt,
    Delivery,
    Keys,
    Masked,
    PartySignature,
    Sharing,
    Survivors,
    decode,
    encode,
    keys_digest,
    survivors_signed_bytes,
)
from wardian.learning.masking.plan import MaskingPlan
from wardian.learning.masking.revealing import Revealing, Summed
from wardian.learning.masking.verifying import (
    verify_advertisement,
    verify_agreement,
    verify_enough,
    verify_names,
)

STEPS: Final = ("advertised", "shared", "masked", "signed", "over")


class MaskingCoordinator:
    """One round; see the module.

    Attributes:
        faults: parties that did not keep to the protocol, and how.
    """

    __slots__ = (
        "_advertisements",
        "_agreements",
        "_digest",
        "_number",
        "_plan",
        "_refused",
        "_scope",
        "_sharings",
        "_step",
        "_sum",
        "faults",
    )

    def __init__(self, plan: MaskingPlan, *, number: int) -> None:
        """Begin the round `number`; see `MaskingPlan.scope`."""
        self._plan, self._number, self._scope = plan, number, plan.scope(number)
        self._step = STEPS[0]
        self._advertisements: dict[str, Advertisement] = {}
        self._digest = b""
        self._sharings: dict[str, Sharing] = {}
        self._sum: Ring = np.zeros(plan.elements, np.uint64)
        self._refused: dict[str, frozenset[str]] = {}
        self._agreements: dict[str, bytes] = {}
        self.faults: dict[str, str] = {}

    # What parties say

    def advertised(self, party: str, raw: bytes) -> None:
        """Take message 1 of `party`.

        Args:
            party: whose connection it came over; so for all messages.
            raw: the message.

        Raises:
            FormatError: it is malformed, or a key in it is of no use.
            AuthenticationFailed: it is not signed by the party that the plan names.
            PolicyDenied: of a stranger, of another party or round, or too late.
        """
        self._expect("advertised", party)
        message = decode(raw, Advertisement, scope=self._scope)
        if message.party != party:
            raise PolicyDenied("masking: the keys of another party", rule="mask-roster")
        verify_advertisement(message, self._plan)
        for public in (message.mask_public, message.share_public):
            refuse_unusable(public)
        self._advertisements.setdefault(party, message)

    def shared(self, party: str, raw: bytes) -> None:
        """Take message 3 of `party`.

        Raises:
            FormatError: it is malformed.
            PolicyDenied: of who did not come, not for all who came, or too late.
        """
        self._expect("shared", party, among=self._advertisements)
        message = decode(raw, Sharing, scope=self._scope)
        others = [name for name in sorted(self._advertisements) if name != party]
        if [each.party for each in message.dealt] != others:
            raise PolicyDenied("masking: sharing: not with all who came", rule="mask-roster")
        commitments = {len(message.key_commitments), len(message.seed_commitments)}
        if commitments != {COMMITMENT_BYTES * len(self._plan.parties)}:
            raise FormatError("masking: sharing: one commitment for each of the roster is needed")
        self._sharings.setdefault(party, message)

    def masked(self, party: str, raw: bytes) -> None:
        """Take message 5 of `party`.

        Raises:
            FormatError: it is malformed, or the vector has another length.
            PolicyDenied: of who did not share, or too late.
        """
        self._expect("masked", party, among=self._sharings)
        if party in self._refused:
            return
        wanted = 8 * self._plan.elements
        message = decode(raw, Masked, scope=self._scope, vector_bytes=wanted)
        if message.vector.nbytes != wanted:
            raise FormatError(
                f"masking: masked: a vector of {message.vector.nbytes} bytes, not of {wanted}"
            )
        verify_names(message.refused, among=set(self._sharings) - {party}, what="masked")
        self._sum += np.frombuffer(message.vector, "<u8")
        self._refused[party] = frozenset(message.refused)

    def signed(self, party: str, raw: bytes) -> None:
        """Take message 7 of `party`.

        Raises:
            FormatError: it is malformed.
            AuthenticationFailed: it is not the party's signature over the list of survivors.
            PolicyDenied: of who did not survive, or too late.
        """
        self._expect("signed", party, among=self._refused)
        message = decode(raw, Agreement, scope=self._scope)
        signed = survivors_signed_bytes(
            scope=self._scope, keys=self._digest, parties=sorted(self._refused)
        )
        verify_agreement(party, message.signature, signed, self._plan)
        self._agreements.setdefault(party, message.signature)

    # What is said to parties

    def keys(self) -> bytes:
        """Return message 2, for all who advertised.

        Raises:
            PolicyDenied: too few (rule `mask-threshold`): the round is over. So for all steps.
        """
        self._close("advertised", self._advertisements)
        advertisements = tuple(each for _, each in sorted(self._advertisements.items()))
        message = Keys(scope=self._scope, advertisements=advertisements)
        self._digest = keys_digest(message)
        return encode(message)

    def deliveries(self) -> Mapping[str, bytes]:
        """Return message 4 for each who shared."""
        self._close("shared", self._sharings)
        sealed = {
            (each.party, dealer): each.sealed
            for dealer, sharing in self._sharings.items()
            for each in sharing.dealt
        }
        return {party: encode(self._delivery(party, sealed)) for party in sorted(self._sharings)}

    def survivors(self) -> bytes:
        """Return message 6, for all whose vectors came.

        Raises:
            PolicyDenied: too few; or too few of them have shares of somebody, who stands in
                `faults` (rule `mask-shares`).
        """
        self._close("masked", self._refused)
        for dealer in sorted(self._sharings):
            complaints = sum(dealer in refused for refused in self._refused.values())
            if complaints:
                self.faults[dealer] = f"{complaints} parties could not use the shares that it dealt"
            if len(self._refused) - complaints < self._plan.threshold:
                self._step = "over"
                raise PolicyDenied(
                    f"masking: too few parties have shares of {dealer}", rule="mask-shares"
                )
        return encode(Survivors(scope=self._scope, parties=tuple(sorted(self._refused))))

    def agreed(self) -> Revealing:
        """Return the last step, which begins with message 8: keep it before that is shown.

        Raises:
            PolicyDenied: too few signed.
        """
        self._close("signed", self._agreements)
        summed = Summed(
            number=self._number,
            advertisements=tuple(each for _, each in sorted(self._advertisements.items())),
            sharings=self._sharings,
            survivors=tuple(sorted(self._refused)),
            signatures=tuple(
                PartySignature(party=party, signature=signature)
                for party, signature in sorted(self._agreements.items())
            ),
        )
        return Revealing(self._plan, summed, self._sum, faults=self.faults)

    # Steps

    def _expect(self, step: str, party: str, *, among: Collection[str] | None = None) -> None:
        self._plan.index(party)
        if self._step != step:
            raise PolicyDenied(f"masking: {step}: not the time for this", rule="mask-order")
        if among is not None and party not in among:
            raise PolicyDenied(f"masking: {step}: of who is lost to the round", rule="mask-order")

    def _close(self, step: str, came: Collection[str]) -> None:
        """End `step`, which those who `came` took, and begin the next one."""
        if self._step != step:
            raise LocalProtocolError(f"masking: {step} is over, or has not begun")
        self._step = "over"
        verify_enough(came, plan=self._plan, what=step)
        self._step = STEPS[STEPS.index(step) + 1]

    def _delivery(self, party: str, sealed: Mapping[tuple[str, str], bytes]) -> Delivery:
        """Return message 4 for `party`, from what is `sealed` for whom by whom."""
        place = (self._plan.index(party) - 1) * COMMITMENT_BYTES
        mine = slice(place, place + COMMITMENT_BYTES)
        dealt = tuple(
            Dealt(
                party=dealer,
                key_commitment=sharing.key_commitments[mine],
                seed_commitment=sharing.seed_commitments[mine],
                sealed=sealed[party, dealer],
            )
            for dealer, sharing in sorted(self._sharings.items())
            if dealer != party
        )
        return Delivery(scope=self._scope, dealt=dealt)
