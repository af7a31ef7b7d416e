"""The broker on loopback: owners and workloads speak to it, strangers and hosts attack it."""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import socket
import ssl
import struct
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

from toy_mesh import MASTER_KEY, NOW, OTHER_PLATFORM, Counter, ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.collateral.source import NoCollateral
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_evidence
from wardian.broker.certificates import spki_of
from wardian.broker.frames import (
    FIRST_FRAME_BYTES,
    FRAME_BYTES,
    FrameStream,
    connect,
    server_context,
)
from wardian.broker.limits import GRACE_S, Place, ServiceLimits
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.trust import RoleReference, TrustAnchor
from wardian.broker.owners.client import provision
from wardian.broker.owners.goods import goods_of
from wardian.broker.owners.protocol import OwnerHello
from wardian.broker.owners.session import Demands, Provisioned
from wardian.broker.refusal import Refusal, decode_or_raise
from wardian.broker.release.admission import Admission
from wardian.broker.release.client import obtain
from wardian.broker.release.in_force import ask_in_force
from wardian.broker.release.protocol import Attestation, Challenge, Request
from wardian.broker.service import BrokerService
from wardian.broker.state.audit import AuditLine, verify_chain
from wardian.broker.state.store import Store
from wardian.broker.status import read_status
from wardian.crypto.signing import SigningKey
from wardian.crypto.tls_keys import TlsKey, load_identity
from wardian.errors import (
    AdmissionRefused,
    AuthenticationFailed,
    ConfigError,
    ConnectionLost,
    CounterUnavailable,
    EvidenceInvalid,
    PeerProtocolError,
    PolicyDenied,
    SealError,
    Timeout,
    TransportError,
)

Address = tuple[str, int]


class Broker:
    """A running broker of a toy mesh."""

    def __init__(self, mesh: ToyMesh, service: BrokerService, address: Address) -> None:
        self.mesh, self.service, self.address = mesh, service, address

    async def give(self, signed: SignedManifest | None = None, **changes: object) -> Provisioned:
        signed = signed or self.mesh.signed()
        given: dict[str, Any] = {
            "owner": self.mesh.owners[0],
            "agreed_toml": self.mesh.agreed_toml,
            "policy": appraisal_policy(self.mesh.manifest(), "broker"),
            "keys": tuple(self.mesh.keys.values()),
        } | changes
        done = await provision(
            self.address,
            owner=given["owner"],
            demands=Demands(agreed_toml=given["agreed_toml"], policy=given["policy"]),
            manifest=signed,
            goods=goods_of(given["keys"]),
            now=lambda: NOW,
        )
        self.mesh.in_force(signed)
        return done

    async def ask(self, role: str = "worker", **changes: object) -> Admission:
        arguments: dict[str, object] = {
            "role": role,
            "models": ("digits",),
            "agreed": self.mesh.agreed,
            "attest": self.mesh.attest(role),
            "tee": "simulated",
            "now": lambda: NOW,
        }
        address = changes.pop("address", self.address)
        return await obtain(address, **(arguments | changes))  # type: ignore[arg-type]


def service_of(
    mesh: ToyMesh, path: Path, counter: Counter | None = None, **more: object
) -> BrokerService:
    return BrokerService(
        store=Store(path, master_key=MASTER_KEY, counter=(counter or Counter()).seam),
        attest=mesh.attest("broker"),
        agreed_toml=mesh.agreed_toml,
        clock=lambda: NOW,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def mesh() -> ToyMesh:
    return ToyMesh()


@pytest.fixture
async def broker(mesh: ToyMesh, tmp_path: Path) -> AsyncIterator[Broker]:
    async with service_of(mesh, tmp_path / "broker.db") as service:
        yield Broker(mesh, service, await service.start("127.0.0.1", 0))


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def refusal(stream: FrameStream) -> Refusal:
    return wire.decode(await stream.receive(most=FRAME_BYTES), Refusal, what="refusal")


# The whole way


async def test_owner_provisions_workloads_obtain_status_tells(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    given = await broker.give()
    assert given.receipt.missing == ()
    worker, frontend = await asyncio.gather(
        broker.ask(), broker.ask("frontend", models=("digits", "faces"), names=("localhost",))
    )
    assert worker.model_key("digits", 1) == broker.mesh.keys["digits"].key
    assert worker.queue_key("digits") == frontend.queue_key("digits")
    assert worker.mesh_ca == frontend.mesh_ca == given.mesh_ca
    status = await read_status(broker.address)
    assert status.simulated
    assert status.manifest_digest == given.receipt.manifest_digest
    lines = verify_chain(status.lines, head=status.audit)
    assert {line.entry.role for line in lines if line.entry.event == "release"} == {
        "worker",
        "frontend",
    }
    logged = " ".join(str(getattr(record, "fields", "")) for record in caplog.records)
    assert broker.mesh.keys["digits"].key.reveal().hex() not in logged


async def test_a_front_ends_certificate_serves_a_plain_tls_client(broker: Broker) -> None:
    """What curl does: the CA file, the name, and no idea of our extension."""
    await broker.give()
    admission = await broker.ask("frontend", names=("localhost", "127.0.0.1"))
    context = server_context()
    load_identity(context, admission.certificate_chain_pem, admission.tls_key)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = ssl.create_default_context(cadata=admission.mesh_ca_pem.decode())
        if hasattr(ssl, "VERIFY_X509_STRICT"):
            client.verify_flags |= ssl.VERIFY_X509_STRICT
        # The toy clock is in the future of some machines and the past of others.
        client.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME
        for name in ("localhost", "127.0.0.1"):
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client, server_hostname=name
            )
            writer.close()
            await writer.wait_closed()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="evil.org")


