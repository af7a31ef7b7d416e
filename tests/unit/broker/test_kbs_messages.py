"""The JSON of the KBS protocol, and what its evidence is bound to."""

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.kbs_client import TeeKeyPair
from toy_kbs import NOW, PLATFORM, WORKER

from wardian.attestation.appraisal.policy import AppraisalPolicy, MeasurementIn
from wardian.attestation.claims import TeeKind
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.attestation.verifier import verify_evidence
from wardian.broker.kbs.messages import (
    MAX_QUOTE_BYTES,
    parse_attestation,
    parse_request,
    parse_resource,
    parse_result_request,
    report_data,
    secret_name,
)
from wardian.crypto.jose import ECDH_ES_A256KW, parse_jwk
from wardian.errors import EvidenceInvalid, FormatError, PeerProtocolError, RequestError

PUBLIC = TeeKeyPair().public()
KEY = parse_jwk(PUBLIC, alg=ECDH_ES_A256KW)
NONCE = base64.b64encode(bytes(range(32))).decode()


def dump(value, **changes):
    return json.dumps({k: v for k, v in (value | changes).items() if v is not ...}).encode()


# Request

REQUEST = {"version": "0.4.0", "tee": "sgx", "extra-params": ""}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"extra-params": ...},
        {"extra-params": None},
        {"extra-params": {}},
        {"extra-params": {"supported-hash-algorithms": ["sha256", "sha384", "sha512"]}},
        {"extra-params": {"attestation-policy-selector": None}},
        {
            "extra-params": {
                "tee-metadata": {
                    "primary_tee": {"tee": "sgx", "metadata": {"host": "h"}},
                    "additional_tees": [],
                }
            }
        },
    ],
)
def test_a_request_of_this_version_is_understood(changes):
    assert parse_request(dump(REQUEST, **changes)) is TeeKind.SGX
    assert parse_request(dump(REQUEST, tee="tdx", **{"extra-params": {}})) is TeeKind.TDX


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"version": "0.1.1"}, PeerProtocolError, "version 0.4.0"),
        ({"version": "0.4.1"}, PeerProtocolError, "version 0.4.0"),
        ({"version": "0.4.0-rc1"}, PeerProtocolError, "version 0.4.0"),
        ({"version": 0.4}, FormatError, "whole numbers"),
        ({"version": ...}, FormatError, "version"),
        ({"tee": "sample"}, PeerProtocolError, "sgx, tdx"),
        ({"tee": "SGX"}, PeerProtocolError, "sgx, tdx"),
        ({"tee": "snp"}, PeerProtocolError, "sgx, tdx"),
        ({"tee": ...}, FormatError, "tee"),
        ({"more": 1}, FormatError, "unknown field"),
        ({"extra-params": "x"}, FormatError, "extra-params"),
        ({"extra-params": {"trust-me": True}}, FormatError, "unknown field"),
        (
            {"extra-params": {"supported-hash-algorithms": ["sha512"]}},
            PeerProtocolError,
            "sha384",
        ),
        ({"extra-params": {"supported-hash-algorithms": []}}, PeerProtocolError, "sha384"),
        (
            {"extra-params": {"attestation-policy-selector": "lax"}},
            PeerProtocolError,
            "none can be selected",
        ),
        (
            {
                "extra-params": {
                    "tee-metadata": {"primary_tee": {"tee": "snp"}, "additional_tees": []}
                }
            },
            PeerProtocolError,
            "another primary TEE",
        ),
        (
            {
                "extra-params": {
                    "tee-metadata": {
                        "primary_tee": {"tee": "sgx"},
                        "additional_tees": [{"tee": "nvidia"}],
                    }
                }
            },
            PeerProtocolError,
            "additional TEEs",
        ),
    ],
)
def test_a_request_that_is_not_spoken_here_is_refused(changes, error, said):
    with pytest.raises(error, match=said):
        parse_request(dump(REQUEST, **changes))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b"{", b"\xff"])
