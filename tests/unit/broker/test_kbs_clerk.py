"""The KBS desk in a broker: under its manifest, its epochs, its store; and attacks on that."""

import asyncio
import json
from contextlib import closing

import pytest
from simulators.kbs_client import KbsError
from toy_clerk import (
    GIVEN,
    GUEST,
    KEPT_BACK,
    NAME,
    OTHERS,
    VALUE,
    ToyClerk,
    entries,
    lines_of,
    quote_of,
)
from toy_mesh import NOW, OTHER_PLATFORM, PLATFORM, ToyBroker, digest

from wardian.attestation.appraisal.policy import MeasurementIn
from wardian.attestation.collateral.source import NoCollateral
from wardian.attestation.results.ear import TrustTier
from wardian.attestation.results.ear_key import KEY_LIFE_S, parse_ear_key, verify_ear_key
from wardian.attestation.results.ear_token import verify_ear
from wardian.broker.kbs import clerk as clerks
from wardian.broker.kbs.answers import KbsRequest
from wardian.broker.kbs.sessions import KbsLimits
from wardian.broker.limits import ServiceLimits
from wardian.broker.mesh.appraisal import appraisal_policy, interop_policy
from wardian.broker.mesh.lines import ReleaseTerms
from wardian.crypto.strict_text import b64url
from wardian.errors import PolicyDenied

EVERY_TIER = frozenset(TrustTier)
ISSUER, AUDIENCE = "wardian:mesh:test", "wardian:broker:test"


@pytest.fixture
def broker(mesh, tmp_path):
    with closing(ToyBroker(mesh, tmp_path / "broker.db", provisioned=False)) as made:
        yield made


@pytest.fixture
def kbs(broker):
    with closing(ToyClerk(broker)) as toy:
        toy.provision()
        yield toy


def refused(call, *arguments) -> KbsError:
    with pytest.raises(KbsError) as caught:
        call(*arguments)
    return caught.value


def keys(kbs: ToyClerk):
    status, _, body = kbs.transport()("GET", "/v1/attestation-result/keys", {}, b"")
    assert status == 200
    return json.loads(body)


# What is for


def test_a_guest_gets_what_its_owner_gives_it_this_way(kbs):
    assert kbs.client().get_resource(NAME) == VALUE.reveal()
    line = entries(kbs.broker)[-1]
    assert (line.event, line.outcome, line.secret, line.use) == ("release", "granted", GIVEN, 1)
    assert line.measurement == GUEST.hex()
    assert line.evidence
    assert line.manifest == kbs.broker.authority.manifest_digest.hex()


def test_the_mesh_has_a_name(kbs):
    assert kbs.client().get_resource(f"test/secret/{GIVEN}") == VALUE.reveal()


def test_a_relying_party_verifies_the_token_by_the_mesh_ca(kbs):
    authority = kbs.broker.authority
    token = kbs.client().get_token()
    statement = parse_ear_key(json.dumps(keys(kbs)["statement"]).encode())
    key = verify_ear_key(
        statement,
        ca_spki=authority.ca.spki,
        issuer=ISSUER,
        manifest_digest=authority.manifest_digest,
        now=NOW,
    )
    found = verify_ear(
        token,
        key=key,
        issuer=ISSUER,
        audience=AUDIENCE,
        policy_id=authority.manifest_digest.hex(),
        now=NOW,
        nonce=None,
        accepted=EVERY_TIER,
    )
    assert found.appraisal.ear_verifier_claims["wardian"]["measurement"] == GUEST.hex()


def test_a_result_under_one_manifest_is_none_under_another(kbs):
    """One key signs under all of them, and a statement about it outlives its manifest by a day."""
    said, tokens = [], []
    for version in (1, 2):
        if version > 1:
            kbs.provision(version=version)
        said.append(parse_ear_key(json.dumps(keys(kbs)["statement"]).encode()))
        tokens.append(kbs.client().get_token())
    given = {"issuer": ISSUER, "audience": AUDIENCE, "now": NOW, "nonce": None}
    for number, statement in enumerate(said):
        pinned = statement.manifest_digest
        key = verify_ear_key(
            statement,
            ca_spki=kbs.broker.authority.ca.spki,
            issuer=ISSUER,
            manifest_digest=pinned,
            now=NOW,
        )
        policy = {"key": key, "policy_id": pinned.hex(), "accepted": EVERY_TIER}
        assert verify_ear(tokens[number], **policy, **given)
        with pytest.raises(PolicyDenied, match="another policy"):
            verify_ear(tokens[1 - number], **policy, **given)


def test_all_brokers_of_a_mesh_sign_with_one_key_that_the_store_keeps(kbs):
    before = keys(kbs)["keys"]
    made = [line for line in entries(kbs.broker) if line.role == "kbs"]
    kbs.broker.restart()
    with closing(ToyClerk(kbs.broker)) as again:
        assert keys(again)["keys"] == before
    assert [line for line in entries(kbs.broker) if line.role == "kbs"] == made
    assert [(line.event, line.kind) for line in made] == [("start", "certificate")]


