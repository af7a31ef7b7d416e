"""Counters that the broker keeps: whose they are, how they grow, and who is refused."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from toy_mesh import MASTER_KEY, NOW, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.broker.ca import MeshCa
from wardian.broker.certificates import MeshIdentity, build_csr, parse_csr
from wardian.broker.counting import counters as module
from wardian.broker.counting.counters import (
    ADVANCE_BURST,
    ADVANCES_PER_S,
    MAX_NAMES,
    MAX_OWNERS,
    PLACE,
    READ_BURST,
    CounterDesk,
    CounterSession,
    KeptCounters,
)
from wardian.broker.counting.protocol import (
    MAX_VALUE,
    Advance,
    CounterAnswer,
    CounterChallenge,
    CounterHello,
    CounterRequest,
    decode_value,
    encode_value,
    keeper_id,
    request_signed_bytes,
)
from wardian.broker.desk import Office
from wardian.broker.limits import Place, ServiceLimits
from wardian.broker.release.admission import Admission
from wardian.broker.state.audit import AuditLine, verify_chain
from wardian.broker.state.store import Store
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    AuthenticationFailed,
    EvidenceStale,
    FormatError,
    PolicyDenied,
    QueueFull,
    SealError,
    TransportError,
)

WORKER = MeshIdentity(role="worker", measurement=digest("worker"), manifest_digest=bytes(32))


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def kept(broker: ToyBroker, ticks: Ticks) -> KeptCounters:
    return KeptCounters(store=broker.store, clock=lambda: NOW, ticks=ticks)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(PolicyDenied) as caught:
        call()
    return caught.value.rule


# Keeping


def test_a_counter_counts(kept: KeptCounters) -> None:
    assert kept.read(WORKER, "box") == 0
    for at, to in ((0, 1), (1, 5), (5, MAX_VALUE)):
        kept.advance(WORKER, "box", at=at, to=to)
        assert kept.read(WORKER, "box") == to
    assert kept.read(WORKER, "other") == 0


def test_it_survives_the_broker(kept: KeptCounters, broker: ToyBroker, ticks: Ticks) -> None:
    kept.advance(WORKER, "box", at=0, to=7)
    kept.advance(WORKER, "lid", at=0, to=9)
    broker.restart()
    again = KeptCounters(store=broker.store, clock=lambda: NOW, ticks=ticks)
    assert (again.read(WORKER, "box"), again.read(WORKER, "lid")) == (7, 9)


@pytest.mark.parametrize("to", [0, 1, 6, 7, MAX_VALUE + 1, 2**128 - 1])
def test_it_only_goes_up(kept: KeptCounters, to: int) -> None:
    kept.advance(WORKER, "box", at=0, to=7)
    assert refused(lambda: kept.advance(WORKER, "box", at=7, to=to)) == "counter-range"
    assert kept.read(WORKER, "box") == 7


@pytest.mark.parametrize("at", [0, 6, 8, 100])
def test_it_goes_on_from_where_it_stands_alone(kept: KeptCounters, at: int) -> None:
    """Of two processes that read the same value only one gets further."""
    kept.advance(WORKER, "box", at=0, to=7)
    assert refused(lambda: kept.advance(WORKER, "box", at=at, to=200)) == "counter-moved"
    assert kept.read(WORKER, "box") == 7


def test_whose_it_is(kept: KeptCounters) -> None:
    """Role and measurement; the manifest may change, and neither of the two."""
    kept.advance(WORKER, "box", at=0, to=7)
    for other in (
        replace(WORKER, measurement=digest("one byte changed")),
        replace(WORKER, role="frontend"),
        replace(WORKER, role="work", measurement=digest("worker")),
    ):
        assert kept.read(other, "box") == 0
        kept.advance(other, "box", at=0, to=100)
        assert kept.read(WORKER, "box") == 7
    assert kept.read(replace(WORKER, manifest_digest=b"\1" * 32), "box") == 7


def test_each_step_is_audited_before_it_is_told(kept: KeptCounters, broker: ToyBroker) -> None:
    before = broker.store.audit_head.count
    kept.advance(WORKER, "box", at=0, to=0x1234567890)
    kept.read(WORKER, "box")
    lines = verify_chain(broker.store.audit_lines(limit=1000), head=broker.store.audit_head)
    assert len(lines) == before + 1
    entry = lines[-1].entry
    assert (entry.event, entry.outcome, entry.counter) == ("counter", "granted", "box")
    assert (entry.role, entry.measurement) == ("worker", WORKER.measurement.hex())
    told = json.dumps(msgspec.to_builtins(entry))
    assert str(0x1234567890) not in told
    assert "1234567890" not in told


def test_what_cannot_be_made_durable_was_not_told(kept: KeptCounters, broker: ToyBroker) -> None:
    kept.advance(WORKER, "box", at=0, to=7)
    broker.counter.fails = True
    with pytest.raises(OSError, match="killed"):
        kept.advance(WORKER, "box", at=7, to=8)
    for _ in range(2):  # nothing is told from a state in doubt
        with pytest.raises(SealError):
            kept.advance(WORKER, "box", at=7, to=9)
        with pytest.raises(SealError):
            kept.read(WORKER, "box")


def test_who_reads_too_often_waits(kept: KeptCounters, ticks: Ticks) -> None:
    """Each read asks the broker's own counter; the holder of one certificate is one asker."""
    for _ in range(READ_BURST):
        kept.read(WORKER, "box")
    with pytest.raises(QueueFull, match="ask later") as caught:
        kept.read(WORKER, "lid")
    assert caught.value.retryable
    kept.advance(WORKER, "box", at=0, to=1)
    assert kept.read(replace(WORKER, role="frontend"), "box") == 0
    ticks.now += 1
    assert kept.read(WORKER, "box") == 1


