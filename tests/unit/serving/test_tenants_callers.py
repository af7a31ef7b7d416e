"""Who is who, what each may, and the file that says so."""

import logging
import os
from pathlib import Path

import msgspec
import pytest
from simulators.tenants import (
    DAY,
    MESH,
    SIGNER,
    TERMS,
    Clock,
    key_of,
    signed,
    tenants,
    terms,
    verified,
)

from wardian._internal import wire
from wardian.crypto.signing import SigningKey
from wardian.serving.http.peer import Peer, certificate_of, peer_of
from wardian.serving.tenants import callers as callers_module
from wardian.serving.tenants.account import Account
from wardian.serving.tenants.callers import FAILURES_AT_ONCE, Callers
from wardian.serving.tenants.limits import Allowance, DayCount, whole_seconds
from wardian.serving.tenants.lists import SignedTenants, sign_tenants
from wardian.serving.tenants.refusals import TenantRefused, Why
from wardian.serving.tenants.roster import certificate_digest
from wardian.serving.tenants.source import FloorClock, TenantsFile

ADDRESS = "192.0.2.1"
CERTIFICATE = b"\x30" + b"c" * 200


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.roster = self.clock.roster(terms("alice", "digits"), terms("bob", "faces"))
        self.callers = Callers(self.roster)

    def name(self, *, certificate: bytes = b"", address: str = ADDRESS, **headers: bytes) -> str:
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        _, account = self.callers.identify(named, certificate=certificate, address=address)
        return account.terms.name

    def why(self, **caller: object) -> Why:
        with pytest.raises(TenantRefused) as refused:
            self.name(**caller)  # type: ignore[arg-type]
        return refused.value.why


@pytest.fixture
def world() -> World:
    return World()


def bearer(name: str) -> bytes:
    return b"Bearer " + key_of(name)


def test_each_key_is_its_tenant_s(world: World) -> None:
    assert world.name(authorization=bearer("alice")) == "alice"
    assert world.name(authorization=b"bEARER  " + key_of("bob")) == "bob"
    assert world.name(x_api_key=key_of("bob")) == "bob"


@pytest.mark.parametrize(
    "value",
    [b"", b"Bearer", b"Bearer ", b"Basic YTpi", key_of("alice"), bearer("alice") + b"x",
     bearer("alice")[:-1], bearer("carol"), b"Bearer " + b"\xff" * 60, b"Bearer" + key_of("alice")],
)  # fmt: skip
def test_what_is_nobody_s_key(world: World, value: bytes) -> None:
    assert world.why(authorization=value) is Why.UNKNOWN


def test_nothing_at_all(world: World) -> None:
    assert world.why() is Why.MISSING


def test_two_authorization_headers_are_refused(world: World) -> None:
    """What two proxies could read differently, nobody reads at all."""
    for value in (
        bearer("alice") + b", " + bearer("bob"),
        bearer("alice") + b", " + bearer("alice"),
        b"Basic x, " + bearer("alice"),
    ):
        assert world.why(authorization=value) is Why.AMBIGUOUS
    assert world.why(authorization=bearer("alice"), x_api_key=key_of("alice")) is Why.AMBIGUOUS
    assert world.why(x_api_key=key_of("alice") + b", " + key_of("bob")) is Why.AMBIGUOUS


def test_a_digest_from_the_list_is_no_key(world: World) -> None:
    """Who reads the list, which is no secret, can ask for nothing."""
    (digest,) = terms("alice", "digits").keys
    for value in (digest.encode()[:60], bytes.fromhex(digest), digest.encode()):
        assert world.why(authorization=b"Bearer " + value) is Why.UNKNOWN


def test_a_certificate_and_a_key_are_of_one_tenant() -> None:
    world = World()
    clock = world.clock
    world.roster._by_credential |= {  # as `adopt` does for a list that has it
        certificate_digest(CERTIFICATE): next(
            account for name, account in world.roster.accounts() if name == "alice"
        )
    }
    shown = certificate_digest(CERTIFICATE)
    assert clock.now > 0
    assert world.name(certificate=shown) == "alice"
    assert world.name(certificate=shown, authorization=bearer("alice")) == "alice"
    assert world.why(certificate=shown, authorization=bearer("bob")) is Why.AMBIGUOUS
    assert world.why(certificate=b"x" * 32) is Why.UNKNOWN
    assert world.why(certificate=b"x" * 32, authorization=bearer("bob")) is Why.AMBIGUOUS


