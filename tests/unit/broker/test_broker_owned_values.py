"""What an owner gave for itself: the mesh's key alone does not open it (TRUST T7)."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from toy_mesh import MASTER_KEY, NOW, Counter

from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.sealer import Sealer, lock_owned, unlock_owned
from wardian.broker.state.store import Store
from wardian.crypto.secret import Secret
from wardian.errors import FormatError, LocalProtocolError, SealError

ANN, BOB = "aa" * 32, "02" + "bb" * 32
ENTRY = AuditEntry(event="start", outcome="granted")
GIVEN = {
    ("model-key", f"{ANN}/k1"): b"model key of ann",
    ("model-key", f"{BOB}/k1"): b"model key of bob",
    ("secret", f"{ANN}/given/token"): b"token of ann",
    ("queue-key", "digits"): b"queue key of the mesh",
}


class State:
    def __init__(self, path: Path) -> None:
        self.path, self.counter = path, Counter()

    def open(self, key: MasterKey = MASTER_KEY) -> contextlib.closing[Store]:
        return contextlib.closing(Store(self.path, master_key=key, counter=self.counter.seam))


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path / "state.db")
    with state.open() as store:
        store.commit(GIVEN, audit=[ENTRY], now=NOW)
    return state


def received(secret: Secret) -> MasterKey:
    return MasterKey.from_secret(secret)


def everything(store: Store) -> dict[tuple[str, str], bytes]:
    return {at: value for at in GIVEN if (value := store.get(*at)) is not None}


def test_who_has_all_keys_reads_all(state: State) -> None:
    for key in (MASTER_KEY, received(MASTER_KEY.to_secret())):
        with state.open(key) as store:
            assert everything(store) == GIVEN
            assert store.locked(ANN) == store.locked(BOB) == {}


def test_the_mesh_key_alone_opens_no_owner_s_secret(state: State) -> None:
    """All that the row of a model key shows to it is ciphertext."""
    with sqlite3.connect(state.path) as file:
        rows = file.execute("SELECT place, key, generation, sealed FROM rows").fetchall()
    file.close()
    sealer = Sealer(MasterKey(mesh=MASTER_KEY.mesh, seed=Secret.random()))
    for place, key, generation, sealed in rows:
        value = sealer.open(sealed, "rows", f"{place}/{key}", generation)
        assert (value == GIVEN[place, key]) == (place == "queue-key")
        assert sealer.locked(value, place, key) == (place != "queue-key")
        if place != "queue-key":
            with pytest.raises(SealError, match="another key"):
                sealer.unlock(value, place, key)


def test_other_code_gets_the_secrets_of_those_owners_who_accept_it(state: State) -> None:
    key = received(MASTER_KEY.share_with(frozenset({ANN})))
    with state.open(key) as store:
        assert set(GIVEN) - set(everything(store)) == {("model-key", f"{BOB}/k1")}
        assert store.keys("model-key") == (f"{ANN}/k1",)
        assert (store.locked(ANN), list(store.locked(BOB))) == ({}, [("model-key", f"{BOB}/k1")])


def test_a_locked_secret_is_given_anew_or_deleted(state: State) -> None:
    key = received(MASTER_KEY.share_with(frozenset()))
    with state.open(key) as store:
        assert everything(store) == {("queue-key", "digits"): b"queue key of the mesh"}
        changes = {("model-key", f"{ANN}/k1"): b"anew", ("secret", f"{ANN}/given/token"): None}
        store.commit(changes, audit=[ENTRY], now=NOW)
        assert (store.get("model-key", f"{ANN}/k1"), store.locked(ANN)) == (b"anew", {})
    with state.open(key) as store:
        assert store.get("model-key", f"{ANN}/k1") == b"anew"
        assert store.get("model-key", f"{BOB}/k1") is None
    with state.open() as store:  # whoever has the first keys cannot read what came later
        assert store.get("model-key", f"{ANN}/k1") is None


def test_an_owner_s_earlier_key_opens_what_was_locked(state: State) -> None:
    key = received(MASTER_KEY.share_with(frozenset()))
    with state.open(key) as store:
        earlier = MASTER_KEY.owner_key(ANN)
        changes = {
            (place, at): unlock_owned(raw, place, at, owner_key=earlier)
            for (place, at), raw in store.locked(ANN).items()
        }
        store.commit(changes, audit=[ENTRY], now=NOW)
        assert everything(store) == {at: value for at, value in GIVEN.items() if BOB not in at[1]}


def test_a_locked_value_opens_in_its_own_place_alone() -> None:
    key = Secret.random()
    locked = lock_owned(b"value", "secret", f"{ANN}/x", owner_key=key)
    assert unlock_owned(locked, "secret", f"{ANN}/x", owner_key=key) == b"value"
    for place, at in (("model-key", f"{ANN}/x"), ("secret", f"{BOB}/x")):
        with pytest.raises(SealError):
            unlock_owned(locked, place, at, owner_key=key)
    for cut in (0, 8, 20, len(locked) - 1):
        with pytest.raises(SealError):
            unlock_owned(locked[:cut], "secret", f"{ANN}/x", owner_key=key)


def test_owners_have_different_keys_and_a_seed_does_not_change_them() -> None:
    first = MasterKey.random()
    again = received(first.to_secret())
    assert first.owner_key(ANN) == again.owner_key(ANN)
    assert first.owner_key(ANN) != first.owner_key(BOB)
    shared = received(first.share_with(frozenset({ANN})))
    assert shared.mesh == first.mesh
    assert shared.owner_key(ANN) == first.owner_key(ANN)
    assert shared.owner_key(BOB) != first.owner_key(BOB)
    handed_on = received(shared.to_secret())
    assert handed_on.owner_key(ANN) == first.owner_key(ANN)
    assert handed_on.owner_key(BOB) == shared.owner_key(BOB)


def test_keys_that_are_none_and_keys_that_nobody_prints(caplog: pytest.LogCaptureFixture) -> None:
    for raw in (
        b"{}",
        b"x",
        b'{"format":"wardian master key v1","mesh":"AAAA","seed":null,"given":{}}',
    ):
        with pytest.raises(FormatError):
            received(Secret(raw))
    key = MasterKey.random()
    assert key.mesh.reveal().hex() not in repr(key)
    from wardian.broker.state.master_key import _Record

    record = _Record(mesh=b"s" * 32, seed=b"t" * 32, given={ANN: b"u" * 32})
    assert repr(record) == "_Record(wardian master key v1)"
    with pytest.raises(LocalProtocolError):
        received(Secret(b""))
