"""The KBS protocol served: whole exchanges with the protocol's own clients, and attacks on them."""

import asyncio
import base64
import dataclasses
import json

import pytest
from simulators.kbs_client import KbsError, TeeKeyPair, TokenClient
from toy_kbs import (
    AUDIENCE,
    CA,
    ISSUER,
    MANIFEST,
    NAME,
    NOW,
    SECRET,
    STRANGER,
    WORKER,
    ToyKbs,
    sgx_quote,
    td_quote,
)

from wardian.attestation.evidence import Purpose, bind
from wardian.attestation.evidence_digest import evidence_digest
from wardian.attestation.results.ear import TrustTier
from wardian.attestation.results.ear_key import parse_ear_key, verify_ear_key
from wardian.attestation.results.ear_token import EarSigner, verify_ear
from wardian.broker.kbs.answers import KbsRequest, KbsResponse, refuse
from wardian.broker.kbs.errands import Appraisal, Delivery, carry_out
from wardian.broker.kbs.sessions import KbsLimits
from wardian.crypto.jose import parse_jwk, sign_jws
from wardian.crypto.secret import Secret
from wardian.crypto.strict_text import b64url, from_b64url
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    CollateralUnavailable,
    CounterUnavailable,
    LocalProtocolError,
    PolicyDenied,
    RequestError,
)

EVERY_TIER = frozenset(TrustTier)


@pytest.fixture
def kbs() -> ToyKbs:
    return ToyKbs()


def refused(call, *arguments) -> KbsError:
    with pytest.raises(KbsError) as caught:
        call(*arguments)
    return caught.value


# What is for


def test_an_attested_workload_gets_its_secret(kbs):
    client = kbs.client()
    assert client.get_resource(NAME) == SECRET
    assert client.handshakes == 1  # it asked first, was told 401, attested, and asked again
    assert client.get_resource(NAME) == SECRET
    assert client.handshakes == 1
    assert [str(name) for name in kbs.released] == [NAME, NAME]


def test_a_trust_domain_gets_its_secret(kbs):
    log = base64.b64encode(b"an event log").decode()
    client = kbs.client(tee="tdx", quote=td_quote, evidence={"cc_eventlog": log})
    assert client.get_resource(NAME) == SECRET


def test_a_token_serves_in_the_cookies_place(kbs):
    client = kbs.client()
    client.get_token()
    assert kbs.token_client(client).get_resource(NAME) == SECRET
    both = kbs.client(key=client.key, cookies=client.cookies)
    headers = {"authorization": f"bearer {client.token}"}
    cookie = "; ".join(f"{name}={value}" for name, value in both.cookies.items())
    status, _, body = kbs.transport()(
        "GET", f"/kbs/v0/resource/{NAME}", headers | {"cookie": f"theme=dark; {cookie}"}, b""
    )
    assert status == 200
    assert client.key.decrypt_response(body) == SECRET


def test_the_token_says_who_was_attested(kbs):
    client = kbs.client()
    token = client.get_token()
    found = verify_ear(
        token,
        key=kbs.signer.jwk,
        issuer=ISSUER,
        audience=AUDIENCE,
        policy_id="manifest-1",
        now=NOW,
        nonce=None,
        accepted=EVERY_TIER,
    )
    said = found.appraisal.ear_verifier_claims
    assert said["runtime_data"]["tee-pubkey"] == client.key.public()
    assert said["wardian"]["measurement"] == WORKER.hex()
    assert said["wardian"]["kind"] == "SIMULATED"
    assert found.ear_status is TrustTier.CONTRAINDICATED  # a simulation, and it says so


