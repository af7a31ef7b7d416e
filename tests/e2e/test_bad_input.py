"""Bad input to a real mesh: the right 4xx, a message that says what was expected, nobody else hurt."""

import http.client
import json
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
from mesh import RunningMesh

import wardian
from wardian.errors import WardianError

PREDICT = "/v1/models/digits:predict"
INFER = "/v2/models/digits/infer"
ROW = [0.5] * 64


def context(mesh: RunningMesh) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(mesh.ca))


def ask(
    mesh: RunningMesh, method: str, path: str, body: bytes | str | None = None, **headers: str
) -> tuple[int, dict[str, str]]:
    url = urlsplit(mesh.url)
    connection = http.client.HTTPSConnection(
        url.hostname, url.port, context=context(mesh), timeout=20
    )
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    status, raw = response.status, response.read()
    connection.close()
    return status, json.loads(raw)


def tensor(**changes: object) -> str:
    image = {"name": "image", "datatype": "FP32", "shape": [1, 64], "data": ROW} | changes
    return json.dumps({"inputs": [image]})


@pytest.fixture(autouse=True)
def neighbour(shared_mesh: RunningMesh):
    """Another client asks all the while, and gets every answer."""
    stop = threading.Event()
    failures: list[Exception] = []
    answered = [0]

    def keep_asking() -> None:
        with wardian.connect(shared_mesh.url, policy=shared_mesh.policy) as client:
            while not stop.is_set():
                try:
                    client.infer("digits", {"image": np.zeros((1, 64), np.float32)})
                    answered[0] += 1
                except WardianError as err:
                    failures.append(err)
                time.sleep(0.005)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    while not answered[0] and thread.is_alive():
        time.sleep(0.005)
    yield
    before = answered[0]
    deadline = time.monotonic() + 10
    while answered[0] == before and time.monotonic() < deadline:
        time.sleep(0.005)
    stop.set()
    thread.join()
    assert not failures
    assert answered[0] > before


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("POST", INFER, tensor(shape=[1, 63], data=ROW[1:]), 400, "64"),
        ("POST", INFER, tensor(shape=[64]), 400, "64"),
        ("POST", INFER, tensor(shape=[1, 64], data=ROW[1:]), 400, "64"),
        ("POST", INFER, tensor(shape=[-1, 64]), 400, ""),
        ("POST", INFER, tensor(datatype="INT64", data=[1] * 64), 400, "FP32"),
        ("POST", INFER, tensor(datatype="COMPLEX"), 400, ""),
        ("POST", INFER, tensor(name="picture"), 400, "image"),
        ("POST", INFER, json.dumps({"inputs": []}), 400, "image"),
        ("POST", INFER, json.dumps({}), 400, "inputs"),
        ("POST", INFER, "[]", 400, ""),
        ("POST", INFER, "this is not JSON", 400, "JSON"),
        ("POST", INFER, "", 400, ""),
        ("POST", INFER, tensor().replace("0.5", "NaN", 1), 400, ""),
        ("POST", INFER, tensor().replace("0.5", "1e999", 1), 400, ""),
        ("POST", INFER, "[" * 100_000, 400, ""),
        ("POST", PREDICT, json.dumps({"instances": [ROW[1:]]}), 400, "64"),
        ("POST", PREDICT, json.dumps({"instances": [ROW, ROW[1:]]}), 400, ""),
        ("POST", PREDICT, json.dumps({"instances": ["text"]}), 400, ""),
        ("POST", PREDICT, json.dumps({"rows": [ROW]}), 400, "instances"),
        ("POST", "/v2/models/letters/infer", tensor(), 404, "letters"),
        ("POST", "/v2/models/digits/versions/9/infer", tensor(), 404, "9"),
        ("POST", "/v1/models/letters:predict", "{}", 404, "letters"),
        ("GET", INFER, None, 405, "POST"),
        ("GET", "/v2/models/..%2f..%2fetc/passwd", None, 404, ""),
        ("GET", "/nowhere", None, 404, ""),
        ("GET", "/v1/attestation", None, 400, "nonce"),
        ("GET", "/v1/attestation?nonce=zz", None, 400, "nonce"),
    ],
)
def test_what_cannot_be_served(
    shared_mesh: RunningMesh, method: str, path: str, body: str | None, status: int, told: str
) -> None:
    got, answer = ask(shared_mesh, method, path, body)
    assert got == status, answer
    assert told in answer["error"]
    assert "Traceback" not in answer["error"]


def raw_exchange(mesh: RunningMesh, sent: bytes, *, pause_s: float = 0.0) -> bytes:
    url = urlsplit(mesh.url)
    with (
        socket.create_connection((url.hostname, url.port), timeout=20) as plain,
        context(mesh).wrap_socket(plain, server_hostname=url.hostname) as connection,
    ):
        received = b""
        try:
            for start in range(0, len(sent), 65536):
                connection.sendall(sent[start : start + 65536])
                time.sleep(pause_s)
            while part := connection.recv(65536):
                received += part
        except (ConnectionError, ssl.SSLError, BrokenPipeError):
            pass
        return received


def test_ten_thousand_headers(shared_mesh: RunningMesh) -> None:
    headers = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    answer = raw_exchange(shared_mesh, b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(shared_mesh: RunningMesh) -> None:
    head = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n"
    answer = raw_exchange(shared_mesh, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"16777216" in answer


def test_a_body_that_ends_too_soon_hurts_nobody(shared_mesh: RunningMesh) -> None:
    url = urlsplit(shared_mesh.url)
    for _ in range(20):
        with (
            socket.create_connection((url.hostname, url.port), timeout=20) as plain,
            context(shared_mesh).wrap_socket(plain, server_hostname=url.hostname) as connection,
        ):
            connection.sendall(
                b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"
            )


def test_a_request_in_small_pieces_is_answered(shared_mesh: RunningMesh) -> None:
    body = tensor().encode()
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    url = urlsplit(shared_mesh.url)
    with (
        socket.create_connection((url.hostname, url.port), timeout=20) as plain,
        context(shared_mesh).wrap_socket(plain, server_hostname=url.hostname) as connection,
    ):
        whole = head + body
        for start in range(0, len(whole), 40):
            connection.sendall(whole[start : start + 40])
            time.sleep(0.002)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 ")
