"""How a party deals shares of its two secrets, and what it makes of those dealt to it."""

from dataclasses import dataclass

from wardian.crypto import shamir
from wardian.crypto.masks import RoundKey
from wardian.crypto.secret import Secret
from wardian.crypto.shamir import Share, ShareSet, split
from wardian.errors import AuthenticationFailed
from wardian.learning.masking.messages import (
    Advertisement,
    Dealt,
    Keys,
    SealedShares,
    Sharing,
    keys_digest,
)
from wardian.learning.masking.plan import MaskingPlan, set_id
from wardian.learning.masking.state import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """With what a party seals and opens shares.

    Attributes:
        plan: what everybody agreed to.
        scope: of plan and round.
        party: its name.
        share_key: its own key, which never leaves it.
    """

    plan: MaskingPlan
    scope: bytes
    party: str
    share_key: RoundKey

    def deal(self, mask_key: Secret, seed: Secret, keys: Keys) -> tuple[Held, Sharing]:
        """Return the party's own shares of its secrets, and message 3 for all who came.

        Raises:
            FormatError: somebody's key is of no use.
        """
        key_set, key_shares = self._split(mask_key, "key")
        seed_set, seed_shares = self._split(seed, "seed")
        digest = keys_digest(keys)
        dealt = []
        for each in keys.advertisements:
            if each.party == self.party:
                continue
            place = self.plan.index(each.party) - 1
            sealed = self.share_key.seal(
                key_shares[place].value.reveal() + seed_shares[place].value.reveal(),
                each.share_public,
                scope=self.scope,
                own=self.party,
                other=each.party,
                context=digest,
            )
            dealt.append(SealedShares(party=each.party, sealed=sealed))
        place = self.plan.index(self.party) - 1
        own = Held(party=self.party, key=key_shares[place].value, seed=seed_shares[place].value)
        return own, Sharing(
            scope=self.scope,
            key_commitments=b"".join(key_set.commitments),
            seed_commitments=b"".join(seed_set.commitments),
            dealt=tuple(dealt),
        )

    def receive(self, dealt: Dealt, sender: Advertisement, *, digest: bytes) -> Held:
        """Return the shares that were dealt to this party; none if they are not what they say.

        Args:
            dealt: by `sender`, as the coordinator delivered it.
            sender: whose keys are verified.
            digest: `keys_digest`.
        """
        nothing = Held(party=dealt.party, key=None, seed=None)
        try:
            shares = self.share_key.open(
                dealt.sealed,
                sender.share_public,
                scope=self.scope,
                own=self.party,
                other=dealt.party,
                context=digest,
            )
        except AuthenticationFailed:
            return nothing
        key, seed = Secret(shares[:32]), Secret(shares[32:])
        if (self._commitment(key, dealt, "key"), self._commitment(seed, dealt, "seed")) != (
            dealt.key_commitment,
            dealt.seed_commitment,
        ):
            return nothing
        return Held(party=dealt.party, key=key, seed=seed)

    def _split(self, secret: Secret, what: str) -> tuple[ShareSet, tuple[Share, ...]]:
        return split(
            secret,
            threshold=self.plan.threshold,
            shares=len(self.plan.parties),
            set_id=set_id(self.scope, self.party, what),
        )

    def _commitment(self, value: Secret, dealt: Dealt, what: str) -> bytes:
        named = set_id(self.scope, dealt.party, what)
        share = Share(set_id=named, index=self.plan.index(self.party), value=value)
        return shamir.commitment(share, threshold=self.plan.threshold)
