"""Our own clients against a front end over real TLS, and against those who pose as one."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulators.front_end import HOST, MEASUREMENTS, FrontEnd, digits, make_identity

from wardian.errors import (
    ConnectionLost,
    EvidenceInvalid,
    JobFailed,
    PolicyDenied,
    QueueFull,
    RequestError,
    Timeout,
    WardianError,
)
from wardian.serving.client.aio import AsyncClient, connect_async
from wardian.serving.client.sync import Client, connect

PIXELS = np.random.default_rng(2).random((2, 64), dtype="f4")


@pytest.fixture(scope="module")
def front() -> Iterator[FrontEnd]:
    with FrontEnd() as running:
        yield running


@pytest.fixture
def client(front: FrontEnd) -> Iterator[Client]:
    with connect(front.url, policy=front.policy()) as made:
        yield made


def test_inference(front: FrontEnd, client: Client) -> None:
    got = client.infer("digits", {"pixels": PIXELS})
    np.testing.assert_array_equal(got["scores"], digits(PIXELS))
    assert got["scores"].dtype == np.float32
    got = client.infer("pair", {"a": PIXELS[:, :2], "b": np.ones((2, 2), "i8")}, outputs=("sum",))
    assert list(got) == ["sum"]
    client.infer("digits", {"pixels": PIXELS}, version=1, timeout_s=5)
    assert front.dispatcher.seen[-1]["version"] == 1
    assert 4 < front.dispatcher.seen[-1]["deadline_s"] <= 5


def test_descriptions(front: FrontEnd, client: Client) -> None:
    assert client.metadata("digits")["versions"] == ["1", "2"]
    assert client.metadata("digits", version=1)["name"] == "digits"
    assert {each["name"] for each in client.models()} == set(front.dispatcher.models)
    assert client.ready() is False
    verified = client.verify()
    assert verified.manifest.mesh == "test"
    assert verified.result.claims.measurement == MEASUREMENTS["frontend"]


@pytest.mark.parametrize(
    ("model", "inputs", "kind", "says"),
    [
        ("nobody", {"pixels": PIXELS}, RequestError, "no model"),
        ("digits", {"pixels": PIXELS[:, :9]}, RequestError, "expected FP32"),
        ("digits", {"pixel": PIXELS}, RequestError, "expected the inputs"),
        ("full", {"pixels": PIXELS}, QueueFull, "are waiting"),
        ("absent", {"pixels": PIXELS}, QueueFull, "no worker"),
        ("broken", {"pixels": PIXELS}, JobFailed, "the model failed"),
        ("late", {"pixels": PIXELS}, Timeout, "no answer within"),
    ],
)
def test_errors(
    client: Client, model: str, inputs: dict[str, Any], kind: type[WardianError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        client.infer(model, inputs)
    assert client.infer("digits", {"pixels": PIXELS})["scores"].shape == (2, 10)


def test_no_answer_in_time(front: FrontEnd, client: Client) -> None:
    with pytest.raises(Timeout):
        client.infer("held", {"pixels": PIXELS}, timeout_s=0.2)
    front.release()  # the late answer must not meet the next request
    np.testing.assert_array_equal(
        client.infer("digits", {"pixels": PIXELS})["scores"], digits(PIXELS)
    )


def test_threads_share_a_client(front: FrontEnd) -> None:
    quotes = front.quotes
    with connect(front.url, policy=front.policy()) as client, ThreadPoolExecutor(8) as threads:
        arrays = [np.full((1, 64), number, "f4") for number in range(64)]
        answers = threads.map(lambda array: client.infer("digits", {"pixels": array}), arrays)
        for array, answer in zip(arrays, answers, strict=True):
            np.testing.assert_array_equal(answer["scores"], digits(array))
    assert front.quotes == quotes + 1  # one key, verified once


def test_every_connection_is_verified_when_the_policy_says_so(front: FrontEnd) -> None:
    quotes = front.quotes
    with connect(front.url, policy=front.policy(max_evidence_age_s=0)) as client:
        front.call(front.frontend._server._state.connections.copy().pop().abort)
        client.infer("digits", {"pixels": PIXELS})
    assert front.quotes == quotes + 2


def test_a_lost_connection_is_tried_once_more(front: FrontEnd, client: Client) -> None:
    for connection in front.frontend._server._state.connections.copy():
        front.call(connection.abort)
    np.testing.assert_array_equal(
        client.infer("digits", {"pixels": PIXELS})["scores"], digits(PIXELS)
    )


def test_nobody_there() -> None:
    with socket.create_server((HOST, 0)) as unused:
        port = unused.getsockname()[1]
    with FrontEnd() as front, pytest.raises(ConnectionLost, match="cannot connect"):
        connect(f"https://{HOST}:{port}", policy=front.policy())


def test_a_front_end_that_stops_for_good() -> None:
    with FrontEnd() as front:
        client = connect(front.url, policy=front.policy())
        front.stop()
        with pytest.raises(ConnectionLost):
            client.infer("digits", {"pixels": PIXELS})
        client.close()


def test_a_renewed_key_is_verified_anew(front: FrontEnd) -> None:
    with FrontEnd() as own, connect(own.url, policy=own.policy()) as client:
        own.call(own.frontend.use, make_identity(own.issuer), own.papers)
        for connection in own.frontend._server._state.connections.copy():
            own.call(connection.abort)
        quotes = own.quotes
        client.infer("digits", {"pixels": PIXELS})
        assert own.quotes == quotes + 1


def refuse(front: FrontEnd, url: str, policy: Any, kind: type[WardianError], says: str) -> None:
    """The client refuses, and the front end saw no request for inference."""
    seen = len(front.dispatcher.seen)
    client = Client(url, policy=policy)
    try:
        with pytest.raises(kind, match=says):
            client.infer("digits", {"pixels": PIXELS})
    finally:
        client.close()
    assert len(front.dispatcher.seen) == seen


def test_another_program_or_another_mesh(front: FrontEnd) -> None:
    refuse(front, front.url, front.policy(manifest_digest=b"x" * 32), PolicyDenied, "not pin")
    roles = {role: frozenset({each}) for role, each in MEASUREMENTS.items()}
    connect(front.url, policy=front.policy(manifest_digest=None, roles=roles)).close()
    roles["worker"] = frozenset({b"\1" * 32})
    policy = front.policy(manifest_digest=None, roles=roles)
    refuse(front, front.url, policy, PolicyDenied, "admits code as 'worker'")
    front.measured = b"\x01" * 32
    try:
        refuse(front, front.url, front.policy(), PolicyDenied, "not one that the policy names")
    finally:
        front.measured = MEASUREMENTS["frontend"]


@contextlib.contextmanager
def in_between(
    front: FrontEnd, context: ssl.SSLContext | None
) -> Iterator[tuple[str, list[bytes]]]:
    """Somebody who takes the client's connection and relays what is in it to the front end."""
    heard: list[bytes] = []
    listener = socket.create_server((HOST, 0))
    listener.settimeout(20)

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as raw:
            raw.settimeout(10)
            if context is None:
                heard.append(raw.recv(65536))
                raw.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            with context.wrap_socket(raw, server_side=True) as sock, front.connect() as behind:
                while data := sock.recv(65536):
                    heard.append(data)
                    behind.sendall(data)
                    behind.settimeout(0.3)
                    with contextlib.suppress(TimeoutError):
                        while answer := behind.recv(65536):
                            sock.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://{HOST}:{listener.getsockname()[1]}", heard
    finally:
        thread.join(20)
        listener.close()