def test_another_relying_party_gets_a_result_of_its_own(kbs):
    client = kbs.client()
    client.get_token()
    nonce = bytes(range(16))
    question = {"audience": "https://relying.example", "nonce": b64url(nonce)}
    status, body = client.call("POST", "/v1/attestation-result", question)
    assert status == 200
    keys = json.loads(client.call("GET", "/v1/attestation-result/keys")[1])
    said = parse_ear_key(json.dumps(keys["statement"]).encode())
    key = verify_ear_key(said, ca_spki=CA.spki, issuer=ISSUER, manifest_digest=MANIFEST, now=NOW)
    assert [known["kid"] for known in keys["keys"]] == [key.thumbprint]
    token = json.loads(body)["token"]
    arguments = {"key": key, "issuer": ISSUER, "now": NOW, "nonce": nonce}
    arguments["policy_id"] = "manifest-1"
    found = verify_ear(token, audience="https://relying.example", accepted=EVERY_TIER, **arguments)
    attester = found.appraisal.ear_verifier_claims["runtime_data"]["tee-pubkey"]
    assert (
        parse_jwk(attester, alg="ECDH-ES+A256KW").spki
        == parse_jwk(client.key.public(), alg="ECDH-ES+A256KW").spki
    )
    own = json.loads(from_b64url(client.token.split(".")[1], what="p"))
    assert found.jti != own["jti"]  # relying parties cannot tell by it who asked whom
    # and it opens nothing here
    here = TokenClient(transport=kbs.transport(), token=token, key=client.key)
    error = refused(here.get_resource, NAME)
    assert (error.status, error.type.rpartition("/")[2]) == (401, "TokenVerifierError")
    assert "another relying party" in error.detail


def test_a_result_in_the_brokers_own_name_does_not_stand_for_the_session(kbs):
    client = kbs.client()
    client.get_token()
    question = {"audience": AUDIENCE, "nonce": b64url(bytes(16))}
    token = json.loads(client.call("POST", "/v1/attestation-result", question)[1])["token"]
    here = TokenClient(transport=kbs.transport(), token=token, key=client.key)
    assert refused(here.get_resource, NAME).status == 401


def test_the_cookie_stays_with_this_origin_over_tls(kbs):
    answer = kbs.respond(post("/kbs/v0/auth", kbs.client().request()))
    line = next(line for line in answer.headers.split(b"\r\n") if line.startswith(b"Set-Cookie"))
    attributes = line.decode().split("; ")[1:]
    assert attributes == ["Path=/", "Max-Age=60", "Secure", "HttpOnly", "SameSite=Strict"]
    assert b"Cache-Control: no-store\r\n" in answer.headers


# The four refusals are told apart


def test_what_no_secret_can_be_called_is_404(kbs):
    client = kbs.client()
    client.get_token()
    error = refused(client.get_resource, "default/key/model-1")
    assert (error.status, error.type.rpartition("/")[2]) == (404, "InvalidRequestPath")
    assert "default/secret/NAME" in error.detail


def test_what_the_release_is_given_names_the_evidence(kbs):
    client = kbs.client()
    client.get_resource(NAME)
    quote = next(each.evidence for each in kbs.errands if isinstance(each, Appraisal))
    assert kbs.audited == [evidence_digest(quote)]


def test_what_another_may_have_is_403_and_the_reason_is_told(kbs):
    client = kbs.client(quote=sgx_quote(STRANGER))
    client.get_token()
    error = refused(client.get_resource, NAME)
    assert (error.status, error.type.rpartition("/")[2]) == (403, "PolicyDeny")
    assert "does not name this measurement" in error.detail
    assert kbs.released == []


def test_a_measurement_that_no_policy_names_is_403(kbs):
    error = refused(kbs.client(quote=sgx_quote(bytes(32))).handshake)
    assert (error.status, error.type.rpartition("/")[2]) == (403, "PolicyDeny")


def test_who_is_not_attested_is_told_401_and_what_to_do(kbs):
    client = kbs.client()
    status, body = client.call("GET", f"/kbs/v0/resource/{NAME}")
    error = json.loads(body)
    assert status == 401
    assert error["type"].endswith("/errors/TokenNotFound")
    assert "attest first" in error["detail"]
    answer = kbs.respond(KbsRequest(method=b"GET", target=path(), headers={}, body=b""))
    assert b'WWW-Authenticate: Bearer realm="kbs"\r\n' in answer.headers


