"""The client's protocol without a socket: no request before the evidence, and what answers mean."""

import json
import ssl
import time
from typing import Any

import numpy as np
import pytest
from simulators.front_end import (
    MEASUREMENTS,
    leaf_of,
    make_identity,
    make_manifest,
    make_papers,
)

from wardian._internal import wire
from wardian.attestation.appraisal.policy import AllOf, AppraisalPolicy, MeasurementIn, NotDebug
from wardian.broker.ca import MeshCa
from wardian.broker.certificates import valid_until
from wardian.errors import (
    ConfigError,
    ConnectionLost,
    EvidenceInvalid,
    EvidenceStale,
    FormatError,
    JobFailed,
    LocalProtocolError,
    PeerProtocolError,
    QueueFull,
    RequestError,
    Timeout,
    WardianError,
)
from wardian.serving.client.connection import ClientConnection, VerifiedKeys
from wardian.serving.client.messages import (
    Answer,
    Call,
    build_infer,
    model_target,
    parse_infer,
    parse_json,
    raise_for_status,
)
from wardian.serving.client.origin import Origin, client_context, parse_origin
from wardian.serving.client.policy import ClientPolicy
from wardian.serving.frontend_evidence import FrontendEvidence, frontend_report_data
from wardian.tee.launch.simulation import generate_platform

ORIGIN = Origin(host="localhost", port=8443)


class Mesh:
    """What it takes to show good evidence."""

    def __init__(self) -> None:
        self.platform = generate_platform()
        self.manifest = make_manifest(self.platform)
        self.ca = MeshCa.create(mesh="test", simulated=True, now=int(time.time()))
        issuer = self.ca.create_issuing(manifest_digest=self.manifest.digest, now=int(time.time()))
        self.identity = make_identity(issuer)
        self.papers = make_papers(self.ca, issuer, self.manifest)
        self.certificate = leaf_of(self.identity)
        self.policy = ClientPolicy(
            evidence=AppraisalPolicy(
                roots=frozenset({self.platform.root_sha256}),
                rule=AllOf(NotDebug(), MeasurementIn(frozenset({MEASUREMENTS["frontend"]}))),
            ),
            manifest_digest=self.manifest.digest,
        )
        self.now = 0.0
        self.keys = VerifiedKeys(self.policy, clock=lambda: self.now)

    def connect(self) -> ClientConnection:
        return ClientConnection(
            ORIGIN, policy=self.policy, keys=self.keys, certificate=self.certificate
        )

    def evidence(self, nonce: bytes, spki: bytes | None = None) -> Answer:
        report_data = frontend_report_data(
            nonce=nonce,
            tls_spki=spki or self.identity.key.spki,
            ca_spki=self.ca.spki,
            manifest_digest=self.manifest.digest,
            version=3,
        )
        shown = FrontendEvidence(
            evidence=self.platform.evidence(
                mr_enclave=MEASUREMENTS["frontend"], report_data=report_data
            ),
            manifest=self.manifest.signed,
            mesh_ca=self.ca.certificate,
            issuing_ca=self.papers.issuing_ca,
            witnessed=self.papers.witnessed,
        )
        return Answer(status=200, headers={}, body=wire.encode(shown))


@pytest.fixture(scope="module")
def made() -> Mesh:
    return Mesh()


@pytest.fixture
def mesh(made: Mesh) -> Mesh:
    made.keys = VerifiedKeys(made.policy, clock=lambda: made.now)
    return made


def nonce_in(request: bytes) -> bytes:
    target = request.split(b" ")[1]
    assert target.startswith(b"/v1/attestation?nonce=")
    return bytes.fromhex(target.partition(b"=")[2].decode())


def http(body: bytes, *, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def verified(mesh: Mesh) -> ClientConnection:
    connection = mesh.connect()
    nonce = nonce_in(connection.evidence_request())
    answer = connection.receive(http(mesh.evidence(nonce).body))
    assert answer is not None
    connection.verify(answer)
    return connection


def test_no_request_before_the_evidence_is_verified(mesh: Mesh) -> None:
    connection = mesh.connect()
    with pytest.raises(LocalProtocolError, match="before the evidence"):
        connection.request(Call(target=b"/"))
    connection.evidence_request()
    with pytest.raises(LocalProtocolError, match="before the evidence"):
        connection.request(Call(target=b"/"))


def test_evidence_of_another_connection_opens_nothing(mesh: Mesh) -> None:
    connection = mesh.connect()
    nonce = nonce_in(connection.evidence_request())
    for answer in (mesh.evidence(nonce, spki=b"another key"), mesh.evidence(b"o" * 32)):
        with pytest.raises(EvidenceInvalid):
            connection.verify(answer)
    with pytest.raises(LocalProtocolError):
        connection.request(Call(target=b"/"))
    assert not mesh.connect().recheck()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"evidence": 1}', b"[" * 9999])
def test_evidence_that_is_none(mesh: Mesh, body: bytes) -> None:
    with pytest.raises(FormatError):
        mesh.connect().verify(Answer(status=200, headers={}, body=body))