def test_what_is_no_message_is_refused(body):
    for parse in (parse_request, parse_attestation, parse_result_request):
        with pytest.raises(FormatError):
            parse(body)


# Attestation

QUOTE = b"a quote"


def attestation(**changes):
    runtime = {"nonce": NONCE, "tee-pubkey": PUBLIC}
    evidence = {
        "primary_evidence": {"quote": base64.b64encode(QUOTE).decode()},
        "additional_evidence": "",
    }
    return {"init-data": None, "runtime-data": runtime, "tee-evidence": evidence} | changes


def primary(**changes):
    return {"primary_evidence": changes, "additional_evidence": ""}


def test_an_attestation_is_understood():
    found = parse_attestation(dump(attestation()))
    assert (found.nonce, found.key, found.quote) == (NONCE, KEY, QUOTE)
    without = {k: v for k, v in attestation().items() if k != "init-data"}
    assert parse_attestation(dump(without)) == found


def test_a_trust_domains_logs_are_not_read():
    evidence = primary(quote="AAAA", cc_eventlog="!", aa_eventlog=None)
    assert parse_attestation(dump(attestation(**{"tee-evidence": evidence}))).quote == bytes(3)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"init-data": {"format": "toml", "body": ""}}, PeerProtocolError),
        ({"init-data": False}, PeerProtocolError),
        ({"runtime-data": {"nonce": NONCE}}, FormatError),
        ({"runtime-data": {"nonce": 7, "tee-pubkey": PUBLIC}}, FormatError),
        ({"runtime-data": {"nonce": NONCE, "tee-pubkey": PUBLIC, "more": 1}}, FormatError),
        ({"runtime-data": {"nonce": NONCE, "tee-pubkey": PUBLIC | {"d": "AA"}}}, FormatError),
        ({"runtime-data": {"nonce": NONCE, "tee-pubkey": PUBLIC | {"crv": "P-521"}}}, FormatError),
        ({"runtime-data": {"nonce": NONCE, "tee-pubkey": "x"}}, FormatError),
        (
            {"tee-evidence": {"primary_evidence": {"quote": "AAAA"}, "additional_evidence": "{}"}},
            PeerProtocolError,
        ),
        ({"tee-evidence": {"primary_evidence": {"quote": "AAAA"}}}, FormatError),
        ({"tee-evidence": primary(quote="")}, FormatError),
        ({"tee-evidence": primary(quote="A-_A")}, FormatError),
        ({"tee-evidence": primary(quote="AAA")}, FormatError),
        ({"tee-evidence": primary(quote="ü")}, FormatError),
        ({"tee-evidence": primary(quote="AAAA", report="AAAA")}, FormatError),
        ({"tee-evidence": primary(quote="AAAA" * (MAX_QUOTE_BYTES // 3 + 1))}, FormatError),
        ({"tee-evidence": "quote"}, FormatError),
    ],
)
def test_an_attestation_with_anything_else_is_refused(changes, error):
    with pytest.raises(error):
        parse_attestation(dump(attestation(**changes)))


def test_runtime_data_with_two_opinions_is_refused():
    body = dump(attestation()).decode()
    nonce = f'"nonce": "{NONCE}"'
    for twice in (f'{nonce}, "nonce": "x"', f'"nonce": "x", {nonce}'):
        assert nonce in body
        with pytest.raises(FormatError, match="twice"):
            parse_attestation(body.replace(nonce, twice).encode())
    other = TeeKeyPair().public()["x"]
    with pytest.raises(FormatError, match="twice"):
        parse_attestation(body.replace('"kty"', f'"x": "{other}", "kty"').encode())


# What evidence is bound to


def test_report_data_is_what_trustee_expects():
    """SHA-384 over the sorted, compact JSON, in bytes as they have to be, then zeros."""
    text = (
        '{"additional-evidence":"","nonce":"' + NONCE + '","tee-pubkey":{"alg":"ECDH-ES+A256KW",'
        f'"crv":"P-256","kty":"EC","x":"{PUBLIC["x"]}","y":"{PUBLIC["y"]}"}}}}'
    )
    assert report_data(NONCE, KEY) == hashlib.sha384(text.encode()).digest() + bytes(16)


@given(st.sampled_from(Purpose), st.lists(st.binary(max_size=40), max_size=4))
def test_no_labelled_report_data_has_the_shape_of_this_protocols(purpose, parts):
    assert bind(purpose, *parts)[48:] != bytes(16)


@given(st.text(max_size=60))
def test_all_report_data_of_this_protocol_has_its_shape(nonce):
    found = report_data(nonce, KEY)
    assert len(found) == 64
    assert found[48:] == bytes(16)


def test_evidence_of_this_protocol_never_passes_for_our_release():
    """TRUST T24: a genuine quote, of an approved enclave, that was made for a KBS client."""
    genuine = PLATFORM.evidence(mr_enclave=WORKER, report_data=report_data(NONCE, KEY))
    policy = AppraisalPolicy(
        roots=frozenset({PLATFORM.root_sha256}), rule=MeasurementIn(frozenset({WORKER}))
    )
    raw = base64.b64decode(NONCE)
    for purpose in Purpose:
        for parts in ((raw, KEY.spki), (raw, b"", KEY.spki, bytes(32)), (NONCE.encode(),), ()):
            with pytest.raises(EvidenceInvalid, match="made for something else"):
                verify_evidence(genuine, policy=policy, report_data=bind(purpose, *parts), now=NOW)
    evidence = Evidence(quote=genuine.quote, collateral=genuine.collateral)
    bound = report_data(NONCE, KEY)
    assert verify_evidence(evidence, policy=policy, report_data=bound, now=NOW)


# Resources


def test_a_resource_has_three_names():
    found = parse_resource("default/1.ok/v_1-2...")
    assert (found.repository, found.type, found.tag) == ("default", "1.ok", "v_1-2...")
    assert str(found) == "default/1.ok/v_1-2..."


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "a/b",
        "a/b/c/d",
        "a/b/",
        "/a/b/c",
        "a//c",
        "../b/c",
        "a/../c",
        "a/b/..",
        "./b/c",
        "a/.b/c",
        "a/%2e%2e/c",
        "a/b%2Fc/d",
        "a\\..\\b/c/d",
        "a/b/c?x=1",
        "a/b/c#x",
        "a/b/c\n",
        "a/b/c\0",
        "a/b/ü",
        "a/b/" + "c" * 129,
    ],
)
def test_a_path_that_is_not_three_plain_names_is_refused(path):
    with pytest.raises(FormatError):
        parse_resource(path)


