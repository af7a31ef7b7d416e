"""Two brokers that attest to each other: what a host, a fake or other code makes of it."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from toy_mesh import MASTER_KEY, NOW, OTHER_PLATFORM, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.attestation.verifier import verify_evidence
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.refusal import Refusal, refusal_for
from wardian.broker.release.protocol import broker_report_data
from wardian.broker.standby.active_session import ActiveSession
from wardian.broker.standby.channel import Direction, Receiver, Sender
from wardian.broker.standby.messages import (
    StandbyAnswer,
    StandbyChallenge,
    StandbyHello,
    StandbyProof,
    _KeysRecord,
    active_report_data,
    standby_report_data,
)
from wardian.broker.standby.standby_session import KnownManifest, StandbySession
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.secret import Secret
from wardian.errors import (
    AttestationError,
    AuthenticationFailed,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    Timeout,
    TransportError,
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ToyBroker]:
    broker = ToyBroker(ToyMesh(), tmp_path / "broker.db")
    yield broker
    broker.close()


class Exchange:
    """One attachment, message by message."""

    def __init__(self, broker: ToyBroker, *, wish: str = "follow") -> None:
        self.broker, self.mesh = broker, broker.mesh
        self.standby = StandbySession(
            wish=wish,  # type: ignore[arg-type]
            agreed=broker.mesh.agreed,
            nonce=secrets.token_bytes(32),
        )
        self.raw = self.standby.hello(tee="simulated")
        self.active = self.begin(self.raw)

    def begin(self, raw: bytes, *, opened_at: float = 0.0) -> ActiveSession:
        return ActiveSession(
            raw,
            wire.decode(raw, StandbyHello, what="hello"),
            manifest=self.broker.authority.manifest,
            ca_certificate=self.broker.authority.ca.certificate,
            opened_at=opened_at,
        )

    def challenge(self) -> bytes:
        return self.active.challenge(self.broker.attest(self.active.report_data()))

    def proof(self, *, attest=None) -> bytes:
        report_data = self.standby.receive_challenge(self.challenge(), now=NOW, known=None)
        return self.standby.proof((attest or self.broker.attest)(report_data))

    def verify(self, raw: bytes) -> None:
        proof = self.active.receive(raw, now=1.0)
        verify_evidence(
            proof.evidence,
            policy=appraisal_policy(self.broker.authority.manifest.manifest, "broker"),
            report_data=proof.report_data,
            now=NOW,
        )

    def answer(self) -> bytes:
        self.verify(self.proof())
        return self.active.answer(
            MASTER_KEY.to_secret(), sign=self.broker.authority.ca.sign, now=2.0
        )


def test_a_standby_gets_the_keys_of_the_state(broker: ToyBroker) -> None:
    exchange = Exchange(broker)
    keys = exchange.standby.receive_answer(exchange.answer())
    assert keys.master_key.mesh == MASTER_KEY.mesh
    assert keys.master_key.owner_key("aa") == MASTER_KEY.owner_key("aa")
    assert (keys.session, keys.session_key) == (
        exchange.active.session,
        exchange.active.session_key,
    )
    assert exchange.standby.ca_spki == broker.authority.ca.spki


# A fake active


def test_an_active_without_evidence_gets_no_evidence(broker: ToyBroker) -> None:
    """Nothing of the standby has left but message 1."""
    exchange = Exchange(broker)
    report_data = exchange.active.report_data()
    exchange.active.challenge(broker.attest(report_data))
    for attest in (
        broker.mesh.attest("broker", platform=OTHER_PLATFORM),
        broker.mesh.attest("broker", debug=True),
        broker.mesh.attest("worker"),
    ):
        exchange = Exchange(broker)
        raw = exchange.active.challenge(attest(exchange.active.report_data()))
        with pytest.raises((PolicyDenied, AttestationError)):
            exchange.standby.receive_challenge(raw, now=NOW, known=None)
        with pytest.raises(LocalProtocolError, match="no active broker"):
            _ = exchange.standby.ca_spki


def test_evidence_for_another_use_session_or_wish_is_refused(broker: ToyBroker) -> None:
    authority = broker.authority
    manifest = authority.manifest
    parts = {
        "ca_spki": authority.ca.spki,
        "digest": manifest.digest,
        "version": manifest.manifest.version,
    }
    nonce = secrets.token_bytes(32)
    for evidence_of in (
        lambda hello: broker_report_data(
            workload_nonce=hello.nonce, broker_nonce=nonce, **parts
        ),  # it was made for a workload
        lambda hello: active_report_data(
            wish="take over", standby_nonce=hello.nonce, active_nonce=nonce, **parts
        ),
        lambda _: active_report_data(
            wish="follow", standby_nonce=bytes(32), active_nonce=nonce, **parts
        ),
        lambda hello: standby_report_data(  # what the standby itself shows, turned back on it
            wish="follow",
            active_nonce=hello.nonce,
            hpke_public=nonce,
            ca_spki=authority.ca.spki,
            digest=manifest.digest,
        ),
    ):
        exchange = Exchange(broker)
        hello = wire.decode(exchange.raw, StandbyHello, what="hello")
        raw = wire.encode(
            StandbyChallenge(
                nonce=nonce,
                signed_manifest=manifest.signed,
                mesh_ca=authority.ca.certificate,
                evidence=broker.attest(evidence_of(hello)),
            )
        )
        with pytest.raises(EvidenceInvalid):
            exchange.standby.receive_challenge(raw, now=NOW, known=None)


def test_an_active_with_another_mesh_s_manifest_or_ca(broker: ToyBroker, tmp_path: Path) -> None:
    other = ToyBroker(ToyMesh(), tmp_path / "other.db")  # other owners
    try:
        exchange = Exchange(broker)
        challenge = wire.decode(exchange.challenge(), StandbyChallenge, what="challenge")
        for change in (
            {"signed_manifest": other.authority.manifest.signed},
            {"mesh_ca": other.authority.ca.certificate},
            {"nonce": bytes(32)},
        ):
            fresh = Exchange(broker)
            raw = wire.encode(msgspec.structs.replace(challenge, **change))
            with pytest.raises((PolicyDenied, EvidenceInvalid, AuthenticationFailed)):
                fresh.standby.receive_challenge(raw, now=NOW, known=None)
    finally:
        other.close()


def test_a_broker_of_a_manifest_of_before_is_not_followed(broker: ToyBroker) -> None:
    """It is attested, under a manifest that the owners signed once: with code since withdrawn."""
    manifest = broker.authority.manifest
    version = manifest.manifest.version
    for wish in ("follow", "take over"):
        for known in (
            KnownManifest(version=version + 1, digest=manifest.digest),
            KnownManifest(version=version, digest=digest("another of that version")),
        ):
            exchange = Exchange(broker, wish=wish)
            with pytest.raises(PolicyDenied) as caught:
                exchange.standby.receive_challenge(exchange.challenge(), now=NOW, known=known)
            assert caught.value.rule == "standby-manifest"
            with pytest.raises(LocalProtocolError, match="no active broker"):
                _ = exchange.standby.ca_spki
            with pytest.raises(PeerProtocolError, match="out of turn"):
                exchange.standby.proof(Evidence(quote=b"", collateral=b""))


def test_a_broker_of_the_known_manifest_or_a_newer_one_is_followed(broker: ToyBroker) -> None:
    manifest = broker.authority.manifest
    version = manifest.manifest.version
    for known in (
        KnownManifest(version=version, digest=manifest.digest),
        KnownManifest(version=version - 1, digest=digest("the one before")),
    ):
        exchange = Exchange(broker)
        exchange.standby.receive_challenge(exchange.challenge(), now=NOW, known=known)
        assert exchange.standby.ca_spki == broker.authority.ca.spki


def test_only_an_attested_broker_is_refused_for_its_manifest(broker: ToyBroker) -> None:
    """A successor gives up at a policy's refusal: whoever carries the bytes does not make one."""
    exchange = Exchange(broker)
    exchange.active.report_data()
    raw = exchange.active.challenge(broker.mesh.attest("broker")(bytes(64)))
    known = KnownManifest(version=2**53, digest=bytes(32))
    with pytest.raises(EvidenceInvalid):
        exchange.standby.receive_challenge(raw, now=NOW, known=known)