def path(name=NAME):
    return f"/kbs/v0/resource/{name}".encode()


def post(target, value, **headers):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    named = {name.encode(): text.encode() for name, text in headers.items()}
    return KbsRequest(method=b"POST", target=target.encode(), headers=named, body=body)


def get(name=NAME, **headers):
    named = {text.encode(): value.encode() for text, value in headers.items()}
    return KbsRequest(method=b"GET", target=path(name), headers=named, body=b"")


def test_a_broker_in_trouble_says_so_and_when_to_come_back(kbs):
    client = kbs.client()
    client.get_token()
    for error in (CounterUnavailable("host 10.0.0.7 is away"), CollateralUnavailable("x"), OSError):
        step = kbs.desk.accept(get(cookie=cookie(client)), peer="p", now=NOW)
        outcome = error("x") if error is OSError else error
        answer = kbs.desk.conclude(step, outcome, now=NOW)
        assert (answer.status, answer.problem) == (503, "Unavailable")
        assert b"Retry-After: 5\r\n" in answer.headers
        assert b"10.0.0.7" not in answer.body


def cookie(client):
    return f"kbs-session-id={client.cookies['kbs-session-id']}"


def test_a_request_error_that_is_none_of_404_is_trouble():
    assert refuse(RequestError("x", status=418)).status == 503
    assert refuse(RequestError("x", status=404)).status == 404


def test_what_a_refusal_quotes_is_printable(kbs):
    body = json.loads(refuse(PolicyDenied("\x1b[31mred\n\u202e" + "x" * 1000, rule="r")).body)
    assert body["detail"].startswith("?[31mred??xxx")
    assert len(body["detail"]) == 500


# Replay and theft


def test_a_challenge_is_answered_once(kbs):
    client = kbs.client()
    attestation = client.attestation(client.challenge())
    client.attest(attestation)
    error = refused(client.attest, attestation)
    assert error.status == 401
    assert "answered before" in error.detail
    assert client.get_resource(NAME) == SECRET  # what was attested stands
    assert client.handshakes == 1


def test_a_failed_answer_uses_up_the_challenge_too(kbs):
    client = kbs.client(quote=sgx_quote(bytes(32)))
    nonce = client.challenge()
    assert refused(client.attest, client.attestation(nonce)).status == 403
    client.quote = sgx_quote()
    error = refused(client.attest, client.attestation(nonce))
    assert "no such session" in error.detail


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff"])
def test_garbage_uses_up_the_challenge(kbs, body):
    client = kbs.client()
    nonce = client.challenge()
    answer = kbs.respond(post("/kbs/v0/attest", body, cookie=cookie(client)))
    assert (answer.status, answer.problem) == (400, "SerdeError")
    assert refused(client.attest, client.attestation(nonce)).status == 401


def test_evidence_for_another_sessions_challenge_is_refused(kbs):
    victim, thief = kbs.client(), kbs.client()
    stolen = victim.attestation(victim.challenge())
    thief.challenge()
    error = refused(thief.attest, stolen)
    assert error.status == 401
    assert "another challenge" in error.detail
    assert thief.token is None


def test_a_replayed_quote_under_a_fresh_nonce_is_refused(kbs):
    """The host keeps a quote and rewrites the JSON around it."""
    client = kbs.client()
    old = client.attestation(client.challenge())
    client.attest(old)
    fresh = client.attestation(client.challenge()) | {"tee-evidence": old["tee-evidence"]}
    error = refused(client.attest, fresh)
    assert error.status == 401
    assert "made for something else" in error.detail


def test_the_hosts_own_key_in_the_attesters_place_is_refused(kbs):
    client = kbs.client()
    attestation = client.attestation(client.challenge())
    attestation["runtime-data"]["tee-pubkey"] = TeeKeyPair().public()
    assert refused(client.attest, attestation).status == 401


