"""Attestation results for other relying parties: what they say, and which are refused."""

import base64
import dataclasses
import json
from pathlib import Path

import msgspec
import pytest
from attestation_cases import MEASUREMENT, NOW, REPORT_DATA
from simulators.td_quotes import TdxPlatform, td_body

from wardian._internal import wire
from wardian.attestation.appraisal import policy, rules_sgx, rules_tdx
from wardian.attestation.appraisal.policy import (
    AllOf,
    AnyMeasurement,
    AnyOf,
    AnyPlatform,
    AppraisalPolicy,
    MeasurementIn,
    PlatformIn,
)
from wardian.attestation.appraisal.rules_sgx import SignedBy
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.claims import TcbStatus
from wardian.attestation.evidence import Evidence
from wardian.attestation.results import ear
from wardian.attestation.results.ear import (
    TrustTier,
    build_appraisal,
    tier_of,
    trust_vector,
    worst_tier,
)
from wardian.attestation.results.ear_key import (
    KEY_LIFE_S,
    SKEW_S,
    EarKeyStatement,
    parse_ear_key,
    verify_ear_key,
)
from wardian.attestation.results.ear_token import (
    MAX_TOKEN_LIFE_S,
    TOKEN_LIFE_S,
    EarSigner,
    encode_nonce,
    verify_ear,
)
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.crypto.jose import sign_jws
from wardian.crypto.strict_text import from_b64url
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    AuthenticationFailed,
    EvidenceInvalid,
    EvidenceStale,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
    WardianError,
)

ISSUER, AUDIENCE = "wardian:mesh:test", "wardian:broker:test"
RUNTIME_DATA = {"nonce": "n", "tee-pubkey": {"kty": "EC"}}
MANIFEST = bytes(range(32))
POLICY = MANIFEST.hex()
EVERY_TIER = frozenset(TrustTier)
APPROVED = MeasurementIn(frozenset({MEASUREMENT}))
GOOD = {"configuration": 2, "executables": 2, "hardware": 2, "runtime-opaque": 2}


@pytest.fixture(scope="module")
def simulated(platform) -> AttestationResult:
    evidence = platform.evidence(mr_enclave=MEASUREMENT, report_data=REPORT_DATA, product_id=3)
    return verify_evidence(
        evidence,
        policy=AppraisalPolicy(roots=frozenset({platform.root_sha256}), rule=APPROVED),
        report_data=REPORT_DATA,
        now=NOW,
    )


@pytest.fixture
def result(simulated) -> AttestationResult:
    """What the same enclave would give on hardware."""
    return dataclasses.replace(simulated, claims=changed(simulated.claims))


def changed(claims, **changes):
    return dataclasses.replace(claims, **({"root_sha256": INTEL_ROOT_SHA256} | changes))


def appraised(result, rule, **changes):
    """Return `result` as a policy with `rule` would have it, with other claims."""
    claims = changed(result.claims, **changes)
    found = AppraisalPolicy(roots=frozenset({claims.root_sha256}), rule=rule).demand(claims)
    return AttestationResult(claims=claims, outcomes=found)


# The vector


def test_an_approved_enclave_on_current_hardware_is_affirmed(result):
    assert trust_vector(result) == GOOD
    assert worst_tier(trust_vector(result)) is TrustTier.AFFIRMING


def test_a_simulation_is_contraindicated_whatever_policy_accepted_it(simulated):
    vector = trust_vector(simulated)
    assert (vector["hardware"], vector["runtime-opaque"]) == (97, 96)
    assert worst_tier(vector) is TrustTier.CONTRAINDICATED


@pytest.mark.parametrize(
    ("status", "hardware", "configuration"),
    [
        (TcbStatus.UP_TO_DATE, 2, 2),
        (TcbStatus.SW_HARDENING_NEEDED, 32, 2),
        (TcbStatus.CONFIGURATION_NEEDED, 32, 32),
        (TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED, 32, 32),
        (TcbStatus.OUT_OF_DATE, 32, 2),
        (TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED, 32, 32),
        (TcbStatus.TD_RELAUNCH_ADVISED, 32, 2),
        (TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED, 32, 32),
        (TcbStatus.REVOKED, 96, 2),
    ],
)
def test_known_vulnerabilities_of_the_platform_are_told(result, status, hardware, configuration):
    vector = trust_vector(appraised(result, APPROVED, tcb_status=status))
    assert (vector["hardware"], vector["configuration"]) == (hardware, configuration)
    assert worst_tier(vector) is tier_of(max(hardware, configuration))