def test_a_secret_of_the_mesh_has_one_name_behind_two():
    for path in ("default/secret/api-key", "test/secret/api-key"):
        assert secret_name(parse_resource(path), mesh="test") == "api-key"


@pytest.mark.parametrize("path", ["other/secret/api-key", "default/key/api-key"])
def test_another_repository_or_type_is_no_secret_of_the_mesh(path):
    with pytest.raises(RequestError) as caught:
        secret_name(parse_resource(path), mesh="test")
    assert caught.value.status == 404


# Results


def test_a_result_is_asked_for_by_audience_and_nonce():
    body = {"audience": "https://relying.example", "nonce": "AAECAwQFBgc"}
    assert parse_result_request(dump(body)) == ("https://relying.example", bytes(range(8)))


@pytest.mark.parametrize(
    "changes",
    [
        {"audience": ""},
        {"audience": "two words"},
        {"audience": "x" * 201},
        {"audience": "ü"},
        {"audience": ["a", "b"]},
        {"audience": ...},
        {"nonce": "AAECAwQFBgc="},
        {"nonce": "+/8"},
        {"nonce": ...},
        {"more": 1},
    ],
)
def test_a_question_for_a_result_in_another_form_is_refused(changes):
    with pytest.raises(FormatError):
        parse_result_request(dump({"audience": "a", "nonce": "AAECAwQFBgc"}, **changes))
