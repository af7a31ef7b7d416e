"""Rules about the machine: which one it is, in what state, and how current its collateral is."""

from dataclasses import dataclass
from typing import Final

from wardian.attestation.appraisal.rule import NamedRule, Outcome
from wardian.attestation.claims import Claims, TcbStatus
from wardian.errors import ConfigError

OUT_OF_DATE: Final = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})
"""The states of a platform that lacks fixes which its vendor has published."""


@dataclass(frozen=True, slots=True)
class TcbStatusIn(NamedRule):
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
        return self.says(accepted=accepted, reason=reason)


@dataclass(frozen=True, slots=True)
class OutOfDateWithin(NamedRule):
    """Accepts an out-of-date platform whose TCB level dates from at most `seconds` ago.

    A TCB level's date is the day up to which its vendor certified it against every advisory that
    was published (Intel PCS API v4, "TCB Info", `tcbDate`). So the oldest hole that such a platform
    has was made known at most `seconds` before the verification. It is not the day on which a fix
    came out: the time to install one is shorter than `seconds`.

    `TcbStatusIn` has to accept the state as well, and the advisories are judged as ever. "Ago" is
    by the verifier's clock, which inside an enclave is its host's: a host that turns it back has to
    show collateral from before that time, which `TcbEvaluationAtLeast` refuses whatever the clock.
    """

    seconds: int

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the platform is current enough, or not out of date at all."""
        status = claims.tcb_status.value
        if claims.tcb_status not in OUT_OF_DATE:
            return self.says(accepted=True, reason=f"the platform's TCB status is {status}")
        age = claims.verified_at - claims.tcb_date
        accepted = 0 <= age <= self.seconds
        state = "within" if accepted else "not within"
        reason = (
            f"the platform's TCB status is {status}, its TCB level is {age} s old: "
            f"{state} what the policy grants"
        )
        return self.says(accepted=accepted, reason=reason)


@dataclass(frozen=True, slots=True)
class AdvisoriesWithin(NamedRule):
    """Accepts platforms to which no other advisories apply than those named.

    It holds for platforms of every state: since 2026 Intel lists advisories with `UpToDate` too.
    """

    allowed: frozenset[str]

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether every advisory that applies is accepted; a refusal says which is not."""
        others = [advisory for advisory in claims.advisory_ids if advisory not in self.allowed]
        reason = (
            f"advisories apply that are not accepted: {', '.join(others)}"
            if others
            else "no advisory applies that is not accepted"
        )
        return self.says(accepted=not others, reason=reason)


@dataclass(frozen=True, slots=True)
class AdvisoriesNoneOf(NamedRule):
    """Refuses platforms to which a named advisory applies, whatever their state and other rules.

    Upper and lower case are the same here: a spelling never lets a platform pass.
    """

    denied: frozenset[str]

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether no denied advisory applies; a refusal says which does."""
        denied = {advisory.upper() for advisory in self.denied}
        found = [advisory for advisory in claims.advisory_ids if advisory.upper() in denied]
        reason = (
            f"advisories apply that the policy denies: {', '.join(found)}"
            if found
            else "no advisory applies that the policy denies"
        )
        return self.says(accepted=not found, reason=reason)


@dataclass(frozen=True, slots=True)
class CollateralNoOlderThan(NamedRule):
    """Accepts collateral that was issued at most `seconds` before it was verified.

    The time of verification is by the verifier's clock; see `OutOfDateWithin`.
    """

    seconds: int

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the oldest statement about the TCB is young enough."""
        age = claims.verified_at - claims.collateral_issued
        accepted = 0 <= age <= self.seconds
        state = "accepted" if accepted else "not accepted"
        reason = f"the collateral was issued {age} s before it was verified: {state}"
        return self.says(accepted=accepted, reason=reason)


@dataclass(frozen=True, slots=True)
class TcbEvaluationAtLeast(NamedRule):
    """Accepts collateral made after a given TCB recovery, whatever the clock says."""

    number: int

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the collateral's evaluation number is high enough."""
        accepted = claims.tcb_evaluation_number >= self.number
        state = "new enough" if accepted else "older than the policy accepts"
        reason = f"TCB evaluation data number {claims.tcb_evaluation_number}: {state}"
        return self.says(accepted=accepted, reason=reason)


@dataclass(frozen=True, slots=True)
class PlatformIn(NamedRule):
    """Accepts the named machines, each by its PPID of 16 bytes. Empty refuses everything.

    An attestation key that somebody took out of another machine's chip (WireTap, TEE.fail) signs
    quotes that verify; this rule bounds the damage to machines whose keeper is known.
    """

    ppids: frozenset[bytes]

    def appraise(self, claims: Claims) -> Outcome:
        """Return whether the machine is one of the named ones."""
        accepted = claims.ppid in self.ppids
        state = "is one that" if accepted else "is not one that"
        reason = f"platform {claims.ppid.hex()} {state} the policy names"
        return self.says(accepted=accepted, reason=reason)


@dataclass(frozen=True, slots=True)
class AnyPlatform(NamedRule):
    """Accepts every machine; the outcome says that somebody took this risk."""

    def appraise(self, claims: Claims) -> Outcome:
        """Return acceptance, with the risk spelled out."""
        reason = f"platform {claims.ppid.hex()}: any platform, risk accepted"
        return self.says(accepted=True, reason=reason)
