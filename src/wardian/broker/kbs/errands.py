"""What the KBS desk cannot answer by itself: evidence to verify, a secret to release.

An errand touches no session, so other requests are served while it is carried out.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from wardian.attestation.evidence import Evidence
from wardian.attestation.results.result import AttestationResult
from wardian.broker.kbs.messages import Attestation, ResourcePath
from wardian.broker.kbs.sessions import Attested, Session
from wardian.crypto.secret import Secret
from wardian.errors import WardianError

Appraise: TypeAlias = Callable[[Evidence, bytes], Awaitable[AttestationResult]]
"""Verifies evidence that has to be bound to 64 bytes, or raises; fetches the collateral."""
Release: TypeAlias = Callable[[AttestationResult, ResourcePath, bytes], Secret]
"""Returns a secret whose owner agreed to this way of releasing it, and to this attester.

The third argument is the digest of the evidence, 32 bytes, for the audit line. Raises
`PolicyDenied` where an owner did not agree, `RequestError` with status 404 where nothing can have
this name (see `messages.secret_name`).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """An errand: verify this evidence.

    Attributes:
        evidence: a quote, and no collateral: clients of this protocol send none.
        report_data: what it has to be bound to, 64 bytes.
    """

    evidence: Evidence
    report_data: bytes
    session: Session
    attestation: Attestation


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An errand: release this secret to this attester, if both policies allow it."""

    resource: ResourcePath
    attested: Attested


Errand: TypeAlias = Appraisal | Delivery
Outcome: TypeAlias = AttestationResult | Secret | Exception


async def carry_out(errand: Errand, *, appraise: Appraise, release: Release) -> Outcome:
    """Return what came of `errand`.

    An error of ours is an outcome. Whoever catches any other gives it to `conclude` as well.
    """
    try:
        if isinstance(errand, Appraisal):
            return await appraise(errand.evidence, errand.report_data)
        attested = errand.attested
        return release(attested.result, errand.resource, attested.evidence_digest)
    except WardianError as err:
        return err
