"""The books of a run's privacy: what may be spent, what was, and that nobody forgets it. Pure.

A round is entered before its result leaves: who answered, a digest of what they sent, the noise.
What would go beyond the budget is refused before the round starts. A round that was entered is not
worked out again from other answers: the same ones give the same result (`noise.Randomness`), and
that costs nothing more; others would be a second release.

Entries form a chain of hashes that begins with the budget. The ledger is bytes for somebody else to
seal; an older copy, or one that went another way, has another head than the one that was told to
the parties or counted (`verify_head`).
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.errors import ConfigError, FormatError, PolicyDenied, StateRolledBack
from wardian.learning.privacy.accounting import (
    Method,
    Releases,
    Sampling,
    epsilon_of,
    verify_budget,
)

MOST_ENTRIES: Final = 8192
"""So that a ledger fits into a record."""
START: Final = "wardian privacy ledger v1"
ENTRY: Final = "wardian privacy entry v1"
COHORT: Final = "wardian privacy cohort v1"

Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Accountant = Callable[[Sequence[Releases], float], float]
"""Returns the epsilon of releases at a delta."""


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan grants, and how it is counted.

    Attributes:
        run: 32 bytes that name the run.
        epsilon: above 0.
        delta: above 0 and below 1; far below one divided by the number of parties.
        parties: of the run.
        rate: the share of the parties that is asked in a round.
        sampling: how they are chosen.
        method: by which accountant.
    """

    run: Digest
    epsilon: float
    delta: float
    parties: int
    rate: float = 1.0
    sampling: Sampling = Sampling.OPEN
    method: Method = "rdp"

    def verify(self) -> None:
        """Return if these can be terms; raise ConfigError if not."""
        verify_budget(epsilon=self.epsilon, delta=self.delta)
        self.releases(0, noise=1.0)
        if len(self.run) != 32:
            raise ConfigError("privacy: a run is named by 32 bytes")

    def releases(self, rounds: int, *, noise: float) -> Releases:
        """Return so many rounds with `noise`; ConfigError if a number is out of range."""
        return Releases(
            rounds=rounds,
            noise=noise,
            rate=self.rate,
            parties=self.parties,
            sampling=self.sampling,
        )


class Spend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True):
    """One round's entry.

    Attributes:
        round: from 1.
        cohort: `cohort_digest` of who answered.
        inputs: 32 bytes that stand for everything that goes into the result.
        noise: the noise multiplier.
    """

    round: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    cohort: Digest
    inputs: Digest
    noise: float


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    terms: Terms
    spends: Annotated[list[Spend], msgspec.Meta(max_length=MOST_ENTRIES)]


