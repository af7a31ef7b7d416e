"""The verifier's verdict on acceptable evidence."""

from dataclasses import dataclass

from wardian.attestation.appraisal.rule import Outcome
from wardian.attestation.claims import Claims


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """Evidence that was genuine, bound to what was asked for, and accepted by a policy.

    Only `verifier.verify_evidence` makes one, so whoever holds one need not ask again.
    There is no result that says no: refusals raise.

    Attributes:
        claims: what the evidence says.
        outcomes: the root's outcome and the rule's, each with those inside it.
    """

    claims: Claims
    outcomes: tuple[Outcome, ...]
