"""What a party does with the secrets of its own: advertise, deal shares, take shares, mask."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wardian.crypto import shamir
from wardian.crypto.masks import Ring, RoundKey, add_masks, seed_commitment
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

_UNSIGNED: Final = bytes(64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """The secrets of a party, from the beginning of a round until its vector is masked.

    Attributes:
        plan: what everybody agreed to.
        scope: of plan and round.
        party: its name.
        mask_key: agrees on masks with the others, who get shares of it.
        share_key: seals and opens shares, and never leaves the party.
        seed: of the party's own mask; the others get shares of it.
    """

    plan: MaskingPlan
    scope: bytes
    party: str
    mask_key: RoundKey
    share_key: RoundKey
    seed: Secret

    def advertisement(self) -> Advertisement:
        """Return message 1, not yet signed."""
        return Advertisement(
            scope=self.scope,
            party=self.party,
            mask_public=self.mask_key.public,
            share_public=self.share_key.public,
            seed_digest=seed_commitment(self.seed, scope=self.scope, party=self.party),
            signature=_UNSIGNED,
        )

    def deal(self, keys: Keys) -> tuple[Held, Sharing]:
        """Return the party's own shares of its secrets, and message 3 for all who came.

        Raises:
            FormatError: somebody's key is of no use.
        """
        key_set, key_shares = self._split(self.mask_key.to_secret(), "key")
        seed_set, seed_shares = self._split(self.seed, "seed")
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

    def under_masks(self, vector: Ring, peers: Iterable[Advertisement]) -> Ring:
        """Return `vector` under the party's own mask and one with each of `peers`.

        Raises:
            FormatError: somebody's key is of no use.
        """
        seeds = {
            peer.party: self.mask_key.mask_seed(
                peer.mask_public, scope=self.scope, own=self.party, other=peer.party
            )
            for peer in peers
        }
        masked = vector.copy()
        add_masks(
            masked,
            plus=[self.seed, *(seed for peer, seed in seeds.items() if self.party < peer)],
            minus=[seed for peer, seed in seeds.items() if peer < self.party],
        )
        return masked

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
