"""What is said of evidence: is it accepted, and if not, by what is it refused?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wardian.attestation.appraisal.policy import AppraisalPolicy, Outcome
from wardian.attestation.appraisal.rules_tdx import REGISTERS, register_of
from wardian.attestation.claims import Claims, SgxReport
from wardian.errors import AttestationError, FormatError, PolicyDenied, WardianError

REFUSED: Final = 3
"""The exit status that says no."""

REFUSALS: Final = (FormatError, AttestationError, PolicyDenied)
"""The errors that are a verdict on evidence; the others are about this machine or the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a policy says of evidence.

    Attributes:
        refused_by: the rule, or the class of the error, that refuses; None: it is accepted.
        reason: of the refusal or the acceptance, for a person.
        claims: what the evidence says; None where it could not be verified.
        outcomes: each rule of the policy, and what it says; empty where `claims` is None.
    """

    refused_by: str | None
    reason: str
    claims: Claims | None = None
    outcomes: tuple[Outcome, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether the evidence is genuine and every rule accepts it."""
        return self.refused_by is None

    @property
    def exit_status(self) -> int:
        """0 or `REFUSED`."""
        return 0 if self.accepted else REFUSED

    @property
    def decider(self) -> Outcome | None:
        """The outcome that decided: the first refusal's, or the last acceptance's.

        None where no rule did: the evidence could not be verified, or something else refuses it.
        """
        refusals = tuple(outcome for outcome in self.outcomes if not outcome.accepted)
        decisive = refusals[:1] or (self.outcomes[-1:] if self.accepted else ())
        return decisive[0].decider if decisive else None


def judge(verify: Callable[[], Claims], policy: AppraisalPolicy) -> Verdict:
    """Return what `policy` says of the claims that `verify` returns, or why it returns none.

    Args:
        verify: returns claims, or raises one of `REFUSALS`.
        policy: judges them.
    """
    try:
        claims = verify()
    except REFUSALS as err:
        return refused(err)
    outcomes = policy.explain(claims)
    refusal = next((outcome for outcome in outcomes if not outcome.accepted), None)
    if refusal is None:
        return Verdict(
            refused_by=None, reason="every rule accepts", claims=claims, outcomes=outcomes
        )
    decider = refusal.decider
    return Verdict(refused_by=decider.rule, reason=decider.reason, claims=claims, outcomes=outcomes)


def refused(
    err: WardianError, *, claims: Claims | None = None, outcomes: tuple[Outcome, ...] = ()
) -> Verdict:
    """Return the verdict that `err`, one of `REFUSALS`, is."""
    return Verdict(
        refused_by=err.rule if isinstance(err, PolicyDenied) else type(err).__name__,
        reason=str(err),
        claims=claims,
        outcomes=outcomes,
    )


def document(verdict: Verdict) -> dict[str, object]:
    """Return the verdict for a program. What could not be verified is null."""
    claims, decider = verdict.claims, verdict.decider
    return {
        "accepted": verdict.accepted,
        "refused_by": verdict.refused_by,
        "reason": verdict.reason,
        "kind": None if claims is None else claims.describe()["kind"],
        "tcb_status": None if claims is None else claims.tcb_status,
        "advisory_ids": None if claims is None else claims.advisory_ids,
        "measurements": None if claims is None else measurements_of(claims),
        "claims": None if claims is None else claims.describe(),
        "rules": [
            {
                "rule": outcome.rule,
                "accepted": outcome.accepted,
                "reason": outcome.reason,
                "depth": depth,
                "decided": outcome is decider,
            }
            for top in verdict.outcomes
            for depth, outcome in top.walk()
        ],
    }


def measurements_of(claims: Claims) -> dict[str, str]:
    """Return what says which enclave or trust domain it is, in hex, by the names of its kind."""
    report = claims.report
    if isinstance(report, SgxReport):
        named = {"mr_enclave": report.mr_enclave, "mr_signer": report.mr_signer}
    else:
        named = {register: register_of(report, register) for register in REGISTERS}
    return {
        name: value.hex() for name, value in {"measurement": claims.measurement, **named}.items()
    }