def test_an_overtaken_broker_tells_nothing(
    kept: KeptCounters, broker: ToyBroker, tmp_path: Path, ticks: Ticks
) -> None:
    """Its host starts it a second time on a copy of its state, and lets the first one answer."""
    kept.advance(WORKER, "box", at=0, to=7)
    shutil.copy(broker.path, tmp_path / "copy.db")
    copy = Store(tmp_path / "copy.db", master_key=MASTER_KEY, counter=broker.counter.seam)
    with contextlib.closing(copy):
        second = KeptCounters(store=copy, clock=lambda: NOW, ticks=ticks)
        assert kept.read(WORKER, "box") == second.read(WORKER, "box") == 7
        second.advance(WORKER, "box", at=7, to=8)
        assert second.read(WORKER, "box") == 8
        for _ in range(2):
            with pytest.raises(SealError):
                kept.read(WORKER, "box")
        assert not broker.store.usable


def test_so_many_names_and_no_more(kept: KeptCounters, ticks: Ticks) -> None:
    for number in range(MAX_NAMES):
        ticks.now += 1 / ADVANCES_PER_S
        kept.advance(WORKER, f"box-{number}", at=0, to=1)
    assert refused(lambda: kept.advance(WORKER, "one-more", at=0, to=1)) == "counter-room"
    kept.advance(WORKER, "box-0", at=1, to=2)
    kept.advance(replace(WORKER, role="frontend"), "one-more", at=0, to=1)


def test_so_many_owners_and_no_more(kept: KeptCounters, broker: ToyBroker, ticks: Ticks) -> None:
    entry = module.AuditEntry(event="start", outcome="granted")
    rows = {(PLACE, f"role/{number}"): b"{}" for number in range(MAX_OWNERS - 1)}
    broker.store.commit(rows, audit=[entry], now=NOW)
    kept.advance(WORKER, "box", at=0, to=1)
    other = replace(WORKER, measurement=digest("another"))
    assert refused(lambda: kept.advance(other, "box", at=0, to=1)) == "counter-room"
    kept.advance(WORKER, "lid", at=0, to=1)


def test_who_counts_too_often_waits(kept: KeptCounters, ticks: Ticks) -> None:
    """Each step writes an audit line that stays for good."""
    for number in range(ADVANCE_BURST):
        kept.advance(WORKER, "box", at=number, to=number + 1)
    with pytest.raises(QueueFull, match="ask later") as caught:
        kept.advance(WORKER, "box", at=ADVANCE_BURST, to=1000)
    assert caught.value.retryable
    assert kept.read(WORKER, "box") == ADVANCE_BURST
    kept.advance(replace(WORKER, role="frontend"), "box", at=0, to=1)
    ticks.now += 1 / ADVANCES_PER_S
    kept.advance(WORKER, "box", at=ADVANCE_BURST, to=1000)


