"""One party of a masked round. Pure: messages in, messages out; what it has to keep, it hands over.

    advertised --> shared --> masked --> signed --> revealed

Each step is taken once. Asked again for the same, a party says the same again, but for its vector:
a second one under the same masks would tell about the first. It signs one list of survivors in a
round; with that it throws away, of every party, the share that the list does not ask for, so that
nobody gets both out of it, whatever it is asked.

Before a message is returned, `keep` was called with what the party has to know from then on. It is
secret. Put back to an older state of itself, a party would mask a second vector, or sign a second
list: keep it where the newest is told from older ones, or let a party that was started anew sit out
the round, as one that was lost.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from wardian.crypto.masks import SEED_BYTES, Ring, RoundKey
from wardian.crypto.secret import Secret
from wardian.crypto.signing import Signer
from wardian.errors import ConfigError, LocalProtocolError, PolicyDenied, SealError
from wardian.learning.masking.hand import Hand
from wardian.learning.masking.messages import (
    Advertisement,
    Agreement,
    Agreements,
    Delivery,
    Keys,
    Masked,
    OpenShare,
    Revealed,
    Survivors,
    advertisement_signed_bytes,
    decode,
    encode,
    keys_digest,
    survivors_signed_bytes,
)
from wardian.learning.masking.plan import MaskingPlan
from wardian.learning.masking.state import Stage, State, decode_state, encode_state
from wardian.learning.masking.verifying import (
    verify_agreements,
    verify_delivery,
    verify_keys,
    verify_survivors,
)


class MaskingParty:
    """The part of one party in one round; see the module."""

    __slots__ = ("_keep", "_plan", "_scope", "_signer", "_state")

    def __init__(
        self,
        plan: MaskingPlan,
        *,
        number: int,
        party: str,
        signer: Signer,
        keep: Callable[[Secret], None],
        kept: Secret | None = None,
    ) -> None:
        """Take part in the round `number`, from its beginning, or from where `kept` stands.

        Args:
            plan: what everybody agreed to.
            number: of the round, 1 or more; see `MaskingPlan.scope`.
            party: whose part it is.
            signer: has the key that the plan names for it.
            keep: called with the state, which has to be safe before it returns. In the same round
                each replaces the one before.
            kept: the newest such state of this round; None if there is none.

        Raises:
            ConfigError: the key is not the one that the plan names.
            PolicyDenied: the plan does not name the party (rule `mask-roster`).
            SealError: `kept` is of another party, plan or round, or damaged.
        """
        plan.index(party)
        if signer.public != plan.parties[party]:
            raise ConfigError(f"masking: the key of {party} is not the one that the plan names")
        self._plan, self._signer, self._keep = plan, signer, keep
        self._scope = plan.scope(number)
        self._state = self._begin(party) if kept is None else self._restore(party, kept)

    @property
    def stage(self) -> Stage:
        """How far it is. From `REVEALED` on, the same update must not be masked in any round."""
        return self._state.stage

    def advertise(self) -> bytes:
        """Return message 1.

        Raises:
            PolicyDenied: the party is further already (rule `mask-order`).
        """
        self._expect(Stage.ADVERTISED)
        message = self._hand().advertisement()
        signature = self._signer.sign(advertisement_signed_bytes(message))
        return encode(msgspec.structs.replace(message, signature=signature))

    def share(self, raw: bytes) -> bytes:
        """Return message 3 for message 2.

        Raises:
            FormatError: it is malformed, or has a key that is of no use.
            AuthenticationFailed: a signature in it is wrong.
            PolicyDenied: of another round, of strangers, of too few, without this party's own
                advertisement, or not what was said before.
        """
        self._expect(Stage.ADVERTISED, Stage.SHARED)
        keys = decode(raw, Keys, scope=self._scope)
        if self._state.stage is Stage.SHARED:
            if keys != self._state.keys:
                raise PolicyDenied("masking: other keys than before", rule="mask-once")
            return self._state.sharing
        hand = self._hand()
        verify_keys(keys, own=hand.advertisement(), plan=self._plan)
        own, message = hand.deal(keys)
        sharing = encode(message)
        self._advance(
            stage=Stage.SHARED,
            keys=keys,
            keys_digest=keys_digest(keys),
            sharing=sharing,
            held=(own,),
        )
        return sharing

    def mask(self, raw: bytes, vector: Ring) -> bytes:
        """Return message 5 for message 4. Whoever carries it keeps it, to send it again.

        Args:
            raw: message 4.
            vector: (elements,); it stays as it is.

        Raises:
            FormatError: it is malformed.
            PolicyDenied: of another round, of strangers or of too few; or the party has masked a
                vector in this round already (rule `mask-order`).
        """
        self._expect(Stage.SHARED)
        if vector.shape != (self._plan.elements,) or vector.dtype != np.dtype("<u8"):
            raise LocalProtocolError("masking: not a vector of the plan")
        delivery = decode(raw, Delivery, scope=self._scope)
        hand, advertised = self._hand(), self._advertised()
        verify_delivery(delivery, own=hand.party, known=advertised, plan=self._plan)
        received = [
            hand.receive(dealt, advertised[dealt.party], digest=self._state.keys_digest)
            for dealt in delivery.dealt
        ]
        held = sorted((*self._state.held, *received), key=lambda each: each.party)
        masked = hand.under_masks(vector, [advertised[dealt.party] for dealt in delivery.dealt])
        self._advance(
            stage=Stage.MASKED,
            held=tuple(held),
            mask_key=None,
            share_key=None,
            seed=None,
            keys=None,
            sharing=b"",
        )
        refused = tuple(each.party for each in held if each.key is None)
        return encode(Masked(scope=self._scope, refused=refused, vector=masked.data.cast("B")))

    def sign(self, raw: bytes) -> bytes:
        """Return message 7 for message 6.

        Raises:
            FormatError: it is malformed.
            PolicyDenied: of another round, too short, with strangers, without this party, or
                another list than the one that it signed (rule `mask-survivors` or `mask-roster`).
        """
        self._expect(Stage.MASKED, Stage.SIGNED, Stage.REVEALED)
        survivors = decode(raw, Survivors, scope=self._scope).parties
        if self._state.stage is Stage.MASKED:
            held = self._state.held
            dealers = {each.party for each in held}
            verify_survivors(survivors, own=self._state.party, dealers=dealers, plan=self._plan)
            held = tuple(each.only_asked_for(survivors) for each in held)
            self._advance(stage=Stage.SIGNED, survivors=survivors, held=held)
        elif survivors != self._state.survivors:
            raise PolicyDenied(
                "masking: another list of survivors than the one that was signed",
                rule="mask-survivors",
            )
        signed = survivors_signed_bytes(
            scope=self._scope, keys=self._state.keys_digest, parties=survivors
        )
        return encode(Agreement(scope=self._scope, signature=self._signer.sign(signed)))

    def reveal(self, raw: bytes) -> bytes:
        """Return message 9 for message 8.

        Raises:
            FormatError: it is malformed.
            AuthenticationFailed: a signature is not its party's over the list that was signed here.
            PolicyDenied: of another round, not by survivors, or of fewer than the threshold.
        """
        self._expect(Stage.SIGNED, Stage.REVEALED)
        verify_agreements(
            decode(raw, Agreements, scope=self._scope),
            survivors=self._state.survivors,
            keys_digest=self._state.keys_digest,
            plan=self._plan,
        )
        if self._state.stage is Stage.SIGNED:
            self._advance(stage=Stage.REVEALED)
        held = self._state.held
        keys = [(each.party, each.key) for each in held if each.key is not None]
        seeds = [(each.party, each.seed) for each in held if each.seed is not None]
        return encode(
            Revealed(
                scope=self._scope,
                keys=tuple(OpenShare(party=name, value=key.reveal()) for name, key in keys),
                seeds=tuple(OpenShare(party=name, value=seed.reveal()) for name, seed in seeds),
            )
        )

    def _begin(self, party: str) -> State:
        state = State(
            scope=self._scope,
            party=party,
            stage=Stage.ADVERTISED,
            mask_key=RoundKey.generate().to_secret(),
            share_key=RoundKey.generate().to_secret(),
            seed=Secret.random(SEED_BYTES),
        )
        self._keep(encode_state(state))
        return state

    def _restore(self, party: str, kept: Secret) -> State:
        state = decode_state(kept)
        if (state.scope, state.party) != (self._scope, party):
            raise SealError("masking: what was kept is of another party, plan or round")
        return state

    def _advance(self, **changes: Any) -> None:
        state = msgspec.structs.replace(self._state, **changes)
        self._keep(encode_state(state))
        self._state = state

    def _expect(self, *stages: Stage) -> None:
        if self._state.stage not in stages:
            raise PolicyDenied(
                f"masking: not the time for this: {self._state.stage.name.lower()}",
                rule="mask-order",
            )

    def _hand(self) -> Hand:
        state = self._state
        if state.mask_key is None or state.share_key is None or state.seed is None:
            raise LocalProtocolError("masking: the secrets of this party are gone")
        return Hand(
            plan=self._plan,
            scope=self._scope,
            party=state.party,
            mask_key=RoundKey.from_secret(state.mask_key),
            share_key=RoundKey.from_secret(state.share_key),
            seed=state.seed,
        )

    def _advertised(self) -> dict[str, Advertisement]:
        keys = self._state.keys
        return {} if keys is None else {each.party: each for each in keys.advertisements}
