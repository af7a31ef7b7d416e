"""`wardian attest verify`: what it prints, and how it ends, whatever it is given."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from attest_cases import MEASUREMENT, NAMES_IT, NAMES_ROOT, NOW, PLATFORM, Done, attest
from cryptography.hazmat.primitives.asymmetric import ec
from simulators.td_quotes import TdxPlatform, td_body

from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.evidence import Evidence
from wardian.tee.ra_tls import GRAMINE_NOT_AFTER, GRAMINE_NOT_BEFORE, build_certificate

__all__ = ["attest"]  # a fixture

QUOTES = Path(__file__).parents[4] / "shared" / "data" / "quotes"
ANY = 'any_platform = "risk accepted"\n'
NOTHING_KNOWN = ("kind", "tcb_status", "advisory_ids", "measurements", "claims")


@pytest.fixture
def quote_file(tmp_path: Path) -> tuple[Path, Path]:
    """A simulated quote and its collateral, in files."""
    evidence = PLATFORM.evidence(mr_enclave=MEASUREMENT, report_data=bytes(64), product_id=3, svn=4)
    (tmp_path / "quote").write_bytes(evidence.quote)
    (tmp_path / "collateral").write_bytes(evidence.collateral)
    return tmp_path / "quote", tmp_path / "collateral"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def verified(attest: Any, files: tuple[Path, Path], *more: object, at: int = NOW) -> Done:
    return attest("verify", files[0], "--collateral", files[1], "--at", at, *more)


# --- real quotes ------------------------------------------------------------------------------

REAL = {
    "sgx_quote": (
        1751624924, "SGX", "ConfigurationAndSWHardeningNeeded",
        ["INTEL-SA-00289", "INTEL-SA-00615"], "TcbStatusIn",
    ),
    "tdx_quote": (1751624191, "TDX", "UpToDate", [], None),
    "tdx_quote_out_of_date": (
        1740714290, "TDX", "OutOfDate",
        ["INTEL-SA-00960", "INTEL-SA-00982", "INTEL-SA-00986"], "TcbStatusIn",
    ),
}  # fmt: skip
"""When, and with which outcome, as the README beside the quotes gives them."""
DEBUG_AT = 1751065722


def real(name: str) -> tuple[Path, Path]:
    if not QUOTES.is_dir():
        reason = "the real quotes are kept outside the repository, and are not here"
        if os.environ.get("WARDIAN_REQUIRE_ALL"):
            pytest.fail(reason)
        pytest.skip(reason)
    return QUOTES / name, QUOTES / f"{name}_collateral.json"


def test_the_quotes_are_those_of_the_readme() -> None:
    readme = real("README.md")[0].read_text()
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in readme.splitlines()
        if re.match(r"\| \w+quote", row)
    ]
    assert {row[0].split()[0]: int(row[3]) for row in rows} == {
        **{name: case[0] for name, case in REAL.items()},
        "sgx_quote_debug": DEBUG_AT,
    }
    for row in rows:
        name = row[0].split()[0]
        assert row[4].startswith(REAL[name][2] if name in REAL else "refused: debug")


@pytest.mark.parametrize("name", REAL)
def test_a_real_quote(attest: Any, tmp_path: Path, name: str) -> None:
    at, kind, status, advisories, refused_by = REAL[name]
    done = verified(attest, real(name), "--json", at=at)
    told = done.json
    assert done.status == (0 if refused_by is None else 3)
    assert done.err == ""
    assert told["accepted"] is (refused_by is None)
    assert (told["kind"], told["tcb_status"], told["advisory_ids"]) == (kind, status, advisories)
    assert told["refused_by"] == refused_by
    names = {"SGX": {"mr_enclave", "mr_signer"}, "TDX": {"mr_td", "rtmr0", "rtmr3", "mr_seam"}}
    assert names[kind] | {"measurement"} <= told["measurements"].keys()
    assert told["claims"]["measurement"] == told["measurements"]["measurement"]
    # A policy that names it, its state and its advisories accepts it; without one of them, not.
    keys = {
        "measurements": [told["measurements"]["measurement"]],
        "tcb_statuses": [status],
        "advisories": advisories,
        "platforms": [told["claims"]["ppid"]],
        "kinds": [kind],
    }
    policy = tmp_path / "policy.toml"
    policy.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    accepted = verified(attest, real(name), "--policy", policy, "--json", at=at)
    assert accepted.status == 0, accepted.out
    assert accepted.json["refused_by"] is None
    assert all(rule["accepted"] for rule in accepted.json["rules"])
    for key, other, rule in (
        ("measurements", ["00" * 32], "MeasurementIn"),
        ("tcb_statuses", ["ConfigurationNeeded"], "TcbStatusIn"),
        ("platforms", ["00" * 16], "PlatformIn"),
        ("kinds", ["SGX" if kind == "TDX" else "TDX"], "KindIn"),
        ("denied_advisories", ["INTEL-SA-00615", "INTEL-SA-00982"], "AdvisoriesNoneOf"),
        ("advisories", advisories[1:], "AdvisoriesWithin"),
    ):
        changed = keys | {key: other}
        policy.write_text(
            "".join(f"{key} = {json.dumps(value)}\n" for key, value in changed.items())
        )
        refused = verified(attest, real(name), "--policy", policy, "--json", at=at)
        if not advisories and "advisories" in key:
            assert refused.status == 0
            continue
        assert (refused.status, refused.json["refused_by"]) == (3, rule)
    stale = verified(attest, real(name), "--policy", policy, "--json", at=at + 90 * 86_400)
    assert (stale.status, stale.json["refused_by"]) == (3, "EvidenceStale")
    assert all(stale.json[field] is None for field in NOTHING_KNOWN)


def test_the_registers_of_a_real_trust_domain(attest: Any, tmp_path: Path) -> None:
    at = REAL["tdx_quote"][0]
    told = verified(attest, real("tdx_quote"), "--json", at=at).json["measurements"]
    registers = {name: told[name] for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2")}

    def under(**changes: str) -> Done:
        rows = "".join(f'{name} = ["{value}"]\n' for name, value in (registers | changes).items())
        policy = written(tmp_path / "policy.toml", f"{ANY}[tdx]\n{rows}")
        return verified(attest, real("tdx_quote"), "--policy", policy, "--json", at=at)

    assert under().status == 0
    for name in registers:
        refused = under(**{name: "11" * 48})
        assert (refused.status, refused.json["refused_by"]) == (3, "TdRegisterIn")
        assert name in refused.json["reason"]


def test_a_real_quote_of_a_debug_enclave(attest: Any) -> None:
    done = verified(attest, real("sgx_quote_debug"), "--json", at=DEBUG_AT)
    assert done.status == 3
    assert done.json["refused_by"] == "TcbUnacceptable"
    assert "debug" in done.json["reason"]
    assert done.json["rules"] == []
    assert all(done.json[field] is None for field in NOTHING_KNOWN)
    told = verified(attest, real("sgx_quote_debug"), at=DEBUG_AT)
    assert (told.status, told.out) == (3, "")
    assert told.err.startswith("error: TcbUnacceptable: ")


# --- what can be given ------------------------------------------------------------------------


def test_a_simulated_quote_is_refused_by_default_and_shown(attest: Any, quote_file) -> None:
    done = verified(attest, quote_file)
    assert done.status == 3
    assert "REFUSED by Root: evidence is SIMULATED" in done.out
    assert "default policy (current Intel hardware, whatever runs there):" in done.out
    assert MEASUREMENT.hex() in done.out
    assert re.search(r"^  kind +SIMULATED$", done.out, re.MULTILINE)
    assert re.search(r"^  config_id +zeros, 64 bytes$", done.out, re.MULTILINE)
    assert re.search(
        r"^  collateral_issued +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", done.out, re.MULTILINE
    )
    assert done.err == ""


def test_a_policy_that_names_the_simulation_accepts_it(attest: Any, quote_file, tmp_path) -> None:
    policy = written(tmp_path / "policy.toml", NAMES_IT + NAMES_ROOT)
    done = verified(attest, quote_file, "--policy", policy)
    assert done.status == 0
    assert done.out.rstrip().endswith("ACCEPTED")
    assert "SIMULATED" in done.out
    told = verified(attest, quote_file, "--policy", policy, "--json").json
    assert (told["accepted"], told["kind"], told["refused_by"]) == (True, "SIMULATED", None)


@pytest.mark.parametrize(
    ("change", "refused_by"),
    [
        (lambda quote, collateral: (b"not a quote", collateral), "FormatError"),
        (lambda quote, collateral: (b"", collateral), "FormatError"),
        (lambda quote, collateral: (quote + b"\1", collateral), "FormatError"),
        (lambda quote, collateral: (quote[:-1], collateral), "FormatError"),
        (lambda quote, collateral: (quote, b"{}"), "FormatError"),
        (lambda quote, collateral: (quote, b"\xff"), "FormatError"),
        (lambda quote, collateral: (quote, b""), "CollateralUnavailable"),
        (lambda quote, collateral: (quote[:112] + b"\0" + quote[113:], collateral),
         "EvidenceInvalid"),
        (lambda quote, collateral: (quote, collateral.replace(b"UpToDate", b"upToDate")),
         "EvidenceInvalid"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_verified_is_refused(
    attest: Any, quote_file, tmp_path, change, refused_by: str
) -> None:
    quote, collateral = change(*(path.read_bytes() for path in quote_file))
    quote_file[0].write_bytes(quote)
    quote_file[1].write_bytes(collateral)
    done = verified(attest, quote_file, "--json")
    assert (done.status, done.json["refused_by"]) == (3, refused_by)
    assert done.json["accepted"] is False
    assert all(done.json[field] is None for field in NOTHING_KNOWN)
    policy = written(tmp_path / "policy.toml", NAMES_IT + NAMES_ROOT)
    told = verified(attest, quote_file, "--policy", policy)
    assert (told.status, told.out) == (3, "")
    assert told.err.startswith(f"error: {refused_by}: ")
    assert len(told.err.splitlines()) == 1


def test_collateral_ends(attest: Any, quote_file) -> None:
    for at in (0, NOW + 10 * 365 * 86_400):
        done = verified(attest, quote_file, "--json", at=at)
        assert (done.status, done.json["refused_by"]) == (3, "EvidenceStale")


def test_wrong_use_is_no_verdict(attest: Any, quote_file, tmp_path) -> None:
    wrong = written(tmp_path / "policy.toml", NAMES_IT + "allow_debug = true\n")
    done = verified(attest, quote_file, "--policy", wrong)
    assert (done.status, done.out) == (2, "")
    assert f"{wrong}, line 2" in done.err
    assert "allow_debug" in done.err
    assert verified(attest, quote_file, "--policy", tmp_path / "none").status == 2
    assert attest("verify", quote_file[0]).status == 2
    assert verified(attest, quote_file, at=-1).status == 2


def test_now_is_the_time_unless_another_is_given(attest: Any, quote_file, monkeypatch) -> None:
    monkeypatch.setattr("wardian.cli.attest.verify.unix_time", lambda: NOW)
    done = attest("verify", quote_file[0], "--collateral", quote_file[1], "--json")
    assert done.json["tcb_status"] == "UpToDate"


def test_a_simulated_trust_domain(attest: Any, tmp_path: Path) -> None:
    machine = TdxPlatform(now=NOW)
    files = tmp_path / "quote", tmp_path / "collateral"
    files[0].write_bytes(machine.quote(td_body(mr_service_td=bytes(48)), version=5))
    files[1].write_bytes(machine.collateral())
    told = verified(attest, files, "--json").json
    assert (told["kind"], told["claims"]["tee"]) == ("SIMULATED", "TDX")
    named = (
        f'simulation_root_sha256 = "{machine.root_sha256.hex()}"\n'
        f'measurements = ["{told["measurements"]["measurement"]}"]\n'
    )
    policy = written(tmp_path / "policy.toml", named)
    assert verified(attest, files, "--policy", policy).status == 0
    files[0].write_bytes(machine.quote(td_body(mr_service_td=b"\x5d" * 48), version=5))
    moved = verified(attest, files, "--policy", policy, "--json")
    assert (moved.status, moved.json["refused_by"]) == (3, "TcbUnacceptable")


def test_what_a_stranger_signed_moves_no_cursor(attest: Any, tmp_path: Path) -> None:
    """Under a root of its own anybody can sign anything, and it is shown before it is refused."""
    machine = TdxPlatform(now=NOW)
    tcb_info = machine.tcb_info("OutOfDate")
    forged = "\x1b]0;gone\x07\x9b2J\u202eX\nACCEPTED"
    tcb_info["tcbLevels"][0]["advisoryIDs"] = [forged]
    files = tmp_path / "quote", tmp_path / "collateral"
    files[0].write_bytes(machine.quote())
    files[1].write_bytes(machine.collateral(tcb_info))
    told = verified(attest, files, "--json")
    assert told.status == 3
    assert told.json["advisory_ids"] == [forged]
    assert told.out.rstrip("\n").isprintable()
    assert told.out.isascii()
    shown = verified(attest, files)
    assert (shown.status, shown.err) == (3, "")
    assert all(line.isprintable() for line in shown.out.splitlines())
    assert "ACCEPTED" not in shown.out.splitlines()


# --- RA-TLS -----------------------------------------------------------------------------------


class PlatformEnclave:
    """An enclave of the simulated platform in this process."""

    name, simulated = "simulated", True

    def evidence(self, report_data: bytes) -> Evidence:
        return PLATFORM.evidence(mr_enclave=MEASUREMENT, report_data=report_data)


@pytest.fixture
def certificate(quote_file: tuple[Path, Path]) -> tuple[Path, Path]:
    """A certificate in the quote's place."""
    der = build_certificate(
        PlatformEnclave(),
        ec.generate_private_key(ec.SECP256R1()),
        not_before=GRAMINE_NOT_BEFORE,
        not_after=GRAMINE_NOT_AFTER,
    )
    quote_file[0].write_bytes(der)
    return quote_file