def test_requests_after_the_evidence(mesh: Mesh) -> None:
    connection = verified(mesh)
    call = Call(method=b"POST", target=b"/x", headers=((b"X-A", b"b"),), body=b"hello")
    sent = connection.request(call)
    assert sent == (
        b"POST /x HTTP/1.1\r\nHost: localhost:8443\r\nIdempotency-Key: %b\r\nX-A: b\r\n"
        b"Content-Length: 5\r\n\r\nhello" % call.key
    )
    assert not connection.reusable
    data = http(b"world", more="Retry-After: 3\r\n")
    for byte in data[:-1]:
        assert connection.receive(bytes((byte,))) is None
    answer = connection.receive(data[-1:])
    assert answer is not None
    assert (answer.status, answer.body, answer.headers[b"retry-after"]) == (200, b"world", b"3")
    assert connection.reusable


def test_a_verified_key_serves_for_a_while(mesh: Mesh) -> None:
    verified(mesh)
    second = mesh.connect()
    assert second.recheck()
    second.request(Call(target=b"/"))
    mesh.now += mesh.policy.max_evidence_age_s
    assert not mesh.connect().recheck()


def test_t21_nothing_is_sent_on_a_connection_whose_lease_has_ended(mesh: Mesh) -> None:
    wall = int(time.time())

    def connect() -> ClientConnection:
        return ClientConnection(
            ORIGIN,
            policy=mesh.policy,
            keys=mesh.keys,
            certificate=mesh.certificate,
            now=lambda: wall,
        )

    connection = connect()
    nonce = nonce_in(connection.evidence_request())
    answer = connection.receive(http(mesh.evidence(nonce).body))
    assert answer is not None
    connection.verify(answer)
    assert connection.reusable

    wall = valid_until(mesh.certificate) + 1  # its host, who tells it the time, says otherwise
    assert not connection.reusable
    with pytest.raises(ConnectionLost, match="lease"):
        connection.request(Call(target=b"/"))

    anew = connect()  # the key was verified a moment ago
    assert not anew.recheck()
    nonce = nonce_in(anew.evidence_request())
    with pytest.raises(EvidenceStale):
        anew.verify(mesh.evidence(nonce))


