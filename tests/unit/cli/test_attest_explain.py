"""`wardian attest explain`: every rule, which one decided, and the same verdict as `verify`."""

import re
from pathlib import Path
from typing import Any

import pytest
from attest_cases import MEASUREMENT, NAMES_IT, NAMES_ROOT, NOW, PLATFORM, Done, attest

from wardian._internal import wire

__all__ = ["attest"]  # a fixture

SIGNED = f'signer = "{PLATFORM.mr_signer.hex()}"\nproduct_id = 3\nmin_svn = 5\n'


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    path = tmp_path / "evidence.json"
    made = PLATFORM.evidence(mr_enclave=MEASUREMENT, report_data=bytes(64), product_id=3, svn=4)
    path.write_bytes(wire.encode(made))
    return path


def explained(attest: Any, evidence: Path, policy: str, *more: object) -> Done:
    path = evidence.with_name("policy.toml")
    path.write_text(policy)
    return attest("explain", evidence, "--policy", path, "--at", NOW, *more)


def rules(done: Done) -> list[tuple[str, str, str]]:
    """Return mark, indentation and rule of each line that is about a rule."""
    return re.findall(r"^(->|  ) (?:accepts|REFUSES)  ( *\w+)", done.out, re.MULTILINE)


def test_every_rule_indented_and_the_deciding_one_marked(attest: Any, evidence: Path) -> None:
    done = explained(attest, evidence, NAMES_ROOT + SIGNED + 'kinds = ["SGX"]\n')
    assert done.status == 3
    assert rules(done) == [
        ("  ", "Root"),
        ("  ", "AllOf"),
        ("  ", "  KindIn"),
        ("  ", "  NotDebug"),
        ("->", "  SignedBy"),
        ("  ", "  ConfigIdIn"),
        ("  ", "  AnyPlatform"),
        ("  ", "  TcbStatusIn"),
        ("  ", "  AdvisoriesWithin"),
    ]
    assert done.out.rstrip().endswith(
        "REFUSED by SignedBy: security version 4 is older than the policy accepts"
    )


def test_nested_rules(attest: Any, evidence: Path) -> None:
    done = explained(attest, evidence, NAMES_IT + NAMES_ROOT + SIGNED)
    assert done.status == 0
    assert ("  ", "        SignedBy") in rules(done)
    assert ("  ", "        MeasurementIn") in rules(done)
    assert re.search(r"REFUSES +SignedBy", done.out)  # an alternative that nobody needed
    assert done.out.rstrip().endswith("ACCEPTED")
    neither = NAMES_ROOT + SIGNED + f'measurements = ["{"00" * 32}"]\n'
    refused = explained(attest, evidence, neither)
    assert refused.status == 3
    assert [each for each in rules(refused) if each[0] == "->"] == [("->", "      AnyOf")]
    assert "REFUSED by AnyOf: MeasurementIn: measurement" in refused.out


@pytest.mark.parametrize(
    ("policy", "refused_by"),
    [
        (NAMES_IT + NAMES_ROOT, None),
        (NAMES_IT + 'any_platform = "risk accepted"\n', "Root"),
        (NAMES_ROOT + SIGNED, "SignedBy"),
        (NAMES_IT + NAMES_ROOT + "min_tcb_evaluation_number = 99\n", "TcbEvaluationAtLeast"),
    ],
)
def test_explain_and_verify_say_the_same(
    attest: Any, evidence: Path, policy: str, refused_by: str | None
) -> None:
    told = explained(attest, evidence, policy, "--json")
    assert told.json["refused_by"] == refused_by
    assert told.status == (0 if refused_by is None else 3)
    (decider,) = [rule for rule in told.json["rules"] if rule["decided"]]
    assert decider["rule"] == (refused_by or "AllOf")
    assert decider["accepted"] is (refused_by is None)
    found = wire.decode(evidence.read_bytes(), type(PLATFORM.evidence(
        mr_enclave=MEASUREMENT, report_data=bytes(64)
    )), what="evidence")  # fmt: skip
    quote, collateral = evidence.with_name("quote"), evidence.with_name("collateral")
    quote.write_bytes(found.quote)
    collateral.write_bytes(found.collateral)
    verified = attest(
        "verify", quote, "--collateral", collateral, "--at", NOW,
        "--policy", evidence.with_name("policy.toml"), "--json",
    )  # fmt: skip
    assert (verified.status, verified.json) == (told.status, told.json)


@pytest.mark.parametrize(
    "raw", [b"", b"not JSON", b'{"quote": "", "collateral": ""}', b'{"quote": "", "\\u001b[2J": 1}']
)
def test_evidence_that_does_not_parse_is_refused(attest: Any, evidence: Path, raw: bytes) -> None:
    evidence.write_bytes(raw)
    told = explained(attest, evidence, NAMES_IT + NAMES_ROOT, "--json")
    assert (told.status, told.json["refused_by"]) == (3, "FormatError")
    assert told.json["claims"] is None
    done = explained(attest, evidence, NAMES_IT + NAMES_ROOT)
    assert done.status == 3
    assert done.err.startswith("error: FormatError: ")
    assert "\x1b" not in done.out + done.err


def test_a_policy_is_needed_and_has_to_be_right(attest: Any, evidence: Path) -> None:
    assert attest("explain", evidence).status == 2
    assert explained(attest, evidence, "").status == 2
    assert explained(attest, evidence, NAMES_IT + NAMES_ROOT + "measurement = 1").status == 2
