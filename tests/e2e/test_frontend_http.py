"""The front end over real TLS on a loopback port, with a fake dispatcher behind it."""

import asyncio
import errno
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h11
import msgspec
import numpy as np
import pytest
from simulators.front_end import HOST, MEASUREMENTS, FrontEnd, RawClient, digits, make_identity

from wardian.attestation.verifier import verify_quote
from wardian.errors import ConfigError, FormatError
from wardian.serving.frontend_evidence import FrontendEvidence, frontend_report_data
from wardian.serving.http.tls import TlsIdentity

ROWS = json.dumps({"instances": [[0.5] * 64]}).encode()


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def front(request: pytest.FixtureRequest) -> Iterator[FrontEnd]:
    with FrontEnd(loop=request.param) as running:
        yield running


def test_a_prediction(front: FrontEnd) -> None:
    with front.raw() as client:
        for _ in range(3):
            status, _, body = client.post("/v1/models/digits:predict", ROWS)
            assert status == 200
        expected = digits(np.full((1, 64), 0.5))
        np.testing.assert_allclose(json.loads(body)["predictions"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("spoken", "line"), [("--http1.1", b"HTTP/1.1 200 OK"), ("--http2", b"HTTP/2 200")]
)
def test_the_line_for_curl(
    front: FrontEnd, need_program: Callable[[str], str], tmp_path: Path, spoken: str, line: bytes
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(ssl.DER_cert_to_PEM_cert(front.ca.certificate))
    done = subprocess.run(
        [need_program("curl"), "-sS", spoken, "--cacert", ca, "-d", ROWS,
         f"https://localhost:{front.port}/v1/models/digits:predict",
         "--next", "-sSI", spoken, "--cacert", ca, f"https://localhost:{front.port}/v2"],
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    assert b'{"predictions":[[' in done.stdout
    assert line in done.stdout


def test_many_connections_at_once(front: FrontEnd) -> None:
    async def main() -> list[bytes]:
        context = ssl.create_default_context(cadata=front.ca.certificate)

        async def one() -> bytes:
            reader, writer = await asyncio.open_connection(
                HOST, front.port, ssl=context, server_hostname="localhost"
            )
            for _ in range(5):
                writer.write(
                    b"POST /v1/models/digits:predict HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(ROWS), ROWS)
                )
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
            writer.close()
            await writer.wait_closed()
            return body

        return await asyncio.gather(*(one() for _ in range(40)))

    assert len(set(asyncio.run(main()))) == 1


def test_large_tensors_both_ways(front: FrontEnd) -> None:
    array = np.random.default_rng(1).random((40_000, 2), dtype="f4")
    others = {
        name: np.zeros((0, 2), dtype)
        for name, dtype in (("BOOL", "?"), ("UINT8", "u1"), ("INT32", "i4"), ("INT64", "i8"),
                            ("FP16", "f2"), ("FP64", "f8"))
    }  # fmt: skip
    entries, raw = [], b""
    for name, each in {**others, "FP32": array}.items():
        entries.append(
            {
                "name": name.lower(),
                "datatype": name,
                "shape": each.shape,
                "parameters": {"binary_data_size": each.nbytes},
            }
        )
        raw += each.tobytes()
    head = json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}).encode()
    with front.raw() as client:
        status, headers, body = client.post(
            "/v2/models/echo/infer", head + raw, {"Inference-Header-Content-Length": str(len(head))}
        )
    assert status == 200
    length = int(headers["inference-header-content-length"])
    described = json.loads(body[:length])["outputs"]
    assert [each["name"] for each in described][-1] == "fp32"
    assert body[length:] == array.tobytes()


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_slow_reader_gets_all_of_a_large_answer(front: FrontEnd, connection: str) -> None:
    """Also on a connection that ends after it: longer than TLS waits once it is closing."""
    rows = 500_000
    sizes = {"BOOL": 1, "UINT8": 1, "INT32": 4, "INT64": 8, "FP16": 2, "FP32": 4, "FP64": 8}
    entries = [
        {
            "name": name.lower(),
            "datatype": name,
            "shape": [count := rows if name == "FP64" else 0, 2],
            "parameters": {"binary_data_size": count * 2 * size},
        }
        for name, size in sizes.items()
    ]
    raw = np.arange(rows * 2, dtype="f8").tobytes()
    head = json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}).encode()
    request = (
        f"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n"
        f"Inference-Header-Content-Length: {len(head)}\r\n"
        f"Content-Length: {len(head) + len(raw)}\r\n\r\n"
    )
    with front.connect(receive_bytes=4096) as sock:
        sock.sendall(request.encode() + head + raw)
        received = bytearray()
        start = time.monotonic()
        while not received.endswith(raw[-64:]) and (data := sock.recv(65536)):
            received += data
            if time.monotonic() - start < 1.5 and len(received) > 1_000_000:
                time.sleep(0.05)
    assert bytes(received[-len(raw) :]) == raw
    state = front.frontend._server._state
    front.wait_for(lambda: state.buffered_bytes == 0)


