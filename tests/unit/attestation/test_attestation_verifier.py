"""Attacks on evidence: each is refused, with its own error and a text that a person understands."""

import enum
import json
import ssl

import pytest
from attestation_cases import MEASUREMENT, NOW, REPORT_DATA

from wardian.attestation.appraisal.policy import AllOf, AppraisalPolicy, MeasurementIn
from wardian.attestation.certificates import intel_root
from wardian.attestation.certificates.intel_root import INTEL_ROOT_DER, INTEL_ROOT_SHA256
from wardian.attestation.claims import TcbStatus
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.attestation.verification import dcap
from wardian.attestation.verifier import verify_evidence, verify_quote
from wardian.errors import (
    EvidenceInvalid,
    EvidenceStale,
    LocalProtocolError,
    PolicyDenied,
    TcbUnacceptable,
)
from wardian.tee.launch import simulation_pki
from wardian.tee.launch.simulation import generate_platform

RELAUNCH = {TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED}
"""States of trust domains alone; nobody signs them, the verification finds them out."""


def verify(evidence, policy, *, report_data=REPORT_DATA, now=NOW):
    return verify_evidence(evidence, policy=policy, report_data=report_data, now=now)


def with_collateral(evidence, **changes):
    collateral = json.loads(evidence.collateral) | changes
    return Evidence(quote=evidence.quote, collateral=json.dumps(collateral).encode())


def with_chain(quote, chain):
    """Return the SGX `quote` with another chain of certificates, and lengths that fit."""
    raw = quote[:1048] + len(chain).to_bytes(4, "little") + chain.encode()
    return raw[:432] + (len(raw) - 436).to_bytes(4, "little") + raw[436:]


def issue(platform, evidence, **kwargs):
    window = {"issued": NOW - 10, "expires": NOW + 1000} | kwargs
    return Evidence(quote=evidence.quote, collateral=platform.issue_collateral(**window))


def test_genuine_evidence_is_accepted_and_says_simulated(platform, evidence, policy):
    result = verify(evidence, policy)
    claims = result.claims
    assert claims.measurement == MEASUREMENT
    assert claims.report.mr_signer == platform.mr_signer
    assert (claims.report.product_id, claims.report.svn, claims.debug) == (3, 4, False)
    assert claims.quote_version == 3
    assert claims.report_data == REPORT_DATA
    assert claims.tcb_status is TcbStatus.UP_TO_DATE
    assert claims.root_sha256 == platform.root_sha256
    assert claims.ppid == platform.ppid
    assert claims.simulated
    assert claims.describe()["kind"] == "SIMULATED"
    assert all(outcome.accepted for outcome in result.outcomes)


# --- the root ------------------------------------------------------------------------------------


def test_simulated_evidence_under_a_hardware_policy(evidence):
    policy = AppraisalPolicy(
        roots=frozenset({INTEL_ROOT_SHA256}), rule=MeasurementIn(frozenset({MEASUREMENT}))
    )
    with pytest.raises(PolicyDenied, match="evidence is SIMULATED .* does not name") as refused:
        verify(evidence, policy)
    assert refused.value.rule == "Root"
    assert INTEL_ROOT_SHA256.hex() not in str(refused.value)


def test_evidence_of_another_simulation(evidence, policy):
    other = generate_platform(clock=lambda: NOW)
    forged = other.evidence(mr_enclave=MEASUREMENT, report_data=REPORT_DATA)
    with pytest.raises(PolicyDenied, match="does not name that root"):
        verify(forged, policy)


def test_policy_without_roots_accepts_nothing(evidence):
    policy = AppraisalPolicy(roots=frozenset(), rule=MeasurementIn(frozenset({MEASUREMENT})))
    with pytest.raises(PolicyDenied, match="no root at all"):
        verify(evidence, policy)


def test_root_appended_to_a_foreign_chain(platform, evidence, policy):
    """The accepted root stands in the quote, but did not sign what comes before it."""
    other = generate_platform(clock=lambda: NOW)
    forged = other.quote(mr_enclave=MEASUREMENT, report_data=REPORT_DATA)
    root = platform._pki.root.pem
    for chain in (
        other._pki.pck.pem + other._pki.pck_ca.pem + root,
        other._pki.pck.pem + platform._pki.pck_ca.pem + root,
    ):
        raw = with_chain(forged, chain)
        with pytest.raises(EvidenceInvalid, match="chain does not verify"):
            verify(Evidence(quote=raw, collateral=evidence.collateral), policy)


def test_verify_quote_under_another_root(evidence):
    with pytest.raises(EvidenceInvalid, match="another root"):
        verify_quote(evidence.quote, evidence.collateral, root=INTEL_ROOT_DER, now=NOW)


