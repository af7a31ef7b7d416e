"""What holds for every policy and for all claims: whatever the rules are, whoever sends what."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "attestation"))

from policy_cases import (
    DAY,
    MR_ENCLAVE,
    MR_SIGNER,
    NOW,
    REGISTERS,
    domain,
    domain_claims,
    enclave_claims,
)

from wardian.attestation.appraisal.bit_mask import BitMask
from wardian.attestation.appraisal.policy import (
    AdvisoriesNoneOf,
    AdvisoriesWithin,
    AllOf,
    AnyMeasurement,
    AnyOf,
    AppraisalPolicy,
    CollateralNoOlderThan,
    KindIn,
    MeasurementIn,
    NotDebug,
    OutOfDateWithin,
    PerKind,
    PlatformIn,
    TcbEvaluationAtLeast,
    TcbStatusIn,
)
from wardian.attestation.appraisal.policy_file import load_policy
from wardian.attestation.appraisal.rules_sgx import ConfigIdIn, SignedBy, XfrmMatch
from wardian.attestation.appraisal.rules_tdx import TdAttributesMatch, TdRegisterIn
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.claims import Claims, TcbStatus, TeeKind
from wardian.errors import ConfigError, PolicyDenied

# Few values of each kind, so that claims and rules meet.
BYTES = [b"\1", b"\2", b"\3"]
DIGESTS = [each * 32 for each in BYTES] + [MR_ENCLAVE, domain().measurement]
ADVISORIES = ["INTEL-SA-00615", "INTEL-SA-00289", "INTEL-DOC-10001"]
SIMULATION = b"\7" * 32
MIGRATABLE = bytes.fromhex("0000003000000000")
QUICK = settings(max_examples=150, deadline=None)


def some(values: list[Any], least: int = 0) -> st.SearchStrategy[frozenset[Any]]:
    return st.frozensets(st.sampled_from(values), min_size=least, max_size=3)


def mostly(usual: Any, others: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 2 * len(others) + others)


@st.composite
def claims(draw: st.DrawFn) -> Claims:
    """Claims of either kind; those of a debug enclave too, which no verifier would make."""
    of_platform = {
        "tcb_status": draw(mostly(TcbStatus.UP_TO_DATE, list(TcbStatus))),
        "advisory_ids": tuple(sorted(draw(st.one_of(st.just(frozenset()), some(ADVISORIES))))),
        "tcb_date": NOW - draw(st.integers(0, 3)) * DAY,
        "collateral_issued": NOW - draw(st.integers(0, 3)) * DAY,
        "tcb_evaluation_number": draw(st.integers(15, 18)),
        "root_sha256": draw(mostly(INTEL_ROOT_SHA256, [SIMULATION])),
        "ppid": draw(st.sampled_from(BYTES)) * 16,
        "fmspc": draw(st.sampled_from(BYTES)) * 6,
        "sgx_type": draw(st.integers(0, 2)),
        "smt_enabled": draw(st.sampled_from([None, True, False])),
    }
    if draw(st.booleans()):
        return enclave_claims(
            **of_platform,
            mr_enclave=draw(mostly(MR_ENCLAVE, [b"\1" * 32])),
            mr_signer=draw(mostly(MR_SIGNER, [bytes(32)])),
            svn=draw(st.integers(3, 5)),
            config_id=draw(mostly(bytes(64), [b"\1" * 64])),
            attributes=draw(mostly(b"\5", [b"\7"])) + bytes(15),
        )
    registers = ("mr_td", "rtmr0", "rtmr1", "rtmr2", "mr_owner")
    usual = dict(zip(registers, (b"\xd0", b"\xa0", b"\xa1", b"\xa2", b"\0"), strict=True))
    return domain_claims(
        **of_platform,
        **{name: draw(mostly(usual[name], [b"\1"])) * 48 for name in registers},
        rtmr3=draw(mostly(b"\0", [b"\1"])) * 48,
        td_attributes=draw(mostly(bytes(8), [b"\1" + bytes(7), MIGRATABLE])),
    )


LEAVES = st.one_of(
    st.just(NotDebug()),
    st.just(AnyMeasurement()),
    st.builds(MeasurementIn, some(DIGESTS)),
    st.builds(KindIn, some(list(TeeKind))),
    st.builds(TcbStatusIn, some([each for each in TcbStatus if each is not TcbStatus.REVOKED])),
    st.builds(AdvisoriesWithin, some(ADVISORIES)),
    st.builds(AdvisoriesNoneOf, some(ADVISORIES)),
    st.builds(OutOfDateWithin, st.integers(0, 3 * DAY)),
    st.builds(CollateralNoOlderThan, st.integers(0, 3 * DAY)),
    st.builds(TcbEvaluationAtLeast, st.integers(15, 18)),
    st.builds(PlatformIn, some([each * 16 for each in BYTES])),
    st.builds(SignedBy, st.just(MR_SIGNER), st.just(3), st.integers(3, 5)),
    st.builds(ConfigIdIn, some([bytes(64), b"\1" * 64])),
    st.builds(TdRegisterIn, st.sampled_from(["mr_td", "rtmr3"]), some([b"\1" * 48])),
    st.just(XfrmMatch(BitMask(mask=1, value=0))),
    st.just(TdAttributesMatch(BitMask(mask=1 << 29, value=0))),
)
RULES = st.recursive(
    LEAVES,
    lambda inside: st.one_of(
        st.lists(inside, max_size=4).map(lambda rules: AllOf(*rules)),
        st.lists(inside, max_size=4).map(lambda rules: AnyOf(*rules)),
        st.dictionaries(st.sampled_from(list(TeeKind)), inside).map(PerKind),
    ),
    max_leaves=8,
)


def accepts(policy: AppraisalPolicy, found: Claims) -> bool:
    return all(outcome.accepted for outcome in policy.explain(found))


@QUICK
@given(rules=st.lists(RULES, min_size=1, max_size=4), extra=RULES, found=claims(), at=st.data())
def test_a_rule_more_in_allof_never_turns_a_refusal_into_acceptance(
    rules: list[Any], extra: Any, found: Claims, at: st.DataObject
) -> None:
    # Without any rule AllOf refuses: that there is none is no condition that could be fulfilled.
    place = at.draw(st.integers(0, len(rules)))
    longer = AllOf(*rules[:place], extra, *rules[place:])
    if not AllOf(*rules).appraise(found).accepted:
        assert not longer.appraise(found).accepted
    if longer.appraise(found).accepted:
        assert extra.appraise(found).accepted


@QUICK
@given(rules=st.lists(RULES, max_size=4), extra=RULES, found=claims())
def test_a_rule_more_in_anyof_never_turns_acceptance_into_refusal(
    rules: list[Any], extra: Any, found: Claims
) -> None:
    if AnyOf(*rules).appraise(found).accepted:
        assert AnyOf(*rules, extra).appraise(found).accepted
    elif AnyOf(*rules, extra).appraise(found).accepted:
        assert extra.appraise(found).accepted


@QUICK
@given(rule=RULES, found=claims(), roots=some([INTEL_ROOT_SHA256, SIMULATION]))
def test_explain_and_demand_agree(rule: Any, found: Claims, roots: frozenset[bytes]) -> None:
    policy = AppraisalPolicy(roots=roots, rule=rule)
    outcomes = policy.explain(found)
    refusals = [outcome for outcome in outcomes if not outcome.accepted]
    if not refusals:
        assert policy.demand(found) == outcomes
        return
    decider = refusals[0].decider
    with pytest.raises(PolicyDenied) as refused:
        policy.demand(found)
    assert (refused.value.rule, str(refused.value)) == (decider.rule, decider.reason)
    assert not decider.accepted
    assert any(each is decider for _, each in refusals[0].walk())
    for top in outcomes:  # no outcome contradicts its parts
        for _, each in top.walk():
            said = [part.accepted for part in each.parts]
            if each.rule == "AllOf":
                assert each.accepted == (bool(said) and all(said))
            elif each.rule == "AnyOf":
                assert each.accepted == any(said)
            elif each.rule == "PerKind":
                assert each.accepted == (said == [True])


@QUICK
@given(rule=RULES, found=claims(), denied=some(ADVISORIES, 1), lower=st.booleans())
def test_a_denied_advisory_always_refuses(
    rule: Any, found: Claims, denied: frozenset[str], lower: bool
) -> None:
    ids = tuple(each.lower() if lower else each for each in sorted(denied))
    found = dataclasses.replace(found, advisory_ids=(*found.advisory_ids, *ids))
    for policy in (AllOf(AdvisoriesNoneOf(denied), rule), AllOf(rule, AdvisoriesNoneOf(denied))):
        assert not policy.appraise(found).accepted


# --- files ------------------------------------------------------------------------------------


def hexes(values: frozenset[bytes]) -> list[str]:
    return sorted(value.hex() for value in values)


def listed(values: list[Any]) -> st.SearchStrategy[list[str]]:
    return some(values, 1).map(
        lambda found: hexes(found) if isinstance(values[0], bytes) else sorted(found)
    )


NUMBER = st.integers(1, 4 * DAY)
REGISTER = [each * 48 for each in (b"\0", b"\1", b"\x5e")]
BITS = st.sampled_from([{"mask": 1, "value": 0}, {"mask": 4, "value": 4}])
NARROWING = {
    "kinds": listed([kind.value for kind in TeeKind]),
    "out_of_date_grace_s": NUMBER,
    "denied_advisories": listed(ADVISORIES),
    "min_tcb_evaluation_number": st.integers(15, 18),
    "max_collateral_age_s": NUMBER,
    "fmspcs": listed([each * 6 for each in BYTES]),
    "sgx_types": listed(["Standard", "Scalable", "ScalableWithIntegrity"]),
    "refuse_smt": st.booleans(),
    "sgx.flags": BITS,
    "sgx.misc_select": BITS,
    "tdx.mr_seam": listed(REGISTER),
    "tdx.rtmr3": listed(REGISTER),
    "tdx.td_attributes": BITS,
    "tdx.xfam": BITS,
}
"""Keys whose presence only ever refuses more."""
WIDENING = {
    "measurements": some(DIGESTS).map(lambda found: hexes(found | {MR_ENCLAVE})),
    "signer": st.just(MR_SIGNER.hex()),
    "product_id": st.just(3),
    "min_svn": st.integers(3, 5),
    "advisories": listed(ADVISORIES),
    "any_platform": st.just("risk accepted"),
    **{
        f"tdx.{name}": listed([REGISTERS[name], b"\1" * 48])
        for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2")
    },
}
"""Keys whose absence only ever refuses more, or is an error."""
OTHER = {
    "platforms": listed([each * 16 for each in BYTES]),
    "simulation_root_sha256": st.just(SIMULATION.hex()),
    "tcb_statuses": listed(["UpToDate", "SWHardeningNeeded", "OutOfDate"]),
    "sgx.config_ids": listed([bytes(64), b"\1" * 64]),
    "tdx.mr_owner": listed(REGISTER),
}
"""Keys whose absence means something else: it may refuse what they accept, and the reverse."""
KEYS = NARROWING | WIDENING | OTHER
IN_TDX = {"tdx.mr_td", "tdx.rtmr0", "tdx.rtmr1", "tdx.rtmr2"}
SIGNED = {"signer", "product_id", "min_svn"}
FIRST = {"measurements", "any_platform", "platforms", "simulation_root_sha256", *SIGNED, *IN_TDX}
"""Keys that say who and where."""


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """Return a file that names somebody and some machine, with a few of the other keys."""
    keys = set(draw(st.sets(st.sampled_from(sorted(KEYS.keys() - FIRST)), max_size=4)))
    keys |= draw(st.sampled_from([{"measurements"}, SIGNED, SIGNED | {"measurements"}, IN_TDX]))
    keys.add(draw(mostly("any_platform", ["platforms", "simulation_root_sha256"])))
    return {key: draw(KEYS[key]) for key in sorted(keys)}


def toml(file: dict[str, Any]) -> bytes:
    lines, tables = [], {"sgx": [], "tdx": []}
    for key, value in file.items():
        table, _, name = key.rpartition(".")
        shown = (
            f"{{ mask = {value['mask']}, value = {value['value']} }}"
            if isinstance(value, dict)
            else json.dumps(value)
        )
        (tables[table] if table else lines).append(f"{name} = {shown}")
    for table, rows in tables.items():
        lines += [f"[{table}]", *rows] if rows else []
    return "\n".join(lines).encode()


def loaded(file: dict[str, Any]) -> AppraisalPolicy | None:
    try:
        return load_policy(toml(file))
    except ConfigError:
        return None


def owner_would_mind(file: dict[str, Any], found: Claims) -> str | None:
    """Return what no reading of `file` allows of `found`, however one key of it is read."""
    measured = found.measurement.hex() in file.get("measurements", ())
    signed = "signer" in file and found.kind is TeeKind.SGX
    if signed:
        signed = found.report.mr_signer.hex() == file["signer"] and found.report.product_id == 3
    in_registers = found.kind is TeeKind.TDX and found.report.mr_td.hex() in file.get(
        "tdx.mr_td", ()
    )
    if not (measured or signed or in_registers):
        return "nobody named it"
    if found.debug:
        return "debug"
    if found.tcb_status is TcbStatus.REVOKED:
        return "revoked"
    if set(found.advisory_ids) - set(file.get("advisories", ())):
        return "an advisory that nobody accepted"
    if found.simulated and "simulation_root_sha256" not in file:
        return "a simulation that nobody named"
    return None


@settings(max_examples=400, deadline=None)
@given(file=files(), found=st.lists(claims(), min_size=3, max_size=6), at=st.data())
def test_a_key_less_never_accepts_what_the_owner_did_not_say(
    file: dict[str, Any], found: list[Claims], at: st.DataObject
) -> None:
    whole = loaded(file)
    assume(whole is not None)
    gone = at.draw(st.sampled_from(sorted(file)))
    rest = loaded({key: value for key, value in file.items() if key != gone})
    event(f"{gone}: {'an error' if rest is None else 'a policy'}")
    for each in found:
        for policy in (whole, rest):
            if policy is not None and accepts(policy, each):
                assert owner_would_mind(file, each) is None
        if rest is None:
            continue
        if gone in WIDENING:
            assert accepts(whole, each) or not accepts(rest, each)
        if gone in NARROWING:
            assert accepts(rest, each) or not accepts(whole, each)


@settings(max_examples=300, deadline=None)
@given(
    file=st.dictionaries(
        st.sampled_from([*sorted(KEYS), "debug", "measurement"]),
        st.one_of(
            st.booleans(), st.integers(-1, 2**70), st.text(max_size=5), listed(ADVISORIES),
            listed(DIGESTS), listed(REGISTER), BITS,
        ),
        max_size=6,
    )
)  # fmt: skip
def test_whatever_is_written_it_is_a_policy_or_a_config_error(file: dict[str, Any]) -> None:
    policy = loaded(file)
    if policy is not None:
        assert {"any_platform", "platforms", "simulation_root_sha256"} & set(file)


@QUICK
@given(raw=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_whatever_the_bytes_are_they_are_a_config_error(raw: bytes) -> None:
    with pytest.raises(ConfigError):
        load_policy(raw)
