"""Clients of the KBS protocol at a broker's own port for them: over TLS, and what strangers try."""

import asyncio
import contextlib
import http.client
import json
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from mesh import DIGITS, RunningMesh
from simulators.kbs_client import KbsError, RcarClient, TokenClient, Transport
from simulators.pccs import FakePccs

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

from toy_clerk import (
    GIVEN,
    GUEST,
    KEPT_BACK,
    NAME,
    VALUE,
    lines_of,
    offline,
    quote_of,
)
from toy_mesh import MASTER_KEY, NOW, Counter, ToyMesh

from wardian._internal import wire
from wardian._internal.agreed import Limits
from wardian._internal.clock import unix_time
from wardian.attestation.collateral.cache import CollateralCache
from wardian.attestation.collateral.signed import verify_collateral
from wardian.attestation.collateral.source import CachedCollateral
from wardian.attestation.results.ear import TrustTier
from wardian.attestation.results.ear_key import parse_ear_key, verify_ear_key
from wardian.attestation.results.ear_token import verify_ear
from wardian.broker.certificates import chain_pem, spki_of
from wardian.broker.kbs.sessions import KbsLimits
from wardian.broker.mesh.manifest import SignedManifest, manifest_digest, parse_manifest
from wardian.broker.owners.goods import goods_of
from wardian.broker.owners.offers import Offers
from wardian.broker.owners.provisioning import OpenedProvision
from wardian.broker.service import BrokerService
from wardian.broker.state.store import Store
from wardian.cli.host import free_port
from wardian.cli.state import StateDir
from wardian.errors import ConfigError
from wardian.roles import kbs as roles
from wardian.roles.host import HostSettings
from wardian.roles.kbs import HTTP_LIMITS, KbsListener, listening
from wardian.serving.http.server import Crowd
from wardian.tee import open_platform
from wardian.tee.launch.simulation import load_platform

NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: the toy clock is in the past of some machines, the future of others."""
EVERY_TIER = frozenset(TrustTier)


class Broker:
    """A broker of a toy mesh that listens for clients of the KBS protocol."""

    def __init__(self, mesh: ToyMesh, service: BrokerService, listener: KbsListener) -> None:
        self.mesh, self.service, self.listener = mesh, service, listener
        self.counter: Counter
        self.address: tuple[str, int]

    def provision(self, version: int = 1) -> None:
        authority = self.service.authority
        signed = self.mesh.signed(version=version, secrets=lines_of(self.mesh))
        offer = OpenedProvision(
            owner=self.mesh.owners[0].public.hex(),
            signed_manifest=signed,
            goods=goods_of(tuple(self.mesh.keys.values()), {GIVEN: VALUE}),
        )
        offers = Offers(authority)
        offers.accept(offer, offered=offers.verify_offer(signed))
        self.mesh.in_force(signed)

    def trust(self) -> ssl.SSLContext:
        """What a client has: the mesh CA's certificate, and any TLS library."""
        ca = chain_pem((self.service.authority.ca.certificate,)).decode()
        context = ssl.create_default_context(cadata=ca)
        if hasattr(ssl, "VERIFY_X509_STRICT"):
            context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.verify_flags |= NO_CHECK_TIME
        return context

    def transport(self, context: ssl.SSLContext | None = None) -> Transport:
        def call(method, path, headers, body):
            connection = http.client.HTTPSConnection(
                "localhost", self.address[1], context=context or self.trust(), timeout=10
            )
            with contextlib.closing(connection):
                connection.request(method, path, body=body, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()

        return call

    def client(self, measurement: bytes = GUEST, **more) -> RcarClient:
        given = {"transport": self.transport(), "quote": quote_of(measurement)} | more
        return RcarClient(**given)

    async def call(self, method: str, path: str, body: bytes = b"", **headers: str):
        call = self.transport()
        return await asyncio.to_thread(call, method, path, headers, body)

    async def connect(self, context: ssl.SSLContext | None = None):
        return await asyncio.open_connection(
            "localhost", self.address[1], ssl=context or self.trust(), server_hostname="localhost"
        )


async def refused(call, *arguments) -> KbsError:
    with pytest.raises(KbsError) as caught:
        await asyncio.to_thread(call, *arguments)
    return caught.value


@contextlib.asynccontextmanager
async def brokers(tmp_path: Path, *, active: bool = True, **more) -> AsyncIterator[Broker]:
    mesh, counter = ToyMesh(), Counter()
    offline(tmp_path / "collateral")  # what an operator brings from a machine with a network
    service = BrokerService(
        store=Store(tmp_path / "broker.db", master_key=MASTER_KEY, counter=counter.seam),
        attest=mesh.attest("broker"),
        agreed_toml=mesh.agreed_toml,
        clock=lambda: NOW,
        collateral=CachedCollateral(CollateralCache(tmp_path / "collateral")),
    )
    listener = KbsListener(names=("localhost", "127.0.0.1", "::1"), **more)
    broker = Broker(mesh, service, listener)
    broker.counter = counter
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(service)
        broker.address = await listener.start("127.0.0.1", 0)
        stack.push_async_callback(listener.aclose)
        if active:
            broker.provision()
            await stack.enter_async_context(listener.answering(service))
        yield broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with brokers(tmp_path) as running:
        yield running


# The whole way


async def test_a_client_of_trustee_attests_and_gets_what_its_owner_gives_it(broker: Broker) -> None:
    client = broker.client()
    assert await asyncio.to_thread(client.get_resource, NAME) == VALUE.reveal()
    assert client.handshakes == 1
    by_token = TokenClient(transport=broker.transport(), token=client.token, key=client.key)
    assert await asyncio.to_thread(by_token.get_resource, NAME) == VALUE.reveal()


async def test_a_relying_party_verifies_a_token_by_the_mesh_ca_alone(broker: Broker) -> None:
    client = broker.client()
    token = await asyncio.to_thread(client.get_token)
    status, _, body = await broker.call("GET", "/v1/attestation-result/keys")
    assert status == 200
    authority = broker.service.authority
    key = verify_ear_key(
        parse_ear_key(json.dumps(json.loads(body)["statement"]).encode()),
        ca_spki=spki_of(authority.ca.certificate),
        issuer="wardian:mesh:test",
        manifest_digest=authority.manifest_digest,
        now=NOW,
    )
    found = verify_ear(
        token,
        key=key,
        issuer="wardian:mesh:test",
        audience="wardian:broker:test",
        policy_id=authority.manifest_digest.hex(),
        now=NOW,
        nonce=None,
        accepted=EVERY_TIER,
    )
    assert found.ear_status is TrustTier.CONTRAINDICATED  # a simulation, and it says so
    assert found.appraisal.ear_verifier_claims["runtime_data"]["tee-pubkey"] == client.key.public()


async def test_many_clients_at_once(broker: Broker) -> None:
    clients = [broker.client() for _ in range(4)]
    found = await asyncio.gather(
        *(asyncio.to_thread(client.get_resource, NAME) for client in clients)
    )
    assert found == [VALUE.reveal()] * 4


# Who is refused


async def test_without_consent_it_is_denied_and_what_can_have_no_name_is_not_there(
    broker: Broker,
) -> None:
    client = broker.client()
    for name in (KEPT_BACK, "nowhere"):
        error = await refused(client.get_resource, f"default/secret/{name}")
        assert (error.status, error.type.rpartition("/")[2]) == (403, "PolicyDeny")
    error = await refused(client.get_resource, f"default/key/{GIVEN}")
    assert (error.status, error.type.rpartition("/")[2]) == (404, "InvalidRequestPath")


async def test_an_answer_serves_once_and_in_its_own_session(broker: Broker) -> None:
    client = broker.client()
    attestation = client.attestation(await asyncio.to_thread(client.challenge))
    await asyncio.to_thread(client.attest, attestation)
    assert (await refused(client.attest, attestation)).status == 401
    thief = broker.client(key=client.key)
    await asyncio.to_thread(thief.challenge)
    error = await refused(thief.attest, attestation)
    assert error.status == 401
    assert "another challenge" in error.detail


async def test_who_only_heard_the_exchange_cannot_read_it(broker: Broker) -> None:
    """The session's name opens nothing: the answer is sealed to the key in the evidence."""
    client = broker.client()
    await asyncio.to_thread(client.get_token)
    thief = broker.client(cookies=dict(client.cookies))
    status, body = await asyncio.to_thread(thief.call, "GET", f"/kbs/v0/resource/{NAME}")
    assert status == 200
    with pytest.raises(Exception, match=r".*") as caught:
        thief.key.decrypt_response(body)
    assert type(caught.value).__name__ == "InvalidUnwrap"
    assert client.key.decrypt_response(body) == VALUE.reveal()


# Strangers


async def test_what_is_too_large(broker: Broker) -> None:
    status, _, _ = await broker.call("POST", "/kbs/v0/auth", b" " * (16 * 1024 + 1))
    assert status == 413
    reader, writer = await broker.connect()
    writer.write(b"POST /kbs/v0/attest HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
    assert b" 413 " in await reader.readline()  # before a byte of it was sent
    writer.close()
    status, _, body = await broker.call("GET", "/" + "x" * 2000)
    assert (status, json.loads(body)["type"]) == (414, "about:blank")


async def test_who_is_slow(tmp_path: Path) -> None:
    limits = Limits(
        max_body_bytes=HTTP_LIMITS.max_body_bytes, header_timeout_s=0.3, body_timeout_s=0.3
    )
    async with brokers(tmp_path, http=limits) as broker:
        for begun in (
            b"POST /kbs/v0/auth HTTP/1.1\r\nHost:",
            b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
        ):
            reader, writer = await broker.connect()
            writer.write(begun)
            async with asyncio.timeout(5):
                assert b" 408 " in await reader.readline()
            writer.close()
        assert (await broker.call("GET", "/openapi.json"))[0] == 200


async def test_who_says_nothing_in_the_handshake(tmp_path: Path) -> None:
    limits = Limits(max_body_bytes=HTTP_LIMITS.max_body_bytes, header_timeout_s=0.3)
    async with brokers(tmp_path, http=limits) as broker:
        reader, writer = await asyncio.open_connection(*broker.address)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_one_address_cannot_take_every_place(tmp_path: Path) -> None:
    """Its own idle connections give way to its next; while none is idle, the next one is closed."""
    async with brokers(tmp_path, crowd=Crowd(most=2, of=str)) as broker:
        busy = [await broker.connect() for _ in range(2)]
        for _, writer in busy:
            writer.write(b"POST /kbs/v0/auth HTTP/1.1\r\n")
            await writer.drain()
        await asyncio.sleep(0.1)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await broker.connect()
        for reader, writer in busy:
            writer.write(b"Host: x\r\nContent-Length: 0\r\n\r\n")
            assert b" 400 " in await reader.readline()
        assert (await broker.call("GET", "/openapi.json"))[0] == 200
        for _, writer in busy:
            writer.close()
        for _ in range(4):  # who has left takes no place
            assert (await broker.call("GET", "/openapi.json"))[0] == 200
        crowds = broker.listener._server._crowds
        async with asyncio.timeout(5):
            while crowds:  # and is not remembered
                await asyncio.sleep(0.01)


async def test_one_address_asks_so_often(tmp_path: Path) -> None:
    async with brokers(tmp_path, limits=KbsLimits(requests_per_s=0.01, request_burst=2)) as broker:
        answers = [await broker.call("GET", "/openapi.json") for _ in range(3)]
        assert [status for status, _, _ in answers] == [200, 200, 429]
        assert dict(answers[2][1])["Retry-After"]


async def test_an_older_tls_is_not_spoken(broker: Broker) -> None:
    context = broker.trust()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await broker.connect(context)


async def test_what_is_no_http(broker: Broker) -> None:
    """A workload of ours, say, that a host sent to the wrong port."""
    reader, writer = await broker.connect()
    writer.write(b"\x00\x00\x00\x10" + bytes(16))
    assert b" 400 " in await reader.readline()
    writer.close()


# Who the broker is


async def test_its_certificate_has_its_names_and_no_other(broker: Broker) -> None:
    _, writer = await broker.connect()
    raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    names = x509.load_der_x509_certificate(raw).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
    writer.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(
            "localhost", broker.address[1], ssl=broker.trust(), server_hostname="kbs.example"
        )


async def test_a_new_manifest_shows_at_once(broker: Broker) -> None:
    """Its issuing CA is another, sessions are over, and idle connections have ended."""
    reader, writer = await broker.connect()
    client = broker.client()
    await asyncio.to_thread(client.get_token)
    old = broker.service.authority.issuer.certificate
    broker.provision(version=2)
    by_token = TokenClient(transport=broker.transport(), token=client.token, key=client.key)
    assert (await refused(by_token.get_resource, NAME)).status == 401
    async with asyncio.timeout(3):  # less than an idle connection has
        assert await reader.read() == b""
    writer.close()
    assert broker.service.authority.issuer.certificate != old
    _, writer = await broker.connect()
    own = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    shown = x509.load_der_x509_certificate(own)
    issuing = x509.load_der_x509_certificate(broker.service.authority.issuer.certificate)
    shown.verify_directly_issued_by(issuing)


async def test_a_certificate_is_renewed_while_half_of_it_is_left(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(roles, "LOOK_S", 0.05)
    async with brokers(tmp_path) as broker:

        async def shown() -> bytes:
            _, writer = await broker.connect()
            raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return raw

        first = await shown()
        await asyncio.sleep(0.2)
        assert await shown() == first
        ticks = broker.service.office.ticks
        half = broker.service.authority.lease_s / 2 + 1
        monkeypatch.setattr(broker.service.office, "ticks", lambda: ticks() + half)
        await asyncio.sleep(0.2)
        assert await shown() != first


async def test_a_renewal_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of the certificate's life is left for that."""
    monkeypatch.setattr(roles, "LOOK_S", 0.05)
    async with brokers(tmp_path) as broker:
        with monkeypatch.context() as failing:
            failing.setattr(KbsListener, "_renew", lambda *_: 1 / 0)
            await asyncio.sleep(0.2)
            assert (await broker.call("GET", "/openapi.json"))[0] == 200
        assert caplog.text.count("kbs.bug") >= 2
        broker.provision(version=2)
        async with asyncio.timeout(5):
            while broker.listener._issuer != broker.service.authority.issuer.certificate:
                await asyncio.sleep(0.01)


# Where there is nothing to answer with


async def test_a_broker_that_stands_by_says_so(tmp_path: Path) -> None:
    async with brokers(tmp_path, active=False) as broker:
        with pytest.raises(ssl.SSLCertVerificationError):  # it has no certificate of the mesh
            await broker.connect()
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        for method, path in (("POST", "/kbs/v0/auth"), ("GET", "/openapi.json")):
            call = broker.transport(anybody)
            status, headers, body = await asyncio.to_thread(call, method, path, {}, b"")
            assert status == 503
            assert dict(headers)["Retry-After"]
            told = json.loads(body)
            assert (told["type"], told["detail"]) == (
                "about:blank",
                "this broker stands by: ask the active one",
            )
        reader, writer = await broker.connect(anybody)
        broker.provision()
        async with broker.listener.answering(broker.service):
            async with asyncio.timeout(3):
                assert await reader.read() == b""  # connections of before have ended
            client = broker.client()
            assert await asyncio.to_thread(client.get_resource, NAME) == VALUE.reveal()
        writer.close()


async def test_a_state_that_cannot_be_used_ends_the_service(broker: Broker) -> None:
    client = broker.client()
    await asyncio.to_thread(client.get_token)
    broker.counter.fails = True
    error = await refused(client.get_resource, NAME)
    assert error.status == 503
    assert broker.service.in_doubt.is_set()


async def test_no_port_is_opened_unless_one_is_named() -> None:
    async with listening(None, HostSettings()) as answering, answering(None):
        pass


@pytest.mark.parametrize("names", [(), ("not a name",), ("x.example",) * 17])
async def test_names_that_no_certificate_gets(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="names"):
        KbsListener(names=names)


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listener = KbsListener(names=("localhost",))
        with pytest.raises(ConfigError, match=r"operator\.toml"):
            await listener.start("127.0.0.1", taken.getsockname()[1])


# In the broker's own process, measured and confined


async def test_a_measured_broker_serves_them_where_its_operator_says(tmp_path: Path) -> None:
    state, port = StateDir.open(tmp_path / "state"), free_port(["127.0.0.1"])
    example, cache = tmp_path / "digits", tmp_path / "collateral"
    shutil.copytree(DIGITS, example)
    (example / "operator.toml").write_text(
        f'[broker]\nkbs_port = {port}\n[collateral]\ncache = "{cache}"\n', encoding="utf-8"
    )
    mesh = RunningMesh(state=state.root, example=example)
    await asyncio.to_thread(mesh.start)
    try:
        platform = load_platform(state.simulation)
        signed = wire.decode(state.manifest.read_bytes(), SignedManifest, what="manifest")
        (worker,) = parse_manifest(signed).roles["worker"].measurements
        context = ssl.create_default_context(cafile=str(mesh.ca))

        def transport(method, path, headers, body):
            connection = http.client.HTTPSConnection("localhost", port, context=context)
            with contextlib.closing(connection):
                connection.request(method, path, body=body, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()

        client = RcarClient(
            transport=transport, quote=quote_of(bytes.fromhex(worker), platform=platform)
        )
        assert (await refused(client.handshake)).status == 503  # nobody brought collateral yet
        CollateralCache(cache).add(
            verify_collateral(platform.collateral(), root_sha256=platform.root_sha256)
        )
        await asyncio.to_thread(client.handshake)
        assert (await refused(client.get_resource, NAME)).status == 403
        status, body = await asyncio.to_thread(client.call, "GET", "/v1/attestation-result/keys")
        assert status == 200
        ca = x509.load_pem_x509_certificate(mesh.ca.read_bytes())
        key = verify_ear_key(
            parse_ear_key(json.dumps(json.loads(body)["statement"]).encode()),
            ca_spki=spki_of(ca.public_bytes(Encoding.DER)),
            issuer=f"wardian:mesh:{parse_manifest(signed).mesh}",
            manifest_digest=manifest_digest(signed),
            now=unix_time(),
        )
        assert [known["kid"] for known in json.loads(body)["keys"]] == [key.thumbprint]
    finally:
        stopped = await asyncio.to_thread(mesh.stop)
    assert stopped == 0, mesh.screen
    said = [json.loads(line) for line in state.log("broker").read_text().splitlines()]
    assert [line["port"] for line in said if line["event"] == "broker.kbs-listening"] == [port]


@pytest.mark.slow
async def test_a_measured_broker_asks_the_pccs_of_its_operator(tmp_path: Path) -> None:
    """Confined to the ports of the operator's file, and without a resolver."""
    state, port = StateDir.open(tmp_path / "state"), free_port(["127.0.0.1"])
    example, cache = tmp_path / "digits", tmp_path / "collateral"
    shutil.copytree(DIGITS, example)
    platform = open_platform(state.simulation)
    with FakePccs([platform.collateral()]) as pccs:
        (example / "operator.toml").write_text(
            f'[broker]\nkbs_port = {port}\n[collateral]\npccs = "{pccs.url}"\ncache = "{cache}"\n',
            encoding="utf-8",
        )
        mesh = RunningMesh(state=state.root, example=example)
        await asyncio.to_thread(mesh.start)
        try:
            signed = wire.decode(state.manifest.read_bytes(), SignedManifest, what="manifest")
            (worker,) = parse_manifest(signed).roles["worker"].measurements
            context = ssl.create_default_context(cafile=str(mesh.ca))

            def transport(method, path, headers, body):
                connection = http.client.HTTPSConnection("localhost", port, context=context)
                with contextlib.closing(connection):
                    connection.request(method, path, body=body, headers=headers)
                    answer = connection.getresponse()
                    return answer.status, answer.getheaders(), answer.read()

            quote = quote_of(bytes.fromhex(worker), platform=platform)
            client = RcarClient(transport=transport, quote=quote)
            await asyncio.to_thread(client.handshake)
        finally:
            stopped = await asyncio.to_thread(mesh.stop)
        assert stopped == 0, mesh.screen
    assert list(cache.iterdir())  # it keeps what it fetched