def test_intel_root_is_intels(real):
    assert real("IntelSGXRootCA.der") == INTEL_ROOT_DER
    assert INTEL_ROOT_SHA256.hex() == (
        "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
    )
    assert intel_root.__doc__


# --- what it is bound to -------------------------------------------------------------------------


@pytest.mark.parametrize("bit", [0, 255, 256, 511])
def test_binding_compares_all_64_bytes(evidence, policy, bit):
    expected = bytearray(REPORT_DATA)
    expected[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        verify(evidence, policy, report_data=bytes(expected))


def test_binding_of_another_length_is_our_bug(evidence, policy):
    with pytest.raises(LocalProtocolError, match="64 bytes"):
        verify(evidence, policy, report_data=REPORT_DATA[:32])


def test_evidence_for_one_use_does_not_pass_for_another(platform, policy):
    nonce, key = bytes(32), b"k" * 32
    made = platform.evidence(mr_enclave=MEASUREMENT, report_data=bind(Purpose.BROKER, nonce, key))
    verify(made, policy, report_data=bind(Purpose.BROKER, nonce, key))
    for other in (
        bind(Purpose.RELEASE, nonce, key),
        bind(Purpose.FRONTEND, nonce, key),
        bind(Purpose.BROKER, key, nonce),
        bind(Purpose.BROKER, nonce + key),
        bind(Purpose.BROKER, nonce[:-1], nonce[-1:] + key),
        bind(Purpose.BROKER, nonce, key, b""),
    ):
        with pytest.raises(EvidenceInvalid):
            verify(made, policy, report_data=other)


# --- debug, TCB, time ----------------------------------------------------------------------------


def test_debug_enclave_is_refused_whatever_the_policy(platform, policy):
    debug = platform.evidence(mr_enclave=MEASUREMENT, report_data=REPORT_DATA, debug=True)
    with pytest.raises(TcbUnacceptable, match="SGX attester runs in debug mode: its host can read"):
        verify(debug, policy)


def test_status_is_handed_to_the_policy(platform, evidence, policy):
    for status in set(TcbStatus) - {TcbStatus.REVOKED, *RELAUNCH}:
        judged = issue(
            platform, evidence, tcb_status=status, advisories=("INTEL-SA-2", "INTEL-SA-1")
        )
        claims = verify(judged, policy).claims
        assert claims.tcb_status is status
        assert claims.advisory_ids == ("INTEL-SA-1", "INTEL-SA-2")


def test_revoked_tcb(platform, evidence, policy):
    with pytest.raises(TcbUnacceptable, match="Revoked"):
        verify(issue(platform, evidence, tcb_status=TcbStatus.REVOKED), policy)


def test_revoked_platform_certificate(platform, evidence, policy):
    with pytest.raises(TcbUnacceptable, match="revoked by its vendor"):
        verify(issue(platform, evidence, revoked=(platform.pck_serial,)), policy)


def test_revocation_of_another_platform_changes_nothing(platform, evidence, policy):
    verify(issue(platform, evidence, revoked=(platform.pck_serial + 1,)), policy)


def test_tcb_older_than_every_level(platform, evidence, policy, monkeypatch):
    monkeypatch.setattr(simulation_pki, "PCE_SVN", simulation_pki.PCE_SVN + 1)
    with pytest.raises(TcbUnacceptable, match="older than every TCB level"):
        verify(issue(platform, evidence), policy)


def test_unknown_status(platform, evidence, policy):
    strange = enum.Enum("Strange", {"STATUS": "AlmostFine"})
    with pytest.raises(EvidenceInvalid, match="unknown kind|does not verify"):
        verify(issue(platform, evidence, tcb_status=strange.STATUS), policy)


@pytest.mark.parametrize(
    ("issued", "expires"),
    [(NOW - 1000, NOW - 1), (NOW + 1, NOW + 1000)],
    ids=["expired", "from the future"],
)
def test_collateral_outside_its_time(platform, evidence, policy, issued, expires):
    with pytest.raises(EvidenceStale, match="not valid now"):
        verify(issue(platform, evidence, issued=issued, expires=expires), policy)


@pytest.mark.parametrize(
    "pieces",
    [
        ("pck_crl",),
        ("root_ca_crl",),
        ("tcb_info", "tcb_info_signature"),
        ("qe_identity", "qe_identity_signature"),
    ],
)
def test_one_expired_piece_of_collateral_is_enough(platform, evidence, policy, pieces):
    old = json.loads(platform.issue_collateral(issued=NOW - 1000, expires=NOW - 1))
    with pytest.raises(EvidenceStale):
        verify(with_collateral(evidence, **{piece: old[piece] for piece in pieces}), policy)


def test_certificates_end(platform, evidence, policy):
    later = NOW + 11 * 365 * 24 * 3600
    renewed = issue(platform, evidence, issued=later - 10, expires=later + 10)
    with pytest.raises(EvidenceStale, match="certificate of the chain"):
        verify(renewed, policy, now=later)


def test_collateral_is_renewed_before_it_ends():
    clock = [NOW]
    platform = generate_platform(clock=lambda: clock[0])
    first = platform.collateral()
    clock[0] += 22 * 24 * 3600
    assert platform.collateral() == first
    clock[0] += 2 * 24 * 3600
    assert platform.collateral() != first


# --- collateral ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"tcb_info": "{}"},
        {"pck_crl": "00"},
        {"root_ca_crl": ""},
        {"tcb_info_signature": "00" * 64},
        {"qe_identity_signature": "00"},
    ],
)
def test_collateral_that_does_not_verify(evidence, policy, change):
    with pytest.raises(EvidenceInvalid):
        verify(with_collateral(evidence, **change), policy)