def server_context(front: FrontEnd, tmp_path: Path) -> ssl.SSLContext:
    """With a certificate of the real mesh CA, but another key than the enclave's."""
    stolen = make_identity(front.issuer)
    file = tmp_path / "stolen.pem"
    file.write_bytes(stolen.key.private_pem().reveal() + stolen.chain_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_somebody_in_between_who_relays_the_evidence(front: FrontEnd, tmp_path: Path) -> None:
    with in_between(front, server_context(front, tmp_path)) as (url, heard):
        refuse(front, url, front.policy(), EvidenceInvalid, "not bound to this nonce, these keys")
    (request,) = heard
    assert request.startswith(b"GET /v1/attestation?nonce=")
    assert len(request) < 250  # a nonce, and nothing of the user's


def test_a_server_that_speaks_only_tls_1_2(front: FrontEnd, tmp_path: Path) -> None:
    context = server_context(front, tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with in_between(front, context) as (url, heard):
        refuse(front, url, front.policy(), ConnectionLost, "no TLS 1.3")
    assert heard == []


def test_a_server_that_speaks_no_tls(front: FrontEnd) -> None:
    with in_between(front, None) as (url, heard):
        refuse(front, url, front.policy(), ConnectionLost, "no TLS 1.3")
    assert b"digits" not in b"".join(heard)


def test_a_ration_of_evidence_is_waited_for(front: FrontEnd) -> None:
    with FrontEnd() as own:
        own.call(setattr, own.frontend._desk, "_tokens", 0.0)
        with connect(own.url, policy=own.policy(), timeout_s=20) as client:
            assert client.infer("digits", {"pixels": PIXELS})  # it stood in line at the server
        own.call(setattr, own.frontend._desk, "_tokens", -1e6)
        with pytest.raises(Timeout):
            connect(own.url, policy=own.policy(), timeout_s=0.5)


Body = Callable[[AsyncClient], Any]


def with_client(front: FrontEnd, body: Body, **more: Any) -> Any:
    async def main() -> Any:
        async with await connect_async(front.url, policy=front.policy(), **more) as client:
            return await body(client)

    return asyncio.run(main())


def test_async_inference(front: FrontEnd) -> None:
    async def body(client: AsyncClient) -> None:
        calls = [
            client.infer("digits", {"pixels": np.full((1, 64), number, "f4")})
            for number in range(100)
        ]
        for number, answer in enumerate(await asyncio.gather(*calls)):
            np.testing.assert_array_equal(answer["scores"], digits(np.full((1, 64), number, "f4")))
        assert front.open_connections <= 10
        assert (await client.metadata("digits"))["name"] == "digits"
        assert len(await client.models()) == len(front.dispatcher.models)
        assert await client.ready() is False
        assert (await client.verify()).manifest.mesh == "test"

    quotes = front.quotes
    with_client(front, body, max_connections=8)
    assert front.quotes == quotes + 1


def test_async_errors(front: FrontEnd) -> None:
    async def body(client: AsyncClient) -> None:
        with pytest.raises(RequestError):
            await client.infer("nobody", {"pixels": PIXELS})
        with pytest.raises(Timeout):
            await client.infer("held", {"pixels": PIXELS}, timeout_s=0.2)
        front.release()
        for connection in front.frontend._server._state.connections.copy():
            front.call(connection.abort)
        answer = await client.infer("digits", {"pixels": PIXELS})
        np.testing.assert_array_equal(answer["scores"], digits(PIXELS))

    with_client(front, body)


def test_async_refuses_before_it_sends(front: FrontEnd, tmp_path: Path) -> None:
    async def main(url: str) -> None:
        with pytest.raises(EvidenceInvalid):
            await connect_async(url, policy=front.policy())

    with in_between(front, server_context(front, tmp_path)) as (url, heard):
        asyncio.run(main(url))
    assert len(heard) == 1


def test_async_nobody_there(front: FrontEnd) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionLost):
            await connect_async("https://127.0.0.1:1", policy=front.policy())

    asyncio.run(main())


def test_async_waits_for_the_ration_of_evidence() -> None:
    async def body(client: AsyncClient) -> None:
        await client.infer("digits", {"pixels": PIXELS})

    with FrontEnd() as own:
        own.call(setattr, own.frontend._desk, "_tokens", 0.0)
        with_client(own, body, timeout_s=20)
