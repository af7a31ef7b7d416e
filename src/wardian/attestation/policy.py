"""The appraisal policy: which verified claims are accepted. Rules compose; empty means refuse.

A rule answers with an `Outcome` that a person understands. A refusal names the rule and quotes
what the evidence says, never what the rule would have wanted: the reader may be the attacker.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from wardian.attestation.claims import Claims, TcbStatus
from wardian.attestation.intel_root import INTEL_ROOT_SHA256
from wardian.errors import ConfigError, PolicyDenied

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one rule says about some claims, and why."""

    rule: str
    accepted: bool
    reason: str


class Rule(Protocol):
    """A condition on claims. Implementations are immutable and have no side effects."""

    @property
    def name(self) -> str:
        """What a refusal and the audit log call this rule."""

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether this rule accepts `claims`."""


def _outcome(rule: Rule, *, accepted: bool, reason: str) -> Outcome:
    return Outcome(rule=rule.name, accepted=accepted, reason=reason)


class _Named:
    """A rule that is called by the name of its class."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name of the class."""
        return type(self).__name__


class AllOf:
    """Accepts what every one of `rules` accepts. Without rules: refuses."""

    __slots__ = ("rules",)

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    @property
    def name(self) -> str:
        """The rule with the names of its parts."""
        return f"AllOf({', '.join(rule.name for rule in self.rules)})"

    def appraise(self, claims: Claims) -> Outcome:
        """Return the first refusal among the rules, or acceptance."""
        if not self.rules:
            return _outcome(self, accepted=False, reason="the policy is empty: nothing is accepted")
        for rule in self.rules:
            outcome = rule.appraise(claims)
            if not outcome.accepted:
                return outcome
        return _outcome(self, accepted=True, reason="every rule accepts")


class AnyOf:
    """Accepts what at least one of `rules` accepts. Without rules: refuses."""

    __slots__ = ("rules",)

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    @property
    def name(self) -> str:
        """The rule with the names of its parts."""
        return f"AnyOf({', '.join(rule.name for rule in self.rules)})"

    def appraise(self, claims: Claims) -> Outcome:
        """Return the first acceptance among the rules, or a refusal that quotes them all."""
        outcomes = [rule.appraise(claims) for rule in self.rules]
        for outcome in outcomes:
            if outcome.accepted:
                return _outcome(self, accepted=True, reason=outcome.reason)
        reasons = "; ".join(outcome.reason for outcome in outcomes)
        return _outcome(
            self, accepted=False, reason=reasons or "the policy is empty: nothing is accepted"
        )


@dataclass(frozen=True, slots=True)
class MeasurementIn(_Named):
    """Accepts exactly the enclaves that are named, each by its MRENCLAVE of 32 bytes."""

    measurements: frozenset[bytes]

    def __post_init__(self) -> None:
        _need_digests(self.measurements, "measurement")

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the enclave is one of the named ones."""
        known = claims.mr_enclave in self.measurements
        state = "is one that" if known else "is not one that"
        reason = f"measurement {claims.mr_enclave.hex()} {state} the policy names"
        return _outcome(self, accepted=known, reason=reason)


@dataclass(frozen=True, slots=True)
class SignedBy(_Named):
    """Accepts what one signer signed as one product, from a security version on.

    Attributes:
        mr_signer: MRSIGNER, 32 bytes.
        product_id: ISVPRODID, 0 to 65535. A signer's roles differ in it, so it is never left open.
        min_svn: the lowest ISVSVN that is accepted, 0 to 65535.
    """

    mr_signer: bytes
    product_id: int
    min_svn: int

    def __post_init__(self) -> None:
        _need_digests(frozenset({self.mr_signer}), "signer")

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether signer, product and security version fit."""
        if claims.mr_signer != self.mr_signer:
            reason = f"signer {claims.mr_signer.hex()} is not the one that the policy names"
        elif claims.product_id != self.product_id:
            reason = f"product id {claims.product_id} is not the one that the policy names"
        elif claims.svn < self.min_svn:
            reason = f"security version {claims.svn} is older than the policy accepts"
        else:
            return _outcome(self, accepted=True, reason="signer, product and version fit")
        return _outcome(self, accepted=False, reason=reason)


@dataclass(frozen=True, slots=True)
class TcbStatusIn(_Named):
    """Accepts platforms in one of the named states; `Revoked` cannot be named."""

    statuses: frozenset[TcbStatus]

    def __post_init__(self) -> None:
        if TcbStatus.REVOKED in self.statuses:
            raise ConfigError("a policy cannot accept the TCB status Revoked")

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the platform's state is accepted."""
        accepted = claims.tcb_status in self.statuses
        verb = "accepted" if accepted else "not accepted"
        reason = f"the platform's TCB status is {claims.tcb_status.value}: {verb}"
        return _outcome(self, accepted=accepted, reason=reason)


