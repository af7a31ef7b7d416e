"""An attestation result in everybody's words: the claims of EAR, and AR4SI's trust vector.

    EAR     draft-ietf-rats-ear-04, the JSON form: names of claims, their nesting
    AR4SI   draft-ietf-rats-ar4si, 2.3: eight claims of trustworthiness, each a small number

An `AttestationResult` says that evidence was accepted by a policy. A relying party that does not
know the policy learns from the vector what kind of acceptance it was: accepted with known
vulnerabilities is a warning, and a simulation is contraindicated whatever the policy says.
"""

import enum
from collections.abc import Mapping
from typing import Any, Final

from wardian import __version__
from wardian.attestation.claims import Claims, TcbStatus, TeeKind
from wardian.attestation.results.result import AttestationResult

PROFILE: Final = "tag:ietf.org,2026:rats/ear#04"
"""Which draft the names of the claims are from (draft-ietf-rats-ear-04, section 3)."""
SUBMODULE: Final = "cpu0"
"""What the one appraisal is called; Trustee's name for the first processor."""
SIMULATED: Final = "SIMULATED"

_APPROVED: Final = "MeasurementIn"
_NAMED: Final = frozenset({"SignedBy", "TdRegisterIn"})
_PLATFORM: Final = "PlatformIn"
"""Rules of a policy that stand for a claim of trustworthiness; see the policy file's reference."""

_CONFIGURATION_AT_FAULT: Final = frozenset(
    {
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
        TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
    }
)
_NAMES_THE_MACHINE: Final = frozenset({"ppid"})
"""Left out of tokens: a relying party of the attester need not learn which machine it is on."""


class TrustTier(enum.StrEnum):
    """How trustworthy, in AR4SI's four tiers (section 2.3.2). The later, the worse."""

    NONE = "none"
    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"


_TIERS: Final = tuple(TrustTier)


def tier_of(value: int) -> TrustTier:
    """Return the tier of one claim's value, -128 to 127 (AR4SI, section 2.3.2)."""
    if -1 <= value <= 1:
        return TrustTier.NONE
    if -32 <= value <= 31:
        return TrustTier.AFFIRMING
    if -96 <= value <= 95:
        return TrustTier.WARNING
    return TrustTier.CONTRAINDICATED


def worst_tier(vector: Mapping[str, int]) -> TrustTier:
    """Return the worst tier in a trust vector; `none` where it says nothing."""
    return max((tier_of(value) for value in vector.values()), key=_TIERS.index, default=_TIERS[0])


def trust_vector(result: AttestationResult) -> dict[str, int]:
    """Return what `result` says as AR4SI's claims of trustworthiness (section 2.3.4).

    A claim that nothing is said about is left out, which means the same as 0. Nothing is ever said
    about `file-system`, `storage-opaque` and `sourced-data`: a quote does not show them.
    """
    claims = result.claims
    accepting = {
        part.rule for outcome in result.outcomes for _, part in outcome.walk() if part.accepted
    }
    vector = {
        "instance-identity": 2 if _PLATFORM in accepting else 0,
        "configuration": _configuration(claims, approved=_APPROVED in accepting),
        "executables": _executables(claims, accepting),
        "hardware": _hardware(claims),
        "runtime-opaque": 96 if claims.simulated or claims.debug else 2,
    }
    return {name: value for name, value in vector.items() if value}


def _configuration(claims: Claims, *, approved: bool) -> int:
    """32: exposes known vulnerabilities. 2: known and approved, because it is measured."""
    if claims.tcb_status in _CONFIGURATION_AT_FAULT:
        return 32
    return 2 if approved else 0


def _executables(claims: Claims, accepting: set[str]) -> int:
    """2: approved, at start and later. 3: approved at start, by their signer or by registers."""
    if _APPROVED in accepting:
        return 2 if claims.kind is TeeKind.SGX else 3
    return 3 if accepting & _NAMED else 0


def _hardware(claims: Claims) -> int:
    """2: genuine. 32: genuine, with known vulnerabilities. 96: revoked. 97: not hardware."""
    if claims.simulated:
        return 97
    if claims.tcb_status is TcbStatus.REVOKED:
        return 96
    up_to_date = claims.tcb_status is TcbStatus.UP_TO_DATE and not claims.advisory_ids
    return 2 if up_to_date else 32


def build_appraisal(
    result: AttestationResult, *, policy_id: str, runtime_data: Mapping[str, object]
) -> dict[str, Any]:
    """Return the claims of one appraisal (EAR, section 3.1).

    Args:
        result: what the verifier found.
        policy_id: names the policy that accepted it.
        runtime_data: what the attester's report data is the hash of; the caller compared them.
    """
    claims = result.claims
    vector = trust_vector(result)
    said = {
        name: value
        for name, value in claims.describe().items()
        if name not in _NAMES_THE_MACHINE and name != "report_data"
    }
    return {
        "ear_status": worst_tier(vector).value,
        "ear_trustworthiness_vector": vector,
        "ear_appraisal_policy_ids": [policy_id],
        "ear_attester_claims": {
            "tee": claims.kind.value.lower(),
            "report_data": claims.report_data.hex(),
            "claims": said,
        },
        "ear_verifier_claims": {
            "runtime_data": dict(runtime_data),
            "wardian": {
                "kind": SIMULATED if claims.simulated else claims.kind.value,
                "measurement": claims.measurement.hex(),
                "verified_at": claims.verified_at,
            },
        },
    }


def build_ear(appraisal: Mapping[str, Any], *, issued: int, expires: int) -> dict[str, Any]:
    """Return the claims set of one attester's EAR (section 3), without what a JWT adds.

    Args:
        appraisal: of `build_appraisal`.
        issued: Unix seconds.
        expires: Unix seconds.
    """
    return {
        "eat_profile": PROFILE,
        "iat": issued,
        "exp": expires,
        "ear_status": appraisal["ear_status"],
        "ear_verifier_id": {"developer": "Wardian", "build": f"wardian {__version__}"},
        "submods": {SUBMODULE: dict(appraisal)},
    }