async def test_a_new_manifest_shows_in_the_brokers_certificate_at_once(broker: Broker) -> None:
    await broker.give()
    await broker.ask()
    await broker.give(broker.mesh.signed(version=2))
    assert (await broker.ask()).manifest.manifest.version == 2


async def test_a_manifest_turns_over_between_handshake_and_request(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker's certificate is of the old one's CA: it says so, before that looks like an attack."""
    await broker.give()

    async def connect_then_turn(address: Address) -> FrameStream:
        stream = await connect(address)
        await broker.give(broker.mesh.signed(version=2))
        return stream

    with monkeypatch.context() as patch:
        patch.setattr("wardian.broker.release.client.connect", connect_then_turn)
        with pytest.raises(TransportError, match="manifest changed meanwhile: ask again") as caught:
            await broker.ask()
    assert caught.value.retryable
    assert (await broker.ask()).manifest.manifest.version == 2


async def test_a_workers_certificate_does_not_pass_for_the_brokers(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one of the manifest in force nor one of before: no evidence is sent there."""
    await broker.give()
    worker = x509.load_pem_x509_certificates((await broker.ask()).certificate_chain_pem)[0]
    raw = worker.public_bytes(serialization.Encoding.DER)
    monkeypatch.setattr(FrameStream, "peer_certificate", lambda _: raw)
    with pytest.raises(PolicyDenied) as caught:
        await broker.ask()
    assert caught.value.rule == "peer-role"
    await broker.give(broker.mesh.signed(version=2))
    with pytest.raises(AuthenticationFailed, match="issuing CA of this manifest"):
        await broker.ask()


async def test_what_is_in_force_is_asked_of_the_broker_over_tls(broker: Broker) -> None:
    await broker.give()
    admission = await broker.ask("frontend", models=("digits", "faces"))
    ask = functools.partial(ask_in_force, broker.address, admission=admission, now=lambda: NOW)
    assert not (await ask()).is_news_to(admission)
    broker.service.authority.turn_epoch(rule="owner-order")
    assert (await ask()).is_news_to(admission)
    await broker.give(broker.mesh.signed(version=2))
    news = await ask()
    assert (news.manifest_version, news.epoch) == (2, 3)
    again = await broker.ask("frontend", models=("digits",), renewal=True)
    assert not news.is_news_to(again)


async def test_a_host_that_ends_tls_cannot_say_what_is_in_force(broker: Broker) -> None:
    await broker.give()
    admission = await broker.ask("frontend")
    async with Middle(broker.address, lambda _, raw: raw) as address:
        with pytest.raises(AuthenticationFailed, match="not signed by the issuing CA"):
            await ask_in_force(address, admission=admission, now=lambda: NOW)


async def test_t21_a_process_that_was_withdrawn_hears_it_from_the_broker_alone(
    broker: Broker,
) -> None:
    """In place of message 4; who ends TLS in between cannot say it, whatever it passes on."""
    await broker.give()
    await broker.ask()
    other = {"worker": RoleReference(measurements=(digest("another").hex(),))}
    roles = dict(broker.mesh.manifest().roles) | other
    await broker.give(broker.mesh.signed(version=2, roles=roles))
    with pytest.raises(AdmissionRefused) as caught:
        await broker.ask(renewal=True)
    assert caught.value.rule == "MeasurementIn"
    async with Middle(broker.address, lambda _, raw: raw) as address:
        with pytest.raises(AuthenticationFailed):
            await broker.ask(renewal=True, address=address)

    def refuse(_: int, __: bytes) -> bytes:
        return wire.encode(Refusal(code="denied", rule="MeasurementIn", message="go away"))

    async with Middle(broker.address, refuse) as address:
        with pytest.raises(PolicyDenied) as forged:
            await broker.ask(renewal=True, address=address)
    assert not isinstance(forged.value, AdmissionRefused)


# Refusals, as people read them


async def test_before_the_owners_came_there_is_nothing_to_have(broker: Broker) -> None:
    with pytest.raises(TransportError, match="no mesh manifest yet") as caught:
        await broker.ask()
    assert caught.value.retryable


async def test_an_unknown_worker_is_refused_with_the_rule_and_audited(broker: Broker) -> None:
    await broker.give()
    trojan = broker.mesh.attest("worker", measurement=digest("one byte changed"))
    with pytest.raises(PolicyDenied, match=r"measurement [0-9a-f]{64} is not one") as caught:
        await broker.ask(attest=trojan)
    assert caught.value.rule == "MeasurementIn"
    status = await read_status(broker.address)
    last = verify_chain(status.lines, head=status.audit)[-1].entry
    assert (last.event, last.outcome, last.rule) == ("refusal", "refused", "MeasurementIn")


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ({"debug": True}, EvidenceInvalid, "debug"),
        ({"platform": OTHER_PLATFORM}, PolicyDenied, "SIMULATED"),
    ],
    ids=["debug", "other simulation"],
)
async def test_other_evidence_is_refused(
    broker: Broker, how: dict[str, object], error: type[Exception], text: str
) -> None:
    await broker.give()
    with pytest.raises(error, match=f"the broker refuses: .*{text}"):
        await broker.ask(attest=broker.mesh.attest("worker", **how))  # type: ignore[arg-type]