@pytest.mark.parametrize(
    ("policy", "status", "refused_by"),
    [
        (NAMES_IT + NAMES_ROOT, 0, None),
        (f'measurements = ["{"00" * 32}"]\n' + NAMES_ROOT, 3, "MeasurementIn"),
        (NAMES_IT + ANY, 3, "Root"),
    ],
)
def test_an_ra_tls_certificate(
    attest: Any, certificate, tmp_path, policy: str, status: int, refused_by: str | None
) -> None:
    path = written(tmp_path / "policy.toml", policy)
    done = verified(attest, certificate, "--ra-tls", "--policy", path, "--json")
    assert (done.status, done.json["refused_by"]) == (status, refused_by)
    known = refused_by != "Root"  # under no root that the policy names nothing is verified
    assert (done.json["measurements"] is not None) is known
    assert bool(done.json["rules"]) is known


def test_a_changed_ra_tls_certificate(attest: Any, certificate, tmp_path) -> None:
    path = written(tmp_path / "policy.toml", NAMES_IT + NAMES_ROOT)
    der = bytearray(certificate[0].read_bytes())
    der[-1] ^= 1
    certificate[0].write_bytes(der)
    done = verified(attest, certificate, "--ra-tls", "--policy", path, "--json")
    assert (done.status, done.json["refused_by"]) == (3, "EvidenceInvalid")
    as_quote = verified(attest, certificate, "--policy", path, "--json")
    assert (as_quote.status, as_quote.json["refused_by"]) == (3, "FormatError")


def test_hardware_is_intels_root(attest: Any, quote_file) -> None:
    told = verified(attest, quote_file, "--json").json
    assert told["claims"]["root_sha256"] == PLATFORM.root_sha256.hex() != INTEL_ROOT_SHA256.hex()