class Ledger:
    """What a run has spent so far. It does not change: `debit` returns the next one.

    Attributes:
        terms: the budget.
        spends: the entries, in the order of their rounds.
        head: of the chain, 32 bytes: who knows it knows all entries.
        accountant: what counts them.
    """

    __slots__ = ("accountant", "head", "spends", "terms")

    def __init__(
        self,
        terms: Terms,
        *,
        spends: Iterable[Spend] = (),
        accountant: Accountant | None = None,
    ) -> None:
        """Hold `spends` under `terms`.

        Args:
            terms: the budget.
            spends: what was entered so far.
            accountant: None: `dp-accounting`, by the terms' method.

        Raises:
            ConfigError: a number is out of range.
            FormatError: the rounds are not in order, or a digest is not of 32 bytes.
        """
        terms.verify()
        self.terms, self.spends = terms, tuple(spends)
        self.accountant = accountant or _by(terms.method)
        self.head = hashlib.sha256(wire.fields(START, msgspec.msgpack.encode(terms))).digest()
        last = 0
        for spend in self.spends:
            terms.releases(1, noise=spend.noise)
            if spend.round <= last or {len(spend.cohort), len(spend.inputs)} != {32}:
                raise FormatError("privacy ledger: the rounds are not in order, or not whole")
            last = spend.round
            self.head = _next(self.head, spend)

    def spent(self) -> float:
        """Return the epsilon, at the terms' delta, of all entries."""
        return self._epsilon(self.spends)

    def admit(self, number: int, *, noise: float) -> None:
        """Return if round `number` may start: its result can be entered, or is already.

        Raises:
            PolicyDenied: it would exceed the budget (rule `privacy-budget`), or comes after a later
                one (`privacy-order`).
            ConfigError: a number is out of range.
        """
        self.terms.releases(1, noise=noise)
        entered = self._entered(number)
        if entered is None:
            nobody = bytes(32)
            self._afford(Spend(round=number, cohort=nobody, inputs=nobody, noise=noise))
        elif entered.noise != noise:
            raise PolicyDenied(
                f"round {number} was entered with another noise", rule="privacy-rerun"
            )

    def debit(self, spend: Spend) -> "Ledger":
        """Return the ledger with `spend` entered: seal it before the round's result leaves.

        Raises:
            PolicyDenied: it would exceed the budget (rule `privacy-budget`); its round was entered
                with another cohort (`privacy-cohort`) or other inputs or noise (`privacy-rerun`),
                or comes after a later one (`privacy-order`).
            ConfigError: a number is out of range.
        """
        self.terms.releases(1, noise=spend.noise)
        entered = self._entered(spend.round)
        if entered == spend:
            return self
        if entered is not None:
            cohort = entered.cohort != spend.cohort
            raise PolicyDenied(
                f"round {spend.round} was entered with "
                + ("another cohort" if cohort else "other answers"),
                rule="privacy-cohort" if cohort else "privacy-rerun",
            )
        self._afford(spend)
        return Ledger(self.terms, spends=(*self.spends, spend), accountant=self.accountant)

    def encode(self) -> bytes:
        """Return the ledger as bytes, in one form."""
        return msgspec.msgpack.encode(_Written(terms=self.terms, spends=list(self.spends)))

    @classmethod
    def decode(cls, raw: bytes, *, terms: Terms, accountant: Accountant | None = None) -> "Ledger":
        """Return the ledger in `raw`. Hold it against a head, unless who sealed it did.

        Args:
            raw: of `encode`.
            terms: the plan's: the ledger's are the same.
            accountant: see `Ledger`.

        Raises:
            FormatError: it is none, or none that was written here.
            PolicyDenied: it was kept under other terms (rule `privacy-terms`).
        """
        try:
            written = msgspec.msgpack.decode(raw, type=_Written)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            raise FormatError("privacy ledger: does not parse") from err
        if written.terms != terms:
            raise PolicyDenied("the ledger was kept under other terms", rule="privacy-terms")
        try:
            found = cls(terms, spends=written.spends, accountant=accountant)
        except ConfigError as err:
            raise FormatError("privacy ledger: a number is out of range") from err
        if found.encode() != raw:
            raise FormatError("privacy ledger: not in the one form")
        return found

    def verify_head(self, head: bytes) -> None:
        """Return if this is the ledger whose newest entry has `head`.

        Raises:
            StateRolledBack: it is older, or went another way.
        """
        if head != self.head:
            raise StateRolledBack(
                "the privacy ledger is not the newest: an older copy, or another one, was put in "
                "its place"
            )

    def _entered(self, number: int) -> Spend | None:
        return next((spend for spend in self.spends if spend.round == number), None)

    def _afford(self, spend: Spend) -> None:
        if spend.round < 1 or (self.spends and spend.round < self.spends[-1].round):
            raise PolicyDenied(f"round {spend.round} comes after a later one", rule="privacy-order")
        within = len(self.spends) < MOST_ENTRIES
        if not within or not self._epsilon((*self.spends, spend)) <= self.terms.epsilon:
            raise PolicyDenied(
                f"round {spend.round} would exceed the privacy budget", rule="privacy-budget"
            )

    def _epsilon(self, spends: Sequence[Spend]) -> float:
        noises = [spend.noise for spend in spends]
        each = [
            self.terms.releases(noises.count(noise), noise=noise) for noise in sorted(set(noises))
        ]
        found = self.accountant(each, self.terms.delta)
        return math.inf if math.isnan(found) else found


def cohort_digest(parties: Iterable[str]) -> bytes:
    """Return 32 bytes that stand for these parties, in any order."""
    names = sorted(party.encode() for party in parties)
    return hashlib.sha256(wire.fields(COHORT, *names)).digest()


def _next(head: bytes, spend: Spend) -> bytes:
    entry = wire.fields(ENTRY, head, msgspec.msgpack.encode(spend))
    return hashlib.sha256(entry).digest()


def _by(method: Method) -> Accountant:
    return lambda releases, delta: epsilon_of(releases, delta=delta, method=method)
