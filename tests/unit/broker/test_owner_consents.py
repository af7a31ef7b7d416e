"""An owner's consent: what is accepted of it, what is remembered, and what a host can do to it."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
import toy_jobs
from toy_desks import ADDRESS, Desks, open_desks
from toy_jobs import allow
from toy_mesh import NOW, ToyBroker
from toy_tables import (
    PLACES,
    TABLE_KEYS,
    A,
    Ask,
    B,
    TableBroker,
    hospitals,
    signed_policy,
)

from wardian._internal import wire
from wardian.broker.jobs.plan import Privacy
from wardian.broker.jobs.signing import SignedPolicy, parse_policy, policy_mark, sign_policy
from wardian.broker.jobs.standing import Spent
from wardian.broker.owners import consents
from wardian.broker.owners.client import consent
from wardian.broker.owners.goods import Goods, goods_of
from wardian.broker.owners.protocol import (
    Consent,
    PolicyInForce,
    Receipt,
    consent_signed_bytes,
    provision_signed_bytes,
)
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store
from wardian.broker.tables.kept import KEYS, RECORDS, TableRecord, owner_of
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.errors import (
    AuthenticationFailed,
    FormatError,
    PeerProtocolError,
    PolicyDenied,
    TransportError,
    WardianError,
)

OTHER_KEY = BrokerKey(Secret(b"another table key".ljust(32)))
OTHER_PIN = f"wardian-pin-v1:{'2' * 64}:{'3' * 32}"
ME = toy_jobs.KEYS[A].public.hex()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TableBroker]:
    with closing(TableBroker(hospitals(), tmp_path / "broker.db", given=False)) as broker:
        yield broker


def rule_of(broker: TableBroker, *args: Any, **how: Any) -> str:
    with pytest.raises(PolicyDenied) as caught:
        broker.consent(*args, **how)
    return str(caught.value.rule)


def keys(broker: TableBroker) -> set[str]:
    return {key.partition("/")[2] for key in broker.store.keys(KEYS)}


# What is accepted


def test_a_policy_and_its_table_s_key_are_in_force(broker: TableBroker) -> None:
    receipt = broker.consent()
    held = receipt.policy
    assert held is not None
    assert (held.table, held.serial, held.revoked, held.uses) == ("records", 1, False, 0)
    assert held.key_id == TABLE_KEYS[A].key_id.hex()
    assert (held.epsilon, held.delta) == ("0", "0")
    assert bytes.fromhex(held.policy_digest) == policy_mark(parse_policy(signed_policy()))[8:]
    policy, key = broker.entries()[-2:]
    assert (policy.event, policy.kind, policy.secret, policy.version) == (
        "provision",
        "policy",
        "records",
        1,
    )
    assert (key.kind, key.secret, key.key_id, key.owner) == ("table", "records", held.key_id, ME)


def test_a_newer_policy_keeps_the_key_and_begins_no_count_anew(broker: TableBroker) -> None:
    broker.consent(A)
    broker.consent(B)
    Ask(broker).whole()
    held = broker.consent(A, serial=2, uses=11, keys=()).policy
    assert held is not None
    assert (held.serial, held.uses, held.epsilon, held.delta) == (2, 1, "1/2", "1/10000000")
    assert held.key_id == TABLE_KEYS[A].key_id.hex()
    assert Ask(broker).whole().tables
    assert broker.record().uses == 2


def test_a_table_that_is_sealed_anew_needs_its_key_and_erases_the_one_before(
    broker: TableBroker,
) -> None:
    broker.consent()
    assert rule_of(broker, serial=2, pin=OTHER_PIN, keys=()) == "key-given"
    broker.consent(serial=2, pin=OTHER_PIN, keys=(OTHER_KEY,))
    assert keys(broker) == {OTHER_KEY.key_id.hex()}


def test_a_key_that_another_table_has_too_is_not_erased(broker: TableBroker) -> None:
    broker.consent()
    broker.consent(table="visits")
    broker.consent(serial=2, revoked=True, keys=())
    assert keys(broker) == {TABLE_KEYS[A].key_id.hex()}
    broker.consent(table="visits", serial=2, revoked=True, keys=())
    assert keys(broker) == set()


def test_a_withdrawn_table_stays_withdrawn_and_its_key_is_gone(broker: TableBroker) -> None:
    broker.consent(A)
    broker.consent(B)
    Ask(broker).whole()
    held = broker.consent(serial=2, revoked=True, keys=()).policy
    assert held is not None
    assert (held.revoked, held.key_id, held.uses) == (True, None, 1)
    assert keys(broker) == {TABLE_KEYS[B].key_id.hex()}
    assert broker.entries()[-1].rule == "revoked"
    broker.restart()
    assert rule_of(broker) == "policy-serial"
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker).whole()
    assert caught.value.rule == "policy-revoked"
    broker.consent(serial=3)
    assert broker.record().uses == 1  # what was had, was had


def test_the_same_policy_may_come_again(broker: TableBroker) -> None:
    broker.consent()
    assert broker.consent(keys=()).policy == broker.consent().policy


def test_a_policy_that_allows_nothing_needs_no_key(broker: TableBroker) -> None:
    held = broker.consent(allow=[], keys=()).policy
    assert held is not None
    assert held.key_id is None


# What is refused


def test_the_policy_of_another_owner_for_one_s_table(broker: TableBroker) -> None:
    """B brings what A signed; and signs itself that A's table is open."""
    assert rule_of(broker, by=B) == "policy-owner"
    mine = toy_jobs.policy(A)
    forged = SignedPolicy(
        policy=signed_policy().policy,
        signature=sign_policy(toy_jobs.policy(B), toy_jobs.KEYS[B]).signature,
    )
    assert mine.owner_key == ME
    with pytest.raises(AuthenticationFailed, match="not what its owner signed"):
        broker.consent(signed=forged)
    assert broker.store.keys(RECORDS) == ()


