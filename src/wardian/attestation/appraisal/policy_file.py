"""The appraisal policy as a person writes it: TOML, unknown keys refused, absent means refuse.

`docs/reference/policy-file.md` describes every key, and every rule that comes of them.
"""

from typing import Final

from wardian._internal import settings
from wardian.attestation.appraisal.policy import (
    AdvisoriesNoneOf,
    AdvisoriesWithin,
    AllOf,
    AnyMeasurement,
    AnyPlatform,
    AppraisalPolicy,
    CollateralNoOlderThan,
    KindIn,
    NotDebug,
    OutOfDateWithin,
    PerKind,
    PlatformIn,
    Rule,
    TcbEvaluationAtLeast,
    TcbStatusIn,
)
from wardian.attestation.appraisal.policy_keys import DEFAULT_TCB_STATUSES, Digest, PolicyFile
from wardian.attestation.appraisal.policy_kinds import rules_by_kind
from wardian.attestation.appraisal.rules_hardware import (
    FmspcIn,
    NoCachedKeys,
    NoSmt,
    NotDynamicPlatform,
    SgxTypeIn,
)
from wardian.attestation.appraisal.rules_platform import OUT_OF_DATE
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.claims import TcbStatus, TeeKind
from wardian.errors import ConfigError

__all__ = ["Digest", "PolicyFile", "build_policy", "default_policy", "load_policy"]

RISK_ACCEPTED: Final = "risk accepted"
_SGX_TYPES: Final = {"Standard": 0, "Scalable": 1, "ScalableWithIntegrity": 2}


def load_policy(raw: bytes, *, name: str = "policy") -> AppraisalPolicy:
    """Return the policy in `raw`.

    Args:
        raw: TOML, at most 1 MiB.
        name: the file's name for messages.

    Raises:
        ConfigError: not TOML, an unknown key, a wrong or empty value, keys that contradict each
            other, or it would accept any attester or any machine without saying so.
    """
    return build_policy(settings.parse(raw, PolicyFile, name=name), name=name)


def default_policy() -> AppraisalPolicy:
    """Return what evidence is judged by when nobody gives a policy: is it current hardware?

    It accepts whatever runs there, on any machine of Intel's that is in one of the states that a
    policy file accepts by default and that no advisory applies to. Good for a first look at a
    quote, and for nothing that data or keys depend on.
    """
    return AppraisalPolicy(
        roots=frozenset({INTEL_ROOT_SHA256}),
        rule=AllOf(
            KindIn(frozenset(TeeKind)),
            NotDebug(),
            AnyMeasurement(),
            AnyPlatform(),
            TcbStatusIn(DEFAULT_TCB_STATUSES),
            AdvisoriesWithin(frozenset()),
        ),
    )


def build_policy(file: PolicyFile, *, name: str = "policy") -> AppraisalPolicy:
    """Return the policy that the keys of `file` state.

    Raises:
        ConfigError: as `load_policy`.
    """
    by_kind = rules_by_kind(file, name=name)
    attester: tuple[Rule, ...] = (
        (PerKind({kind: AllOf(*rules) for kind, rules in by_kind.items()}),)
        if len(by_kind) > 1
        else next(iter(by_kind.values()))
    )
    return AppraisalPolicy(
        roots=frozenset({_root(file, name)}),
        rule=AllOf(
            KindIn(frozenset(by_kind)),
            NotDebug(),
            *attester,
            _platform(file, name),
            *_construction(file),
            *_tcb(file, name),
            *_collateral(file),
        ),
    )


def _root(file: PolicyFile, name: str) -> bytes:
    """Return the one root: Intel's, unless the file names that of a simulation."""
    if file.simulation_root_sha256 is None:
        return INTEL_ROOT_SHA256
    root = bytes.fromhex(file.simulation_root_sha256)
    if root == INTEL_ROOT_SHA256:
        raise ConfigError(f"{name}: simulation_root_sha256 is Intel's root; leave the key out")
    return root


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


def _construction(file: PolicyFile) -> list[Rule]:
    """Return the rules about how the machine is built and set up."""
    rules: list[Rule] = []
    if file.fmspcs is not None:
        rules.append(FmspcIn(frozenset(bytes.fromhex(one) for one in file.fmspcs)))
    if file.sgx_types is not None:
        rules.append(SgxTypeIn(frozenset(_SGX_TYPES[one] for one in file.sgx_types)))
    if file.refuse_dynamic_platform:
        rules.append(NotDynamicPlatform())
    if file.refuse_cached_keys:
        rules.append(NoCachedKeys())
    if file.refuse_smt:
        rules.append(NoSmt())
    return rules


def _tcb(file: PolicyFile, name: str) -> list[Rule]:
    """Return the rules about the state of the platform."""
    if TcbStatus.REVOKED in file.tcb_statuses:
        raise ConfigError(f"{name}: tcb_statuses: Revoked cannot be accepted")
    rules: list[Rule] = [TcbStatusIn(file.tcb_statuses)]
    if file.out_of_date_grace_s is not None:
        if not file.tcb_statuses & OUT_OF_DATE:
            raise ConfigError(
                f"{name}: out_of_date_grace_s limits a state that tcb_statuses does not accept; "
                "name OutOfDate there too, or leave the key out"
            )
        rules.append(OutOfDateWithin(file.out_of_date_grace_s))
    if file.denied_advisories is not None:
        rules.append(AdvisoriesNoneOf(file.denied_advisories))
    rules.append(AdvisoriesWithin(file.advisories))
    return rules


def _collateral(file: PolicyFile) -> list[Rule]:
    """Return the rules about what the vendor signed, and when."""
    rules: list[Rule] = []
    if file.min_tcb_evaluation_number is not None:
        rules.append(TcbEvaluationAtLeast(file.min_tcb_evaluation_number))
    if file.max_collateral_age_s is not None:
        rules.append(CollateralNoOlderThan(file.max_collateral_age_s))
    return rules