def test_advisories_make_a_warning_of_an_up_to_date_platform(result):
    vector = trust_vector(appraised(result, APPROVED, advisory_ids=("INTEL-SA-00615",)))
    assert vector["hardware"] == 32


def test_a_debug_enclave_is_visible(result):
    report = dataclasses.replace(result.claims.report, attributes=b"\x07" + bytes(15))
    assert trust_vector(appraised(result, APPROVED, report=report))["runtime-opaque"] == 96


def test_the_policy_says_which_claims_are_made(result):
    signed = SignedBy(mr_signer=result.claims.report.mr_signer, product_id=3, min_svn=0)
    other = MeasurementIn(frozenset({bytes(32)}))
    machine = PlatformIn(frozenset({result.claims.ppid}))
    only_signed = {"executables": 3, "hardware": 2, "runtime-opaque": 2}
    assert trust_vector(appraised(result, signed)) == only_signed
    assert trust_vector(appraised(result, AnyOf(other, signed))) == only_signed
    assert trust_vector(appraised(result, AllOf(AnyMeasurement(), AnyPlatform()))) == {
        "hardware": 2,
        "runtime-opaque": 2,
    }
    assert trust_vector(appraised(result, AllOf(APPROVED, machine))) == GOOD | {
        "instance-identity": 2
    }


def test_the_rules_are_called_what_the_vector_looks_for():
    assert policy.MeasurementIn.__name__ == ear._APPROVED
    assert {rules_sgx.SignedBy.__name__, rules_tdx.TdRegisterIn.__name__} == ear._NAMED
    assert policy.PlatformIn.__name__ == ear._PLATFORM


def test_a_trust_domain_is_approved_as_it_booted():
    platform = TdxPlatform(now=NOW)
    quote = platform.quote(td_body(report_data=REPORT_DATA))
    found = verify_evidence(
        Evidence(quote=quote, collateral=platform.collateral()),
        policy=AppraisalPolicy(roots=frozenset({platform.root_sha256}), rule=AnyMeasurement()),
        report_data=REPORT_DATA,
        now=NOW,
    )
    rule = MeasurementIn(frozenset({found.claims.measurement}))
    vector = trust_vector(appraised(found, rule))
    assert vector["executables"] == 3
    said = build_appraisal(found, policy_id="p", runtime_data={})["ear_attester_claims"]
    assert said["tee"] == "tdx"
    assert said["claims"]["mr_td"] == "02" * 48


@pytest.mark.parametrize(
    ("value", "tier"),
    [
        (0, "none"),
        (1, "none"),
        (-1, "none"),
        (2, "affirming"),
        (31, "affirming"),
        (-2, "affirming"),
        (-32, "affirming"),
        (32, "warning"),
        (95, "warning"),
        (-33, "warning"),
        (-96, "warning"),
        (96, "contraindicated"),
        (127, "contraindicated"),
        (-97, "contraindicated"),
        (-128, "contraindicated"),
    ],
)
def test_the_tiers_are_those_of_ar4si(value, tier):
    assert tier_of(value) is TrustTier(tier)


def test_an_empty_vector_says_nothing():
    assert worst_tier({}) is TrustTier.NONE


# The claims


def test_a_token_names_the_enclave_and_not_the_machine(result):
    appraisal = build_appraisal(result, policy_id=POLICY, runtime_data=RUNTIME_DATA)
    assert appraisal["ear_status"] == "affirming"
    assert appraisal["ear_appraisal_policy_ids"] == [POLICY]
    attester, verifier = appraisal["ear_attester_claims"], appraisal["ear_verifier_claims"]
    assert attester["tee"] == "sgx"
    assert attester["report_data"] == REPORT_DATA.hex()
    assert attester["claims"]["mr_enclave"] == MEASUREMENT.hex()
    assert verifier["runtime_data"] == RUNTIME_DATA
    assert verifier["wardian"] == {
        "kind": "SGX",
        "measurement": MEASUREMENT.hex(),
        "verified_at": NOW,
    }
    assert result.claims.ppid.hex() not in json.dumps(appraisal)


def test_a_simulation_is_spelled_out(simulated):
    appraisal = build_appraisal(simulated, policy_id="p", runtime_data={})
    assert appraisal["ear_status"] == "contraindicated"
    assert appraisal["ear_verifier_claims"]["wardian"]["kind"] == "SIMULATED"