def test_a_table_of_the_same_name_is_another_owner_s_other_table(broker: TableBroker) -> None:
    broker.consent(A)
    broker.consent(B, table="records")
    assert broker.record(A).key_id == TABLE_KEYS[A].key_id.hex()
    assert len(broker.store.keys(RECORDS)) == 2


def test_who_is_no_owner_of_the_mesh(broker: TableBroker) -> None:
    assert rule_of(broker, "hospital-c") == "policy-owner"


def test_a_policy_for_another_mesh(broker: TableBroker) -> None:
    assert rule_of(broker, mesh="clinics") == "policy-mesh"


def test_an_older_policy_or_another_of_its_serial(broker: TableBroker) -> None:
    broker.consent(serial=5)
    assert rule_of(broker, serial=4) == "policy-serial"
    assert rule_of(broker, serial=5, uses=1000) == "policy-serial"
    assert broker.record().newest == policy_mark(parse_policy(signed_policy(serial=5)))


def test_a_newer_policy_that_is_refused_ends_those_before(broker: TableBroker) -> None:
    broker.consent(A)
    broker.consent(B)
    assert rule_of(broker, serial=7, pin=OTHER_PIN, keys=()) == "key-given"
    line = broker.entries()[-1]
    assert (line.outcome, line.kind, line.version, line.rule) == (
        "refused",
        "policy",
        7,
        "key-given",
    )
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker).whole()
    assert caught.value.rule == "policy-serial"
    assert rule_of(broker, serial=6) == "policy-serial"
    count = len(broker.entries())
    assert rule_of(broker, serial=7, pin=OTHER_PIN, keys=()) == "key-given"
    assert len(broker.entries()) == count  # it was seen before
    broker.consent(serial=7, pin=OTHER_PIN, keys=(OTHER_KEY,))
    assert Ask(broker).whole().table(ME, "records").key == OTHER_KEY.key


def test_a_first_policy_without_its_key_is_remembered(broker: TableBroker) -> None:
    assert rule_of(broker, serial=3, keys=()) == "key-given"
    assert rule_of(broker, serial=2) == "policy-serial"
    broker.consent(serial=3)
    assert rule_of(broker, serial=4, keys=(TABLE_KEYS[A], OTHER_KEY)) == "key-named"


def test_goods_that_do_not_belong_there(broker: TableBroker) -> None:
    from wardian.broker.owners.provisioning import OpenedConsent

    assert rule_of(broker, keys=(TABLE_KEYS[A], OTHER_KEY)) == "key-named"
    assert rule_of(broker, serial=2, revoked=True) == "key-named"
    with pytest.raises(PolicyDenied) as caught:
        broker.consents.accept(
            OpenedConsent(
                owner=ME,
                signed_policy=signed_policy(serial=3),
                goods=Goods(secrets={"license": Secret(b"x")}),
            )
        )
    assert caught.value.rule == "secret-named"
    assert broker.store.keys(KEYS) == ()


