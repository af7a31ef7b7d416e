"""Tenants over real TLS: HTTP/1.1, HTTP/2, gRPC and our clients, with keys and certificates."""

import asyncio
import json
import logging
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulators.data_plane import LANES, MemoryQueue, Pipe, ToyModel, sender
from simulators.front_end import FrontEnd, digits
from simulators.http2_client import INFER, STREAM_INFER, Http2Client
from simulators.tenants import ClientAuthority, key_of, terms, verified

from wardian._internal.clock import monotonic, unix_time
from wardian._internal.metrics import Metrics
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, ConnectionLost, PolicyDenied, QueueFull, RequestError
from wardian.serving.api.tenant_api import TenantApi
from wardian.serving.client.aio import connect_async
from wardian.serving.client.credentials import ClientCertificate
from wardian.serving.client.messages import Call
from wardian.serving.client.sync import connect
from wardian.serving.dispatch import Dispatcher
from wardian.serving.grpc import wire
from wardian.serving.http.http2.fields import build_head
from wardian.serving.http.messages import HttpRequest, HttpResponse
from wardian.serving.loadgen.payload import build_payload
from wardian.serving.tenants.lists import TenantTerms
from wardian.serving.tenants.roster import Roster

SERVICE = "/inference.GRPCInferenceService/"
PIXELS = np.random.default_rng(2).random((1, 64), dtype="f4")
ROWS = json.dumps({"instances": PIXELS.tolist()}).encode()
PREDICT = "/v1/models/digits:predict"


@contextmanager
def serving(*listed: TenantTerms) -> Iterator[FrontEnd]:
    roster = Roster(now=unix_time, monotonic=monotonic)
    roster.adopt(verified(*listed))
    with FrontEnd(roster=roster) as running:
        yield running


def adopt(front: FrontEnd, *listed: TenantTerms, serial: int) -> None:
    def swap() -> None:
        assert front.roster is not None
        front.roster.adopt(verified(*listed, serial=serial))
        front.frontend.use_tenants()

    front.call(swap)


@pytest.fixture
def front() -> Iterator[FrontEnd]:
    with serving(terms("alice", "digits", "held"), terms("bob", "echo"), terms("root")) as running:
        yield running


def bearer(name: str) -> str:
    return f"Bearer {key_of(name).decode()}"


# Keys, on every dialect


def test_a_key_over_http_1(front: FrontEnd) -> None:
    with front.raw() as client:
        for name, status in (("alice", 200), ("bob", 404), ("root", 200), ("eve", 401)):
            got = client.post(PREDICT, ROWS, {"Authorization": bearer(name)})
            assert got[0] == status
        status, headers, body = client.post(PREDICT, ROWS)
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="wardian"')
        assert json.loads(body)["code"] == "no_credentials"
        assert client.get("/v2/health/live")[0] == 200
        assert client.post(PREDICT, ROWS, {"X-Api-Key": key_of("alice").decode()})[0] == 200
    assert front.dispatcher.seen[-1]["tenant"] == "alice"


@pytest.mark.parametrize(
    "lines",
    [
        f"Authorization: {bearer('alice')}\r\nAuthorization: {bearer('bob')}\r\n",
        f"Authorization: {bearer('alice')}\r\nAuthorization: {bearer('alice')}\r\n",
        f"authorization: Basic x\r\nAUTHORIZATION: {bearer('alice')}\r\n",
        f"Authorization: {bearer('alice')}\r\nX-Api-Key: {key_of('bob').decode()}\r\n",
        f"X-Api-Key: {key_of('alice').decode()}\r\nx-api-key: {key_of('bob').decode()}\r\n",
    ],
)
def test_two_keys_are_refused_over_http_1(front: FrontEnd, lines: str) -> None:
    with front.raw() as client:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(ROWS)}\r\n{lines}\r\n"
        status, _, body = client.send(head.encode() + ROWS).response()
        assert (status, json.loads(body)["code"]) == (400, "ambiguous_credentials")


def test_a_key_in_a_trailer_is_none(front: FrontEnd) -> None:
    """What follows a body was read by nobody before it."""
    chunk = f"{len(ROWS):x}\r\n".encode() + ROWS + b"\r\n0\r\n"
    trailer = f"Authorization: {bearer('alice')}\r\n\r\n".encode()
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with front.raw() as client:
        assert client.send(head + chunk + trailer).response()[0] == 401