def test_evidence_for_our_own_release_does_not_attest_here(kbs):
    """TRUST T24, the other way round: labelled report data is never this protocol's."""
    label = bind(Purpose.RELEASE, bytes(32), b"key")
    client = kbs.client(quote=lambda _: sgx_quote()(label))
    error = refused(client.handshake)
    assert error.status == 401
    assert "made for something else" in error.detail


def test_a_stolen_cookie_or_token_is_worth_ciphertext(kbs):
    client = kbs.client()
    client.get_token()
    thief = kbs.client(key=TeeKeyPair(), cookies=dict(client.cookies))
    for loot in (thief, TokenClient(kbs.transport(), client.token, TeeKeyPair())):
        with pytest.raises(Exception, match=".*") as caught:
            loot.get_resource(NAME)
        assert not isinstance(caught.value, KbsError)  # it got an answer, and cannot read it


def test_cookie_and_token_of_two_sessions_are_refused(kbs):
    one, two = kbs.client(), kbs.client()
    one.get_token()
    two.get_token()
    answer = kbs.respond(get(cookie=cookie(one), authorization=f"Bearer {two.token}"))
    assert (answer.status, answer.problem) == (401, "TokenVerifierError")
    assert kbs.released == []


@pytest.mark.parametrize(
    "value",
    [
        "kbs-session-id=",
        "kbs-session-id=short",
        "kbs-session-id=" + "A" * 43,
        "kbs-session-id=" + "A" * 42 + "\n",
        "kbs-session-id",
        "other=" + "A" * 43,
        "",
    ],
)
def test_a_cookie_that_was_never_given_out_is_nobodys(kbs, value):
    assert kbs.respond(get(cookie=value)).problem == "TokenNotFound"


def test_two_cookies_are_none(kbs):
    client = kbs.client()
    client.get_token()
    twice = f"{cookie(client)}; {cookie(client)}"
    assert kbs.respond(get(cookie=twice)).status == 401
    joined = f"{cookie(client)}, {cookie(client)}"  # as a server joins two header lines
    assert kbs.respond(get(cookie=joined)).status == 401
    assert kbs.respond(get(cookie=cookie(client))).status == 200


# Tokens that are not ours


def forged(kbs, client, *, key=None, header=None, **changes):
    claims = json.loads(from_b64url(client.token.split(".")[1], what="p")) | changes
    header = header or {"typ": "JWT", "kid": kbs.signer.jwk.thumbprint}
    return sign_jws(json.dumps(claims).encode(), key=key or kbs.signer._key, header=header)


def none_token(client):
    header = b64url(b'{"alg":"none","typ":"JWT"}')
    return f"{header}.{client.token.split('.')[1]}."


def hs256_token(kbs, client):
    import hmac

    kid = kbs.signer.jwk.thumbprint
    header = json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid}).encode()
    signed = f"{b64url(header)}.{client.token.split('.')[1]}"
    return f"{signed}.{b64url(hmac.digest(kbs.signer.jwk.spki, signed.encode(), 'sha256'))}"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda kbs, client: none_token(client), id="alg none"),
        pytest.param(hs256_token, id="HS256 under the public key"),
        pytest.param(lambda kbs, c: forged(kbs, c, key=TlsKey.generate()), id="another key"),
        pytest.param(lambda kbs, c: forged(kbs, c, aud="https://x.example"), id="another audience"),
        pytest.param(lambda kbs, c: forged(kbs, c, iss="somebody-else"), id="another issuer"),
        pytest.param(lambda kbs, c: forged(kbs, c, header={"typ": "JWT"}), id="no key id"),
        pytest.param(lambda kbs, c: c.token + "x", id="a changed signature"),
        pytest.param(lambda kbs, c: "", id="an empty token"),
    ],
)
def test_a_token_that_this_broker_did_not_make_for_itself_is_refused(kbs, make):
    client = kbs.client()
    client.get_token()
    answer = kbs.respond(get(authorization=f"Bearer {make(kbs, client)}"))
    assert (answer.status, answer.problem) == (401, "TokenVerifierError")
    assert kbs.released == []


