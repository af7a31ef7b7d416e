"""Request keys: who gets them, who is only told of them, and what nobody believes (TRUST T13)."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.broker.release import workload_session
from wardian.broker.release.admission import Admission
from wardian.broker.release.protocol import Release, ReleasedSecret, decode_release, encode_release
from wardian.broker.release.request_keys import (
    MAX_LIFE_S,
    RequestKey,
    parse_request_key,
    public_of,
    request_key_id,
    state_request_key,
    verify_request_key,
)
from wardian.broker.state.audit import decode_line
from wardian.cli.audit.lines import sentence
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    RequestKeyInvalid,
    SealError,
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ToyBroker]:
    broker = ToyBroker(ToyMesh(), tmp_path / "broker.db")
    yield broker
    broker.close()


def admit(broker: ToyBroker, role: str, *, renewal: bool = False) -> Admission:
    models = ("digits",) if role == "worker" else ("digits", "faces")
    workload = broker.mesh.workload(role, models, renewal=renewal)
    return broker.admit(workload, broker.mesh.attest(role))


def verify(admission: Admission, key: RequestKey, **changes: object) -> None:
    fields: dict[str, object] = {
        "ca_spki": admission.mesh_ca_spki,
        "mesh": "test",
        "model": "digits",
        "manifest_digest": admission.manifest.digest,
        "now": NOW,
    }
    verify_request_key(key, **(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("renewal", [False, True])
def test_t13_a_front_end_never_gets_a_private_request_key(broker: ToyBroker, renewal: bool) -> None:
    admission = admit(broker, "frontend", renewal=renewal)
    assert {secret.kind for secret in admission.secrets} == {"queue"}
    held = b"".join(secret.key.reveal() for secret in admission.secrets)
    for model in ("digits", "faces"):
        private = broker.store.get("request-key", model)
        assert private is not None
        assert private not in held + wire.encode(admission.request_keys)


@pytest.mark.parametrize("renewal", [False, True])
def test_t13_a_front_end_is_told_what_a_worker_opens_with(broker: ToyBroker, renewal: bool) -> None:
    front, worker = (admit(broker, role, renewal=renewal) for role in ("frontend", "worker"))
    private, epoch = worker.request_key("digits")
    stated = {key.model: key for key in front.request_keys}
    assert stated.keys() == {"digits", "faces"}
    assert (stated["digits"].public, stated["digits"].epoch) == (public_of(private), epoch)
    assert stated["faces"].public != stated["digits"].public
    assert stated["digits"].not_after == NOW + 86_400 + 3600  # an epoch, and a lease
    assert worker.request_keys == ()
    for model, key in stated.items():
        verify(front, key, model=model)


def test_a_worker_gets_the_request_key_of_its_own_model_alone(broker: ToyBroker) -> None:
    worker = admit(broker, "worker")
    found = [secret for secret in worker.secrets if secret.kind == "request"]
    assert [secret.model for secret in found] == ["digits"]
    assert found[0].key_id == request_key_id(public_of(found[0].key)).hex()


def test_t13_it_goes_with_its_epoch(broker: ToyBroker) -> None:
    before = admit(broker, "worker").request_key("digits")[0]
    broker.authority.turn_epoch(rule="age")
    after, epoch = admit(broker, "worker", renewal=True).request_key("digits")
    assert (before != after, epoch) == (True, 2)
    kept = [broker.store.get("request-key", model) for model in broker.store.keys("request-key")]
    assert before.reveal() not in kept


def test_a_manifest_begins_an_epoch_of_its_own_keys(broker: ToyBroker) -> None:
    mesh = broker.mesh
    before, _ = admit(broker, "frontend").request_keys
    broker.provision(mesh.signed(version=2, models=(mesh.line(),)))
    assert broker.store.keys("request-key") == ("digits",)
    (after,) = admit(broker, "frontend").request_keys
    assert (after.manifest_version, after.epoch) == (2, 2)
    assert after.public != before.public


def test_a_state_of_before_there_were_any_is_completed_at_the_start(broker: ToyBroker) -> None:
    queue = admit(broker, "worker").queue_key("digits")
    entry = broker.authority.entry(event="start", outcome="granted", role="broker")
    broker.authority.record([entry], {("request-key", each): None for each in ("digits", "faces")})
    broker.restart()
    worker = admit(broker, "worker")
    assert worker.queue_key("digits") == queue
    kept = worker.request_key("digits")
    broker.restart()
    assert admit(broker, "worker").request_key("digits") == kept


def test_there_is_no_other_key_in_its_place(broker: ToyBroker) -> None:
    with pytest.raises(LocalProtocolError, match="no request key of model digits"):
        admit(broker, "frontend").request_key("digits")
    entry = broker.authority.entry(event="start", outcome="granted", role="broker")
    broker.authority.record([entry], {("request-key", "digits"): None})
    with pytest.raises(SealError, match="no request key"):
        admit(broker, "worker")


def test_the_log_names_it_and_who_got_it(broker: ToyBroker) -> None:
    worker = admit(broker, "worker")
    key_id = next(each.key_id for each in worker.secrets if each.kind == "request")
    entries = [decode_line(line).entry for line in broker.store.audit_lines()]
    (line,) = [entry for entry in entries if entry.kind == "request"]
    assert (line.model, line.key_id, line.epoch) == ("digits", key_id, 1)
    assert f"got request key {key_id[:8]} of digits, epoch 1" in sentence(line)


# What a statement is worth


@pytest.fixture
def front(broker: ToyBroker) -> Admission:
    return admit(broker, "frontend")


@pytest.fixture
def key(front: Admission) -> RequestKey:
    return next(each for each in front.request_keys if each.model == "digits")


@pytest.mark.parametrize(
    "change",
    [
        {"public": b"p" * 32},
        {"model": "faces"},
        {"mesh": "other"},
        {"manifest": "ab" * 32},
        {"manifest_version": 2},
        {"epoch": 2},
        {"not_after": NOW + 10_000_000},
        {"signature": b"0" * 70},
        {"signature": b""},
    ],
)
def test_t13_a_statement_that_was_changed(
    front: Admission, key: RequestKey, change: dict[str, object]
) -> None:
    forged = msgspec.structs.replace(key, **change)
    about = {name: change[name] for name in ("model", "mesh") if name in change}
    with pytest.raises(RequestKeyInvalid, match="not stated by this mesh's broker"):
        verify(front, forged, **about)


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"ca_spki": TlsKey.generate().spki}, "broker"),
        ({"ca_spki": b"no key"}, "broker"),
        ({"model": "faces"}, "another model"),
        ({"mesh": "other"}, "another model or mesh"),
        ({"manifest_digest": b"m" * 32}, "another manifest"),
        ({"now": NOW + 86_400 + 3601}, "epoch that is over"),
        ({"now": NOW - MAX_LIFE_S}, "epoch that is over"),
    ],
)
def test_t13_a_true_statement_of_something_else(
    front: Admission, key: RequestKey, about: dict[str, object], why: str
) -> None:
    with pytest.raises(RequestKeyInvalid, match=why):
        verify(front, key, **about)


def test_t13_a_statement_by_who_is_not_the_broker(front: Admission, key: RequestKey) -> None:
    """A front end has a certificate of the mesh and its key; that states nothing."""
    forged = state_request_key(
        msgspec.structs.replace(key, public=b"p" * 32), sign=front.tls_key.sign
    )
    with pytest.raises(RequestKeyInvalid):
        verify(front, forged)


def test_a_statement_has_one_form(key: RequestKey) -> None:
    raw = wire.encode(key)
    assert parse_request_key(raw) == key
    for other in (
        b"",
        raw + b" ",
        raw.replace(b'"model"', b' "model"'),
        raw.replace(b'"epoch":1', b'"epoch":1,"more":2'),
        raw.replace(b"request key v1", b"request key v2"),
        raw.replace(b'"epoch":1', b'"epoch":0'),
        raw + bytes(5000),
    ):
        with pytest.raises(FormatError):
            parse_request_key(other)


def test_a_broker_that_is_late_with_an_epoch_still_admits_front_ends(broker: ToyBroker) -> None:
    """What it states then is over, and clients wait for the next one."""
    broker.host_time += 2 * 86_400
    front = admit(broker, "frontend")
    key = next(each for each in front.request_keys if each.model == "digits")
    with pytest.raises(RequestKeyInvalid, match="epoch that is over"):
        verify(front, key, now=broker.host_time)
    broker.authority.turn_epoch(rule="age")
    front = admit(broker, "frontend", renewal=True)
    key = next(each for each in front.request_keys if each.model == "digits")
    verify(front, key, now=broker.host_time)


# What a workload takes from a broker that is wrong


def tampered(
    monkeypatch: pytest.MonkeyPatch, broker: ToyBroker, role: str, **changes: object
) -> Admission:
    def decode(raw: bytes) -> Release:
        release = decode_release(raw)
        assert decode_release(encode_release(release)).request_keys == release.request_keys
        found = {name: change(release) for name, change in changes.items()}  # type: ignore[operator]
        return dataclasses.replace(release, **found)

    monkeypatch.setattr(workload_session, "decode_release", decode)
    return admit(broker, role)


def request_secret(model: str = "digits", key_id: str | None = None) -> ReleasedSecret:
    secret = Secret(b"r" * 32)
    return ReleasedSecret(
        kind="request",
        model=model,
        version=None,
        epoch=1,
        key_id=key_id or request_key_id(public_of(secret)).hex(),
        key=secret,
    )


def test_t13_a_front_end_refuses_a_private_key(
    monkeypatch: pytest.MonkeyPatch, broker: ToyBroker
) -> None:
    with pytest.raises(PeerProtocolError, match="request keys"):
        tampered(
            monkeypatch, broker, "frontend", secrets=lambda release: (*release.secrets, request_secret())
        )  # fmt: skip


def test_a_worker_refuses_a_release_without_its_key_or_with_anothers(
    monkeypatch: pytest.MonkeyPatch, broker: ToyBroker
) -> None:
    def without(release: Release) -> tuple[ReleasedSecret, ...]:
        return tuple(each for each in release.secrets if each.kind != "request")

    for secrets in (
        without,
        lambda release: (*without(release), request_secret("faces")),
        lambda release: (*without(release), request_secret(key_id="00" * 16)),
        lambda release: (*release.secrets, request_secret()),
    ):
        with pytest.raises(PeerProtocolError):
            tampered(monkeypatch, broker, "worker", secrets=secrets)
        monkeypatch.undo()


def test_a_front_end_refuses_statements_that_its_clients_would_refuse(
    monkeypatch: pytest.MonkeyPatch, broker: ToyBroker
) -> None:
    def forged(release: Release) -> tuple[RequestKey, ...]:
        first, *rest = release.request_keys
        return (msgspec.structs.replace(first, public=b"p" * 32), *rest)

    with pytest.raises(RequestKeyInvalid):
        tampered(monkeypatch, broker, "frontend", request_keys=forged)
    for keys in (
        lambda release: release.request_keys[:1],
        lambda release: release.request_keys * 2,
    ):
        monkeypatch.undo()
        with pytest.raises(PeerProtocolError, match="request keys"):
            tampered(monkeypatch, broker, "frontend", request_keys=keys)
