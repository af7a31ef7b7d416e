"""A party's side of one intersection: it has identifiers, and shows tags of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wardian.crypto.group_key import GroupKeyMember
from wardian.crypto.secret import Secret
from wardian.crypto.signing import Signer
from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.psi.tags import encoded, tags
from wardian.learning.psi.terms import DEAL, POSITIONS, SHARE, SHARES, TAGS, PsiTerms
from wardian.learning.received import array_of, setting_of
from wardian.learning.records import ConfigRecord, RecordDict


class PsiMember:
    """What a party is in either protocol: its identifiers, and its part in agreeing a key."""

    def __init__(
        self,
        terms: PsiTerms,
        *,
        run: bytes,
        name: str,
        signer: Signer,
        identifiers: Sequence[str] | Sequence[bytes],
        runs_before: int,
        kept: Secret | None = None,
    ) -> None:
        """Take part as `name`.

        Args:
            terms: what the parties consented to, this one included.
            run: names this run, the same for every party.
            name: as the terms name this party.
            signer: has the key by which the terms know it.
            identifiers: of its records, each once.
            runs_before: how many runs under `terms` this party has taken part in; that this one is
                counted before it begins is the caller's.
            kept: of this same run, from before the process ended; see there.

        Raises:
            PolicyDenied: no run is left, the party takes no part, or it has more identifiers than
                it may submit.
            FormatError: an identifier is there twice, is empty or too long.
            AuthenticationFailed: `signer` has another key.
        """
        terms.demand_run(runs_before)
        terms.demand_size(name, len(identifiers))
        self._terms, self._name = terms, name
        self._identifiers = encoded(identifiers)
        self._member = GroupKeyMember(terms.group(run), name=name, signer=signer, kept=kept)

    @property
    def kept(self) -> Secret:
        """What this party needs to go on with this run. Only for its own disk."""
        return self._member.kept

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._identifiers)} identifiers)"

    def share(self) -> RecordDict:
        """Return its share of the key."""
        return RecordDict({SHARE: ConfigRecord({SHARE: self._member.share})})

    def deal(self, content: RecordDict) -> RecordDict:
        """Return, as the dealer, the deal for the shares in `content`.

        Raises:
            See `GroupKeyMember.deal`.
        """
        return RecordDict({DEAL: ConfigRecord({DEAL: self._member.deal(_shares(content))})})

    def _key(self, content: RecordDict) -> Secret:
        """Return the key that `content`, the deal with all shares, yields."""
        return self._member.key(_shares(content), setting_of(content, DEAL, bytes))


class PsiParty(PsiMember):
    """One run of one party. Its identifiers and the key stay in this object."""

    def tags(self, content: RecordDict) -> RecordDict:
        """Return the tags of its identifiers under the key that `content`, the deal, yields.

        Raises:
            FormatError, AuthenticationFailed: shares and deal are not those of these parties and
                this run; nothing was tagged.
        """
        found = tags(self._key(content), self._identifiers)
        return RecordDict({TAGS: ArrayRecord({TAGS: found})})

    def positions(self, content: RecordDict) -> NDArray[Any]:
        """Return which of its identifiers all parties have: places, int64, in the common order.

        Raises:
            FormatError: the coordinator names a place that there is not, or one twice.
        """
        found = array_of(content, POSITIONS, POSITIONS, dtype="int64", shape=(None,))
        inside = bool(((found >= 0) & (found < len(self._identifiers))).all())
        if not inside or (len(found) and np.bincount(found).max() > 1):
            raise FormatError("positions: not places of this party's identifiers, each once")
        return found


def _shares(content: RecordDict) -> Mapping[str, bytes]:
    found = content.get(SHARES)
    if not isinstance(found, ConfigRecord):
        raise FormatError("shares: they are missing")
    shares = {name: value for name, value in found.items() if isinstance(value, bytes)}
    if len(shares) < len(found):
        raise FormatError("shares: each is bytes")
    return shares