def test_an_unknown_caller_is_told_so_only_so_often(world: World) -> None:
    told = [world.why(authorization=bearer("eve")) for _ in range(FAILURES_AT_ONCE + 5)]
    assert told[-5:] == [Why.TOO_MANY_FAILURES] * 5
    assert set(told[:-5]) == {Why.UNKNOWN}
    assert world.name(authorization=bearer("alice")) == "alice"  # its neighbour
    assert world.why(authorization=bearer("eve"), address="192.0.2.2") is Why.UNKNOWN
    world.clock.pass_s(1)
    assert world.why(authorization=bearer("eve")) is Why.UNKNOWN
    assert world.callers.failures[Why.TOO_MANY_FAILURES] == 5


def test_the_addresses_of_one_site_are_one(world: World) -> None:
    for each in range(FAILURES_AT_ONCE):
        world.why(address=f"2001:db8:1:2:{each:x}::1")
    assert world.why(address="2001:db8:1:2::1") is Why.TOO_MANY_FAILURES
    assert world.why(address="2001:db8:1:3::1") is Why.MISSING
    assert world.why(address="::1") is Why.MISSING


def test_addresses_are_not_remembered_without_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers_module, "MAX_ADDRESSES", 3)
    for each in range(10):
        world.why(address=f"192.0.2.{each}")
    assert len(world.callers._addresses) == 3


def test_no_key_in_a_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for value in (bearer("alice"), bearer("eve"), bearer("alice") + b", " + bearer("eve")):
            try:
                world.name(authorization=value)
            except TenantRefused as err:
                said = f"{err!r} {err} {err.args} {err.__cause__!r}"
                assert "wardian_key_" not in said
    assert "caller.refused" in caplog.text
    assert "wardian_key_" not in caplog.text + "".join(
        str(each.__dict__) for each in caplog.records
    )


def test_no_list_is_nobody(world: World) -> None:
    empty = Callers(world.clock.roster())
    with pytest.raises(TenantRefused) as refused:
        empty.identify({b"authorization": bearer("alice")}, certificate=b"", address=ADDRESS)
    assert (refused.value.why, refused.value.status) == (Why.NO_LIST, 503)
    world.clock.pass_s(8 * DAY)
    assert world.why(authorization=bearer("alice")) is Why.NO_LIST


# Limits


def test_a_rate_over_time() -> None:
    bucket = Allowance(rate=2, burst=3, now=0)
    for _ in range(3):
        assert bucket.wait_s(0) == 0
        bucket.take()
    assert bucket.wait_s(0) == 0.5
    assert bucket.wait_s(0.5) == 0
    bucket.take()
    assert bucket.wait_s(0.4) > 0  # a clock that goes back gives nothing
    assert bucket.wait_s(100) == 0
    bucket.take(5)  # a large one passes, and is paid back
    assert bucket.wait_s(100) == 1.5
    assert [whole_seconds(each) for each in (0.001, 1.0, 1.5, 1e9)] == [1, 1, 2, DAY]


def test_a_quota_is_of_a_day_and_no_day_comes_twice() -> None:
    day = DayCount()
    for _ in range(2):
        assert not day.spent(DAY * 5, quota=2)
        day.add()
    assert day.spent(DAY * 6 - 1, quota=2)
    assert day.spent(DAY * 4, quota=2)
    assert not day.spent(DAY * 6, quota=2)
    day.add()
    day.add()
    assert day.spent(DAY * 5, quota=2)


def begin(
    account: Account, *, size: int = 10, now: float = 0, day: int = 0, room: int = 99
) -> None:
    account.begin(size, now=now, unix_s=day * DAY + 10, room=room)


def test_each_limit_has_its_own_word_and_count() -> None:
    limited = terms(
        "alice", "digits", rate_per_s=1.0, burst=2, max_open=2, quota=3, max_bytes_per_s=100
    )
    account = Account(limited, now=0)
    found = {}
    account.look(0)
    account.look(0)
    with pytest.raises(TenantRefused) as found[Why.RATE]:
        account.look(0)
    begin(account, size=500)  # more than the bucket holds
    with pytest.raises(TenantRefused) as found[Why.BYTES]:
        begin(account)
    begin(account, now=10)
    with pytest.raises(TenantRefused) as found[Why.OPEN]:
        begin(account, now=10)
    account.end()
    with pytest.raises(TenantRefused) as found[Why.SHARE]:
        begin(account, now=10, room=1)
    begin(account, now=10)
    account.end()
    with pytest.raises(TenantRefused) as found[Why.QUOTA]:
        begin(account, now=20)
    begin(account, now=20, day=1)
    for why, refused in found.items():
        assert (refused.value.why, refused.value.status) == (why, 429)
        assert account.outcomes[why] == 1
    assert account.outcomes["accepted"] == 4
    assert found[Why.QUOTA].value.retry_after_s == DAY - 10
    assert found[Why.BYTES].value.retry_after_s == 5


