"""Rules about how a machine is built and set up, as its vendor's PCK certificate states it.

Source: "Intel SGX PCK Certificate and Certificate Revocation List Profile Specification", the SGX
extensions `FMSPC`, `SGX Type` and `Configuration`. The last (`DynamicPlatform`, `CachedKeys`,
`SMTEnabled`) stands only in certificates of the Platform CA, for machines that their vendor has
registered: where it is not said, a rule that asks for it refuses.
"""

from dataclasses import dataclass

from wardian.attestation.appraisal.rule import NamedRule, Outcome
from wardian.attestation.claims import Claims


@dataclass(frozen=True, slots=True)
class FmspcIn(NamedRule):
    """Accepts the named models of platform, each by its FMSPC of 6 bytes."""

    fmspcs: frozenset[bytes]

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the platform is of one of the named models."""
        accepted = claims.fmspc in self.fmspcs
        state = "is one that" if accepted else "is not one that"
        reason = f"platform model {claims.fmspc.hex()} {state} the policy names"
        return self.says(accepted=accepted, reason=reason)


@dataclass(frozen=True, slots=True)
class SgxTypeIn(NamedRule):
    """Accepts platforms of the named types.

    Attributes:
        types: 0 standard: client processors, whose memory has integrity and freshness; 1 scalable:
            all memory encrypted, without integrity; 2 scalable with integrity.
    """

    types: frozenset[int]

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the platform is of one of the named types."""
        accepted = claims.sgx_type in self.types
        verb = "accepted" if accepted else "not accepted"
        return self.says(accepted=accepted, reason=f"SGX type {claims.sgx_type}: {verb}")


@dataclass(frozen=True, slots=True)
class NotDynamicPlatform(NamedRule):
    """Accepts platforms whose vendor says that no processor can be added to them."""

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether it is known that the platform is closed."""
        return _known_false(self, claims.dynamic_platform, "processors can be added")


@dataclass(frozen=True, slots=True)
class NoCachedKeys(NamedRule):
    """Accepts platforms whose vendor says that it keeps none of their root keys."""

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether it is known that the platform's root keys are its own alone."""
        return _known_false(self, claims.cached_keys, "the vendor keeps the platform's root keys")


@dataclass(frozen=True, slots=True)
class NoSmt(NamedRule):
    """Accepts platforms whose vendor says that simultaneous multithreading is off.

    With it a host can run its own code on the sibling of the core that runs the attester.
    """

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether it is known that no core is shared by two threads."""
        return _known_false(self, claims.smt_enabled, "simultaneous multithreading is on")


def _known_false(rule: NamedRule, found: bool | None, what: str) -> Outcome:  # noqa: FBT001 (a claim)
    """Return the outcome of a rule that wants `what` to be false, and known to be."""
    state = {None: "not known", True: "true", False: "false"}[found]
    return rule.says(accepted=found is False, reason=f"{what}: {state}")