def test_an_answer_that_the_attested_broker_did_not_sign(broker: ToyBroker, tmp_path: Path) -> None:
    other = ToyBroker(ToyMesh(), tmp_path / "other.db")
    try:
        exchange = Exchange(broker)
        exchange.verify(exchange.proof())
        raw = exchange.active.answer(MASTER_KEY.to_secret(), sign=other.authority.ca.sign, now=2.0)
        with pytest.raises(AuthenticationFailed, match="not signed by the broker"):
            exchange.standby.receive_answer(raw)
    finally:
        other.close()


def test_an_answer_of_another_session(broker: ToyBroker) -> None:
    first, second = Exchange(broker), Exchange(broker)
    raw = first.answer()
    second.proof()
    with pytest.raises(AuthenticationFailed):
        second.standby.receive_answer(raw)


def test_an_answer_that_was_altered(broker: ToyBroker) -> None:
    exchange = Exchange(broker)
    answer = wire.decode(exchange.answer(), StandbyAnswer, what="answer")
    altered = answer.ciphertext[:-1] + bytes([answer.ciphertext[-1] ^ 1])
    raw = wire.encode(msgspec.structs.replace(answer, ciphertext=altered))
    with pytest.raises(AuthenticationFailed):
        exchange.standby.receive_answer(raw)