def test_the_statement_about_the_key_is_renewed_before_it_ends_and_no_session_with_it(kbs):
    client = kbs.client()
    client.get_token()
    first = keys(kbs)["statement"]
    kbs.broker.host_time += 299
    assert keys(kbs)["statement"] == first
    assert client.get_resource(NAME) == VALUE.reveal()
    assert client.handshakes == 1
    kbs.broker.host_time = NOW + KEY_LIFE_S // 2 + 1
    assert keys(kbs)["statement"]["ends"] == NOW + KEY_LIFE_S // 2 + 1 + KEY_LIFE_S


def test_uses_count_with_those_of_our_own_protocol(broker):
    with closing(ToyClerk(broker)) as kbs:
        kbs.provision(secrets=lines_of(broker.mesh, terms=ReleaseTerms(max_uses=2)))
        client = kbs.client()
        assert client.get_resource(NAME) == VALUE.reveal()
        assert client.get_resource(NAME) == VALUE.reveal()
        error = refused(client.get_resource, NAME)
        assert error.status == 403
        assert entries(broker)[-1].rule == "uses-exhausted"


# Who is refused


@pytest.mark.parametrize("name", [KEPT_BACK, OTHERS, "no-such-secret"])
def test_nobody_learns_why_an_owner_does_not_give_it(kbs, name):
    """Without consent, to others, or not there at all: one answer, and one rule in the log."""
    error = refused(kbs.client().get_resource, f"default/secret/{name}")
    assert (error.status, error.type.rpartition("/")[2]) == (403, "PolicyDeny")
    assert error.detail == (
        f"no owner gives a secret of this name to measurement {GUEST.hex()} in this way"
    )
    line = entries(kbs.broker)[-1]
    assert (line.event, line.role, line.rule) == ("refusal", "kbs", "interop-secret")
    assert (line.secret, line.measurement) == (name, GUEST.hex())


@pytest.mark.parametrize("name", [f"other/secret/{GIVEN}", f"default/key/{GIVEN}"])
def test_what_can_have_no_name_is_not_there(kbs, name):
    before = len(entries(kbs.broker))
    assert refused(kbs.client().get_resource, name).status == 404
    assert len(entries(kbs.broker)) == before


@pytest.mark.parametrize(
    ("quote", "status", "rule"),
    [
        (quote_of(digest("somebody else")), 403, "MeasurementIn"),
        (quote_of(GUEST, debug=True), 401, "TcbUnacceptable"),
        (lambda _: quote_of(GUEST)(bytes(64)), 401, "EvidenceInvalid"),
    ],
)
def test_evidence_that_is_refused_is_audited(kbs, quote, status, rule):
    client = kbs.client(quote=quote)
    assert refused(client.handshake).status == status
    line = entries(kbs.broker)[-1]
    assert (line.event, line.outcome, line.role, line.rule) == ("refusal", "refused", "kbs", rule)
    assert len(bytes.fromhex(line.evidence)) == 32
    assert line.measurement == ""  # nobody verified it


def test_evidence_of_another_root_has_no_collateral_here(kbs):
    """Nobody is asked about platforms of roots that the manifest does not name."""
    client = kbs.client(quote=quote_of(GUEST, platform=OTHER_PLATFORM))
    assert refused(client.handshake).status == 403
    assert entries(kbs.broker)[-1].rule == "Root"


def test_a_guest_that_no_line_names_any_more_is_refused(kbs):
    kbs.provision(version=2, secrets=lines_of(kbs.broker.mesh, interop=False, serial=2))
    assert refused(kbs.client().handshake).status == 403


def test_without_collateral_it_is_later_not_no(kbs):
    before = len(entries(kbs.broker))
    with closing(ToyClerk(kbs.broker, source=NoCollateral())) as poor:
        error = refused(poor.client().handshake)
        assert error.status == 503
        assert "ask later" in error.detail
    assert len(entries(kbs.broker)) == before


def test_whoever_presents_rubbish_fills_no_log(broker):
    limits = ServiceLimits(lines_per_s=0.001, line_burst=3)
    with closing(ToyClerk(broker, service=limits)) as kbs:
        kbs.provision()
        before = len(entries(broker))
        for _ in range(10):
            assert refused(kbs.client(digest("somebody else")).handshake).status == 403
        assert len(entries(broker)) == before + 3
        assert kbs.office.lines.close() == 7


# What is in force


def test_before_the_first_manifest_nothing_is_answered(broker):
    with closing(ToyClerk(broker)) as kbs:
        error = refused(kbs.client().challenge)
        assert (error.status, error.type) == (503, "about:blank")
        kbs.provision()
        assert kbs.client().get_resource(NAME) == VALUE.reveal()