def test_a_new_list_gives_nobody_back_what_was_used() -> None:
    clock = Clock()
    limited = terms("alice", "digits", burst=2, rate_per_s=0.001)
    roster = clock.roster(limited)
    ((_, account),) = roster.accounts()
    account.look(clock.ticks)
    account.look(clock.ticks)
    roster.adopt(verified(limited, now=clock.now, serial=2))
    ((_, again),) = roster.accounts()
    assert again is account
    with pytest.raises(TenantRefused):
        again.look(clock.ticks)


# The file


class Listed:
    """A directory with a tenants list, and the roster that follows it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "list.json"
        self.clock = Clock()
        self.roster = self.clock.roster()
        self.file = TenantsFile(str(self.path), self.roster, terms=TERMS, mesh=MESH)

    def put(self, list_: SignedTenants | bytes) -> bool:
        raw = list_ if isinstance(list_, bytes) else wire.encode(list_)
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(raw)
        os.utime(fresh, ns=(0, 0))  # even where no clock tells them apart
        fresh.replace(self.path)
        return self.file.look()

    def knows(self, name: str) -> bool:
        return any(
            known == name and account is self.roster.find(bytes.fromhex(account.terms.keys[0]))
            for known, account in self.roster.accounts()
        )


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    return Listed(tmp_path)


def test_a_list_is_taken_up_and_followed(listed: Listed) -> None:
    assert not listed.file.look()
    assert not listed.roster.in_force
    now = listed.clock.now
    assert listed.put(signed(terms("alice", "digits"), now=now))
    assert listed.knows("alice")
    assert not listed.file.look()
    assert listed.put(signed(terms("bob", "digits"), now=now, serial=2))
    assert listed.knows("bob")
    assert not listed.knows("alice")


@pytest.mark.parametrize("what", ["garbage", "forged", "old", "other mesh", "over", "empty"])
def test_a_bad_list_leaves_the_one_in_force(
    listed: Listed, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    now, alice = listed.clock.now, terms("alice", "digits")
    listed.put(signed(alice, now=now, serial=5))
    stranger = SigningKey.generate()
    bad = {
        "garbage": b"\0" * 100,
        "forged": forged(stranger, now),
        "old": signed(terms("eve", "digits"), now=now, serial=4),
        "other mesh": signed(terms("eve", "digits"), now=now, serial=6, mesh="other"),
        "over": signed(terms("eve", "digits"), now=now - 8 * DAY, serial=6),
        "empty": b"",
    }[what]
    with caplog.at_level(logging.ERROR):
        assert not listed.put(bad)
        assert not listed.file.look()
    assert listed.knows("alice")
    assert caplog.text.count("tenants.refused") == 1
    listed.clock.pass_s(7 * DAY + 1)
    listed.file.look()
    with pytest.raises(TenantRefused) as refused:
        listed.knows("alice")
    assert refused.value.why is Why.NO_LIST


def forged(stranger: SigningKey, now: int) -> SignedTenants:
    """A list of a stranger under the signer's name."""
    made = sign_tenants(tenants(terms("eve"), now=now, serial=9), [stranger])
    (signature,) = made.signatures
    named = msgspec.structs.replace(signature, signer=SIGNER.public.hex())
    return msgspec.structs.replace(made, signatures=(named,))


def test_no_file_is_nobody_and_never_everybody(tmp_path: Path) -> None:
    clock = Clock()
    for path in (None, str(tmp_path / "none"), str(tmp_path)):
        roster = clock.roster()
        file = TenantsFile(path, roster, terms=TERMS, mesh=MESH)
        assert not file.look()
        assert not roster.in_force


def test_the_end_of_a_list_is_told(listed: Listed, caplog: pytest.LogCaptureFixture) -> None:
    listed.put(signed(terms("alice", "digits"), now=listed.clock.now))
    listed.clock.pass_s(7 * DAY + 1)
    with caplog.at_level(logging.ERROR):
        assert not listed.file.look()
    assert any("is over" in str(each.__dict__) for each in caplog.records)
    assert listed.put(signed(terms("alice", "digits"), now=listed.clock.now, serial=2))
    assert listed.knows("alice")


def test_a_clock_that_is_set_back_revives_nothing() -> None:
    host = [1_000]
    clock = FloorClock(500, clock=lambda: host[0])
    assert clock() == 1000
    host[0] = 0
    assert clock() == 500
    clock.raise_to(700)
    clock.raise_to(600)
    assert clock() == 700


# The other end of a connection


def test_an_address_with_a_certificate_is_an_address() -> None:
    peer = Peer("192.0.2.1", certificate=CERTIFICATE)
    assert peer == "192.0.2.1"
    assert hash(peer) == hash("192.0.2.1")
    assert certificate_of(peer) == certificate_digest(CERTIFICATE)
    assert certificate_of("192.0.2.1") == b""
    assert peer_of("192.0.2.1", None) == "192.0.2.1"