def test_only_tls_1_3_without_resumption(front: FrontEnd) -> None:
    context = ssl.create_default_context(cadata=front.ca.certificate)
    context.set_alpn_protocols(["http/1.1"])
    session = None
    for _ in range(2):
        raw = socket.create_connection((HOST, front.port), timeout=10)
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
            assert (sock.version(), sock.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
            assert RawClient(sock).get("/v2/health/live")[0] == 200
            assert not sock.session_reused
            session = sock.session
            assert session is None or not session.has_ticket
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    raw = socket.create_connection((HOST, front.port), timeout=10)
    with raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="localhost")


def test_what_is_not_tls_is_no_answer(front: FrontEnd) -> None:
    with socket.create_connection((HOST, front.port), timeout=10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        try:
            while data := sock.recv(4096):
                received += data
        except ConnectionResetError:
            pass
        assert not received.startswith(b"HTTP")


def evidence(client: RawClient, nonce: bytes = b"n" * 32) -> FrontendEvidence:
    status, headers, body = client.get(f"/v1/attestation?nonce={nonce.hex()}")
    assert (status, headers["cache-control"]) == (200, "no-store")
    return msgspec.json.decode(body, type=FrontendEvidence)


def report_data(front: FrontEnd, spki: bytes, nonce: bytes = b"n" * 32) -> bytes:
    return frontend_report_data(
        nonce=nonce,
        tls_spki=spki,
        ca_spki=front.ca.spki,
        manifest_digest=front.manifest.digest,
        version=3,
    )


def claims(front: FrontEnd, shown: FrontendEvidence) -> bytes:
    found = verify_quote(
        shown.evidence.quote,
        shown.evidence.collateral,
        root=front.platform.root_der,
        now=int(time.time()),
    )
    assert found.measurement == MEASUREMENTS["frontend"]
    return found.report_data


def test_evidence_over_the_wire(front: FrontEnd) -> None:
    with front.raw() as client:
        spki = front.identity.key.spki
        assert claims(front, evidence(client)) == report_data(front, spki)
        other = b"o" * 32
        assert claims(front, evidence(client, other)) == report_data(front, spki, other)


def test_a_renewed_certificate_is_used_for_new_connections() -> None:
    with FrontEnd() as front, front.raw() as old:
        before = old.sock.getpeercert(binary_form=True)
        assert old.get("/v2/health/live")[0] == 200
        renewed = make_identity(front.issuer)
        front.call(front.frontend.use, renewed, front.papers)
        with front.raw() as new:
            assert new.sock.getpeercert(binary_form=True) != before
            assert claims(front, evidence(new)) == report_data(front, renewed.key.spki)
        assert old.get("/v2/health/live")[0] == 200  # and evidence is about its own key:
        assert claims(front, evidence(old)) == report_data(front, front.identity.key.spki)
        wrong = TlsIdentity(chain_pem=renewed.chain_pem, key=front.identity.key)
        with pytest.raises(FormatError):
            front.call(front.frontend.use, wrong, front.papers)
        with front.raw() as new:
            assert new.sock.getpeercert(binary_form=True) != before


def test_stopping_answers_what_was_accepted() -> None:
    front = FrontEnd()
    with front, front.raw() as idle, front.raw() as busy:
        assert idle.get("/v2/health/live")[0] == 200
        request = (
            b"POST /v1/models/held:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
        )
        busy.send(request % (len(ROWS), ROWS))
        front.wait_for(lambda: len(front.dispatcher.held) == 1)
        stopping = asyncio.run_coroutine_threadsafe(front.frontend.stop(drain_s=10), front.loop)
        assert idle.sock.recv(1) == b""  # closed at once: nothing was owed
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((HOST, front.port), timeout=5)
        front.release()
        status, headers, _ = busy.response()
        assert (status, headers["connection"]) == (200, "close")
        assert busy.ended()
        busy.sock.close()
        stopping.result(10)


def test_stopping_does_not_wait_for_ever() -> None:
    front = FrontEnd()
    with front, front.raw() as busy, socket.create_connection((HOST, front.port)):
        request = (
            b"POST /v1/models/held:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
        )
        busy.send(request % (len(ROWS), ROWS))
        front.wait_for(lambda: len(front.dispatcher.held) == 1)
        asyncio.run_coroutine_threadsafe(front.frontend.stop(drain_s=0.1), front.loop).result(10)
        assert busy.ended()
        assert front.open_connections == 0
        front.release()  # the answer comes too late, and nothing happens


def test_a_port_that_is_taken() -> None:
    with socket.create_server((HOST, 0)) as taken, FrontEnd() as front:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}: Address already in use; choose"):
            front.call(front.frontend.start, HOST, port)