# A standby that may not have the keys


def test_code_that_the_manifest_does_not_list_gets_nothing(broker: ToyBroker) -> None:
    for attest in (
        broker.mesh.attest("broker", measurement=digest("another broker")),
        broker.mesh.attest("worker"),
        broker.mesh.attest("broker", platform=OTHER_PLATFORM),
        broker.mesh.attest("broker", debug=True),
    ):
        exchange = Exchange(broker)
        with pytest.raises((PolicyDenied, AttestationError)):
            exchange.verify(exchange.proof(attest=attest))


def test_a_relaying_host_seals_nothing_to_its_own_key(broker: ToyBroker) -> None:
    exchange = Exchange(broker)
    proof = wire.decode(exchange.proof(), StandbyProof, what="proof")
    swapped = msgspec.structs.replace(proof, hpke_public=HpkePrivateKey.generate().public)
    with pytest.raises(EvidenceInvalid):
        exchange.verify(wire.encode(swapped))


def test_a_standby_s_evidence_of_another_session_or_wish(broker: ToyBroker) -> None:
    old = wire.decode(Exchange(broker).proof(), StandbyProof, what="proof")
    for replayed in (
        old,
        wire.decode(Exchange(broker, wish="take over").proof(), StandbyProof, what="proof"),
    ):
        exchange = Exchange(broker)
        exchange.challenge()
        with pytest.raises(EvidenceInvalid):
            exchange.verify(wire.encode(replayed))
    assert bind(Purpose.STANDBY, b"x") != bind(Purpose.BROKER, b"x")


def test_a_weak_hpke_key_is_refused(broker: ToyBroker) -> None:
    exchange = Exchange(broker)
    exchange.challenge()
    evidence = Evidence(quote=b"x", collateral=b"")
    exchange.active.receive(
        wire.encode(StandbyProof(evidence=evidence, hpke_public=bytes(32))), now=1.0
    )
    with pytest.raises(FormatError, match="usable"):
        exchange.active.answer(MASTER_KEY.to_secret(), sign=broker.authority.ca.sign, now=2.0)