def test_a_token_of_the_policy_before_is_told_to_attest_anew(kbs):
    client = kbs.client()
    client.get_token()
    kbs.desk.renew(statement=kbs.statement(), policy_id="manifest-2")
    answer = kbs.respond(get(authorization=f"Bearer {client.token}"))
    assert (answer.status, answer.problem) == (401, "TokenNotFound")
    assert b"attest anew" in answer.body


@pytest.mark.parametrize(
    "changes", [{"exp": NOW}, {"iat": NOW + 1000, "exp": NOW + 1200}, {"jti": "unknown"}]
)
def test_a_token_that_is_over_or_of_no_session_is_told_to_attest_anew(kbs, changes):
    client = kbs.client()
    client.get_token()
    token = forged(kbs, client, **changes)
    answer = kbs.respond(get(authorization=f"Bearer {token}"))
    assert (answer.status, answer.problem) == (401, "TokenNotFound")


def test_another_way_to_authorise_is_refused(kbs):
    answer = kbs.respond(get(authorization="Basic YTpi"))
    assert (answer.status, answer.problem) == (401, "TokenVerifierError")


# Time, policy, numbers


def test_a_late_answer_to_a_challenge_is_refused(kbs):
    client = kbs.client()
    attestation = client.attestation(client.challenge())
    kbs.now += kbs.limits.challenge_s
    assert refused(client.attest, attestation).status == 401


def test_a_session_ends_and_its_client_attests_anew(kbs):
    client = kbs.client()
    client.get_token()
    kbs.now += kbs.limits.session_s
    assert client.get_resource(NAME) == SECRET
    assert client.handshakes == 2


def test_with_a_new_policy_all_sessions_end(kbs):
    client, slow = kbs.client(), kbs.client()
    client.get_token()
    slow_attestation = slow.attestation(slow.challenge())
    step = kbs.desk.accept(
        post("/kbs/v0/attest", slow_attestation, cookie=cookie(slow)), peer="p", now=NOW
    )
    statement = kbs.statement()
    kbs.desk.renew(statement=statement, policy_id="manifest-1")
    assert client.get_resource(NAME) == SECRET
    kbs.desk.renew(statement=statement, policy_id="manifest-2")
    assert kbs.respond(get(cookie=cookie(client))).status == 401
    answer = kbs.desk.conclude(step, kbs.carry_out(step), now=NOW)
    assert answer.status == 401
    assert b"ended while" in answer.body
    assert client.get_resource(NAME) == SECRET
    assert client.handshakes == 2


def test_a_session_serves_so_often(kbs):
    kbs = ToyKbs(limits=KbsLimits(uses=2))
    client = kbs.client()
    client.get_token()
    question = {"audience": "a", "nonce": b64url(bytes(16))}
    assert client.call("POST", "/v1/attestation-result", question)[0] == 200
    assert kbs.respond(get(cookie=cookie(client))).status == 200
    kbs.now = NOW - 10_000  # a host that turns the clock back gains nothing
    assert kbs.respond(get(cookie=cookie(client))).status == 401
    assert client.call("POST", "/v1/attestation-result", question)[0] == 401
    assert len(kbs.released) == 1


def test_a_challenge_of_one_session_is_no_use_for_resources(kbs):
    client = kbs.client()
    client.challenge()
    assert kbs.respond(get(cookie=cookie(client))).problem == "TokenNotFound"


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_evidence_of_another_tee_than_was_named_is_refused(kbs, tee):
    quote = td_quote if tee == "sgx" else sgx_quote()
    error = refused(kbs.client(tee=tee, quote=quote).handshake)
    assert error.status == 401
    assert "another TEE" in error.detail


