"""The policy file: unknown keys are refused, and so is whatever would accept too much."""

import tomllib
from pathlib import Path

import msgspec
import pytest
from attestation_cases import MEASUREMENT, NOW, REPORT_DATA

from wardian.attestation.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.policy_file import PolicyFile, load_policy
from wardian.attestation.verifier import verify_evidence
from wardian.errors import ConfigError, PolicyDenied

HEX = MEASUREMENT.hex()
MEASURED = f'measurements = ["{HEX}"]\n'
ANY = 'any_platform = "risk accepted"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no enclave"),
        (ANY, "names no enclave"),
        (MEASURED, "names no machine"),
        ("measurements = []\n" + ANY, "names no enclave"),
        (MEASURED + 'any_platform = "yes"', "risk accepted"),
        (MEASURED + "any_platform = true", "any_platform"),
        (MEASURED + ANY + f'platforms = ["{"00" * 16}"]', "exclude each other"),
        (MEASURED + 'platforms = ["00"]', "platforms"),
        (f'signer = "{HEX}"\n' + ANY, "name all three"),
        (f'signer = "{HEX}"\nproduct_id = 1\n' + ANY, "name all three"),
        (MEASURED + "min_svn = 1\n" + ANY, "name all three"),
        (MEASURED + ANY + "product_id = 65536", "product_id"),
        ('measurements = ["abc"]\n' + ANY, "measurements"),
        (f'measurements = "{HEX}"\n' + ANY, "measurements"),
        (MEASURED + ANY + 'tcb_statuses = ["Revoked"]', "Revoked"),
        (MEASURED + ANY + 'tcb_statuses = ["Fine"]', "tcb_statuses"),
        (MEASURED + ANY + "max_collateral_age_s = 0", "max_collateral_age_s"),
        (MEASURED + ANY + "allow_debug = true", "line 3.*allow_debug"),
        (MEASURED + f'simulation_root_sha256 = "{INTEL_ROOT_SHA256.hex()}"', "Intel's root"),
        (MEASURED + 'simulation_root_sha256 = ""', "simulation_root_sha256"),
        ("measurements =", "TOML"),
    ],
)
def test_refused(text, says):
    with pytest.raises(ConfigError, match=says) as refused:
        load_policy(text.encode(), name="p.toml")
    assert "p.toml" in str(refused.value) or "Revoked" in says


def test_hardware_is_the_default_root():
    assert load_policy((MEASURED + ANY).encode()).roots == {INTEL_ROOT_SHA256}


def test_naming_a_simulation_excludes_hardware(platform):
    text = MEASURED + f'simulation_root_sha256 = "{platform.root_sha256.hex()}"\n'
    assert load_policy(text.encode()).roots == {platform.root_sha256}


def test_simulated_evidence_needs_a_policy_that_names_the_simulation(platform, evidence):
    named = MEASURED + f'simulation_root_sha256 = "{platform.root_sha256.hex().upper()}"\n'
    verify_evidence(evidence, policy=load_policy(named.encode()), report_data=REPORT_DATA, now=NOW)
    with pytest.raises(PolicyDenied, match="SIMULATED"):
        verify_evidence(
            evidence,
            policy=load_policy((MEASURED + ANY).encode()),
            report_data=REPORT_DATA,
            now=NOW,
        )


def test_simulated_platform_can_be_listed_too(platform, evidence):
    text = (
        MEASURED
        + f'simulation_root_sha256 = "{platform.root_sha256.hex()}"\n'
        + f'platforms = ["{"11" * 16}"]\n'
    )
    with pytest.raises(PolicyDenied) as refused:
        verify_evidence(
            evidence, policy=load_policy(text.encode()), report_data=REPORT_DATA, now=NOW
        )
    assert refused.value.rule == "PlatformIn"


def reference_page() -> str:
    return (Path(__file__).parents[3] / "docs/reference/policy-file.md").read_text()


def test_reference_page_names_every_key_and_no_other():
    rows = [line for line in reference_page().splitlines() if line.startswith("| `")]
    described = {line.split("`")[1] for line in rows}
    assert described == {field.name for field in msgspec.structs.fields(PolicyFile)}


def test_examples_of_the_reference_page_load():
    blocks = reference_page().split("```toml\n")[1:]
    examples = [block.partition("```")[0] for block in blocks]
    assert len(examples) == 3
    for example in examples:
        assert tomllib.loads(example)
        load_policy(example.encode())