def test_one_owner_fills_its_own_part_of_the_memory(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consents, "MOST_TABLES", 4)
    broker.consent(A)
    broker.consent(A, table="visits")
    assert rule_of(broker, A, table="more") == "memory-full"
    broker.consent(B)
    broker.consent(A, serial=2)


def test_all_policies_of_one_owner_have_their_part_of_the_memory(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = broker.tables._tables
    broker.consent(A)
    broker.consent(A, table="visits")
    broker.consent(B)
    mine = [place for place in kept.places if owner_of(place) == ME]
    assert len(mine) == 2
    monkeypatch.setattr(consents, "MOST_POLICY_BYTES", 2 * sum(map(kept.policy_bytes, mine)))
    longer = [allow(name="a-longer-name")]
    assert rule_of(broker, A, serial=3, allow=longer) == "memory-full"
    assert rule_of(broker, A, serial=2) == "policy-serial"  # the one that was too large ended it
    broker.consent(A, serial=4)  # as long as the one before
    broker.consent(B, serial=2, allow=[allow(B, name="another")])


def test_without_a_manifest_there_is_nothing_to_consent_to(tmp_path: Path) -> None:
    mesh = hospitals()

    class Bare(TableBroker):
        def __init__(self) -> None:
            ToyBroker.__init__(self, mesh, tmp_path / "bare.db", provisioned=False)

    with closing(Bare()) as broker, pytest.raises(TransportError, match="no mesh manifest"):
        broker.consent()


def test_t7_the_mesh_s_key_alone_does_not_open_a_table_s(broker: TableBroker) -> None:
    broker.consent()
    broker.close()
    of_mesh = broker.store.master_key.share_with(frozenset())
    with closing(
        Store(broker.path, master_key=MasterKey.from_secret(of_mesh), counter=broker.counter.seam)
    ) as store:
        name = f"{ME}/{TABLE_KEYS[A].key_id.hex()}"
        assert store.get(KEYS, name) is None
        assert (KEYS, name) in store.locked(ME)
        assert store.get(RECORDS, PLACES[A]) is not None
    broker.start()


# The visit


@pytest.fixture
def desks(broker: TableBroker, monkeypatch: pytest.MonkeyPatch) -> Desks:
    return open_desks(broker, monkeypatch)


def visit(desks: Desks, **more: Any) -> Any:
    arguments: dict[str, Any] = {
        "owner": toy_jobs.KEYS[A],
        "demands": desks.demands,
        "policy": signed_policy(),
        "key": goods_of((TABLE_KEYS[A],)),
        "now": lambda: NOW,
    }
    return asyncio.run(consent(ADDRESS, **(arguments | more)))


def test_an_owner_visits_with_a_consent(broker: TableBroker, desks: Desks) -> None:
    done = visit(desks)
    assert done.receipt.policy.serial == 1
    assert keys(broker) == {TABLE_KEYS[A].key_id.hex()}
    done = visit(desks, policy=signed_policy(serial=2), key=Goods())
    assert done.receipt.policy.serial == 2


def test_an_owner_who_brings_another_s_policy_is_refused_and_audited(
    broker: TableBroker, desks: Desks
) -> None:
    with pytest.raises(PolicyDenied) as caught:
        visit(desks, policy=signed_policy(B))
    assert caught.value.rule == "policy-owner"
    line = broker.entries()[-1]
    assert (line.event, line.rule, line.owner) == ("refusal", "policy-owner", ME)


def test_a_consent_that_is_played_back(broker: TableBroker) -> None:
    """Message 3 of one visit in another: the owner's signature is for the first session alone."""
    from test_broker_provisioning import Visit

    first, second = Visit(broker.mesh, broker), Visit(broker.mesh, broker)
    m3 = first.owner.consent(
        first.m2,
        demands=first.demands,
        policy=signed_policy(),
        key=goods_of((TABLE_KEYS[A],)),
        now=NOW,
    )
    assert TABLE_KEYS[A].key.reveal() not in m3
    with pytest.raises(AuthenticationFailed, match="not for this session"):
        second.desk.receive(m3)
    first.desk.receive(m3)
    with pytest.raises(PeerProtocolError, match="a second time"):
        first.desk.receive(m3)


@pytest.mark.parametrize(
    "change",
    [
        {"signed_policy": signed_policy(serial=9)},
        {"sealed_goods": bytes(80)},
        {"signature": bytes(64)},
    ],
)
def test_a_consent_that_a_host_altered(broker: TableBroker, change: dict[str, Any]) -> None:
    from test_broker_provisioning import Visit

    one = Visit(broker.mesh, broker)
    m3 = one.owner.consent(
        one.m2, demands=one.demands, policy=signed_policy(), key=Goods(), now=NOW
    )
    message = wire.decode(m3, Consent, what="x")
    with pytest.raises(AuthenticationFailed):
        one.desk.receive(wire.encode(msgspec.structs.replace(message, **change)))


def test_goods_of_a_provision_are_none_of_a_consent(broker: TableBroker) -> None:
    """Another label in the owner's signature and in the HPKE `info` (TRUST T24)."""
    signed = signed_policy()
    assert consent_signed_bytes(
        b"t" * 32, signed_policy=signed, sealed_goods=b"g"
    ) != provision_signed_bytes(
        b"t" * 32,
        signed_manifest=broker.mesh.signed(),
        sealed_goods=b"g",
        recovery_public=None,
    )


def test_a_receipt_for_another_policy(broker: TableBroker) -> None:
    from test_broker_provisioning import Visit

    from wardian.broker.owners.offers import unsigned_receipt

    for spoil in (
        lambda receipt: msgspec.structs.replace(receipt, policy=None),
        lambda receipt: msgspec.structs.replace(
            receipt, policy=msgspec.structs.replace(receipt.policy, policy_digest="0" * 64)
        ),
    ):
        one = Visit(broker.mesh, broker)
        m3 = one.owner.consent(
            one.m2,
            demands=one.demands,
            policy=signed_policy(),
            key=goods_of((TABLE_KEYS[A],)),
            now=NOW,
        )
        accepted: Receipt = broker.consents.accept(one.desk.receive(m3))  # type: ignore[arg-type]
        raw = one.desk.receipt(spoil(accepted), sign=broker.authority.ca.sign)
        with pytest.raises(PeerProtocolError, match="another policy"):
            one.owner.receipt(raw, policy=signed_policy())
    one = Visit(broker.mesh, broker)
    one.order()
    one.desk.receive(one.m3)
    with_policy = msgspec.structs.replace(
        unsigned_receipt(broker.authority), policy=accepted.policy
    )
    with pytest.raises(PeerProtocolError, match="another policy"):
        one.owner.receipt(one.desk.receipt(with_policy, sign=broker.authority.ca.sign))


def test_more_than_an_owner_brings_at_once(broker: TableBroker, desks: Desks) -> None:
    with pytest.raises(WardianError, match="more than an owner brings at once"):
        visit(desks, policy=SignedPolicy(policy=bytes(4 * 1024 * 1024), signature="0" * 128))
    with pytest.raises((FormatError, PeerProtocolError)):
        visit(desks, policy=SignedPolicy(policy=b"{}", signature="0" * 128))


def test_a_policy_with_many_rules_fits(broker: TableBroker) -> None:
    rules = [allow(name=f"study-{number}") for number in range(64)]
    held = broker.consent(allow=rules).policy
    assert held is not None


def test_what_was_spent_is_kept_exactly(broker: TableBroker) -> None:
    broker.consent()
    spent, record = Spent(), broker.record()
    for epsilon, delta in ((0.1, 1e-9), (1000.0, 5e-324), (1 / 3, 0.0), (1e-300, 0.5)):
        spent = spent.plus(Privacy(epsilon=epsilon, delta=delta))
        record = record.after(uses=record.uses + 1, spent=spent, job=bytes(32))
        again = wire.decode(wire.encode(record), TableRecord, what="x")
        assert (again.uses, again.spent) == (record.uses, spent)
        held = broker.consents._receipt(toy_jobs.policy(), again).policy
        assert held is not None
        assert Fraction(held.epsilon) == spent.epsilon
        wire.decode(wire.encode(held), PolicyInForce, what="x")
