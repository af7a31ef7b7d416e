"""The policy file: unknown keys are refused, and so is whatever would accept too much."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from attestation_cases import MEASUREMENT, REPORT_DATA
from attestation_cases import NOW as VERIFIED_AT
from policy_cases import (
    DAY,
    FMSPC,
    MR_ENCLAVE,
    MR_SIGNER,
    PPID,
    REGISTERS,
    domain,
    domain_claims,
    enclave_claims,
)

from wardian.attestation.appraisal import (
    policy,
    rules_hardware,
    rules_sgx,
    rules_tdx,  # all rules there are
)
from wardian.attestation.appraisal.policy_file import PolicyFile, default_policy, load_policy
from wardian.attestation.appraisal.policy_keys import SgxTable, TdxTable
from wardian.attestation.appraisal.rule import NamedRule
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.claims import TcbStatus
from wardian.attestation.verifier import verify_evidence
from wardian.errors import AttestationError, ConfigError, FormatError, PolicyDenied

HEX = MR_ENCLAVE.hex()
MEASURED = f'measurements = ["{HEX}"]\n'
ANY = 'any_platform = "risk accepted"\n'
BASE = MEASURED + ANY
SIGNED = f'signer = "{MR_SIGNER.hex()}"\nproduct_id = 3\nmin_svn = 4\n'
ZEROS = "00" * 48
ONES = "11" * 48


def registers(*names: str) -> str:
    return "".join(f'{name} = ["{REGISTERS[name].hex()}"]\n' for name in names)


NEEDED = ("mr_td", "rtmr0", "rtmr1", "rtmr2")
TDX = "[tdx]\n" + registers(*NEEDED)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no enclave and no trust domain"),
        (ANY, "names no enclave and no trust domain"),
        (ANY + "[sgx]\n", "names no enclave and no trust domain"),
        (ANY + "[tdx]\n", "names no enclave and no trust domain"),
        (ANY + f'[tdx]\nmr_seam = ["{ONES}"]', "names no enclave and no trust domain"),
        (MEASURED, "names no machine"),
        (SIGNED, "names no machine"),
        (TDX, "names no machine"),
        # An empty list is no wildcard, and nobody may take it for one.
        ("measurements = []\n" + ANY, "line 1.*measurements"),
        (MEASURED + "platforms = []", "line 2.*platforms"),
        (BASE + "tcb_statuses = []", "line 3.*tcb_statuses"),
        (BASE + "kinds = []", "line 3.*kinds"),
        (BASE + "fmspcs = []", "line 3.*fmspcs"),
        (BASE + "sgx_types = []", "line 3.*sgx_types"),
        (BASE + "denied_advisories = []", "line 3.*denied_advisories"),
        (BASE + "[sgx]\nconfig_ids = []", "line 4.*config_ids"),
        (BASE + "[tdx]\nmr_seam = []", "line 4.*mr_seam"),
        # Keys that are not there, or not of their form.
        (BASE + "allow_debug = true", "line 3.*allow_debug"),
        (BASE + "any_advisory = true", "line 3.*any_advisory"),
        (BASE + "[sgx]\ndebug = true", "line 4.*debug"),
        (BASE + "[tdx]\nmr_enclave = []", "line 4.*mr_enclave"),
        (BASE + "[snp]\n", "line 3.*snp"),
        (BASE + "[sgx]\nflags = { mask = 1, value = 1, any = 1 }", "any"),
        (MEASURED + 'any_platform = "yes"', "risk accepted"),
        (MEASURED + "any_platform = true", "line 2.*any_platform"),
        (MEASURED + 'platforms = ["00"]', "platforms"),
        (BASE + "product_id = 65536", "product_id"),
        (BASE + "product_id = 3.0", "product_id"),
        ('measurements = ["abc"]\n' + ANY, "measurements"),
        (f'measurements = ["{HEX}\\n"]\n' + ANY, "measurements"),
        (f'measurements = ["*", "{HEX}"]\n' + ANY, "measurements"),
        (f'measurements = "{HEX}"\n' + ANY, "measurements"),
        (BASE + 'tcb_statuses = ["Revoked"]', "Revoked cannot be accepted"),
        (BASE + 'tcb_statuses = ["UpToDate", "Revoked"]', "Revoked cannot be accepted"),
        (BASE + 'tcb_statuses = ["Fine"]', "tcb_statuses"),
        (BASE + 'kinds = ["SNP"]', "kinds"),
        (BASE + 'advisories = ["intel-sa-00615"]', "advisories"),
        (BASE + 'advisories = ["*"]', "advisories"),
        (BASE + 'denied_advisories = ["intel-sa-00615"]', "denied_advisories"),
        (BASE + "max_collateral_age_s = 0", "line 3.*max_collateral_age_s"),
        (BASE + "out_of_date_grace_s = 0", "line 3.*out_of_date_grace_s"),
        (BASE + "min_tcb_evaluation_number = 0", "line 3.*min_tcb_evaluation_number"),
        (BASE + "refuse_smt = 1", "line 3.*refuse_smt"),
        (BASE + 'sgx_types = ["standard"]', "sgx_types"),
        (BASE + 'simulation_root_sha256 = ""', "line 3.*simulation_root_sha256"),
        (BASE + f'[tdx]\nmr_seam = ["{HEX}"]', "mr_seam"),
        (BASE + '[tdx]\nmin_tee_tcb_svn = "05"', "line 4.*min_tee_tcb_svn"),
        ("measurements =", "TOML"),
        # Keys that contradict each other, or that would never count.
        (BASE + f'platforms = ["{"00" * 16}"]', "exclude each other"),
        (f'signer = "{HEX}"\n' + ANY, "name all three"),
        (f'signer = "{HEX}"\nproduct_id = 1\n' + ANY, "name all three"),
        (BASE + "min_svn = 1\n", "name all three"),
        (BASE + f'simulation_root_sha256 = "{INTEL_ROOT_SHA256.hex()}"', "Intel's root"),
        (BASE + "out_of_date_grace_s = 1", "out_of_date_grace_s limits a state"),
        (SIGNED + ANY + 'kinds = ["TDX"]', "kinds lists TDX, and nothing names one"),
        (SIGNED + ANY + 'kinds = ["SGX", "TDX"]', "kinds lists TDX, and nothing names one"),
        (ANY + 'kinds = ["SGX"]\n' + TDX, "kinds lists SGX, and nothing names one"),
        (BASE + SIGNED + 'kinds = ["TDX"]', "signer is about SGX"),
        (BASE + 'kinds = ["TDX"]\n[sgx]\n', r"\[sgx\] is about SGX"),
        (BASE + 'kinds = ["SGX"]\n[tdx]\n', r"\[tdx\] is about TDX"),
        (SIGNED + ANY + "[tdx]\n", r"\[tdx\] is about TDX"),
        (ANY + TDX + "[sgx]\n", r"\[sgx\] is about SGX"),
        (ANY + "[tdx]\n" + registers("mr_td"), "not rtmr0, rtmr1, rtmr2: any"),
        (ANY + "[tdx]\n" + registers("mr_td", "rtmr0", "rtmr1"), "not rtmr2: any"),
        (ANY + "[tdx]\n" + registers("rtmr0", "rtmr1", "rtmr2"), "not mr_td: any"),
        (ANY + "[tdx]\n" + registers("rtmr3"), "not mr_td, rtmr0"),
        (BASE + f'[tdx]\nmr_config_id = ["{ONES}"]', "not mr_td, rtmr0"),
        (BASE + "[sgx]\nflags = { mask = 0, value = 0 }", "sgx.flags.mask"),
        (BASE + "[sgx]\nflags = { mask = 2, value = 3 }", "sgx.flags: a value has bits"),
        (BASE + "[sgx]\nflags = { value = 3 }", "mask"),
        (BASE + "[sgx]\nmisc_select = { mask = 0x1_0000_0000, value = 0 }", "sgx.misc_select: .*32"),
        (BASE + "[sgx]\nxfrm = { mask = 0x1_0000_0000_0000_0000, value = 0 }", "sgx.xfrm: .*64"),
        (BASE + "[tdx]\nxfam = { mask = 1, value = 2 }", "tdx.xfam: a value has bits"),
        (BASE + "[tdx]\ntd_attributes = { mask = 1, value = 2 }", "tdx.td_attributes: a value"),
    ],
)  # fmt: skip
def test_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        load_policy(text.encode(), name="p.toml")
    assert str(refused.value).startswith("p.toml")


ENCLAVE, OTHER = enclave_claims(), enclave_claims(mr_enclave=bytes(32))
DOMAIN = domain_claims()
OUT = TcbStatus.OUT_OF_DATE
HARDENING = TcbStatus.SW_HARDENING_NEEDED
ADVISED = ("INTEL-SA-00615",)
ADVISORY = 'advisories = ["INTEL-SA-00615"]\n'


@pytest.mark.parametrize(
    ("text", "claims", "refused_by"),
    [
        # Who: one of the ways to name it is enough, and what is not named is refused.
        (BASE, ENCLAVE, None),
        (BASE, OTHER, "MeasurementIn"),
        (BASE, DOMAIN, "MeasurementIn"),
        (f'measurements = ["{domain().measurement.hex().upper()}"]\n' + ANY, DOMAIN, None),
        (SIGNED + ANY, ENCLAVE, None),
        (SIGNED + ANY, OTHER, None),
        (SIGNED + ANY, enclave_claims(svn=3), "SignedBy"),
        (SIGNED + ANY, DOMAIN, "KindIn"),
        (BASE + SIGNED, OTHER, None),
        (BASE + SIGNED, enclave_claims(svn=3), None),
        (BASE + SIGNED, enclave_claims(mr_enclave=bytes(32), svn=3), "AnyOf"),
        (BASE + 'kinds = ["TDX"]\n', ENCLAVE, "KindIn"),
        (BASE + 'kinds = ["SGX"]\n', ENCLAVE, None),
        (ANY + TDX, DOMAIN, None),
        (ANY + TDX, ENCLAVE, "KindIn"),
        (BASE + TDX, ENCLAVE, None),
        (BASE + TDX, DOMAIN, None),
        (BASE + TDX, domain_claims(rtmr2=bytes(48)), "AnyOf"),
        *((ANY + TDX, domain_claims(**{name: b"\1" * 48}), "TdRegisterIn") for name in NEEDED),
        (ANY + TDX, domain_claims(rtmr3=b"\1" * 48), None),
        (ANY + TDX + registers("rtmr3"), domain_claims(rtmr3=b"\1" * 48), "TdRegisterIn"),
        # What was given at launch has to be nothing, unless it is named.
        (BASE, enclave_claims(config_id=b"\1" * 64), "ConfigIdIn"),
        (SIGNED + ANY, enclave_claims(config_id=b"\1" * 64), "ConfigIdIn"),
        (BASE + f'[sgx]\nconfig_ids = ["{"01" * 64}"]', enclave_claims(config_id=b"\1" * 64), None),
        (BASE + f'[sgx]\nconfig_ids = ["{"01" * 64}"]', ENCLAVE, "ConfigIdIn"),
        *(
            (ANY + TDX + more, domain_claims(**{name: value}), refused_by)
            for name in ("mr_config_id", "mr_owner", "mr_owner_config")
            for more, value, refused_by in (
                ("", b"\x11" * 48, "TdRegisterIn"),
                (f'{name} = ["{ONES}"]\n', b"\x11" * 48, None),
                (f'{name} = ["{ONES}"]\n', bytes(48), "TdRegisterIn"),
                (f'{name} = ["{ONES}", "{ZEROS}"]\n', bytes(48), None),
            )
        ),
        # Attributes.
        (ANY + TDX + "td_attributes = { mask = 0x1000_0000, value = 0x1000_0000 }",
         domain_claims(td_attributes=bytes(8)), "TdAttributesMatch"),
        (ANY + TDX + "xfam = { mask = 0x60000, value = 0 }", DOMAIN, "XfamMatch"),
        (ANY + TDX + f'mr_seam = ["{ONES}"]', DOMAIN, "TdRegisterIn"),
        (ANY + TDX + registers("mr_seam"), DOMAIN, None),
        (ANY + TDX + f'min_tee_tcb_svn = "06010{"4" + "00" * 13}"', DOMAIN, "TeeTcbSvnAtLeast"),
        (ANY + TDX + f'min_tee_tcb_svn = "06010{"3" + "00" * 13}"', DOMAIN, None),
        (BASE + "[sgx]\nflags = { mask = 0x80, value = 0x80 }", ENCLAVE, "FlagsMatch"),
        (BASE + "[sgx]\nxfrm = { mask = 0x60000, value = 0x60000 }", ENCLAVE, "XfrmMatch"),
        (BASE + "[sgx]\nmisc_select = { mask = 1, value = 0 }", ENCLAVE, "MiscSelectMatch"),
        (BASE, enclave_claims(attributes=b"\7" + bytes(15)), "NotDebug"),
        # Where.
        (MEASURED + f'platforms = ["{PPID.hex()}"]', ENCLAVE, None),
        (MEASURED + f'platforms = ["{"00" * 16}"]', ENCLAVE, "PlatformIn"),
        (BASE + f'fmspcs = ["{FMSPC.hex().upper()}"]', ENCLAVE, None),
        (BASE + 'fmspcs = ["000000000000"]', ENCLAVE, "FmspcIn"),
        (BASE + 'sgx_types = ["Scalable"]', ENCLAVE, None),
        (BASE + 'sgx_types = ["Standard", "ScalableWithIntegrity"]', ENCLAVE, "SgxTypeIn"),
        (BASE, enclave_claims(smt_enabled=True, cached_keys=True, dynamic_platform=True), None),
        (BASE + "refuse_smt = true", ENCLAVE, "NoSmt"),
        (BASE + "refuse_smt = false", ENCLAVE, None),
        (BASE + "refuse_smt = true", enclave_claims(smt_enabled=False), None),
        (BASE + "refuse_cached_keys = true", enclave_claims(cached_keys=True), "NoCachedKeys"),
        (BASE + "refuse_dynamic_platform = true", ENCLAVE, "NotDynamicPlatform"),
        # In which state.
        (BASE, enclave_claims(tcb_status=HARDENING), None),
        (BASE, enclave_claims(tcb_status=HARDENING, advisory_ids=ADVISED), "AdvisoriesWithin"),
        (BASE + ADVISORY, enclave_claims(tcb_status=HARDENING, advisory_ids=ADVISED), None),
        (BASE + 'tcb_statuses = ["UpToDate"]', enclave_claims(tcb_status=HARDENING), "TcbStatusIn"),
        (BASE, enclave_claims(tcb_status=TcbStatus.CONFIGURATION_NEEDED), "TcbStatusIn"),
        (BASE, enclave_claims(tcb_status=TcbStatus.TD_RELAUNCH_ADVISED), "TcbStatusIn"),
        (BASE, enclave_claims(tcb_status=TcbStatus.REVOKED), "TcbStatusIn"),
        (BASE, enclave_claims(advisory_ids=ADVISED), "AdvisoriesWithin"),  # and UpToDate
        (BASE + "advisories = []", enclave_claims(advisory_ids=ADVISED), "AdvisoriesWithin"),
        (BASE + ADVISORY, enclave_claims(advisory_ids=(*ADVISED, "INTEL-DOC-10001")),
         "AdvisoriesWithin"),
        (BASE + ADVISORY + 'denied_advisories = ["INTEL-SA-00615"]',
         enclave_claims(advisory_ids=ADVISED), "AdvisoriesNoneOf"),
        (BASE + ADVISORY + 'denied_advisories = ["INTEL-SA-00615"]', ENCLAVE, None),
        (BASE, enclave_claims(tcb_status=OUT), "TcbStatusIn"),
        (BASE + 'tcb_statuses = ["OutOfDate"]', enclave_claims(tcb_status=OUT), None),
        (BASE + 'tcb_statuses = ["OutOfDate"]', ENCLAVE, "TcbStatusIn"),
        (BASE + f'tcb_statuses = ["OutOfDate"]\nout_of_date_grace_s = {100 * DAY}',
         enclave_claims(tcb_status=OUT), None),
        (BASE + f'tcb_statuses = ["OutOfDate"]\nout_of_date_grace_s = {100 * DAY - 1}',
         enclave_claims(tcb_status=OUT), "OutOfDateWithin"),
        (BASE + 'tcb_statuses = ["UpToDate", "OutOfDate"]\nout_of_date_grace_s = 1', ENCLAVE, None),
        (BASE + f'tcb_statuses = ["OutOfDate"]\nout_of_date_grace_s = {200 * DAY}',
         enclave_claims(tcb_status=OUT, advisory_ids=ADVISED), "AdvisoriesWithin"),
        (BASE + "min_tcb_evaluation_number = 18", ENCLAVE, "TcbEvaluationAtLeast"),
        (BASE + f"max_collateral_age_s = {10 * DAY - 1}", ENCLAVE, "CollateralNoOlderThan"),
        (BASE + f'simulation_root_sha256 = "{HEX}"', ENCLAVE, "Root"),
        (BASE, enclave_claims(root_sha256=bytes(32)), "Root"),
        (MEASURED + f'simulation_root_sha256 = "{HEX}"', enclave_claims(root_sha256=MR_ENCLAVE),
         None),
    ],
)  # fmt: skip
def test_what_each_key_does(text: str, claims, refused_by: str | None) -> None:
    policy = load_policy(text.encode())
    if refused_by is None:
        assert policy.demand(claims) == policy.explain(claims)
        return
    with pytest.raises(PolicyDenied) as refused:
        policy.demand(claims)
    assert refused.value.rule == refused_by


def test_hardware_is_the_default_root() -> None:
    assert load_policy(BASE.encode()).roots == {INTEL_ROOT_SHA256}


def test_simulated_evidence_needs_a_policy_that_names_the_simulation(platform, evidence) -> None:
    measured = f'measurements = ["{MEASUREMENT.hex()}"]\n'
    named = measured + f'simulation_root_sha256 = "{platform.root_sha256.hex().upper()}"\n'
    policy = load_policy(named.encode())
    assert policy.roots == {platform.root_sha256}  # and hardware is not
    verify_evidence(evidence, policy=policy, report_data=REPORT_DATA, now=VERIFIED_AT)
    with pytest.raises(PolicyDenied, match="SIMULATED"):
        verify_evidence(
            evidence,
            policy=load_policy((measured + ANY).encode()),
            report_data=REPORT_DATA,
            now=VERIFIED_AT,
        )
    elsewhere = named + f'platforms = ["{"ff" * 16}"]\n'
    with pytest.raises(PolicyDenied) as refused:
        verify_evidence(
            evidence,
            policy=load_policy(elsewhere.encode()),
            report_data=REPORT_DATA,
            now=VERIFIED_AT,
        )
    assert refused.value.rule == "PlatformIn"


@pytest.mark.parametrize(
    ("claims", "refused_by"),
    [
        (ENCLAVE, None),
        (OTHER, None),
        (DOMAIN, None),
        (enclave_claims(root_sha256=bytes(32)), "Root"),
        (enclave_claims(attributes=b"\7" + bytes(15)), "NotDebug"),
        (enclave_claims(tcb_status=OUT), "TcbStatusIn"),
        (enclave_claims(tcb_status=HARDENING, advisory_ids=ADVISED), "AdvisoriesWithin"),
    ],
)
def test_the_default_policy_is_current_hardware(claims, refused_by: str | None) -> None:
    outcomes = default_policy().explain(claims)
    assert all(outcome.accepted for outcome in outcomes) is (refused_by is None)
    if refused_by is not None:
        refusal = next(outcome for outcome in outcomes if not outcome.accepted)
        assert refusal.decider.rule == refused_by
    said = [outcome.reason for top in outcomes for _, outcome in top.walk()]
    assert any("any platform, risk accepted" in reason for reason in said)
    assert any("what runs there is not judged" in reason for reason in said)


# --- the reference page -----------------------------------------------------------------------


def reference_page() -> str:
    return (Path(__file__).parents[3] / "docs/reference/policy-file.md").read_text()


def first_column(heading: str) -> set[str]:
    """Return the first cells of the table whose first column has this heading."""
    found = set()
    rows = rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)"
    for table in re.findall(rows, reference_page(), re.MULTILINE):
        found |= {row.split("`")[1] for row in table.splitlines()}
    return found


def test_the_page_names_every_key_and_no_other() -> None:
    keys = {field.name for field in msgspec.structs.fields(PolicyFile)}
    keys |= {f"sgx.{field.name}" for field in msgspec.structs.fields(SgxTable)}
    keys |= {f"tdx.{field.name}" for field in msgspec.structs.fields(TdxTable)}
    assert first_column("key") == keys


def concrete(kind: type) -> set[str]:
    below = kind.__subclasses__()
    if not below:
        return {kind.__name__}
    return set().union(*map(concrete, below))


def test_the_page_names_every_rule_and_no_other() -> None:
    ours = {policy, rules_hardware, rules_sgx, rules_tdx}  # imported, so that their classes exist
    assert len(ours) == 4
    assert first_column("rule") == concrete(NamedRule) | {"Root"}


def test_the_page_names_every_error_that_refuses() -> None:
    assert first_column("error") == concrete(AttestationError) | {FormatError.__name__}


def test_the_page_says_what_every_rule_comes_from() -> None:
    rows = re.findall(r"^\| `[A-Z]\w+` \| [^|]+ \| ([^|]+) \|$", reference_page(), re.MULTILINE)
    named = set(re.findall(r"`([a-z_.0-9]+)`", " ".join(rows)))
    assert named <= first_column("key")
    assert len(named) > 20


def test_the_examples_of_the_page_load() -> None:
    blocks = reference_page().split("```toml\n")[1:]
    examples = [block.partition("```")[0] for block in blocks]
    assert len(examples) == 4
    for example in examples:
        assert tomllib.loads(example)
        load_policy(example.encode())
