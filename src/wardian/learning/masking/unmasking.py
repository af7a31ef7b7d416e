"""What the coordinator makes of revealed shares: the masks that are still in the sum, taken off.

In the sum of the survivors' vectors are the survivors' own masks, from their seeds, and of each
lost party the masks that it has in common with the survivors, from its mask key. Masks between
survivors are gone already, and those between lost parties never came.
"""

from collections.abc import Collection, Iterator, Mapping

from wardian.crypto.masks import Ring, RoundKey, add_masks, seed_commitment
from wardian.crypto.secret import Secret
from wardian.crypto.shamir import Share, ShareSet, combine
from wardian.errors import AuthenticationFailed
from wardian.learning.masking.messages import (
    COMMITMENT_BYTES,
    Advertisement,
    Revealed,
    Sharing,
)
from wardian.learning.masking.plan import MaskingPlan, set_id
from wardian.learning.masking.verifying import verify_enough, verify_names


class Unmasking:
    """The shares that were revealed of each party that shared, and what they put together."""

    __slots__ = ("_advertisements", "_plan", "_scope", "_sets", "_shares", "_survivors")

    def __init__(
        self,
        plan: MaskingPlan,
        *,
        scope: bytes,
        advertisements: Mapping[str, Advertisement],
        sharings: Mapping[str, Sharing],
        survivors: Collection[str],
    ) -> None:
        """Begin with no shares.

        Args:
            plan: what everybody agreed to.
            scope: of plan and round.
            advertisements: of all who came.
            sharings: of all who shared.
            survivors: those of them whose vectors are in the sum.
        """
        self._plan, self._scope = plan, scope
        self._advertisements, self._survivors = advertisements, frozenset(survivors)
        self._sets = {
            dealer: self._share_set(dealer, sharing) for dealer, sharing in sharings.items()
        }
        self._shares: dict[str, dict[str, Share]] = {dealer: {} for dealer in sharings}

    def take(self, party: str, message: Revealed) -> None:
        """Keep the shares that `party` revealed.

        Raises:
            AuthenticationFailed: one is not the share that was dealt to it: none is kept.
            PolicyDenied: one is not asked for.
        """
        lost = self._sets.keys() - self._survivors
        verify_names([each.party for each in message.keys], among=lost, what="revealed")
        verify_names([each.party for each in message.seeds], among=self._survivors, what="revealed")
        index = self._plan.index(party)
        taken = {}
        for each in (*message.keys, *message.seeds):
            share_set = self._sets[each.party]
            share = Share(set_id=share_set.set_id, index=index, value=Secret(each.value))
            share_set.verify(share)
            taken[each.party] = share
        for dealer, share in taken.items():
            self._shares[dealer].setdefault(party, share)

    def put_together(self, dealer: str) -> Secret:
        """Return the seed of a survivor, or the mask key of a lost party.

        Raises:
            AuthenticationFailed: the shares give something else than `dealer` advertised. Each is
                the one that it dealt, so it is `dealer` who lied.
            PolicyDenied: there are too few (rule `mask-threshold`).
        """
        shares = sorted(self._shares[dealer].values(), key=lambda share: share.index)
        verify_enough(shares, plan=self._plan, what=f"shares of {dealer}")
        secret = combine(shares[: self._plan.threshold], self._sets[dealer])
        advertised = self._advertisements[dealer]
        if dealer in self._survivors:
            found = seed_commitment(secret, scope=self._scope, party=dealer)
            fits = found == advertised.seed_digest
        else:
            fits = RoundKey.from_secret(secret).public == advertised.mask_public
        if not fits:
            raise AuthenticationFailed(
                f"masking: {dealer} shared something else than it advertised"
            )
        return secret

    def take_off(self, vector: Ring, secrets: Mapping[str, Secret]) -> None:
        """Take all masks off `vector` in place.

        Args:
            vector: the sum of the survivors' masked vectors.
            secrets: of each that shared, what `put_together` gave.
        """
        seeds = [secrets[survivor] for survivor in sorted(self._survivors)]
        lost = sorted(secrets.keys() - self._survivors)
        common = [(each, *pair) for each in lost for pair in self._common(each, secrets[each])]
        add_masks(  # what a survivor added is subtracted, and the other way round
            vector,
            plus=[seed for party, survivor, seed in common if party < survivor],
            minus=[*seeds, *(seed for party, survivor, seed in common if survivor < party)],
        )

    def _common(self, party: str, secret: Secret) -> Iterator[tuple[str, Secret]]:
        """Yield each survivor, and the seed that the lost `party` has in common with it."""
        key = RoundKey.from_secret(secret)
        for survivor in self._survivors:
            public = self._advertisements[survivor].mask_public
            yield survivor, key.mask_seed(public, scope=self._scope, own=party, other=survivor)

    def _share_set(self, dealer: str, sharing: Sharing) -> ShareSet:
        survived = dealer in self._survivors
        raw = sharing.seed_commitments if survived else sharing.key_commitments
        return ShareSet(
            set_id=set_id(self._scope, dealer, "seed" if survived else "key"),
            threshold=self._plan.threshold,
            commitments=tuple(
                raw[start : start + COMMITMENT_BYTES]
                for start in range(0, len(raw), COMMITMENT_BYTES)
            ),
        )