# The key


@pytest.fixture(scope="module")
def signer() -> EarSigner:
    return EarSigner(TlsKey.generate(), issuer=ISSUER, audience=AUDIENCE)


CA = TlsKey.generate()


def statement(signer, **changes) -> EarKeyStatement:
    made = signer.certify(CA.sign, manifest_digest=MANIFEST, now=NOW)
    return msgspec.structs.replace(made, **changes)


def key_of(made, **changes):
    arguments = {"ca_spki": CA.spki, "issuer": ISSUER, "manifest_digest": MANIFEST, "now": NOW}
    return verify_ear_key(made, **(arguments | changes))


def test_the_mesh_ca_vouches_for_the_key_of_tokens(signer):
    travelled = parse_ear_key(wire.encode(statement(signer)))
    assert key_of(travelled) == signer.jwk
    assert key_of(travelled, now=NOW + KEY_LIFE_S - 1) == signer.jwk
    assert key_of(travelled, now=NOW - SKEW_S) == signer.jwk


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"ca_spki": TlsKey.generate().spki}, AuthenticationFailed),
        ({"issuer": "somebody-else"}, PolicyDenied),
        ({"manifest_digest": bytes(32)}, PolicyDenied),
        ({"now": NOW + KEY_LIFE_S}, EvidenceStale),
        ({"now": NOW - SKEW_S - 1}, EvidenceStale),
    ],
)
def test_a_statement_that_does_not_fit_is_refused(signer, changes, error):
    with pytest.raises(error):
        key_of(statement(signer), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "somebody-else"},
        {"spki": TlsKey.generate().spki},
        {"manifest_digest": bytes(32)},
        {"starts": NOW - 1},
        {"ends": NOW + 10 * KEY_LIFE_S},
        {"signature": b""},
    ],
)
def test_every_field_of_a_statement_is_signed(signer, changes):
    with pytest.raises(AuthenticationFailed):
        key_of(statement(signer, **changes))


def test_what_the_mesh_ca_signs_under_another_label_is_no_statement(signer):
    made = statement(signer)
    other = wire.fields("wardian release v1", made.content)
    with pytest.raises(AuthenticationFailed):
        key_of(msgspec.structs.replace(made, signature=CA.sign(other)))


@pytest.mark.parametrize("changes", [{"issuer": ""}, {"issuer": "two words"}, {"more": 1}])
def test_a_statement_in_another_form_is_refused(signer, changes):
    value = json.loads(wire.encode(statement(signer))) | changes
    with pytest.raises(FormatError):
        parse_ear_key(json.dumps(value).encode())


def test_the_documented_lines_verify_a_result(signer, result):
    page = Path(__file__).parents[3] / "docs" / "reference" / "kbs.md"
    code = page.read_text().split("```python\n")[1].split("```")[0]
    given = {
        "raw_statement": wire.encode(statement(signer)),
        "mesh_ca": CA.spki,
        "issuer": ISSUER,
        "digest": MANIFEST,
        "now": NOW,
        "nonce": bytes(16),
        "token": issue(signer, result, audience="https://me.example", nonce=bytes(16)),
    }
    exec(code, given)
    assert given["attester_key"] == RUNTIME_DATA["tee-pubkey"]


def test_a_key_that_is_no_key_is_refused(signer):
    made = statement(signer, spki=b"no key")
    made = msgspec.structs.replace(made, signature=CA.sign(made.content))
    with pytest.raises(FormatError):
        key_of(made)


def test_the_signer_comes_back_from_its_secret(signer):
    again = EarSigner(TlsKey.from_secret(signer.to_secret()), issuer=ISSUER, audience=AUDIENCE)
    assert again.public == signer.public
    assert signer.public["kid"] == signer.jwk.thumbprint
    assert set(signer.public) == {"kty", "crv", "x", "y", "alg", "use", "kid"}
    assert "d" not in signer.public


@pytest.mark.parametrize(
    "changes",
    [
        {"life_s": 0},
        {"life_s": MAX_TOKEN_LIFE_S + 1},
        {"issuer": ""},
        {"issuer": "two words"},
        {"audience": "x" * 201},
    ],
)
def test_a_signer_that_would_sign_what_nobody_accepts_is_not_made(changes):
    arguments = {"issuer": ISSUER, "audience": AUDIENCE}
    with pytest.raises(LocalProtocolError):
        EarSigner(TlsKey.generate(), **(arguments | changes))


