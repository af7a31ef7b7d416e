"""A rule of an appraisal policy and what it says: what all rules have in common.

A rule answers with an `Outcome` that a person understands. A refusal names the rule and quotes
what the evidence says, never what the rule would have wanted: the reader may be the attacker.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from wardian.attestation.claims import Claims


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a rule says about some claims, and why.

    Attributes:
        rule: the rule's name, which is that of its class; `docs/reference/policy-file.md` lists
            all of them, and they stay.
        accepted: whether the rule accepts the claims.
        reason: what the evidence says, for a person.
        parts: what the rules inside this one say, in order; all of them were asked.
        decisive: the part that this outcome is taken from; None where it is nobody's but its own.
    """

    rule: str
    accepted: bool
    reason: str
    parts: tuple["Outcome", ...] = ()
    decisive: "Outcome | None" = None

    @property
    def decider(self) -> "Outcome":
        """The outcome, this one or one inside it, that decided."""
        found = self
        while found.decisive is not None:
            found = found.decisive
        return found

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "Outcome"]]:
        """Yield this outcome and those inside it, depth first, each with how deep it lies."""
        yield depth, self
        for part in self.parts:
            yield from part.walk(depth + 1)


class Rule(Protocol):
    """A condition on claims. Implementations are immutable and have no side effects."""

    @property
    def name(self) -> str:
        """What a refusal and the audit log call this rule."""

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether this rule accepts `claims`."""


class NamedRule:
    """A rule that is called by the name of its class."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name of the class."""
        return type(self).__name__

    def says(self, *, accepted: bool, reason: str) -> Outcome:
        """Return an outcome of this rule that has no parts."""
        return Outcome(rule=self.name, accepted=accepted, reason=reason)