@pytest.mark.parametrize("address", ["no-such-host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours(address: str) -> None:
    with FrontEnd() as front, pytest.raises(ConfigError, match="cannot listen on"):
        front.call(front.frontend.start, address, 0)


def test_running_out_of_file_descriptors_is_a_pause(front: FrontEnd) -> None:
    class Exhausted:
        """A listening socket that has no descriptor to give, three times."""

        def __init__(self, real: socket.socket) -> None:
            self.real = real
            self.failures = 3

        def fileno(self) -> int:
            return self.real.fileno()

        def accept(self) -> object:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.real.accept()

    server = front.frontend._server
    listener = Exhausted(server._sockets[0])
    front.call(server._accept, listener)
    with front.raw() as client:  # waits in the kernel's queue meanwhile
        assert client.get("/v2/health/live")[0] == 200
    assert listener.failures == 0


def test_localhost_is_all_of_its_addresses() -> None:
    with FrontEnd() as front:
        listening = front.call(front.frontend.start, "localhost", 0)
        assert len({port for _, port in listening}) == 1
        for host, port in listening:
            with socket.create_connection((host, port), timeout=10):
                pass


def test_requests_are_counted_where_they_end(front: FrontEnd) -> None:
    with front.raw() as client:
        client.post("/v2/models/digits/infer", b"{")
        _, headers, body = client.get("/metrics")
    assert headers["content-type"].startswith("text/plain")
    text = body.decode()
    assert 'wardian_requests_total{model="digits",route="infer",status="400"}' in text
    assert "wardian_connections 1.0" in text
    assert "wardian_requests_in_flight 0.0" in text
    assert 'wardian_model_ready{model="absent"} 0.0' in text
    assert "process_cpu_seconds_total" in text


def test_a_second_implementation_of_http_agrees(front: FrontEnd) -> None:
    """h11 is strict about what it reads: framing, header syntax, bodies of HEAD and errors."""
    for method, target, status in (
        ("GET", "/v2", 200), ("HEAD", "/v2", 200), ("HEAD", "/nowhere", 404), ("PUT", "/v2", 405),
    ):  # fmt: skip
        parser = h11.Connection(h11.CLIENT)
        with front.connect() as sock:
            request = h11.Request(method=method, target=target, headers=[("Host", "x")])
            sock.sendall(parser.send(request) + parser.send(h11.EndOfMessage()))
            events = []
            while not events or type(events[-1]) is not h11.EndOfMessage:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    parser.receive_data(sock.recv(4096))
                else:
                    events.append(event)
        assert events[0].status_code == status
        assert (len(events) == 2) is (method == "HEAD")