async def test_evidence_recorded_in_an_earlier_release_is_refused(broker: Broker) -> None:
    await broker.give()
    recorded: list[Evidence] = []

    def record(report_data: bytes) -> Evidence:
        recorded.append(broker.mesh.attest("worker")(report_data))
        return recorded[0]

    await broker.ask(attest=record)
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        await broker.ask(attest=record)


async def test_roles_and_models_that_nobody_may_have(broker: Broker) -> None:
    await broker.give()
    for changes, rule in (
        ({"models": ("digits", "faces")}, "models-count"),
        ({"models": ("other",)}, "model-known"),
        ({"names": ("localhost",)}, "names"),
    ):
        with pytest.raises(PolicyDenied) as caught:
            await broker.ask(**changes)  # type: ignore[arg-type]
        assert caught.value.rule == rule
    with pytest.raises(PolicyDenied, match="is not one"):
        await broker.ask("frontend", attest=broker.mesh.attest("worker"))


async def test_owners_refusals(broker: Broker) -> None:
    await broker.give()
    stranger = SigningKey.generate()
    with pytest.raises(PolicyDenied, match="not an owner") as caught:
        await broker.give(owner=stranger)
    assert caught.value.rule == "owner-known"
    with pytest.raises(PolicyDenied, match="versions only grow"):
        await broker.give(broker.mesh.signed(models=()), keys=())
    with pytest.raises(PolicyDenied, match=r"another wardian\.toml"):
        await broker.give(agreed_toml=broker.mesh.agreed_toml + b"#")


async def test_t11_a_manifest_that_does_not_accept_this_broker_is_refused(broker: Broker) -> None:
    """Hardware only, or another broker's measurement: it must not come into force."""
    policy = appraisal_policy(broker.mesh.manifest(), "broker")
    hardware = TrustAnchor(
        simulation_root_sha256=None,
        tcb_statuses=("UpToDate",),
        advisories=(),
        any_platform="risk accepted",
    )
    with pytest.raises(PolicyDenied, match="SIMULATED"):
        await broker.give(broker.mesh.signed(trust=hardware), policy=policy)
    roles = dict(broker.mesh.manifest().roles)
    roles["broker"] = type(roles["broker"])(measurements=("11" * 32,))
    with pytest.raises(PolicyDenied, match="is not one"):
        await broker.give(broker.mesh.signed(roles=roles), policy=policy)
    assert (await read_status(broker.address)).manifest_version == 0


# A host in the middle


class Middle:
    """Ends TLS with a key of its own and passes frames on, changed or not; counts them."""

    def __init__(self, to: Address, change: Callable[[int, bytes], bytes]) -> None:
        self.to, self.change, self.seen = to, change, 0

    async def __aenter__(self) -> Address:
        import datetime as dt

        from cryptography.hazmat.primitives import hashes

        key, name = TlsKey.generate(), x509.Name([])
        own = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .serial_number(1)
            .public_key(key.private_key.public_key())
            .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
            .not_valid_after(dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
            .sign(key.private_key, hashes.SHA256())
        )
        context = server_context()
        load_identity(context, own.public_bytes(serialization.Encoding.PEM), key)
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(
            lambda: FrameStream(self.begin), "127.0.0.1", 0, ssl=context
        )
        return self.server.sockets[0].getsockname()[:2]

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()

    def begin(self, near: FrameStream) -> None:
        self.relaying = asyncio.create_task(self.relay(near))

    async def relay(self, near: FrameStream) -> None:
        far = await connect(self.to)
        try:
            while True:
                await far.send(await near.receive(most=FRAME_BYTES))
                self.seen += 1
                answer = await far.receive(most=FRAME_BYTES)
                await near.send(self.change(self.seen, answer))
        except (ConnectionLost, PeerProtocolError):
            pass
        finally:
            await far.close()
            await near.close()