@dataclass(frozen=True, slots=True)
class AdvisoriesWithin(_Named):
    """Accepts platforms to which no other advisories apply than those named.

    It holds for platforms of every state: since 2026 Intel lists advisories with `UpToDate` too.
    """

    allowed: frozenset[str]

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether every advisory that applies is accepted; a refusal says which is not."""
        others = [advisory for advisory in claims.advisory_ids if advisory not in self.allowed]
        reason = (
            f"security advisories apply that are not accepted: {', '.join(others)}"
            if others
            else "no advisory applies that is not accepted"
        )
        return _outcome(self, accepted=not others, reason=reason)


@dataclass(frozen=True, slots=True)
class NotDebug(_Named):
    """Refuses debug enclaves. The verifier refuses them too: a policy is not the only guard."""

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the enclave's memory is closed to the host."""
        reason = (
            "the enclave runs in debug mode: its host can read its memory"
            if claims.debug
            else "the enclave is not in debug mode"
        )
        return _outcome(self, accepted=not claims.debug, reason=reason)


@dataclass(frozen=True, slots=True)
class CollateralNoOlderThan(_Named):
    """Accepts collateral that was issued at most `seconds` before it was verified."""

    seconds: int

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the oldest statement about the TCB is young enough."""
        age = claims.verified_at - claims.collateral_issued
        accepted = age <= self.seconds
        state = "young enough" if accepted else "older than the policy accepts"
        reason = f"the collateral was issued {age} s before it was verified: {state}"
        return _outcome(self, accepted=accepted, reason=reason)


@dataclass(frozen=True, slots=True)
class TcbEvaluationAtLeast(_Named):
    """Accepts collateral made after a given TCB recovery, whatever the clock says."""

    number: int

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the collateral's evaluation number is high enough."""
        accepted = claims.tcb_evaluation_number >= self.number
        state = "new enough" if accepted else "older than the policy accepts"
        reason = f"TCB evaluation data number {claims.tcb_evaluation_number}: {state}"
        return _outcome(self, accepted=accepted, reason=reason)


@dataclass(frozen=True, slots=True)
class PlatformIn(_Named):
    """Accepts the named machines, each by its PPID of 16 bytes.

    An attestation key that somebody took out of another machine's chip (WireTap, TEE.fail) signs
    quotes that verify; this rule bounds the damage to machines whose keeper is known.
    """

    ppids: frozenset[bytes]

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the machine is one of the named ones."""
        accepted = claims.ppid in self.ppids
        state = "is one that" if accepted else "is not one that"
        reason = f"platform {claims.ppid.hex()} {state} the policy names"
        return _outcome(self, accepted=accepted, reason=reason)


@dataclass(frozen=True, slots=True)
class AnyPlatform(_Named):
    """Accepts every machine; the outcome says that somebody took this risk."""

    def appraise(self, claims: Claims) -> Outcome:
        """Return acceptance, with the risk spelled out."""
        reason = f"platform {claims.ppid.hex()}: any platform, risk accepted"
        return _outcome(self, accepted=True, reason=reason)


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
        _need_digests(self.roots, "root")

    def explain(self, claims: Claims) -> tuple[Outcome, ...]:
        """Return the outcome of the root, of the rule and of each rule inside it, in order."""
        return (
            self.appraise_root(claims.root_sha256),
            *(rule.appraise(claims) for rule in _walk(self.rule)),
        )

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
            PolicyDenied: the root or the rule refuses; the message says why.
        """
        demand(self.appraise_root(claims.root_sha256))
        demand(self.rule.appraise(claims))
        return self.explain(claims)


def demand(outcome: Outcome) -> None:
    """Raise `PolicyDenied` with the reason of `outcome`, unless it accepts."""
    if not outcome.accepted:
        raise PolicyDenied(outcome.reason, rule=outcome.rule)


def _walk(rule: Rule) -> Iterator[Rule]:
    """Yield `rule` and every rule inside it, depth first."""
    yield rule
    if isinstance(rule, AllOf | AnyOf):
        for part in rule.rules:
            yield from _walk(part)


def _need_digests(values: frozenset[bytes], what: str) -> None:
    """Refuse a policy that names something by anything but a SHA-256 digest."""
    if any(len(value) != DIGEST_BYTES for value in values):
        raise ConfigError(f"a policy names each {what} by a digest of {DIGEST_BYTES} bytes")
