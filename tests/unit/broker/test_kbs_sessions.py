"""Sessions of the KBS protocol are bounded, in number and in life."""

import pytest
from toy_kbs import NOW, WORKER, ToyKbs, sgx_quote

from wardian.attestation.claims import TeeKind
from wardian.broker.kbs.sessions import ID_CHARS, Attested, KbsLimits, PeerBuckets, Sessions
from wardian.crypto.jose import jwk_of
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import EvidenceInvalid, QueueFull

LIMITS = KbsLimits(sessions=4, sessions_per_peer=2, verifying=2)


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(LIMITS)


@pytest.fixture(scope="module")
def attested() -> Attested:
    kbs = ToyKbs()
    kbs.client(quote=sgx_quote(WORKER)).get_token()
    result = kbs.carry_out(kbs.errands[0])
    key = jwk_of(TlsKey.generate().spki)
    return Attested(result=result, key=key, nonce="n", evidence_digest=bytes(32), token_id="t")


def opened(sessions, peer="a", now=NOW):
    return sessions.open(peer=peer, tee=TeeKind.SGX, nonce="n", now=now)


def test_a_session_has_a_name_that_nobody_guesses(sessions):
    first, second = opened(sessions), opened(sessions, "b")
    assert first.session_id != second.session_id
    assert len(first.session_id) == ID_CHARS
    assert sessions.named(first.session_id, now=NOW) is first
    assert sessions.named("x" * ID_CHARS, now=NOW) is None


def test_a_peer_with_its_share_loses_its_own_oldest_challenge(sessions):
    other = opened(sessions, "b")
    first, second = opened(sessions), opened(sessions)
    third = opened(sessions)
    living = [sessions.named(each.session_id, now=NOW) for each in (other, first, second, third)]
    assert living == [other, None, second, third]


def test_answered_challenges_are_not_displaced(sessions):
    first, second = opened(sessions), opened(sessions)
    sessions.answer(first, now=NOW)
    third = opened(sessions)
    assert sessions.named(first.session_id, now=NOW) is first
    assert sessions.named(second.session_id, now=NOW) is None
    sessions.answer(third, now=NOW)
    with pytest.raises(QueueFull, match="this address"):
        opened(sessions)


def test_where_all_places_are_taken_the_newcomer_waits(sessions):
    for peer in "aabb":
        opened(sessions, peer)
    with pytest.raises(QueueFull, match="too many sessions") as caught:
        opened(sessions, "c")
    assert caught.value.retry_after_s == 60
    assert len(sessions) == 4
    later = NOW + LIMITS.challenge_s
    assert opened(sessions, "c", now=later)
    assert len(sessions) == 1  # those that were over went


def test_a_flood_of_addresses_is_bounded():
    sessions = Sessions(KbsLimits(sessions=50))
    for number in range(1000):
        try:
            opened(sessions, f"10.0.{number // 256}.{number % 256}")
        except QueueFull:
            assert len(sessions) == 50
    assert len(sessions) == 50


def test_a_challenge_is_taken_once(sessions):
    session = opened(sessions)
    assert sessions.answer(session, now=NOW) == "n"
    with pytest.raises(EvidenceInvalid, match="answered before"):
        sessions.answer(session, now=NOW)


def test_verifying_has_an_end(sessions, attested):
    one, two, three = opened(sessions), opened(sessions, "b"), opened(sessions, "c")
    sessions.answer(one, now=NOW)
    sessions.answer(two, now=NOW)
    with pytest.raises(QueueFull, match="verified"):
        sessions.answer(three, now=NOW)
    assert three.nonce == "n"
    sessions.attest(one, attested, now=NOW)
    assert sessions.answer(three, now=NOW)


def test_a_result_lives_from_its_own_time_on(sessions, attested):
    session = opened(sessions)
    later = NOW + LIMITS.challenge_s - 1
    sessions.answer(session, now=later)
    sessions.attest(session, attested, now=later + 5)
    end = later + 5 + LIMITS.session_s
    assert sessions.of_token("t", now=end - 1) is session
    assert sessions.of_token("t", now=end) is None
    assert sessions.named(session.session_id, now=end) is None


def test_a_session_that_ended_takes_no_result(sessions, attested):
    session = opened(sessions)
    sessions.answer(session, now=NOW)
    with pytest.raises(EvidenceInvalid, match="ended"):
        sessions.attest(session, attested, now=NOW + LIMITS.challenge_s)
    sessions.drop(session)
    sessions.drop(session)
    with pytest.raises(EvidenceInvalid, match="ended"):
        sessions.attest(session, attested, now=NOW)


def test_a_session_takes_one_result(sessions, attested):
    session = opened(sessions)
    sessions.attest(session, attested, now=NOW)
    with pytest.raises(EvidenceInvalid):
        sessions.attest(session, attested, now=NOW)


def test_dropped_and_cleared_sessions_leave_no_token_behind(sessions, attested):
    session = opened(sessions)
    sessions.attest(session, attested, now=NOW)
    sessions.drop(session)
    assert sessions.of_token("t", now=NOW) is None
    again = opened(sessions)
    sessions.attest(again, attested, now=NOW)
    sessions.clear()
    assert sessions.of_token("t", now=NOW) is None
    assert len(sessions) == 0


def test_addresses_are_remembered_up_to_a_number():
    limits = KbsLimits(peers=2, requests_per_s=0, request_burst=1)
    buckets = PeerBuckets(limits)
    buckets.spend("a", now=NOW)
    buckets.spend("b", now=NOW)
    for peer in "ab":
        with pytest.raises(QueueFull):
            buckets.spend(peer, now=NOW)
    buckets.spend("c", now=NOW)  # and "a", which asked longest ago, is forgotten
    with pytest.raises(QueueFull):
        buckets.spend("b", now=NOW)
    assert len(buckets._buckets) == 2