def test_a_verifier_that_lies_about_the_binding_is_noticed(kbs):
    """The desk does not rely on its composer to have compared the report data."""
    client = kbs.client()
    request = post("/kbs/v0/attest", client.attestation(client.challenge()), cookie=cookie(client))
    step = kbs.desk.accept(request, peer="p", now=NOW)
    result = kbs.carry_out(step)
    report = dataclasses.replace(result.claims.report, report_data=bytes(64))
    other = dataclasses.replace(result, claims=dataclasses.replace(result.claims, report=report))
    answer = kbs.desk.conclude(step, other, now=NOW)
    assert (answer.status, answer.problem) == (401, "AttestationError")


@pytest.mark.parametrize("changes", [{"config_id": bytes(63) + b"\1"}, {"config_svn": 1}])
def test_an_enclave_that_its_launcher_configured_is_refused(kbs, changes):
    """Who launches it chooses CONFIGID, where init-data is bound, and no measurement covers it."""
    client = kbs.client()
    request = post("/kbs/v0/attest", client.attestation(client.challenge()), cookie=cookie(client))
    step = kbs.desk.accept(request, peer="p", now=NOW)
    result = kbs.carry_out(step)
    report = dataclasses.replace(result.claims.report, **changes)
    other = dataclasses.replace(result, claims=dataclasses.replace(result.claims, report=report))
    answer = kbs.desk.conclude(step, other, now=NOW)
    assert (answer.status, answer.problem) == (403, "PolicyDeny")
    assert b"CONFIGID" in answer.body
    assert kbs.respond(get(cookie=cookie(client))).status == 401


def test_an_errand_is_concluded_once(kbs):
    client = kbs.client()
    request = post("/kbs/v0/attest", client.attestation(client.challenge()), cookie=cookie(client))
    step = kbs.desk.accept(request, peer="p", now=NOW)
    result = kbs.carry_out(step)
    assert kbs.desk.conclude(step, result, now=NOW).status == 200
    assert kbs.desk.conclude(step, result, now=NOW).status == 401
    assert kbs.respond(get(cookie=cookie(client))).status == 401  # the session went with it


def test_the_outcome_of_another_errand_is_a_bug(kbs):
    client = kbs.client()
    client.get_token()
    appraisal = kbs.errands[0]
    delivery = kbs.desk.accept(get(cookie=cookie(client)), peer="p", now=NOW)
    assert isinstance(appraisal, Appraisal)
    assert isinstance(delivery, Delivery)
    with pytest.raises(LocalProtocolError):
        kbs.desk.conclude(delivery, kbs.carry_out(appraisal), now=NOW)
    with pytest.raises(LocalProtocolError):
        kbs.desk.conclude(appraisal, Secret(b"x"), now=NOW)


def test_what_is_no_error_of_ours_leaves_an_errand(kbs):
    def crash(*_):
        raise ZeroDivisionError

    client = kbs.client()
    client.get_token()
    delivery = kbs.desk.accept(get(cookie=cookie(client)), peer="p", now=NOW)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(carry_out(delivery, appraise=crash, release=crash))


# What strangers may cost