def test_keys_that_are_remembered_are_bounded(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardian.serving.client.connection.MAX_KEYS", 2)
    front = verified(mesh).frontend
    assert front is not None
    for key in (b"a", b"b", b"c"):
        mesh.keys.add(key, front)
    assert [mesh.keys.find(key) is not None for key in (b"a", b"b", b"c")] == [False, True, True]


def test_a_front_end_that_moved_to_another_manifest(mesh: Mesh) -> None:
    """Nothing was done: the call is made again on another connection, evidence and all."""
    moved = http(b'{"error": "connect again"}', status="421 Misdirected Request")
    asked = mesh.connect()
    asked.evidence_request()
    connection = verified(mesh)
    connection.request(Call(target=b"/"))
    for each in (asked, connection):
        with pytest.raises(ConnectionLost, match="another manifest: connect again"):
            each.receive(moved)


def test_the_end_of_a_connection(mesh: Mesh) -> None:
    for received in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal"):
        connection = verified(mesh)
        connection.request(Call(target=b"/"))
        if received:
            assert connection.receive(received) is None
        with pytest.raises(ConnectionLost):
            connection.receive(b"")


@pytest.mark.parametrize(
    "received",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",  # truncation would not show
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
)
def test_answers_that_are_not_http(mesh: Mesh, received: bytes) -> None:
    connection = verified(mesh)
    connection.request(Call(target=b"/"))
    with pytest.raises(PeerProtocolError):
        connection.receive(received)


def test_what_is_not_verified_may_not_send_much(mesh: Mesh) -> None:
    connection = mesh.connect()
    connection.evidence_request()
    connection.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    with pytest.raises(PeerProtocolError, match="larger than"):
        for _ in range(100):
            connection.receive(b"a" * 65536)


def test_a_connection_that_the_server_ends_is_not_used_again(mesh: Mesh) -> None:
    connection = verified(mesh)
    connection.request(Call(target=b"/"))
    answer = connection.receive(http(b"x", more="Connection: close\r\n"))
    assert answer is not None
    assert not connection.reusable


def test_what_cannot_be_sent_as_http(mesh: Mesh) -> None:
    with pytest.raises(LocalProtocolError):
        verified(mesh).request(Call(target=b"/a b\r\n"))


def test_a_server_without_a_certificate(mesh: Mesh) -> None:
    with pytest.raises(PeerProtocolError, match="no certificate"):
        ClientConnection(ORIGIN, policy=mesh.policy, keys=mesh.keys, certificate=None)


def test_tls_is_1_3_and_is_never_resumed() -> None:
    context = client_context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.options & ssl.OP_NO_TICKET


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("https://localhost:8443", "localhost", 8443, "localhost:8443"),
        ("https://example.com/", "example.com", 443, "example.com"),
        ("https://[::1]:9", "::1", 9, "[::1]:9"),
    ],
)
def test_origins(url: str, host: str, port: int, authority: str) -> None:
    origin = parse_origin(url)
    assert (origin.host, origin.port, origin.authority) == (host, port, authority)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8443", "http://localhost", "https://", "https://a/path", "https://a?q",
     "https://u@a", "https://a:99999", "https://[::1", "ftp://a", f"https://{'a' * 70}.example"],
)  # fmt: skip
def test_what_is_no_origin(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_origin(url)


def answer(status: int, body: object, **headers: str) -> Answer:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status=status, headers=named, body=raw)


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        (answer(400, {"error": "expected 2"}), RequestError, "expected 2"),
        (answer(404, {"error": "no model", "code": "not_found"}), RequestError, "no model"),
        (answer(429, {"error": "full"}, retry_after="7"), QueueFull, "full"),
        (answer(503, {"error": "no worker"}), QueueFull, "no worker"),
        (answer(504, {"error": "late"}), Timeout, "late"),
        (answer(500, {"error": "bad", "code": "inference_failed"}), JobFailed, "bad"),
        (answer(500, {"error": "bug", "code": "internal"}), RequestError, "bug"),
        (answer(502, b"<html>"), RequestError, "status 502 and no reason"),
        (answer(400, b'{"error": "\xff"}'), RequestError, "status 400 and no reason"),
        (answer(400, {"error": "\x1b[2Jfine"}), RequestError, r"^\?\[2Jfine"),
        (answer(301, b""), PeerProtocolError, "status 301"),
    ],
)
def test_errors(given: Answer, kind: type[WardianError], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        raise_for_status(given)
    if isinstance(caught.value, RequestError):
        assert caught.value.status == given.status
    if given.status == 429:
        assert caught.value.retry_after_s == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize(("value", "seconds"), [("soon", 1), ("999", 60), ("99999999", 1)])
def test_retry_after_is_bounded(value: str, seconds: int) -> None:
    with pytest.raises(QueueFull) as caught:
        raise_for_status(answer(429, {"error": "x"}, retry_after=value))
    assert caught.value.retry_after_s == seconds


def test_an_inference_as_it_is_sent() -> None:
    pixels = np.arange(4, dtype=">f4").reshape(2, 2)
    call = build_infer(
        "a model", {"x": pixels, "n": [1, 2]}, version=3, outputs=("y",), timeout_s=0.5
    )
    assert call.target == b"/v2/models/a%20model/versions/3/infer"
    length = int(dict(call.headers)[b"Inference-Header-Content-Length"])
    assert json.loads(call.body[:length]) == {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
            {"name": "n", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 16}},
        ],
        "parameters": {"binary_data_output": True, "timeout": 500_000},
        "outputs": [{"name": "y"}],
    }  # fmt: skip
    assert call.body[length:] == pixels.astype("<f4").tobytes() + np.array([1, 2]).tobytes()


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([1j]), np.array([object()])])
def test_arrays_that_have_no_name_in_the_protocol(array: Any) -> None:
    with pytest.raises(FormatError, match="has no name"):
        build_infer("m", {"x": array}, version=None, outputs=None, timeout_s=1)


def infer_answer(header: Any, tail: bytes, **headers: str) -> Answer:
    head = json.dumps(header).encode()
    length = headers or {"inference_header_content_length": str(len(head))}
    return answer(200, head + tail, **length)


OUTPUT = {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}


def test_an_answer_as_arrays() -> None:
    got = parse_infer(infer_answer({"outputs": [OUTPUT]}, np.array([1, 2], "f4").tobytes()))
    assert (got["y"].dtype, got["y"].tolist()) == (np.float32, [[1, 2]])


@pytest.mark.parametrize(
    "given",
    [
        answer(200, {"outputs": []}),
        infer_answer({}, b""),
        infer_answer({"outputs": [OUTPUT]}, bytes(7)),
        infer_answer({"outputs": [OUTPUT]}, bytes(9)),
        infer_answer({"outputs": [{**OUTPUT, "datatype": "BYTES"}]}, bytes(8)),
        infer_answer({"outputs": [{**OUTPUT, "shape": [3, 1]}]}, bytes(8)),
        infer_answer({"outputs": [OUTPUT]}, bytes(8), inference_header_content_length="x"),
    ],
)
def test_answers_that_are_none(given: Answer) -> None:
    with pytest.raises(PeerProtocolError):
        parse_infer(given)


def test_json_answers() -> None:
    assert parse_json(answer(200, {"a": 1})) == {"a": 1}
    with pytest.raises(PeerProtocolError):
        parse_json(answer(200, [1]))
    assert model_target("m", None, "") == b"/v2/models/m"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_time_that_is_none_is_told(seconds: float) -> None:
    with pytest.raises(ConfigError, match="timeout_s"):
        build_infer("m", {}, version=None, outputs=None, timeout_s=seconds)