def test_upgraded_tcb_info_is_noticed(platform, evidence, policy):
    outdated = issue(platform, evidence, tcb_status=TcbStatus.OUT_OF_DATE)
    tcb_info = json.loads(outdated.collateral)["tcb_info"].replace("OutOfDate", "UpToDate")
    with pytest.raises(EvidenceInvalid, match="tcb_info"):
        verify(with_collateral(outdated, tcb_info=tcb_info), policy)


def test_crls_swapped(evidence, policy):
    crls = json.loads(evidence.collateral)
    swapped = with_collateral(evidence, pck_crl=crls["root_ca_crl"])
    with pytest.raises(EvidenceInvalid, match="chain does not verify"):
        verify(swapped, policy)


def test_a_chain_whose_reason_cannot_be_found_out(platform, evidence, policy):
    """The library refuses the chain, and what should say why does not parse either."""
    pki = platform._pki
    good = ssl.PEM_cert_to_DER_cert(pki.pck.pem)
    at = good.index(b"\xa0\x03\x02\x01\x02\x02") + 7  # after the version: the serial number
    negative = good[:at] + bytes([good[at] | 0x80]) + good[at + 1 :]
    assert negative != good
    chain = ssl.DER_cert_to_PEM_cert(negative) + pki.pck_ca.pem + pki.root.pem
    forged = Evidence(quote=with_chain(evidence.quote, chain), collateral=evidence.collateral)
    with pytest.raises(EvidenceInvalid, match="a certificate or a revocation list does not parse"):
        verify(forged, policy)


def test_foreign_collateral(evidence, policy):
    other = generate_platform(clock=lambda: NOW)
    with pytest.raises(EvidenceInvalid):
        verify(Evidence(quote=evidence.quote, collateral=other.collateral()), policy)


def test_issue_date_is_the_older_one(platform, evidence, policy):
    old = json.loads(platform.issue_collateral(issued=NOW - 500, expires=NOW + 1000))
    mixed = with_collateral(
        evidence,
        qe_identity=old["qe_identity"],
        qe_identity_signature=old["qe_identity_signature"],
    )
    claims = verify(mixed, policy).claims
    assert claims.collateral_issued == min(NOW - 500, NOW - 3600)
    assert claims.collateral_expires == NOW + 1000
    assert claims.verified_at == NOW


# --- the policy's word ---------------------------------------------------------------------------


def test_empty_rule_refuses(platform, evidence):
    policy = AppraisalPolicy(roots=frozenset({platform.root_sha256}), rule=AllOf())
    with pytest.raises(PolicyDenied, match="empty"):
        verify(evidence, policy)


def test_refusal_quotes_the_evidence_and_not_the_policy(platform, evidence):
    wanted = bytes(range(32))
    policy = AppraisalPolicy(
        roots=frozenset({platform.root_sha256}), rule=MeasurementIn(frozenset({wanted}))
    )
    with pytest.raises(PolicyDenied) as refused:
        verify(evidence, policy)
    assert refused.value.rule == "MeasurementIn"
    assert MEASUREMENT.hex() in str(refused.value)
    assert wanted.hex() not in str(refused.value)


# --- what only a newer library or vendor could say -----------------------------------------------


def test_status_that_a_newer_library_knows(evidence, policy, monkeypatch):
    class Verified:
        @staticmethod
        def to_json():
            return '{"tcb": {"status": "AlmostFine"}}'

    class Verifier:
        def __init__(self, root):
            assert root

        def verify_with_policy(self, *_):
            return Verified()

    monkeypatch.setattr(dcap.dcap_qvl, "QuoteVerifier", Verifier)
    with pytest.raises(EvidenceInvalid, match="unknown kind"):
        verify(evidence, policy)