# Turns and time


def test_a_session_does_each_step_once_and_in_turn(broker: ToyBroker) -> None:
    exchange = Exchange(broker)
    exchange.answer()
    for step in (
        exchange.active.report_data,
        lambda: exchange.active.challenge(Evidence(quote=b"", collateral=b"")),
        lambda: exchange.active.receive(b"", now=1.0),
        lambda: exchange.active.answer(MASTER_KEY.to_secret(), sign=lambda m: m, now=1.0),
        lambda: exchange.standby.hello(tee="x"),
        lambda: exchange.standby.receive_challenge(b"", now=NOW, known=None),
        lambda: exchange.standby.proof(Evidence(quote=b"", collateral=b"")),
    ):
        with pytest.raises(PeerProtocolError, match="out of turn"):
            step()


@pytest.mark.parametrize("late", [30.1, -0.1])
def test_a_session_is_short(broker: ToyBroker, late: float) -> None:
    exchange = Exchange(broker)
    raw = exchange.proof()
    with pytest.raises(Timeout):
        exchange.active.receive(raw, now=late)
    exchange = Exchange(broker)
    exchange.verify(exchange.proof())
    with pytest.raises(Timeout):
        exchange.active.answer(MASTER_KEY.to_secret(), sign=lambda m: m, now=late)


def test_refusals_and_garbage(broker: ToyBroker) -> None:
    refused = wire.encode(refusal_for(TransportError("not now")))
    for raw, error in ((refused, TransportError), (b"{}", PeerProtocolError)):
        with pytest.raises(error):
            Exchange(broker).standby.receive_challenge(raw, now=NOW, known=None)
        exchange = Exchange(broker)
        exchange.proof()
        with pytest.raises(error):
            exchange.standby.receive_answer(raw)
    exchange = Exchange(broker)
    exchange.challenge()
    with pytest.raises(FormatError):
        exchange.active.receive(b"{}", now=1.0)
    assert wire.decode(refused, Refusal, what="refusal").rule == "TransportError"


def test_nobody_prints_the_keys() -> None:
    record = _KeysRecord(master_key=b"m" * 32, session=b"s" * 16, session_key=b"k" * 32)
    assert repr(record) == f"_KeysRecord({(b's' * 16).hex()})"


# The channel


@pytest.fixture
def key() -> Secret:
    return Secret(bytes(range(32)))


def test_frames_arrive_in_their_order_and_direction_alone(key: Secret) -> None:
    sender, receiver = Sender(key, Direction.COMMITS), Receiver(key, Direction.COMMITS)
    frames = [sender.frame(b"%d" % number) for number in range(4)]
    assert [receiver.content(frame) for frame in frames[:2]] == [b"0", b"1"]
    for attack in (frames[0], frames[3], frames[2][:-1], b"", bytes(32), frames[2] + b"x"):
        at = Receiver(key, Direction.COMMITS)
        for frame in frames[:2]:
            at.content(frame)
        with pytest.raises(AuthenticationFailed, match="not the next frame"):
            at.content(attack)
        assert at.content(frames[2]) == b"2"
    first = Sender(key, Direction.COMMITS).frame(b"0")
    for other in (
        Receiver(key, Direction.COMMITS_TAKEN),
        Receiver(key, Direction.STATE),
        Receiver(Secret.random(), Direction.COMMITS),
    ):
        with pytest.raises(AuthenticationFailed):
            other.content(first)


def test_every_bit_of_a_frame_counts(key: Secret) -> None:
    frame = Sender(key, Direction.STATE).frame(b"content")
    for position in range(len(frame)):
        bad = bytearray(frame)
        bad[position] ^= 1
        with pytest.raises(AuthenticationFailed):
            Receiver(key, Direction.STATE).content(bytes(bad))