async def test_a_host_that_ends_tls_gets_no_evidence_of_the_workload(broker: Broker) -> None:
    await broker.give()
    middle = Middle(broker.address, lambda _, raw: raw)
    async with middle as address:
        with pytest.raises(AuthenticationFailed, match="not signed by the issuing CA"):
            await broker.ask(address=address)
    assert middle.seen == 1  # message 3 was never sent


async def test_a_relayed_challenge_that_was_changed(broker: Broker) -> None:
    await broker.give()

    def change(_: int, raw: bytes) -> bytes:
        message = wire.decode(raw, Challenge, what="x")
        return wire.encode(msgspec.structs.replace(message, nonce=bytes(32)))

    async with Middle(broker.address, change) as address:
        with pytest.raises(EvidenceInvalid, match="made for something else"):
            await broker.ask(address=address)


# Strangers


async def test_garbage_and_unknown_fields_are_malformed(broker: Broker) -> None:
    good = wire.encode(Request(role="worker", tee="x", models=("digits",), nonce=bytes(32)))
    for raw in (
        b"garbage",
        b"{}",
        b'{"format":"wardian release request v9"}',
        b"\x00" * 100,
        good[:-1] + b',"debug":true}',
        good.replace(b"worker", b"Worker"),
        good + good,
    ):
        stream = await connect(broker.address)
        await stream.send(raw)
        assert (await refusal(stream)).code == "malformed"
        await stream.close()


@pytest.mark.parametrize("length", [0, FIRST_FRAME_BYTES + 1, 2**32 - 1])
async def test_a_frame_of_absurd_length_is_not_read(broker: Broker, length: int) -> None:
    stream = await connect(broker.address)
    stream._transport.write(struct.pack(">I", length))
    assert "bytes; 1 to" in (await refusal(stream)).message
    with pytest.raises(ConnectionLost):
        await stream.receive(most=10)
    await stream.close()


async def test_a_message_out_of_turn_is_refused(broker: Broker) -> None:
    """Message 1 twice: the second stands where message 3 is due."""
    await broker.give()
    stream = await connect(broker.address)
    request = Request(role="worker", tee="x", models=("digits",), nonce=bytes(32))
    await stream.send(wire.encode(request))
    await stream.receive(most=FRAME_BYTES)
    await stream.send(wire.encode(request))
    assert (await refusal(stream)).code == "malformed"
    await stream.close()


async def lines(broker: Broker) -> list[AuditLine]:
    status = await read_status(broker.address, after=0)
    return list(verify_chain(status.lines, head=status.audit))


async def test_a_slow_peer_is_cut_off(mesh: ToyMesh, tmp_path: Path) -> None:
    """Half a header, and then nothing: 5 s for the first message, shorter here."""
    limits = ServiceLimits(first_message_s=0.2)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        stream = await connect(await service.start("127.0.0.1", 0))
        stream._transport.write(b"\x00\x00")
        assert (await refusal(stream)).code == "stale"
        with pytest.raises(ConnectionLost):
            await stream.receive(most=10)
        await stream.close()


async def test_a_connection_ends_when_its_time_is_over(mesh: ToyMesh, tmp_path: Path) -> None:
    limits = ServiceLimits(connection_s=0.3)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        stream = await connect(await service.start("127.0.0.1", 0))
        with pytest.raises(ConnectionLost):
            await stream.receive(most=10)
        await stream.close()


async def test_64_idle_connections_do_not_starve_a_workload(broker: Broker) -> None:
    await broker.give()
    idle = [await connect(broker.address) for _ in range(64)]
    async with asyncio.timeout(4):  # less than the 5 s after which the idle ones are cut off
        await broker.ask()
    assert len(broker.service._doorway._places._held) <= ServiceLimits().connections_per_peer
    with pytest.raises(ConnectionLost):
        await idle[0].receive(most=10)
    for stream in idle:
        await stream.close()


async def test_who_presented_something_does_not_give_way(mesh: ToyMesh, tmp_path: Path) -> None:
    limits = ServiceLimits(connections=1, connections_per_peer=1)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        address = await service.start("127.0.0.1", 0)
        stream = await connect(address)
        await eventually(lambda: len(service._doorway._places._held) == 1)
        service._doorway._places._held[0].firm = True
        asked = asyncio.ensure_future(read_status(address))
        await eventually(lambda: len(service._doorway._places._waiting) == 1)
        await asyncio.sleep(2 * GRACE_S)
        assert not asked.done()
        await stream.close()
        assert (await asked).manifest_version == 0


