"""The coordinator's side of one intersection: it carries what it cannot read, and intersects tags.

    share of each party -> all shares to the dealer -> its deal, with the shares, to each party
    -> tags of each party -> positions to each party

This side never has an identifier or the key.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.psi.intersection import intersect, refuse_duplicates
from wardian.learning.psi.terms import DEAL, POSITIONS, SHARE, SHARES, TAGS, PsiTerms
from wardian.learning.received import array_of, setting_of
from wardian.learning.records import ConfigRecord, RecordDict


class PsiCoordinator:
    """One run. What a party sends counts once: a repetition changes nothing, whatever is in it."""

    def __init__(self, terms: PsiTerms, *, run: bytes, runs_before: int) -> None:
        """Intersect under `terms`.

        Args:
            terms: what the parties consented to.
            run: names this run, the same for every party.
            runs_before: how many runs under `terms` there were; that this one is counted before
                it begins is the caller's.

        Raises:
            PolicyDenied: there were as many as the terms allow (rule `psi-runs`).
        """
        terms.demand_run(runs_before)
        self._terms, self._group = terms, terms.group(run)
        self._shares: dict[str, bytes] = {}
        self._deal: bytes | None = None
        self._tags: dict[str, NDArray[Any]] = {}
        self._positions: NDArray[Any] | None = None

    @property
    def dealer(self) -> str:
        """Who is shown the shares first, and deals."""
        return self._group.dealer

    def take_share(self, party: str, content: RecordDict) -> None:
        """Take in the share of `party`.

        Raises:
            FormatError: there is none.
            PolicyDenied, AuthenticationFailed: it is not that of `party`.
        """
        share = setting_of(content, SHARE, bytes)
        self._group.verify_share(party, share)
        self._shares.setdefault(party, share)

    def shares(self) -> RecordDict:
        """Return what the dealer is told: every party's share.

        Raises:
            LocalProtocolError: one is missing yet.
        """
        return RecordDict({SHARES: ConfigRecord(self._whole(self._shares))})

    def take_deal(self, content: RecordDict) -> None:
        """Take in what the dealer made of the shares.

        Raises:
            FormatError: it is none.
            AuthenticationFailed: the dealer did not make it, or not of these shares.
        """
        deal = setting_of(content, DEAL, bytes)
        transcript = self._group.transcript(self._whole(self._shares))
        self._group.verify_deal(transcript, deal)
        self._deal = self._deal or deal

    def deal(self) -> RecordDict:
        """Return what each party is told: the deal, and every party's share.

        Raises:
            LocalProtocolError: there is no deal yet.
        """
        if self._deal is None:
            raise LocalProtocolError("the dealer has not dealt yet")
        return RecordDict({**self.shares(), DEAL: ConfigRecord({DEAL: self._deal})})

    def take_tags(self, party: str, content: RecordDict) -> None:
        """Take in the tags of `party`; nothing changes if they are refused.

        Raises:
            PolicyDenied: it takes no part, or they are more than its cap.
            FormatError: not (tags, 2) int64, or one is there twice.
        """
        found = array_of(content, TAGS, TAGS, dtype="int64", shape=(None, 2))
        self._terms.demand_size(party, len(found))
        if party in self._tags:
            return
        refuse_duplicates(found)
        self._tags[party] = found

    def positions(self, party: str) -> RecordDict:
        """Return which of its records all parties have, by their places in what `party` sent.

        The order is random, and the same for all parties: the first position of each is of the
        same record. Asked again, the answer is the same.

        Raises:
            PolicyDenied: it takes no part (rule `psi-party`).
            LocalProtocolError: a party's tags are missing yet.
        """
        self._terms.demand_size(party, 0)
        column = self._terms.parties.index(party)
        found = np.ascontiguousarray(self._intersected()[:, column])
        return RecordDict({POSITIONS: ArrayRecord({POSITIONS: found})})

    @property
    def found(self) -> NDArray[Any]:
        """Where the records stand that all parties have: (records, parties) int64, to be kept.

        Raises:
            LocalProtocolError: a party's tags are missing yet.
        """
        return self._intersected()

    def go_on(self, found: NDArray[Any]) -> None:
        """Go on from what was `found`, and kept: the same answers, without tags."""
        self._positions = found

    @property
    def size(self) -> int:
        """How many records all parties have; LocalProtocolError before every party's tags."""
        return len(self._intersected())

    def _intersected(self) -> NDArray[Any]:
        if self._positions is None:
            sets = self._whole(self._tags)
            self._positions = intersect([sets[each] for each in self._terms.parties])
            self._tags = dict.fromkeys(sets, np.empty((0, 2), np.int64))  # not needed any more
        return self._positions

    def _whole(self, found: Mapping[str, Any]) -> dict[str, Any]:
        if len(found) < len(self._terms.keys):
            raise LocalProtocolError("not every party has sent its part yet")
        return dict(found)