def test_one_address_has_so_many_requests(kbs):
    kbs = ToyKbs(limits=KbsLimits(requests_per_s=1, request_burst=3))
    request = KbsRequest(method=b"GET", target=b"/openapi.json", headers={}, body=b"")
    statuses = [kbs.respond(request).status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert kbs.respond(request, peer="192.0.2.2").status == 200
    kbs.now += 1
    assert kbs.respond(request).status == 200
    busy = kbs.respond(request)
    assert (busy.status, busy.problem) == (429, "Busy")
    assert b"Retry-After: 1\r\n" in busy.headers


def test_a_large_body_counts_as_several_requests():
    """Decoding a megabyte of small numbers takes the one thread longer than all else together."""
    kbs = ToyKbs(limits=KbsLimits(requests_per_s=0, request_burst=20, counted_bytes=1000))
    for body, cost in ((b" " * 999, 1), (b" " * 1000, 2), (b" " * 9999, 10)):
        client = kbs.client()
        session = post("/kbs/v0/auth", client.request())
        named = kbs.desk.accept(session, peer="p", now=NOW).headers
        pair = named.split(b"Set-Cookie: ")[1].split(b";")[0].decode()
        asked = post("/kbs/v0/attest", body, cookie=pair)
        assert kbs.desk.accept(asked, peer="p", now=NOW).status == 400, cost
    # 3 challenges and bodies of 1, 2 and 10 are 16 requests of 20.
    asked = post("/kbs/v0/attest", b" " * 4000)
    assert kbs.desk.accept(asked, peer="p", now=NOW).status == 429


def test_so_much_evidence_is_verified_at_once(kbs):
    kbs = ToyKbs(limits=KbsLimits(verifying=2))
    waiting = []
    for _ in range(2):
        client = kbs.client()
        request = post(
            "/kbs/v0/attest", client.attestation(client.challenge()), cookie=cookie(client)
        )
        waiting.append(kbs.desk.accept(request, peer="p", now=NOW))
    third = kbs.client()
    attestation = third.attestation(third.challenge())
    assert refused(third.attest, attestation).status == 429
    assert kbs.desk.conclude(waiting[0], kbs.carry_out(waiting[0]), now=NOW).status == 200
    third.attest(attestation)  # its challenge was not used up
    assert third.get_resource(NAME) == SECRET


def test_garbage_takes_no_place_among_what_is_verified(kbs):
    kbs = ToyKbs(limits=KbsLimits(verifying=1))
    for _ in range(3):
        client = kbs.client()
        client.challenge()
        assert kbs.respond(post("/kbs/v0/attest", b"{}", cookie=cookie(client))).status == 400
    assert kbs.client().get_resource(NAME) == SECRET


def test_an_errand_that_nobody_concludes_gives_its_place_back(kbs):
    kbs = ToyKbs(limits=KbsLimits(verifying=1))
    lost = kbs.client()
    request = post("/kbs/v0/attest", lost.attestation(lost.challenge()), cookie=cookie(lost))
    step = kbs.desk.accept(request, peer="p", now=NOW)
    assert refused(kbs.client().handshake).status == 429
    kbs.now += kbs.limits.challenge_s
    kbs.client().handshake()
    late = kbs.desk.conclude(step, kbs.carry_out(step), now=kbs.now)
    assert late.status == 401


@pytest.mark.parametrize(
    ("target", "status", "problem"),
    [
        (b"/kbs/v0/resource/a/../b", 404, "InvalidRequestPath"),
        (b"/kbs/v0/resource/../../etc/passwd", 404, "InvalidRequestPath"),
        (b"/kbs/v0/resource/a/%2e%2e/c", 404, "InvalidRequestPath"),
        (b"/kbs/v0/resource/a/b/c?x=1", 404, "InvalidRequestPath"),
        (b"/kbs/v0/resource/", 404, "InvalidRequestPath"),
        (b"/kbs/v0/resource", 404, "PluginNotFound"),
        (b"/kbs/v0/resource-policy", 404, "PluginNotFound"),
        (b"/kbs/v0/attestation-policy", 404, "PluginNotFound"),
        (b"/kbs/v0/auth/", 404, "PluginNotFound"),
        (b"/kbs/v0/", 404, "PluginNotFound"),
        (b"/kbs/v0/auth?x=1", 404, "PluginNotFound"),
        (b"/", 404, "InvalidRequestPath"),
        (b"/KBS/v0/auth", 404, "InvalidRequestPath"),
        (b"//kbs/v0/auth", 404, "InvalidRequestPath"),
        (b"/\xff\xfe", 404, "InvalidRequestPath"),
        (b"*", 404, "InvalidRequestPath"),
        (b"/" + b"x" * 1024, 414, "TooLong"),
    ],
)
def test_paths_lead_where_they_say_or_nowhere(kbs, target, status, problem):
    client = kbs.client()
    client.get_token()
    headers = {b"cookie": cookie(client).encode()}
    answer = kbs.respond(KbsRequest(method=b"GET", target=target, headers=headers, body=b""))
    assert (answer.status, answer.problem) == (status, problem)
    assert set(json.loads(answer.body)) == {"type", "detail"}
    assert kbs.released == []


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        (b"GET", b"/kbs/v0/auth", b"POST"),
        (b"PUT", b"/kbs/v0/attest", b"POST"),
        (b"POST", path(), b"GET"),
        (b"HEAD", path(), b"GET"),
        (b"DELETE", path(), b"GET"),
        (b"get", path(), b"GET"),
        (b"POST", b"/openapi.json", b"GET"),
        (b"GET", b"/v1/attestation-result", b"POST"),
    ],
)
def test_other_methods_do_nothing(kbs, method, target, allowed):
    client = kbs.client()
    client.get_token()
    headers = {b"cookie": cookie(client).encode()}
    answer = kbs.respond(KbsRequest(method=method, target=target, headers=headers, body=b""))
    assert (answer.status, answer.problem) == (405, "Method")
    assert b"Allow: " + allowed + b"\r\n" in answer.headers
    assert kbs.released == []


