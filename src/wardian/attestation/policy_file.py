"""The appraisal policy as a person writes it: TOML, unknown keys refused, absent means refuse.

`docs/reference/policy-file.md` describes every key.
"""

from typing import Annotated

import msgspec

from wardian._internal import settings
from wardian.attestation.claims import TcbStatus
from wardian.attestation.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.policy import (
    AdvisoriesWithin,
    AllOf,
    AnyOf,
    AnyPlatform,
    AppraisalPolicy,
    CollateralNoOlderThan,
    MeasurementIn,
    NotDebug,
    PlatformIn,
    Rule,
    SignedBy,
    TcbEvaluationAtLeast,
    TcbStatusIn,
)
from wardian.errors import ConfigError

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{64}$")]
"""SHA-256 in hex."""

PlatformId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{32}$")]
"""A PPID in hex."""

U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
RISK_ACCEPTED = "risk accepted"


class PolicyFile(settings.Settings, frozen=True, kw_only=True):
    """The keys of a policy file; see `docs/reference/policy-file.md`."""

    measurements: frozenset[Digest] = frozenset()
    signer: Digest | None = None
    product_id: U16 | None = None
    min_svn: U16 | None = None
    simulation_root_sha256: Digest | None = None
    tcb_statuses: frozenset[TcbStatus] = frozenset({TcbStatus.UP_TO_DATE})
    advisories: frozenset[str] = frozenset()
    platforms: frozenset[PlatformId] = frozenset()
    any_platform: str | None = None
    min_tcb_evaluation_number: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_collateral_age_s: Annotated[int, msgspec.Meta(ge=1)] | None = None


def load_policy(raw: bytes, *, name: str = "policy") -> AppraisalPolicy:
    """Return the policy in `raw`.

    Args:
        raw: TOML, at most 1 MiB.
        name: the file's name for messages.

    Raises:
        ConfigError: not TOML, an unknown key, a wrong value, or it would accept any enclave or
            any machine without saying so.
    """
    return build_policy(settings.parse(raw, PolicyFile, name=name), name=name)


def build_policy(file: PolicyFile, *, name: str = "policy") -> AppraisalPolicy:
    """Return the policy that the keys of `file` state.

    Raises:
        ConfigError: as `load_policy`.
    """
    rules: list[Rule] = [
        NotDebug(),
        AnyOf(*_identity(file, name)),
        _platform(file, name),
        TcbStatusIn(file.tcb_statuses),
        AdvisoriesWithin(file.advisories),
    ]
    if file.min_tcb_evaluation_number is not None:
        rules.append(TcbEvaluationAtLeast(file.min_tcb_evaluation_number))
    if file.max_collateral_age_s is not None:
        rules.append(CollateralNoOlderThan(file.max_collateral_age_s))
    return AppraisalPolicy(roots=frozenset({_root(file, name)}), rule=AllOf(*rules))


def _root(file: PolicyFile, name: str) -> bytes:
    """Return the one root: Intel's, unless the file names that of a simulation."""
    if file.simulation_root_sha256 is None:
        return INTEL_ROOT_SHA256
    root = bytes.fromhex(file.simulation_root_sha256)
    if root == INTEL_ROOT_SHA256:
        raise ConfigError(f"{name}: simulation_root_sha256 is Intel's root; leave the key out")
    return root


def _identity(file: PolicyFile, name: str) -> list[Rule]:
    """Return the rules of which one has to accept the enclave itself."""
    rules: list[Rule] = []
    if file.measurements:
        rules.append(MeasurementIn(frozenset(bytes.fromhex(one) for one in file.measurements)))
    parts = (file.signer, file.product_id, file.min_svn)
    if file.signer is not None and file.product_id is not None and file.min_svn is not None:
        rules.append(SignedBy(bytes.fromhex(file.signer), file.product_id, file.min_svn))
    elif any(part is not None for part in parts):
        raise ConfigError(f"{name}: signer, product_id and min_svn go together; name all three")
    if not rules:
        raise ConfigError(
            f"{name}: names no enclave; list measurements, or signer, product_id and min_svn"
        )
    return rules


def _platform(file: PolicyFile, name: str) -> Rule:
    """Return the rule for the machine. A simulated one is named by its root already."""
    if file.any_platform not in {None, RISK_ACCEPTED}:
        raise ConfigError(f'{name}: any_platform can only be "{RISK_ACCEPTED}"')
    if file.platforms and file.any_platform:
        raise ConfigError(f"{name}: platforms and any_platform exclude each other")
    if file.platforms:
        return PlatformIn(frozenset(bytes.fromhex(one) for one in file.platforms))
    if file.any_platform or file.simulation_root_sha256:
        return AnyPlatform()
    raise ConfigError(
        f'{name}: names no machine; list platforms (PPIDs), or write any_platform = "risk accepted"'
    )