# Tokens


def issue(signer, result, **changes):
    appraisal = build_appraisal(result, policy_id=POLICY, runtime_data=RUNTIME_DATA)
    arguments = {"now": NOW, "ends": NOW + 10 * MAX_TOKEN_LIFE_S}
    return signer.issue(appraisal, **(arguments | changes))


def verify(signer, token, **changes):
    arguments = {"key": signer.jwk, "issuer": ISSUER, "audience": AUDIENCE, "policy_id": POLICY}
    return verify_ear(token, **(arguments | {"now": NOW, "nonce": None} | changes))


def test_a_token_says_what_was_found(signer, result):
    found = verify(signer, issue(signer, result, token_id="one"))
    assert (found.jti, found.iat, found.exp) == ("one", NOW, NOW + TOKEN_LIFE_S)
    assert found.ear_status is TrustTier.AFFIRMING
    assert found.appraisal.ear_trustworthiness_vector == GOOD
    assert found.appraisal.ear_verifier_claims["runtime_data"] == RUNTIME_DATA


def test_a_token_has_the_claims_that_the_draft_demands(signer, result):
    header, payload, _ = issue(signer, result).split(".")
    assert json.loads(from_b64url(header, what="h")) == {
        "alg": "ES256",
        "typ": "JWT",
        "kid": signer.jwk.thumbprint,
    }
    claims = json.loads(from_b64url(payload, what="p"))
    assert claims["eat_profile"] == "tag:ietf.org,2026:rats/ear#04"
    assert set(claims["ear_verifier_id"]) == {"developer", "build"}
    assert set(claims) == {
        *("eat_profile", "iat", "exp", "ear_status", "ear_verifier_id", "submods"),
        *("iss", "aud", "jti"),
    }
    assert all(type(claims[name]) is int for name in ("iat", "exp"))


def test_a_token_ends_with_what_it_rests_on(signer, result):
    assert verify(signer, issue(signer, result, ends=NOW + 7)).exp == NOW + 7


def test_two_tokens_have_two_names(signer, result):
    first, second = (verify(signer, issue(signer, result)).jti for _ in range(2))
    assert first != second


@pytest.mark.parametrize("length", [8, 64])
def test_the_relying_partys_nonce_is_echoed(signer, result, length):
    nonce = bytes(range(length))
    token = issue(signer, result, nonce=nonce)
    echoed = verify(signer, token, nonce=nonce).eat_nonce
    assert echoed == base64.urlsafe_b64encode(nonce).decode()
    assert 12 <= len(echoed) <= 88  # draft-ietf-rats-ear-04, section 3


@pytest.mark.parametrize("length", [0, 7, 65])
def test_a_nonce_of_another_length_is_refused(length):
    with pytest.raises(FormatError):
        encode_nonce(bytes(length))


@pytest.mark.parametrize(
    ("asked", "shown"),
    [(b"mine----", b"yours---"), (b"mine----", None), (None, b"yours---")],
)
def test_an_answer_to_another_question_is_refused(signer, result, asked, shown):
    token = issue(signer, result, nonce=shown)
    with pytest.raises(EvidenceInvalid):
        verify(signer, token, nonce=asked)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"now": NOW + TOKEN_LIFE_S}, EvidenceStale, id="over"),
        pytest.param({"now": NOW - SKEW_S - 1}, EvidenceStale, id="not begun"),
        pytest.param({"issuer": "somebody-else"}, PolicyDenied, id="another issuer"),
        pytest.param({"audience": "somebody-else"}, PolicyDenied, id="another audience"),
        pytest.param({"policy_id": bytes(32).hex()}, PolicyDenied, id="another policy"),
        pytest.param({"policy_id": ""}, PolicyDenied, id="no policy"),
        pytest.param({"accepted": frozenset()}, PolicyDenied, id="no tier is accepted"),
    ],
)
def test_a_token_that_does_not_fit_is_refused(signer, result, changes, error):
    with pytest.raises(error):
        verify(signer, issue(signer, result), **changes)


def test_within_its_time_a_token_is_good(signer, result):
    token = issue(signer, result)
    assert verify(signer, token, now=NOW - SKEW_S)
    assert verify(signer, token, now=NOW + TOKEN_LIFE_S - 1)