def test_all_together_count_too_often(
    broker: ToyBroker, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each identity keeps within its own share; the log would grow with their number."""
    monkeypatch.setattr(module, "ALL_ADVANCES_BURST", 20)
    kept = KeptCounters(store=broker.store, clock=lambda: NOW, ticks=ticks)
    crowd = [replace(WORKER, measurement=digest(f"worker {number}")) for number in range(21)]
    for each in crowd[:20]:
        kept.advance(each, "box", at=0, to=1)
    head = broker.store.audit_head
    with pytest.raises(QueueFull, match="for all together"):
        kept.advance(crowd[20], "box", at=0, to=1)
    assert broker.store.audit_head == head
    assert kept.read(crowd[20], "box") == 0
    ticks.now += 1
    kept.advance(crowd[20], "box", at=0, to=1)


def test_a_day_of_counting_as_fast_as_may_be(broker: ToyBroker, ticks: Ticks) -> None:
    """What a hostile workload may cost the broker's disk for good, in audit lines a day."""
    kept = KeptCounters(store=broker.store, clock=lambda: NOW, ticks=ticks)
    before, lines = kept._store.audit_head.count, 0
    at = 0
    for _ in range(500):  # of 500 seconds, five tries each
        ticks.now += 1
        for _ in range(5):
            with contextlib.suppress(QueueFull):
                kept.advance(WORKER, "box", at=at, to=at + 1)
                at += 1
    lines = kept._store.audit_head.count - before
    assert lines == at <= ADVANCE_BURST + 500 * ADVANCES_PER_S + 1


# Who asks


class Asker:
    """The workload's end of an exchange, by hand."""

    def __init__(self, broker: ToyBroker, admission: Admission) -> None:
        self.broker, self.admission = broker, admission
        leaf = x509.load_pem_x509_certificates(admission.certificate_chain_pem)[0]
        self.certificate = leaf.public_bytes(Encoding.DER)
        self.key = admission.tls_key

    def hello(self, **changes: object) -> bytes:
        fields: dict[str, object] = {"certificate": self.certificate, "nonce": bytes(32)}
        return wire.encode(CounterHello(**(fields | changes)))  # type: ignore[arg-type]

    def session(
        self, hello: bytes | None = None, *, nonce: bytes = b"n" * 32, now: int = NOW
    ) -> CounterSession:
        raw = hello or self.hello()
        authority = self.broker.authority
        return CounterSession(
            raw,
            wire.decode(raw, CounterHello, what="hello"),
            ca_spki=authority.ca.spki,
            issuer_spki=authority.issuer.spki,
            manifest_digest=authority.manifest.digest,
            nonce=nonce,
            now=now,
        )

    def request(
        self,
        session: CounterSession,
        *,
        name: str = "box",
        advance: Advance | None = None,
        key: TlsKey | None = None,
        signed: dict[str, object] | None = None,
    ) -> bytes:
        fields: dict[str, object] = {
            "ca_spki": self.admission.mesh_ca_spki,
            "hello": self.hello(),
            "challenge": session.challenge,
            "counter": name,
            "advance": advance,
        }
        message = request_signed_bytes(**(fields | (signed or {})))  # type: ignore[arg-type]
        signature = (key or self.key).sign(message)
        return wire.encode(CounterRequest(counter=name, advance=advance, signature=signature))


@pytest.fixture
def asker(broker: ToyBroker, mesh: ToyMesh) -> Asker:
    return Asker(broker, broker.admit(mesh.workload(), mesh.attest("worker")))


def test_who_holds_a_mesh_certificate_is_known(asker: Asker) -> None:
    session = asker.session()
    assert (session.identity.role, session.identity.measurement) == ("worker", digest("worker"))
    step = Advance(at=encode_value(0), to=encode_value(5))
    request = session.receive(asker.request(session, advance=step))
    assert (request.counter, request.advance) == ("box", step)
    assert session.receive(asker.request(session)).advance is None


def test_a_certificate_without_its_key(asker: Asker) -> None:
    """Certificates are no secret: what counts is the key."""
    session = asker.session()
    with pytest.raises(AuthenticationFailed, match="not signed with the certificate's key"):
        session.receive(asker.request(session, key=TlsKey.generate()))


@pytest.mark.parametrize(
    "signed",
    [
        {"hello": b"another"},
        {"challenge": b"another"},
        {"counter": "lid"},
        {"advance": Advance(at=encode_value(0), to=encode_value(6))},
        {"advance": None},
        {"ca_spki": b"another broker"},
    ],
    ids=["hello", "challenge", "counter", "to", "read", "ca"],
)
def test_a_request_that_was_signed_for_something_else(
    asker: Asker, signed: dict[str, object]
) -> None:
    session = asker.session()
    step = Advance(at=encode_value(0), to=encode_value(5))
    with pytest.raises(AuthenticationFailed):
        session.receive(asker.request(session, advance=step, signed=signed))


def test_a_request_of_another_session(asker: Asker) -> None:
    raw = asker.request(asker.session())
    with pytest.raises(AuthenticationFailed):
        asker.session(nonce=b"o" * 32).receive(raw)


def test_a_read_does_not_pass_for_a_step(asker: Asker) -> None:
    """Nor do the parts of one message move into another: every part has its length."""
    spki = asker.admission.mesh_ca_spki
    made = {
        request_signed_bytes(ca_spki=spki, hello=b"h", challenge=b"c", counter=name, advance=step)
        for name in ("box", "bo", "boxx")
        for step in (None, Advance(at=bytes(16), to=bytes(16)), Advance(at=b"x" * 16, to=bytes(16)))
    }
    assert len(made) == 9


def test_certificates_that_are_not_of_this_mesh(asker: Asker, mesh: ToyMesh) -> None:
    manifest = asker.broker.authority.manifest.digest
    other = MeshCa.create(mesh=mesh.name, simulated=True, now=NOW)
    issuer = other.create_issuing(manifest_digest=manifest, now=NOW)
    identity = MeshIdentity(role="worker", measurement=digest("worker"), manifest_digest=manifest)
    request = parse_csr(build_csr(asker.key))
    forged = issuer.issue(request, identity=identity, now=NOW, life_s=3600)[0]
    with pytest.raises(AuthenticationFailed, match="not signed by the issuing CA"):
        asker.session(asker.hello(certificate=forged))
    with pytest.raises(FormatError):
        asker.session(asker.hello(certificate=b"junk"))
    with pytest.raises(FormatError):
        asker.session(asker.hello(certificate=asker.broker.authority.ca.certificate))


@pytest.mark.parametrize("late", [3601, -1000])
def test_a_certificate_out_of_its_time(asker: Asker, late: int) -> None:
    with pytest.raises(EvidenceStale):
        asker.session(now=NOW + late)


def test_a_certificate_of_an_earlier_manifest(asker: Asker, mesh: ToyMesh) -> None:
    """The owners may have withdrawn its code, or its platform, since."""
    asker.broker.provision(mesh.signed(version=2))
    with pytest.raises(AuthenticationFailed, match="issuing CA of this manifest"):
        asker.session()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"format":"wardian counter request v1","counter":"../x","advance":null,"signature":""}',
    ],
)
def test_a_request_that_does_not_parse(asker: Asker, raw: bytes) -> None:
    with pytest.raises(FormatError):
        asker.session().receive(raw)


