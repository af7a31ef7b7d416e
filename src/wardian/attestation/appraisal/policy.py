"""The appraisal policy: which verified claims are accepted. Rules compose; empty means refuse.

The rules that an owner of a mesh states can be had from here; those about one kind of TEE or about
a machine's construction, which only policy files name, are in `rules_sgx`, `rules_tdx` and
`rules_hardware`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from wardian.attestation.appraisal.rule import NamedRule, Outcome, Rule
from wardian.attestation.appraisal.rules_identity import (
    AnyMeasurement,
    KindIn,
    MeasurementIn,
    NotConfigured,
    NotDebug,
    need_digests,
)
from wardian.attestation.appraisal.rules_platform import (
    AdvisoriesNoneOf,
    AdvisoriesWithin,
    AnyPlatform,
    CollateralNoOlderThan,
    OutOfDateWithin,
    PlatformIn,
    TcbEvaluationAtLeast,
    TcbStatusIn,
)
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.claims import Claims, TeeKind
from wardian.errors import PolicyDenied

__all__ = [
    "AdvisoriesNoneOf",
    "AdvisoriesWithin",
    "AllOf",
    "AnyMeasurement",
    "AnyOf",
    "AnyPlatform",
    "AppraisalPolicy",
    "CollateralNoOlderThan",
    "KindIn",
    "MeasurementIn",
    "NotConfigured",
    "NotDebug",
    "OutOfDateWithin",
    "Outcome",
    "PerKind",
    "PlatformIn",
    "Rule",
    "TcbEvaluationAtLeast",
    "TcbStatusIn",
    "demand",
]

_EMPTY = "the policy is empty: nothing is accepted"


class AllOf(NamedRule):
    """Accepts what every one of `rules` accepts. Without rules: refuses."""

    __slots__ = ("rules",)

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def appraise(self, claims: Claims) -> Outcome:
        """Return acceptance, or a refusal that the first of the rules that refuse decides."""
        parts = tuple(rule.appraise(claims) for rule in self.rules)
        refusals = [part for part in parts if not part.accepted]
        if refusals or not parts:
            reason = f"{len(refusals)} of {len(parts)} rules refuse" if parts else _EMPTY
        else:
            reason = "every rule accepts"
        return Outcome(
            rule=self.name,
            accepted=bool(parts) and not refusals,
            reason=reason,
            parts=parts,
            decisive=refusals[0] if refusals else None,
        )


class AnyOf(NamedRule):
    """Accepts what at least one of `rules` accepts. Without rules: refuses."""

    __slots__ = ("rules",)

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def appraise(self, claims: Claims) -> Outcome:
        """Return what the first of the rules that accept decides, or a refusal that quotes all."""
        parts = tuple(rule.appraise(claims) for rule in self.rules)
        accepting = next((part for part in parts if part.accepted), None)
        if accepting is not None:
            reason = f"{accepting.decider.rule} accepts"
        else:
            deciders = [part.decider for part in parts]
            reason = "; ".join(f"{part.rule}: {part.reason}" for part in deciders) or _EMPTY
        return Outcome(
            rule=self.name,
            accepted=accepting is not None,
            reason=reason,
            parts=parts,
            decisive=accepting,
        )


class PerKind(NamedRule):
    """Accepts what the rule for the TEE's own kind accepts. A kind without a rule is refused."""

    __slots__ = ("rules",)

    def __init__(self, rules: Mapping[TeeKind, Rule]) -> None:
        self.rules = dict(rules)

    def appraise(self, claims: Claims) -> Outcome:
        """Return what the rule for the kind of the evidence says; the others are not asked."""
        kind = claims.kind
        if kind not in self.rules:
            reason = f"the TEE is of kind {kind.value}, which no rule of the policy is for"
            return self.says(accepted=False, reason=reason)
        part = self.rules[kind].appraise(claims)
        reason = f"by the rules for {kind.value}"
        return Outcome(
            rule=self.name, accepted=part.accepted, reason=reason, parts=(part,), decisive=part
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalPolicy:
    """Which evidence is accepted.

    Attributes:
        roots: SHA-256 of each accepted root certificate (DER), 32 bytes each: Intel's, or that
            of a simulation. Empty refuses everything.
        rule: what verified claims have to fulfil.
    """

    roots: frozenset[bytes]
    rule: Rule

    def __post_init__(self) -> None:
        need_digests(self.roots, "root")

    def explain(self, claims: Claims) -> tuple[Outcome, ...]:
        """Return the outcome of the root and that of the rule, with those inside it.

        The policy accepts `claims` if all of them accept; `demand` asks the same.
        """
        return (self.appraise_root(claims.root_sha256), self.rule.appraise(claims))

    def appraise_root(self, root_sha256: bytes) -> Outcome:
        """Return whether the root certificate with this digest may vouch for evidence."""
        kind = "hardware" if root_sha256 == INTEL_ROOT_SHA256 else "SIMULATED"
        what = f"evidence is {kind} (root {root_sha256.hex()})"
        if not self.roots:
            reason = f"{what}, and the policy names no root at all: nothing is accepted"
        elif root_sha256 not in self.roots:
            reason = f"{what}, and the policy does not name that root"
        else:
            return Outcome(rule="Root", accepted=True, reason=f"{what}: the policy names that root")
        return Outcome(rule="Root", accepted=False, reason=reason)

    def demand(self, claims: Claims) -> tuple[Outcome, ...]:
        """Return the outcomes, as `explain` does, of claims that this policy accepts.

        Raises:
            PolicyDenied: the root or a rule refuses; the message says why.
        """
        outcomes = self.explain(claims)
        for outcome in outcomes:
            demand(outcome)
        return outcomes


def demand(outcome: Outcome) -> None:
    """Raise `PolicyDenied`, with name and reason of the rule that decided, unless it accepts."""
    if not outcome.accepted:
        decider = outcome.decider
        raise PolicyDenied(decider.reason, rule=decider.rule)
