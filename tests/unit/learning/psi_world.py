"""Parties and a coordinator that intersect, and everything that the coordinator saw."""

from collections.abc import Mapping, Sequence

import numpy as np
from carrying import carried

from wardian.crypto.signing import SigningKey
from wardian.learning.psi.coordinator import PsiCoordinator
from wardian.learning.psi.party import PsiParty
from wardian.learning.psi.terms import PsiTerms
from wardian.learning.records import ConfigRecord, RecordDict

RUN = b"run 7"


class PsiWorld:
    def __init__(
        self, sets: Mapping[str, Sequence], *, cap: int = 1000, runs: int = 3, before: int = 0
    ) -> None:
        self.signers = {name: SigningKey.generate() for name in sets}
        self.terms = PsiTerms(
            keys={name: signer.public for name, signer in self.signers.items()},
            caps=dict.fromkeys(sets, cap),
            runs=runs,
        )
        self.coordinator = PsiCoordinator(self.terms, run=RUN, runs_before=before)
        self.parties = {name: self.party(name, each, before) for name, each in sets.items()}
        self.seen: list[RecordDict] = []

    def party(self, name: str, identifiers: Sequence, before: int = 0) -> PsiParty:
        return PsiParty(
            self.terms,
            run=RUN,
            name=name,
            signer=self.signers[name],
            identifiers=identifiers,
            runs_before=before,
        )

    def see(self, content: RecordDict) -> RecordDict:
        self.seen.append(carried(content))
        return self.seen[-1]

    def agree(self) -> RecordDict:
        for name, party in self.parties.items():
            self.coordinator.take_share(name, self.see(party.share()))
        dealer = self.parties[self.coordinator.dealer]
        self.coordinator.take_deal(self.see(dealer.deal(carried(self.coordinator.shares()))))
        return carried(self.coordinator.deal())

    def intersect(self) -> dict[str, np.ndarray]:
        deal = self.agree()
        for name, party in self.parties.items():
            self.coordinator.take_tags(name, self.see(party.tags(deal)))
        return {
            name: party.positions(carried(self.coordinator.positions(name)))
            for name, party in self.parties.items()
        }


def raw_bytes(content: RecordDict) -> bytes:
    """Every byte of what was said."""
    out = b""
    for record in content.values():
        for value in record.values():
            if isinstance(record, ConfigRecord):
                out += value if isinstance(value, bytes) else str(value).encode()
            else:
                out += np.asarray(value).tobytes()
    return out