@pytest.mark.parametrize("name", ["", "A", "a/b", ".", "-a", "x" * 65, "a\n", "box.turn"])
def test_names(asker: Asker, name: str) -> None:
    session = asker.session()
    with pytest.raises(FormatError):
        session.receive(asker.request(session, name=name))


@pytest.mark.parametrize("length", [0, 1, 15, 17])
def test_values_have_one_length(asker: Asker, length: int) -> None:
    session = asker.session()
    step = Advance(at=bytes(length), to=bytes(16))
    with pytest.raises(FormatError):
        session.receive(asker.request(session, advance=step))


def test_values_and_keepers() -> None:
    for value in (0, 1, MAX_VALUE):
        assert decode_value(encode_value(value)) == value
    assert keeper_id(b"one") != keeper_id(b"other")
    assert len(keeper_id(b"one")) == 32


# A whole exchange


class Line:
    """A connection whose other end a test holds."""

    def __init__(self, *answers: Callable[[bytes], bytes]) -> None:
        self.answers, self.sent = list(answers), []

    async def send(self, content: bytes) -> None:
        self.sent.append(content)

    async def receive(self, *, most: int) -> bytes:
        raw = self.answers.pop(0)(self.sent[-1])
        assert len(raw) <= most
        return raw


async def exchange(asker: Asker, desk: CounterDesk, advance: Advance | None) -> int:
    hello = asker.hello()

    def answer(challenge: bytes) -> bytes:
        wire.decode(challenge, CounterChallenge, what="challenge")
        message = request_signed_bytes(
            ca_spki=asker.admission.mesh_ca_spki,
            hello=hello,
            challenge=challenge,
            counter="box",
            advance=advance,
        )
        signature = asker.key.sign(message)
        return wire.encode(CounterRequest(counter="box", advance=advance, signature=signature))

    line = Line(answer)
    decoded = wire.decode(hello, CounterHello, what="hello")
    await desk.serve(line, Place(peer="x"), hello, decoded)  # type: ignore[arg-type]
    return decode_value(wire.decode(line.sent[-1], CounterAnswer, what="answer").value)