async def test_a_crowd_that_starts_at_once_is_served_in_order(broker: Broker) -> None:
    """More than there are places, from one address, and nobody has to ask twice."""
    await broker.give()
    admissions = await asyncio.gather(*(broker.ask() for _ in range(80)))
    assert len({each.certificate_digest for each in admissions}) == 80


async def test_bad_evidence_is_audited_even_if_its_sender_crowds_itself_out(
    mesh: ToyMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newcomers of the same peer do not cut off the one whose evidence is being judged."""
    limits = ServiceLimits(connections_per_peer=1)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        await broker.give()
        judge, judging, go_on = verify_evidence, threading.Event(), threading.Event()

        def slowly(*arguments: object, **more: object) -> object:
            judging.set()
            go_on.wait(10)
            return judge(*arguments, **more)  # type: ignore[arg-type]

        monkeypatch.setattr("wardian.broker.desk.verify_evidence", slowly)
        trojan = broker.mesh.attest("worker", measurement=digest("trojan"))
        asked = asyncio.ensure_future(broker.ask(attest=trojan))
        await eventually(judging.is_set)
        newcomer = asyncio.ensure_future(read_status(broker.address))
        await asyncio.sleep(2 * GRACE_S)
        assert not newcomer.done()  # it waits, whatever it may cost
        go_on.set()
        await newcomer
        with pytest.raises(PolicyDenied):
            await asked
        await eventually(lambda: not service._doorway._serving)
        assert (await lines(broker))[-1].entry.rule == "MeasurementIn"


async def test_impossible_requests_take_no_quote_and_few_lines(
    mesh: ToyMesh, tmp_path: Path
) -> None:
    """One frame each, from anybody: neither the quotes nor the disk is theirs to use up."""
    limits = ServiceLimits(quotes_per_s=0.001, quote_burst=2, line_burst=3, lines_per_s=0)
    path, counter = tmp_path / "b.db", Counter()
    async with service_of(mesh, path, limits=limits, counter=counter) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        await broker.give()
        before = service._store.audit_head.count
        for _ in range(20):
            with pytest.raises(PolicyDenied) as caught:
                await broker.ask(models=("other",))
            assert caught.value.rule == "model-known"
        assert service._store.audit_head.count == before + 3
        await broker.ask()  # the second quote is still there
    store = Store(path, master_key=MASTER_KEY, counter=counter.seam)
    last = wire.decode(store.audit_lines(after=store.audit_head.count - 1)[0], AuditLine, what="x")
    assert (last.entry.rule, last.entry.count) == ("left-out", 17)
    store.close()


async def test_what_was_left_out_is_written_when_the_bucket_refills(
    mesh: ToyMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.broker.service.SETTLE_S", 0.01)
    ticks = [0.0]
    limits = ServiceLimits(line_burst=1, lines_per_s=0.1)
    async with service_of(
        mesh, tmp_path / "b.db", limits=limits, ticks=lambda: ticks[0]
    ) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        await broker.give()
        for _ in range(4):
            with pytest.raises(PolicyDenied):
                await broker.ask(models=("other",))
        await asyncio.sleep(0.05)
        assert (await lines(broker))[-1].entry.rule == "model-known"
        ticks[0] += 10
        count = service._store.audit_head.count
        await eventually(lambda: service._store.audit_head.count == count + 1)
        assert (await lines(broker))[-1].entry.count == 3


async def test_a_line_of_what_was_left_out_that_cannot_be_written(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    def killed(_: int) -> None:
        raise OSError("the launcher is gone")

    counter = broker.service._store._counter
    broker.service._store._counter = dataclasses.replace(counter, advance=killed)
    broker.service._unasked(functools.partial(broker.service._write_left_out, 3))
    assert not broker.service._store.usable
    assert broker.service.in_doubt.is_set()
    assert "broker.bug" in [record.getMessage() for record in caplog.records]


async def test_what_was_left_out_is_not_forgotten_while_the_counter_is_away(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    def away() -> int:
        raise CounterUnavailable("1 of 3 peers answer")

    service = broker.service
    counter, office = service._store._counter, service._office
    office.lines.close()
    service._store._counter = dataclasses.replace(counter, read=away)
    service._unasked(functools.partial(service._write_left_out, 500))
    assert not service.in_doubt.is_set()
    assert "broker.counter-awaited" in [record.getMessage() for record in caplog.records]
    service._store._counter = counter
    service._unasked(functools.partial(service._write_left_out, office.lines.close()))
    assert (await lines(broker))[-1].entry.count == 500


async def test_statuses_are_rationed(mesh: ToyMesh, tmp_path: Path) -> None:
    limits = ServiceLimits(statuses_per_s=0.001, status_burst=1)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        address = await service.start("127.0.0.1", 0)
        await read_status(address)
        with pytest.raises(TransportError, match="more status") as caught:
            await read_status(address)
        assert caught.value.retryable


async def test_refusals_do_not_fill_the_log(
    mesh: ToyMesh, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = ServiceLimits(logs_per_s=0.001, log_burst=2)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        address = await service.start("127.0.0.1", 0)
        for _ in range(4):
            stream = await connect(address)
            await stream.send(b"garbage")
            await refusal(stream)
            await stream.close()
    told = [record for record in caplog.records if record.getMessage() == "broker.refused"]
    assert [record.levelname for record in told if record.levelno >= logging.INFO] == (
        ["WARNING"] * 2
    )


async def test_a_request_of_version_8_is_refused_and_audited(broker: Broker) -> None:
    """A certificate request that `cryptography` refuses in its own way, after a challenge."""
    await broker.give()
    workload = broker.mesh.workload()
    stream = await connect(broker.address)
    await stream.send(workload.request(tee="simulated"))
    challenge = await stream.receive(most=FRAME_BYTES)
    evidence = broker.mesh.attest("worker")(workload.receive_challenge(challenge, now=NOW))
    good = wire.decode(workload.attestation(evidence), Attestation, what="x")
    csr = good.csr.replace(bytes.fromhex("020100"), bytes.fromhex("020107"), 1)
    await stream.send(wire.encode(msgspec.structs.replace(good, csr=csr)))
    assert (await refusal(stream)).code == "malformed"
    await stream.close()
    assert (await lines(broker))[-1].entry.rule == "FormatError"


async def test_a_bug_in_a_release_or_a_visit_is_audited_and_told(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.give()

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("with a secret in its text")

    with monkeypatch.context() as patch:
        patch.setattr("wardian.broker.desk.verify_evidence", fail)
        for visit, role in ((broker.ask, "worker"), (broker.give, "owner")):
            with pytest.raises(TransportError, match="its log says why") as caught:
                await visit()
            assert not isinstance(caught.value, ConnectionLost)
            last = (await lines(broker))[-1].entry
            assert (last.outcome, last.rule, last.role) == ("refused", "bug", role)
    assert "secret" not in caplog.text
    assert "broker.bug" in [record.getMessage() for record in caplog.records]
    await broker.ask()


async def test_a_peer_that_never_speaks_tls_holds_no_place_for_long(
    mesh: ToyMesh, tmp_path: Path
) -> None:
    limits = ServiceLimits(connections=1, connections_per_peer=1)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        address = await service.start("127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*address)
        assert (await read_status(address)).manifest_version == 0
        writer.close()


async def test_quotes_are_rationed(mesh: ToyMesh, tmp_path: Path) -> None:
    limits = ServiceLimits(quotes_per_s=0.001, quote_burst=2)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        await broker.give()
        await broker.ask()
        with pytest.raises(TransportError, match="more evidence than it can make") as caught:
            await broker.ask()
        assert caught.value.retryable
        with pytest.raises(TransportError, match="more evidence"):
            await broker.give()


async def test_those_who_say_to_be_owners_are_counted(mesh: ToyMesh, tmp_path: Path) -> None:
    async with service_of(mesh, tmp_path / "b.db", limits=ServiceLimits(owners=1)) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        stream = await connect(broker.address)
        hello = OwnerHello(owner=mesh.owners[0].public.hex(), nonce=bytes(32))
        await stream.send(wire.encode(hello))
        await stream.receive(most=FRAME_BYTES)
        with pytest.raises(TransportError, match="as many owners"):
            await broker.give()
        await stream.close()


async def test_t21_idle_visits_of_one_address_keep_no_owner_out(
    mesh: ToyMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = iter(["stranger", "stranger", "owner"])
    monkeypatch.setattr("wardian.broker.doorway.peer_of", lambda _: next(peers))
    async with service_of(mesh, tmp_path / "b.db", limits=ServiceLimits(owners=2)) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        held = [await connect(broker.address) for _ in range(2)]
        for stream in held:
            hello = OwnerHello(owner=mesh.owners[0].public.hex(), nonce=bytes(32))
            await stream.send(wire.encode(hello))
            await stream.receive(most=FRAME_BYTES)
        await broker.give()
        with pytest.raises(ConnectionLost):
            await held[0].receive(most=FRAME_BYTES, timeout_s=5)
        await eventually(lambda: len(service._doorway._serving) == 1)  # the other one, still idle
        for stream in held:
            await stream.close()


async def test_a_connection_that_gives_way_before_its_first_step_leaves_nothing_behind(
    mesh: ToyMesh, tmp_path: Path
) -> None:
    """As when a commit on a slow disk holds the loop up between its seat and its first step."""
    now, limits = 0.0, ServiceLimits(connections_per_peer=1)
    path = tmp_path / "b.db"
    async with service_of(mesh, path, limits=limits, ticks=lambda: now) as service:
        address = await service.start("127.0.0.1", 0)
        pairs = [socket.socketpair() for _ in range(2)]
        for ours, _ in pairs:
            place = Place(peer="stranger")
            service._doorway._places.arrive(place)
            service._doorway._waiting[place] = ours
            service._doorway._seat()
            now += 2 * GRACE_S
        for _, theirs in pairs:
            theirs.close()
        await eventually(lambda: not service._doorway._serving)
        assert pairs[0][0].fileno() == -1
        assert not service._doorway._waiting
        with pytest.raises(TransportError, match="no mesh manifest"):
            await Broker(mesh, service, address).ask()


async def test_t24_whose_crowd_fills_the_line_makes_room_for_another(
    mesh: ToyMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = iter(["stranger"] * 3 + ["auditor"])
    monkeypatch.setattr("wardian.broker.doorway.peer_of", lambda _: next(peers))
    limits = ServiceLimits(connections=1, connections_per_peer=1, waiting=2, waiting_per_peer=2)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        address = await service.start("127.0.0.1", 0)
        crowd = [await asyncio.open_connection(*address) for _ in range(3)]
        await eventually(lambda: len(service._doorway._waiting) == 2)
        await read_status(address)
        for _, writer in crowd:
            writer.close()


async def test_who_finds_the_line_full_is_sent_away_at_once(
    mesh: ToyMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told by the end of the connection, and holds no descriptor of the broker's."""
    limits = ServiceLimits(connections=1, connections_per_peer=1, waiting=1, waiting_per_peer=1)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        address = await service.start("127.0.0.1", 0)
        served, waiting = [await asyncio.open_connection(*address) for _ in range(2)]
        await eventually(lambda: len(service._doorway._waiting) == 1)
        reader, writer = await asyncio.open_connection(*address)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert len(service._doorway._waiting) == 1
        for _, each in (served, waiting, (reader, writer)):
            each.close()


async def test_who_waits_when_the_broker_stops_is_cut_off(mesh: ToyMesh, tmp_path: Path) -> None:
    limits = ServiceLimits(connections=1, connections_per_peer=1)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        address = await service.start("127.0.0.1", 0)
        served, waits = [await asyncio.open_connection(*address) for _ in range(2)]
        await eventually(lambda: len(service._doorway._waiting) == 1)
        await service.aclose()
    for reader, writer in (served, waits):
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


class Shelf(NoCollateral):
    """A source whose collateral is refreshed, or cannot be."""

    def __init__(self) -> None:
        self.refreshed: list[int] = []

    def refresh(self, now: int) -> None:
        self.refreshed.append(now)


async def test_collateral_is_refreshed_while_nobody_asks(
    mesh: ToyMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.broker.service.COLLATERAL_S", 0.01)
    shelf = Shelf()
    async with service_of(mesh, tmp_path / "b.db", collateral=shelf) as service:
        await service.start("127.0.0.1", 0)
        await eventually(lambda: len(shelf.refreshed) >= 2)
    assert set(shelf.refreshed) == {NOW}


async def test_what_fails_unasked_and_changes_nothing_is_tried_again(
    mesh: ToyMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk: the line is not written, the state is in no doubt, and the broker goes on."""
    monkeypatch.setattr("wardian.broker.service.SETTLE_S", 0.01)
    failures, turned = [SealError("database or disk is full")], list[str]()

    def turn(*, rule: str) -> None:
        if failures:
            raise failures.pop()
        turned.append(rule)

    async with service_of(mesh, tmp_path / "b.db") as service:
        await service.start("127.0.0.1", 0)
        monkeypatch.setattr(type(service._epoch_age), "over", lambda *_, **__: True)
        monkeypatch.setattr(type(service.authority), "turn_epoch", lambda _, **what: turn(**what))
        await eventually(lambda: len(turned) >= 1)
        assert not service.in_doubt.is_set()
        assert service._store.usable
    told = [record for record in caplog.records if record.getMessage() == "broker.bug"]
    assert [record.fields["error"] for record in told] == ["SealError"]


async def test_a_bug_stays_in_its_connection(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("with a secret in its text")

    with monkeypatch.context() as patch:
        patch.setattr("wardian.broker.status_desk.tell_status", fail)
        with pytest.raises(TransportError, match="its log says why"):
            await read_status(broker.address)
    assert "broker.bug" in [r.getMessage() for r in caplog.records]
    caplog.clear()
    with monkeypatch.context() as patch:
        patch.setattr(broker.service, "_answer", fail)
        with pytest.raises(ConnectionLost):
            await read_status(broker.address)
    await eventually(lambda: "broker.bug" in [r.getMessage() for r in caplog.records])
    assert "secret" not in caplog.text
    assert (await read_status(broker.address)).mesh == "test"


async def test_the_state_fails_and_the_peer_learns_only_that(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.give()
    broker.service._store._usable = False
    with pytest.raises(TransportError, match="its log says why"):
        await broker.ask()
    errors = [getattr(record, "fields", {}).get("error") for record in caplog.records]
    assert "SealError" in errors


async def test_a_commit_that_fails_half_way_ends_the_broker(broker: Broker) -> None:
    def killed(_: int) -> None:
        raise OSError("the launcher is gone")

    await broker.give()
    counter = broker.service._store._counter
    broker.service._store._counter = dataclasses.replace(counter, advance=killed)
    with pytest.raises(TransportError, match="its log says why"):
        await broker.ask()
    async with asyncio.timeout(10):
        await broker.service.in_doubt.wait()


async def key_shown(address: Address) -> bytes:
    """The key of the broker's certificate on a new connection."""
    stream = await connect(address)
    try:
        return spki_of(stream.peer_certificate())
    finally:
        await stream.close()


async def test_the_brokers_certificate_is_renewed_at_half_of_its_lease(
    mesh: ToyMesh, tmp_path: Path
) -> None:
    ticks = [0.0]
    async with service_of(mesh, tmp_path / "b.db", ticks=lambda: ticks[0]) as service:
        address = await service.start("127.0.0.1", 0)
        first = await key_shown(address)
        ticks[0] += 1799
        assert await key_shown(address) == first
        ticks[0] += 1
        second = await key_shown(address)
        assert second != first
        assert await key_shown(address) == second
        broker = Broker(mesh, service, address)
        await broker.give()
        assert await key_shown(address) != second  # of another issuing CA


async def test_an_epoch_does_not_grow_old(
    mesh: ToyMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.broker.service.SETTLE_S", 0.01)
    ticks = [0.0]
    async with service_of(mesh, tmp_path / "b.db", ticks=lambda: ticks[0]) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        await asyncio.sleep(0.05)
        assert service.authority.epoch == 0
        await broker.give()
        for epoch in (1, 2, 3):
            await asyncio.sleep(0.05)  # it is looked at, and is young
            assert service.authority.epoch == epoch
            ticks[0] += 86_400
            await eventually(lambda epoch=epoch: service.authority.epoch == epoch + 1)
        last = (await lines(broker))[-1].entry
        assert (last.event, last.rule, last.epoch) == ("epoch", "age", 4)
        service._store._usable = False
        ticks[0] += 86_400
        await asyncio.sleep(0.05)  # and where the state is in doubt nothing is tried


async def test_accepting_fails_and_goes_on(
    mesh: ToyMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [OSError(24, "Too many open files")]

    async def sock_accept(listening: socket.socket) -> object:
        if failures:
            raise failures.pop()
        return await accept(listening)

    monkeypatch.setattr(loop, "sock_accept", sock_accept)
    async with service_of(mesh, tmp_path / "b.db") as service:
        assert await read_status(await service.start("127.0.0.1", 0))
    assert "broker.accept" in [record.getMessage() for record in caplog.records]


# The ends of a connection


async def test_nobody_listens() -> None:
    with pytest.raises(ConnectionLost, match="no broker answers at 127.0.0.1 port 1"):
        await read_status(("127.0.0.1", 1))


async def test_a_port_that_is_taken(broker: Broker, mesh: ToyMesh, tmp_path: Path) -> None:
    async with service_of(mesh, tmp_path / "second.db") as second:
        with pytest.raises(ConfigError, match="cannot listen at 127.0.0.1 port"):
            await second.start(*broker.address)


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[Address]:
    """A server that accepts, reads nothing and says nothing until the test is over."""
    over, ended = asyncio.Event(), asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.transport.abort()
        await asyncio.sleep(0)
        ended.set()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]
        over.set()
        await ended.wait()


async def test_a_server_that_says_nothing() -> None:
    async with silent_server() as address:
        with pytest.raises(Timeout, match="did not answer"):
            await connect(address, timeout_s=0.1)


async def test_frames_time_out_and_closed_connections_say_so(broker: Broker) -> None:
    stream = await connect(broker.address)
    with pytest.raises(Timeout, match="no whole message"):
        await stream.receive(most=10, timeout_s=0.05)
    await stream.close()
    with pytest.raises((ConnectionLost, Timeout)):
        for _ in range(50):
            await stream.send(b"x" * 100_000, timeout_s=0.1)


async def test_a_peer_that_does_not_read() -> None:
    async with silent_server() as address:
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(FrameStream, *address)
        with pytest.raises(Timeout, match="did not take a message"):
            await stream.send(b"x" * 50_000_000, timeout_s=0.1)
        stream.abort()


async def test_a_status_that_is_none(broker: Broker) -> None:
    assert broker.address
    with pytest.raises(PeerProtocolError):
        decode_or_raise(b"{}", Challenge, what="challenge")
