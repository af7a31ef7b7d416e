"""One digest for evidence, however its carrier writes it; another for any other evidence."""

import json

import pytest
from attestation_cases import MEASUREMENT, NOW, REPORT_DATA
from simulators.td_quotes import TdxPlatform, td_body

from wardian.attestation.evidence import Evidence
from wardian.attestation.evidence_digest import evidence_digest
from wardian.errors import FormatError
from wardian.tee.launch.simulation import generate_platform

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PLATFORM = generate_platform(clock=lambda: NOW)
GOOD = PLATFORM.evidence(mr_enclave=MEASUREMENT, report_data=REPORT_DATA)
TDX = TdxPlatform(now=NOW)


def other_form(quote: bytes, at: int) -> bytes:
    """Return `quote` with the second form, (r, n - s), of the signature that starts at `at`."""
    s = int.from_bytes(quote[at + 32 : at + 64], "big")
    return quote[: at + 32] + (P256_ORDER - s).to_bytes(32, "big") + quote[at + 64 :]


@pytest.mark.parametrize(
    "again",
    [
        Evidence(quote=other_form(GOOD.quote, 436), collateral=GOOD.collateral),
        Evidence(quote=other_form(GOOD.quote, 948), collateral=GOOD.collateral),
        Evidence(quote=GOOD.quote + bytes(100), collateral=GOOD.collateral),
        Evidence(
            quote=GOOD.quote, collateral=json.dumps(json.loads(GOOD.collateral), indent=9).encode()
        ),
    ],
    ids=["other signature", "other signature of the QE", "padding", "other JSON"],
)
def test_the_same_evidence_written_anew(again: Evidence) -> None:
    assert again != GOOD
    assert evidence_digest(again) == evidence_digest(GOOD)


def changed(name: str, change) -> Evidence:
    said = json.loads(GOOD.collateral)
    return Evidence(quote=GOOD.quote, collateral=json.dumps(said | {name: change(said)}).encode())


@pytest.mark.parametrize(
    "other",
    [
        PLATFORM.evidence(mr_enclave=MEASUREMENT, report_data=bytes(64)),
        PLATFORM.evidence(mr_enclave=bytes(32), report_data=REPORT_DATA),
        generate_platform(clock=lambda: NOW).evidence(
            mr_enclave=MEASUREMENT, report_data=REPORT_DATA
        ),
        Evidence(quote=GOOD.quote, collateral=b""),
        changed("tcb_info", lambda said: said["tcb_info"] + " "),
        changed("qe_identity", lambda said: said["qe_identity"] + " "),
        changed("pck_crl", lambda said: said["root_ca_crl"]),
        changed("root_ca_crl", lambda said: said["pck_crl"]),
    ],
    ids=[
        "other binding",
        "other enclave",
        "other machine",
        "no collateral",
        "other TCB info",
        "other QE identity",
        "other PCK CRL",
        "other root CRL",
    ],
)
def test_other_evidence(other: Evidence) -> None:
    assert evidence_digest(other) != evidence_digest(GOOD)


@pytest.mark.parametrize(
    ("version", "body", "signature"),
    [
        (4, td_body(), 48 + 584 + 4),
        (5, td_body(), 54 + 584 + 4),
        (5, td_body(mr_service_td=bytes(48)), 54 + 648 + 4),
    ],
    ids=["4", "5 of 1.0", "5 of 1.5"],
)
def test_a_trust_domain(version: int, body: bytes, signature: int) -> None:
    quote, collateral = TDX.quote(body, version=version), TDX.collateral()
    found = evidence_digest(Evidence(quote=quote, collateral=collateral))
    again = other_form(quote, signature)
    assert evidence_digest(Evidence(quote=again, collateral=collateral)) == found
    for at in (20, signature - 5, signature + 64):  # header, last byte of the report, key
        other = bytearray(quote)
        other[at] ^= 1
        if at == 20:
            other[at] ^= 1
            other[30] ^= 1  # the vendor's name has to stay
        assert evidence_digest(Evidence(quote=bytes(other), collateral=collateral)) != found


@pytest.mark.parametrize(
    "broken",
    [
        Evidence(quote=b"", collateral=GOOD.collateral),
        Evidence(quote=GOOD.quote[:-1], collateral=GOOD.collateral),
        Evidence(quote=GOOD.quote, collateral=b"{}"),
        changed("pck_crl", lambda _: "00"),
    ],
    ids=["empty", "cut", "no collateral's JSON", "no CRL"],
)
def test_what_does_not_parse_has_no_digest(broken: Evidence) -> None:
    with pytest.raises(FormatError):
        evidence_digest(broken)