def test_a_token_for_another_relying_party_is_its_alone(signer, result):
    token = issue(signer, result, audience="https://other.example")
    assert verify(signer, token, audience="https://other.example")
    with pytest.raises(PolicyDenied):
        verify(signer, token)


def test_another_brokers_token_is_refused(signer, result):
    other = EarSigner(TlsKey.generate(), issuer=ISSUER, audience=AUDIENCE)
    with pytest.raises(AuthenticationFailed):
        verify(signer, issue(other, result))
    with pytest.raises(AuthenticationFailed):  # under the name of the right key
        verify(signer, rewritten(signer, issue(signer, result), key=TlsKey.generate()))


def test_simulated_attesters_are_accepted_only_by_who_says_so(signer, simulated):
    token = issue(signer, simulated)
    with pytest.raises(PolicyDenied, match="contraindicated"):
        verify(signer, token)
    assert verify(signer, token, accepted=EVERY_TIER)


def rewritten(signer, token, *, key=None, **changes):
    """Return `token` signed again with other claims, by the signer's key or another."""
    claims = json.loads(from_b64url(token.split(".")[1], what="p"))
    for name, value in changes.items():
        claims[name] = value
    claims = {name: value for name, value in claims.items() if value is not ...}
    header = {"typ": "JWT", "kid": signer.jwk.thumbprint}
    return sign_jws(json.dumps(claims).encode(), key=key or signer._key, header=header)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"eat_profile": "tag:github.com,2023:veraison/ear"}, id="another profile"),
        pytest.param({"submods": {}}, id="about nobody"),
        pytest.param({"exp": ...}, id="without an end"),
        pytest.param({"iat": ...}, id="without a beginning"),
        pytest.param({"exp": float(NOW + 10)}, id="a fraction for an end"),
        pytest.param({"exp": str(NOW + 10)}, id="text for an end"),
        pytest.param({"exp": True}, id="true for an end"),
        pytest.param({"aud": ...}, id="for everybody"),
        pytest.param({"aud": [AUDIENCE, "others"]}, id="for several"),
        pytest.param({"ear_status": "excellent"}, id="an unknown tier"),
        pytest.param({"ear_status": ...}, id="without a status"),
        pytest.param({"exp": NOW + MAX_TOKEN_LIFE_S + 1}, id="a long life"),
        pytest.param({"ear_status": "warning"}, id="good parts, a bad whole"),
    ],
)
def test_a_signed_token_with_other_claims_is_refused(signer, result, changes):
    with pytest.raises(WardianError):
        verify(signer, rewritten(signer, issue(signer, result), **changes))


def test_two_attesters_in_one_token_are_refused(signer, result):
    token = issue(signer, result)
    submods = json.loads(from_b64url(token.split(".")[1], what="p"))["submods"]
    submods["gpu0"] = submods["cpu0"]
    with pytest.raises(FormatError):
        verify(signer, rewritten(signer, token, submods=submods))


def test_a_bad_part_is_seen_behind_a_good_whole(signer, result):
    token = issue(signer, result)
    submods = json.loads(from_b64url(token.split(".")[1], what="p"))["submods"]
    submods["cpu0"]["ear_status"] = "contraindicated"
    with pytest.raises(PolicyDenied):
        verify(signer, rewritten(signer, token, submods=submods))


@pytest.mark.parametrize("policies", [[], [POLICY, "another"], ["another", POLICY], [POLICY[:-2]]])
def test_a_result_under_several_policies_or_none_is_refused(signer, result, policies):
    token = issue(signer, result)
    submods = json.loads(from_b64url(token.split(".")[1], what="p"))["submods"]
    submods["cpu0"]["ear_appraisal_policy_ids"] = policies
    with pytest.raises((FormatError, PolicyDenied)):
        verify(signer, rewritten(signer, token, submods=submods))


def test_unknown_claims_are_ignored_as_the_draft_demands(signer, result):
    assert verify(signer, rewritten(signer, issue(signer, result), ear_new=1))


def test_a_claim_that_stands_twice_is_refused(signer, result):
    payload = from_b64url(issue(signer, result).split(".")[1], what="p")
    twice = payload[:-1] + f',"exp":{NOW + 10 * TOKEN_LIFE_S}}}'.encode()
    header = {"typ": "JWT", "kid": signer.jwk.thumbprint}
    with pytest.raises(FormatError):
        verify(signer, sign_jws(twice, key=signer._key, header=header))