def desk_of(broker: ToyBroker) -> CounterDesk:
    return CounterDesk(
        Office(
            authority=broker.authority,
            attest=broker.attest,
            ticks=lambda: 0.0,
            limits=ServiceLimits(),
        )
    )


async def test_an_exchange(asker: Asker) -> None:
    desk = desk_of(asker.broker)
    assert await exchange(asker, desk, None) == 0
    step = Advance(at=encode_value(0), to=encode_value(5))
    assert await exchange(asker, desk, step) == 5
    assert await exchange(asker, desk, None) == 5
    with pytest.raises(PolicyDenied) as caught:
        await exchange(asker, desk, step)
    assert caught.value.rule == "counter-moved"


async def test_every_exchange_has_a_challenge_of_its_own(asker: Asker) -> None:
    seen = set()
    for _ in range(3):
        line = Line()
        hello = asker.hello()
        with pytest.raises(IndexError):
            await desk_of(asker.broker).serve(
                line,  # type: ignore[arg-type]
                Place(peer="x"),
                hello,
                wire.decode(hello, CounterHello, what="hello"),
            )
        seen.add(line.sent[0])
    assert len(seen) == 3


async def test_the_manifest_turns_over_meanwhile(asker: Asker, mesh: ToyMesh) -> None:
    hello = asker.hello()

    def turn(challenge: bytes) -> bytes:
        asker.broker.provision(mesh.signed(version=2))
        message = request_signed_bytes(
            ca_spki=asker.admission.mesh_ca_spki,
            hello=hello,
            challenge=challenge,
            counter="box",
            advance=None,
        )
        signature = asker.key.sign(message)
        return wire.encode(CounterRequest(counter="box", advance=None, signature=signature))

    with pytest.raises(PolicyDenied) as caught:
        await desk_of(asker.broker).serve(
            Line(turn),  # type: ignore[arg-type]
            Place(peer="x"),
            hello,
            wire.decode(hello, CounterHello, what="hello"),
        )
    assert caught.value.rule == "peer-manifest"


async def test_before_the_owners_came_nobody_counts(
    asker: Asker, mesh: ToyMesh, tmp_path: Path
) -> None:
    empty = ToyBroker(mesh, tmp_path / "empty.db", provisioned=False)
    try:
        with pytest.raises(TransportError, match="no mesh manifest yet") as caught:
            await exchange(asker, desk_of(empty), None)
        assert caught.value.retryable
    finally:
        empty.close()


def test_the_audit_line_of_a_counter_is_in_its_one_form(kept: KeptCounters, broker) -> None:
    kept.advance(WORKER, "box", at=0, to=1)
    raw = broker.store.audit_lines(limit=1000)[-1]
    assert wire.encode(wire.decode(raw, AuditLine, what="line")) == raw