@pytest.mark.parametrize(
    "head", ["Content-Length: 1000000", "Transfer-Encoding: chunked", "Content-Length: 65537"]
)
def test_a_large_body_of_nobody_is_not_read(front: FrontEnd, head: str) -> None:
    """Or whoever comes could fill the memory that all bodies share."""
    for who, expected in (("eve", 401), (None, 401), ("alice", None)):
        key = "" if who is None else f"Authorization: {bearer(who)}\r\n"
        with front.raw() as client:
            client.send(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{key}{head}\r\n\r\n".encode())
            if expected is None:
                client.sock.settimeout(0.2)
                with pytest.raises(TimeoutError):  # it waits for the body
                    client.response()
            else:
                status, headers, _ = client.response()
                assert (status, headers["connection"]) == (expected, "close")
    with front.raw() as client:  # a path that is open to all takes no large body either
        line = f"POST /v2/health/live HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n"
        assert client.send(line.encode()).response()[0] == 401


def test_a_large_body_of_nobody_over_http_2(front: FrontEnd) -> None:
    with Http2Client(front) as client:
        for length in ({"content_length": "1000000"}, {}):
            number = client.request(PREDICT, b"[", end=False, **length)
            assert client.answer(number)[0] == 401
        large = b" " * 100_000 + ROWS
        assert (
            client.answer(client.request(PREDICT, large, authorization=bearer("alice")))[0] == 200
        )


def test_a_key_over_http_2(front: FrontEnd) -> None:
    with Http2Client(front) as client:
        assert client.answer(client.request(PREDICT, ROWS, authorization=bearer("alice")))[0] == 200
        assert (
            client.answer(client.request(PREDICT, ROWS, x_api_key=key_of("bob").decode()))[0] == 404
        )
        assert client.answer(client.request(PREDICT, ROWS))[0] == 401
        number, client.next_stream = client.next_stream, client.next_stream + 2
        twice = client.block(
            ("authorization", bearer("alice")), ("authorization", bearer("bob")), path="/v1/models"
        )
        client.send(len(twice).to_bytes(3, "big") + b"\x01\x05" + number.to_bytes(4, "big") + twice)
        assert client.answer(number)[0] == 400


def message(model: str) -> bytes:
    shape = b"".join(wire.varint(axis) for axis in PIXELS.shape)
    tensor = wire.field(1, b"pixels") + wire.field(2, b"FP32") + wire.field(3, shape)
    return (
        wire.field(1, model.encode()) + wire.element(5, tensor) + wire.element(7, PIXELS.tobytes())
    )


def test_a_key_over_grpc(front: FrontEnd) -> None:
    with Http2Client(front) as client:
        asked = message("digits")
        assert client.call(INFER, asked, authorization=bearer("alice"))[0] == 0
        assert client.call(INFER, asked, authorization=bearer("eve"))[0] == 16
        assert client.call(INFER, asked)[0] == 16
        assert client.call(STREAM_INFER, asked)[0] == 16
        assert client.call(SERVICE + "ServerLive")[0] == 0
        status, _, ready = client.call(SERVICE + "ServerReady")
        assert (status, ready) == (0, b"")  # "absent" has no worker
        for method in ("ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig",
                       "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"):  # fmt: skip
            assert client.call(SERVICE + method)[0] == 16


def test_over_grpc_what_is_not_allowed_is_not_there_to_the_letter(front: FrontEnd) -> None:
    with Http2Client(front) as client:
        for path, build in (
            (INFER, message),
            *((SERVICE + each, lambda name: wire.field(1, name.encode()))
              for each in ("ModelReady", "ModelMetadata", "ModelConfig")),
            (SERVICE + "RepositoryModelLoad", lambda name: wire.field(2, name.encode())),
        ):  # fmt: skip
            theirs, nobodys = (
                client.call(path, build(name), authorization=bearer("bob"))
                for name in ("digits", "nobody")
            )
            assert theirs[0] == nobodys[0] == 5
            assert theirs[1].replace("digits", "nobody") == nobodys[1]
            assert "held" not in theirs[1]
        index = client.call(SERVICE + "RepositoryIndex", authorization=bearer("bob"))[2]
        assert b"echo" in index
        assert b"digits" not in index


def test_a_stream_ends_with_its_key() -> None:
    """What began before the key was taken out is answered; nothing more begins."""
    with (
        serving(terms("alice", "digits"), terms("bob", "echo")) as front,
        Http2Client(front) as client,
    ):
        asked = message("digits")
        number = client.grpc(STREAM_INFER, asked, end=False, authorization=bearer("alice"))
        while not client.bodies.get(number):
            client.read()
        adopt(front, terms("bob", "echo"), serial=2)
        framed = b"\0" + len(asked).to_bytes(4, "big") + asked
        client.send(len(framed).to_bytes(3, "big") + b"\0\x01" + number.to_bytes(4, "big") + framed)
        _, _, body = client.answer(number)
        assert b"known by this API key" in body
        assert len([each for each in front.dispatcher.seen if each["model"] == "digits"]) == 1


# Answers


def test_pipelined_requests_of_two_tenants_get_their_own_answers(front: FrontEnd) -> None:
    """One connection, as a proxy of both would use it: in order, and each by its own key."""
    one, other = (json.dumps({"instances": np.full((1, 64), v).tolist()}).encode() for v in (1, 2))
    with front.raw() as client:
        for body, who in ((one, "alice"), (other, "root"), (one, "eve"), (other, "alice")):
            client.send(
                f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: same\r\n"
                f"Authorization: {bearer(who)}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
        answers = [client.response() for _ in range(4)]
    assert [each[0] for each in answers] == [200, 200, 401, 200]
    for (_, _, body), value in zip((answers[0], answers[1], answers[3]), (1, 2, 2), strict=True):
        expected = digits(np.full((1, 64), value, "f4"))
        np.testing.assert_allclose(json.loads(body)["predictions"], expected, rtol=1e-5)


# Our clients


def test_our_client_with_a_key(front: FrontEnd, tmp_path: Path) -> None:
    path = tmp_path / "alice.key"
    path.write_bytes(key_of("alice") + b"\n")
    path.chmod(0o600)
    for key in (Secret(key_of("alice")), path):
        with connect(front.url, policy=front.policy(), api_key=key) as client:
            got = client.infer("digits", {"pixels": PIXELS})
            np.testing.assert_allclose(got["scores"], digits(PIXELS), rtol=1e-6)
            assert [each["name"] for each in client.models()] == ["digits", "held"]
    with connect(front.url, policy=front.policy()) as client:
        with pytest.raises(RequestError) as refused:
            client.infer("digits", {"pixels": PIXELS})
        assert refused.value.status == 401
    with pytest.raises(ConfigError):
        connect(front.url, policy=front.policy(), api_key=str(path))  # type: ignore[arg-type]

    async def main() -> None:
        async with await connect_async(front.url, policy=front.policy(), api_key=path) as client:
            await client.infer("digits", {"pixels": PIXELS})

    asyncio.run(main())


def test_a_front_end_that_is_not_verified_gets_no_key(
    front: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[bytes, bytes]] = []
    handler = front.frontend._server._state.handler

    def record(request: HttpRequest, respond: Any) -> None:
        seen.append(dict(request.headers))
        handler(request, respond)

    monkeypatch.setattr(front.frontend._server._state, "handler", record)
    with pytest.raises(PolicyDenied):
        connect(front.url, policy=front.policy(manifest_digest=b"\0" * 32),
                api_key=Secret(key_of("alice")))  # fmt: skip
    assert len(seen) == 1
    assert not any(b"wardian_key_" in value for each in seen for value in each.values())
    with connect(front.url, policy=front.policy(), api_key=Secret(key_of("alice"))):
        assert b"authorization" not in seen[1]  # the question for evidence
        assert seen[2][b"authorization"].endswith(key_of("alice"))


def test_a_refusal_by_a_limit_is_a_full_queue() -> None:
    slow = terms("alice", "digits", rate_per_s=0.01, burst=2)
    with serving(slow) as front:
        key = Secret(key_of("alice"))
        with connect(front.url, policy=front.policy(), api_key=key) as client:
            client.infer("digits", {"pixels": PIXELS})
            client.infer("digits", {"pixels": PIXELS})
            with pytest.raises(QueueFull) as refused:
                client.infer("digits", {"pixels": PIXELS})
            assert 50 < refused.value.retry_after_s <= 60


# Certificates


@pytest.fixture
def authority(tmp_path: Path) -> ClientAuthority:
    return ClientAuthority(tmp_path)


@pytest.fixture
def shown(authority: ClientAuthority) -> Iterator[FrontEnd]:
    listed = terms("carol", "digits", keys=0, certificates=(authority.der,))
    with serving(listed, terms("alice", "digits")) as front:
        yield front


def ask(front: FrontEnd, certificate: ClientCertificate | None, **more: Any) -> None:
    with connect(front.url, policy=front.policy(), certificate=certificate, **more) as client:
        client.infer("digits", {"pixels": PIXELS}, timeout_s=5)


def test_a_certificate_is_its_tenant_s(shown: FrontEnd, authority: ClientAuthority) -> None:
    certificate = ClientCertificate(authority.chain, authority.secret)
    ask(shown, certificate)
    assert shown.dispatcher.seen[-1]["tenant"] == "carol"
    ask(shown, None, api_key=Secret(key_of("alice")))  # nobody has to show one
    assert shown.dispatcher.seen[-1]["tenant"] == "alice"
    with pytest.raises(RequestError) as refused:
        ask(shown, None)
    assert refused.value.status == 401
    with pytest.raises(RequestError) as refused:
        ask(shown, certificate, api_key=Secret(key_of("alice")))
    assert refused.value.status == 400


def test_a_certificate_that_is_no_ca_s_and_not_self_signed(
    tmp_path: Path, authority: ClientAuthority
) -> None:
    """What an authority of the tenant's own issued, which nobody here knows."""
    chain, secret = authority.issue("leaf")
    der = ssl.PEM_cert_to_DER_cert(chain.read_text())
    with serving(terms("carol", "digits", keys=0, certificates=(der,))) as front:
        ask(front, ClientCertificate(chain, secret))
        other = ClientAuthority(tmp_path, "client")  # the same name, another key
        for certificate in (
            ClientCertificate(other.chain, other.secret),
            ClientCertificate(*other.issue("leaf2")),
        ):
            with pytest.raises(ConnectionLost):
                ask(front, certificate)


def test_a_tenant_s_certificate_makes_no_others(
    shown: FrontEnd, authority: ClientAuthority
) -> None:
    """Carol's certificate is a CA's: what her key signs is accepted by TLS, and is nobody."""
    with pytest.raises(RequestError) as refused:
        ask(shown, ClientCertificate(*authority.issue("alice")))
    assert refused.value.status == 401


def test_a_foreign_or_copied_certificate(
    shown: FrontEnd, authority: ClientAuthority, tmp_path: Path
) -> None:
    foreign = ClientAuthority(tmp_path, "foreign")
    with pytest.raises(ConnectionLost):
        ask(shown, ClientCertificate(foreign.chain, foreign.secret))
    with pytest.raises(ConfigError, match="not a certificate and its private key"):
        ask(shown, ClientCertificate(authority.chain, foreign.secret))
    authority.secret.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        ask(shown, ClientCertificate(authority.chain, authority.secret))


def test_a_certificate_over_http_2_and_out_of_the_list(
    shown: FrontEnd, authority: ClientAuthority
) -> None:
    with Http2Client(shown, certificate=(authority.chain, authority.secret)) as client:
        assert client.answer(client.request(PREDICT, ROWS))[0] == 200
        assert client.call(INFER, message("digits"))[0] == 0
        adopt(shown, terms("alice", "digits"), serial=2)
        assert client.answer(client.request(PREDICT, ROWS))[0] == 401
        assert client.call(INFER, message("digits"))[0] == 16


# While it runs


def test_a_new_list_loses_no_request() -> None:
    """A tenant that stays asks all the time, on kept and on new connections; lists come and go."""
    with serving(terms("alice", "digits"), terms("bob", "echo")) as running:
        stop, failures, answers = threading.Event(), [], [0]

        def ask_on() -> None:
            key = Secret(key_of("alice"))
            while not stop.is_set():
                try:
                    with connect(running.url, policy=running.policy(), api_key=key) as client:
                        for _ in range(20):
                            client.infer("digits", {"pixels": PIXELS})
                            answers[0] += 1
                except Exception as err:  # noqa: BLE001
                    failures.append(err)

        thread = threading.Thread(target=ask_on)
        thread.start()
        try:
            for serial in range(2, 30):
                adopt(running, terms("alice", "digits"), terms(f"t{serial}", "echo"), serial=serial)
                time.sleep(0.02)
        finally:
            stop.set()
            thread.join(20)
    assert failures == []
    assert answers[0] > 20


def test_no_key_in_any_log(front: FrontEnd, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), front.raw() as client:
        for who in ("alice", "eve", "bob"):
            _, headers, body = client.post(PREDICT, ROWS, {"Authorization": bearer(who)})
            client.post(f"/v1/{key_of(who).decode()}", ROWS, {"X-Api-Key": bearer(who)})
            assert key_of(who) not in body + str(headers).encode()
        rendered = front.call(front.frontend.metrics.render)
    everything = caplog.text + "".join(str(each.__dict__) for each in caplog.records)
    assert "caller.refused" in everything
    assert "wardian_key_" not in everything + rendered.decode()


def test_no_key_in_a_repr() -> None:
    text = bearer("alice").encode()
    request = HttpRequest(b"GET", b"/", {b"authorization": text}, text, b"", 1, "x")
    head = build_head([(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"),
                       (b":authority", b"x"), (b"authorization", text)])  # fmt: skip
    payload = build_payload(Call(target=b"/"), authority="x", api_key=Secret(key_of("alice")))
    for each in (request, head, payload):
        assert "wardian_key_" not in repr(each)
    assert text in payload.after


# Turns


class Flooded:
    """An API over the real dispatcher and one worker that takes 2 ms a batch of 8."""

    def __init__(self, *, across: bool = False) -> None:
        roster = Roster(now=unix_time, monotonic=monotonic)
        roster.adopt(verified(terms("flood", "digits"), terms("quiet", "digits")))
        self.queue = MemoryQueue()
        self.dispatcher = Dispatcher(
            queue=self.queue,
            codecs={"digits": sender()},
            lanes=LANES,
            max_waiting=4096,
            batch_across_tenants=frozenset({"digits"} if across else ()),
        )
        self.api = TenantApi(
            dispatcher=self.dispatcher,
            desk=None,  # type: ignore[arg-type]  (nobody asks for evidence)
            metrics=Metrics(),
            deadline_s=60,
            serves=lambda _: True,
            roster=roster,
            max_open=4096,
        )
        self.flooding = False
        self.flooded = 0

    def ask(self, who: str, respond: Callable[[HttpResponse], None]) -> None:
        tensor = {"name": "image", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
        headers = {b"authorization": b"Bearer " + key_of(who)}
        body = json.dumps({"inputs": [tensor]}).encode()
        self.api.handle(
            HttpRequest(b"POST", b"/v2/models/digits/infer", headers, body, b"", 1, "x"), respond
        )

    def flood(self, response: HttpResponse | None = None) -> None:
        """Keep one request more waiting, for as long as it is to go on."""
        if response is not None and self.flooding:
            assert response.status == 200
            self.flooded += 1
        if self.flooding:
            self.ask("flood", self.flood)

    async def quiet_ms(self, times: int) -> float:
        """The median of `times` requests of the quiet tenant, one after the other."""
        took = []
        for _ in range(times):
            answered = asyncio.get_running_loop().create_future()
            start = time.perf_counter()
            self.ask("quiet", answered.set_result)
            assert (await answered).status == 200
            took.append(time.perf_counter() - start)
        return statistics.median(took) * 1000


@pytest.mark.parametrize("across", [False, True])
async def test_a_flood_of_one_tenant_does_not_drown_another(across: bool) -> None:
    """With 1,000 requests before it in line, a quiet tenant waits for about a pack."""
    world = Flooded(across=across)
    pipe = Pipe(
        world.queue.connect(credit=1),
        ToyModel(lambda _: time.sleep(0.002)),
        max_batch=8,
        batch_across_tenants=across,
    )
    await pipe.step()

    async def work() -> None:
        while True:
            await pipe.step()
            await asyncio.sleep(0)  # a worker is another process: the front end goes on meanwhile

    working = asyncio.ensure_future(work())
    try:
        alone = await world.quiet_ms(40)
        world.flooding = True
        for _ in range(1000):
            world.flood()
        await asyncio.sleep(0.02)
        flooded = await world.quiet_ms(40)
        assert world.dispatcher.open_requests >= 1000
        assert world.flooded > 40  # and the other goes on, too
    finally:
        world.flooding = False
        working.cancel()
        world.dispatcher.close()
    # In the order of arrival it would be 125 packs.
    assert flooded < 8 * alone, f"{flooded:.1f} ms against {alone:.1f} ms alone"