def test_a_large_body_is_refused_before_it_is_read(kbs):
    kbs = ToyKbs(limits=KbsLimits(body_bytes=100, evidence_bytes=200))
    for target, most in (
        ("/kbs/v0/auth", 100),
        ("/v1/attestation-result", 100),
        ("/kbs/v0/attest", 200),
    ):
        answer = kbs.respond(post(target, b" " * (most + 1)))
        assert (answer.status, answer.problem) == (413, "TooLarge")
        assert json.loads(answer.body)["type"] == "about:blank"
        assert kbs.respond(post(target, b" " * most)).status in (400, 401)


def test_nobody_without_a_session_gets_a_large_body_read(kbs):
    """Decoding costs time on the one thread: who has no challenge is told so before."""
    hostile = b"[" * 1000
    assert kbs.respond(post("/kbs/v0/attest", hostile)).problem == "TokenNotFound"
    client = kbs.client()
    client.get_token()
    again = kbs.respond(post("/kbs/v0/attest", hostile, cookie=cookie(client)))
    assert again.problem == "AttestationError"  # answered before; not even looked at


def test_a_client_of_another_version_is_told_401_as_by_trustee(kbs):
    answer = kbs.respond(post("/kbs/v0/auth", kbs.client().request() | {"version": "0.1.1"}))
    assert (answer.status, answer.problem) == (401, "AttestationError")
    assert b"0.4.0" in answer.body


@pytest.mark.parametrize("nonce", [bytes(7), bytes(65)])
def test_a_relying_partys_nonce_of_another_length_is_refused(kbs, nonce):
    client = kbs.client()
    client.get_token()
    question = {"audience": "a", "nonce": b64url(nonce)}
    assert client.call("POST", "/v1/attestation-result", question)[0] == 400


def test_no_secret_and_no_token_shows_in_what_could_be_logged(kbs):
    client = kbs.client()
    client.get_token()
    request = get(cookie=cookie(client), authorization=f"Bearer {client.token}")
    step = kbs.desk.accept(request, peer="p", now=NOW)
    outcome = kbs.carry_out(step)
    answer = kbs.desk.conclude(step, outcome, now=NOW)
    assert isinstance(answer, KbsResponse)
    shown = repr((kbs.desk, request, kbs.errands, step, outcome, answer))
    token_id = json.loads(from_b64url(client.token.split(".")[1], what="p"))["jti"]
    for hidden in (SECRET.decode(), client.cookies["kbs-session-id"], client.token, token_id):
        assert hidden not in shown
    assert SECRET not in answer.body


def test_a_desk_signs_with_the_key_that_it_was_given(kbs):
    assert isinstance(kbs.signer, EarSigner)
    assert kbs.desk._tokens.keys["keys"] == [kbs.signer.public]
