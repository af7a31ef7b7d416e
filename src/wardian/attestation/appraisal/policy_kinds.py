"""From the keys of a policy file to the rules for each kind of TEE that the file accepts.

A kind is accepted where the file says who may be it: measurements name enclaves and trust domains
alike, a signer names enclaves, registers name trust domains. What a file does not say about the
launch of either has to be nothing: configuration that nobody named may change what the code does.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final

from wardian.attestation.appraisal.bit_mask import BitMask
from wardian.attestation.appraisal.policy import AllOf, AnyOf, MeasurementIn, Rule
from wardian.attestation.appraisal.policy_keys import BitsTable, PolicyFile, SgxTable, TdxTable
from wardian.attestation.appraisal.rules_sgx import (
    NO_CONFIG_ID,
    ConfigIdIn,
    FlagsMatch,
    MiscSelectMatch,
    SignedBy,
    XfrmMatch,
)
from wardian.attestation.appraisal.rules_tdx import (
    NO_REGISTER,
    TdAttributesMatch,
    TdRegisterIn,
    TeeTcbSvnAtLeast,
    XfamMatch,
)
from wardian.attestation.claims import TeeKind
from wardian.errors import ConfigError

_NEEDED: Final = ("mr_td", "rtmr0", "rtmr1", "rtmr2")
"""Without one of them whoever runs the machine chooses the firmware, its tables, or the kernel."""
_LAUNCHED_WITH: Final = ("mr_config_id", "mr_owner", "mr_owner_config")
_IDENTITY: Final = (*_NEEDED, "rtmr3", *_LAUNCHED_WITH)


def rules_by_kind(file: PolicyFile, *, name: str) -> dict[TeeKind, tuple[Rule, ...]]:
    """Return the rules for each kind of TEE that `file` accepts; at least one kind.

    Args:
        file: the keys.
        name: the file's name for messages.

    Raises:
        ConfigError: no attester is named, a group of keys is not complete, or keys are for a kind
            that is not accepted.
    """
    named = {TeeKind.SGX: _enclave(file, name), TeeKind.TDX: _trust_domain(file, name)}
    kinds = {kind for kind, rules in named.items() if rules} if file.kinds is None else file.kinds
    if not any(named.values()):
        raise ConfigError(
            f"{name}: names no enclave and no trust domain; list measurements, or signer, "
            "product_id and min_svn, or the registers of a trust domain under [tdx]"
        )
    for kind in sorted(kinds):
        if not named[kind]:
            raise ConfigError(f"{name}: kinds lists {kind}, and nothing names one to accept")
    _refuse_idle_keys(file, kinds, name)
    return {kind: rules for kind, rules in named.items() if kind in kinds}


def _refuse_idle_keys(file: PolicyFile, kinds: AbstractSet[TeeKind], name: str) -> None:
    """Refuse keys for a kind that is not accepted: whoever wrote them thinks that they count."""
    keys = {
        "signer": (TeeKind.SGX, file.signer),
        "[sgx]": (TeeKind.SGX, file.sgx),
        "[tdx]": (TeeKind.TDX, file.tdx),
    }
    for key, (kind, value) in keys.items():
        if value is not None and kind not in kinds:
            raise ConfigError(f"{name}: {key} is about {kind}, which this policy does not accept")


def _enclave(file: PolicyFile, name: str) -> tuple[Rule, ...]:
    """Return the rules for enclaves; none if the file names no enclave."""
    identity = [*_measured(file), *_signed(file, name)]
    if not identity:
        return ()
    table = SgxTable() if file.sgx is None else file.sgx
    return (
        _one_of(identity),
        ConfigIdIn(_unhex(table.config_ids) or frozenset({NO_CONFIG_ID})),
        *_masked(FlagsMatch, table.flags, f"{name}: sgx.flags"),
        *_masked(XfrmMatch, table.xfrm, f"{name}: sgx.xfrm"),
        *_masked(MiscSelectMatch, table.misc_select, f"{name}: sgx.misc_select"),
    )


def _trust_domain(file: PolicyFile, name: str) -> tuple[Rule, ...]:
    """Return the rules for trust domains; none if the file names no trust domain."""
    table = TdxTable() if file.tdx is None else file.tdx
    identity = [*_measured(file), *_registers(table, name)]
    if not identity:
        return ()
    rules: list[Rule] = [
        _one_of(identity),
        *_masked(TdAttributesMatch, table.td_attributes, f"{name}: tdx.td_attributes"),
        *_masked(XfamMatch, table.xfam, f"{name}: tdx.xfam"),
    ]
    if table.mr_seam is not None:
        rules.append(TdRegisterIn("mr_seam", _unhex(table.mr_seam)))
    if table.min_tee_tcb_svn is not None:
        rules.append(TeeTcbSvnAtLeast(bytes.fromhex(table.min_tee_tcb_svn)))
    return tuple(rules)


def _measured(file: PolicyFile) -> list[Rule]:
    """Return the rule that names attesters of every kind by their measurements, if there is one."""
    return [MeasurementIn(_unhex(file.measurements))] if file.measurements else []


def _signed(file: PolicyFile, name: str) -> list[Rule]:
    """Return the rule that names enclaves by their signer, if there is one."""
    if file.signer is not None and file.product_id is not None and file.min_svn is not None:
        return [SignedBy(bytes.fromhex(file.signer), file.product_id, file.min_svn)]
    if (file.signer, file.product_id, file.min_svn) != (None, None, None):
        raise ConfigError(f"{name}: signer, product_id and min_svn go together; name all three")
    return []


def _registers(table: TdxTable, name: str) -> list[Rule]:
    """Return the rule that names trust domains by their registers, if there is one."""
    given = {key: _unhex(getattr(table, key)) for key in _IDENTITY}
    if not any(given.values()):
        return []
    missing = [key for key in _NEEDED if not given[key]]
    if missing:
        raise ConfigError(
            f"{name}: [tdx] names registers, but not {', '.join(missing)}: any firmware, or any "
            "kernel, would be accepted under the others"
        )
    for key in _LAUNCHED_WITH:
        given[key] = given[key] or frozenset({NO_REGISTER})
    return [AllOf(*(TdRegisterIn(key, values) for key, values in given.items() if values))]


def _one_of(rules: list[Rule]) -> Rule:
    """Return a rule that accepts what one of `rules` does; a single one keeps its name."""
    return rules[0] if len(rules) == 1 else AnyOf(*rules)


def _masked(make: Callable[[BitMask], Rule], table: BitsTable | None, key: str) -> list[Rule]:
    """Return the rule for the bits of `table`, if there is one.

    Raises:
        ConfigError: the mask does not fit the field, or the value the mask; it names the `key`.
    """
    if table is None:
        return []
    try:
        return [make(BitMask(mask=table.mask, value=table.value))]
    except ConfigError as err:
        raise ConfigError(f"{key}: {err}") from err


def _unhex(values: frozenset[str] | None) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(value) for value in values or ())