def test_a_new_manifest_ends_every_session(kbs):
    client = kbs.client()
    client.get_token()
    by_token = kbs.token_client(client)
    kbs.provision(version=2)
    assert refused(by_token.get_resource, NAME).status == 401
    assert client.get_resource(NAME) == VALUE.reveal()  # it attested anew
    assert client.handshakes == 2


def test_an_owners_order_to_turn_the_epoch_ends_every_session(kbs):
    """It is what an owner does who withdraws something at once."""
    client = kbs.client()
    client.get_token()
    kbs.broker.order("turn-epoch")
    assert refused(kbs.token_client(client).get_resource, NAME).status == 401


def test_a_manifest_that_came_while_evidence_was_verified(kbs, monkeypatch):
    verify = kbs.office.verify

    async def slow(*arguments, **named):
        result = await verify(*arguments, **named)
        kbs.provision(version=2)
        return result

    monkeypatch.setattr(type(kbs.office), "verify", lambda _, *a, **k: slow(*a, **k))
    error = refused(kbs.client().handshake)
    assert error.status == 401
    assert "ended while" in error.detail


def test_evidence_that_is_verified_forever(kbs, monkeypatch):
    async def forever(*_, **__):
        await asyncio.sleep(3600)

    monkeypatch.setattr(type(kbs.office), "verify", forever)
    monkeypatch.setattr(clerks, "ERRAND_S", 0.01)
    client = kbs.client()
    attestation = client.attestation(client.challenge())
    assert refused(client.attest, attestation).status == 503
    assert refused(client.attest, attestation).status == 401  # that session is over


def test_a_bug_is_told_to_nobody(kbs, monkeypatch, caplog):
    async def broken(*_, **__):
        raise ZeroDivisionError("a path of this machine")

    monkeypatch.setattr(type(kbs.office), "verify", broken)
    error = refused(kbs.client().handshake)
    assert error.status == 503
    assert "path" not in error.detail
    assert "kbs.bug" in caplog.text


# The store


def test_a_secret_leaves_after_it_is_counted_or_not_at_all(kbs):
    client = kbs.client()
    client.get_token()
    kbs.broker.counter.fails = True
    error = refused(client.get_resource, NAME)
    assert error.status == 503
    assert not kbs.broker.authority.usable
    kbs.broker.counter.fails = False
    assert refused(client.get_resource, NAME).status == 503  # this process is done


def test_a_broker_in_whose_place_another_counts_answers_nothing(kbs):
    """Its host runs an old copy: even a token would say what is not in force any more."""
    client = kbs.client()
    client.get_token()
    question = {"audience": "https://relying.example", "nonce": b64url(bytes(16))}
    assert client.call("POST", "/v1/attestation-result", question)[0] == 200
    kbs.broker.counter.value += 1 << 8
    assert client.call("POST", "/v1/attestation-result", question)[0] == 503
    assert not kbs.broker.authority.usable


def test_a_refusal_that_cannot_be_audited_is_not_told(kbs):
    client = kbs.client(digest("somebody else"))
    attestation = client.attestation(client.challenge())
    kbs.broker.counter.fails = True
    assert refused(client.attest, attestation).status == 503


# Limits


def test_one_address_gets_so_much(kbs):
    with closing(
        ToyClerk(kbs.broker, limits=KbsLimits(requests_per_s=0.1, request_burst=2))
    ) as toy:
        request = KbsRequest(method=b"GET", target=b"/openapi.json", headers={}, body=b"")
        statuses = [toy.respond(request).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert toy.respond(request, host="192.0.2.2").status == 200
        assert toy.respond(request, host="2001:db8::1").status == 200


# The policy


def test_the_policy_is_the_mesh_s_own_for_other_measurements(mesh):
    secrets = lines_of(mesh)
    manifest = mesh.manifest(secrets=secrets)
    policy, own = interop_policy(manifest), appraisal_policy(manifest, "worker")
    assert policy.roots == own.roots == {PLATFORM.root_sha256}
    named = {type(rule): rule for rule in policy.rule.rules}
    ours = {type(rule): rule for rule in own.rule.rules}
    measured = named.pop(MeasurementIn).measurements
    assert ours.pop(MeasurementIn).measurements == {mesh.measurements["worker"]}
    assert named == ours
    assert measured == {GUEST, *mesh.measurements.values()}
    without = interop_policy(mesh.manifest(secrets=secrets[1:2])).rule.rules
    (others,) = [rule for rule in without if isinstance(rule, MeasurementIn)]
    assert others.measurements == set(mesh.measurements.values())


def test_a_manifest_that_names_nobody_accepts_nobody(mesh):
    from wardian.attestation.evidence import Evidence
    from wardian.attestation.verifier import verify_evidence

    manifest = mesh.manifest(roles={}, secrets=())
    evidence = Evidence(quote=quote_of(GUEST)(bytes(64)), collateral=PLATFORM.collateral())
    with pytest.raises(PolicyDenied) as caught:
        verify_evidence(evidence, policy=interop_policy(manifest), report_data=bytes(64), now=NOW)
    assert caught.value.rule == "MeasurementIn"
