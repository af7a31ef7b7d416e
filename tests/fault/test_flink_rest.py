"""A REST server of Flink that answers anything, and strangers of the same CA, at our client."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from simulators.flink_cluster import Authority

from wardian.cli.engines.flink_files import write_flink_files
from wardian.engines.flink.cluster import Overview
from wardian.engines.flink.jobs import Jobs
from wardian.engines.flink.place import FlinkTls
from wardian.engines.flink.rest import BODY_BYTES, NotFound, RestClient
from wardian.errors import ConfigError, ConnectionLost, PeerProtocolError

GOOD = b'{"taskmanagers":1,"slots-available":2,"unknown":[]}'


@contextmanager
def serving(tls: FlinkTls, answers: dict[str, tuple[int, bytes]]) -> Iterator[tuple[str, int]]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = answers[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/overview")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_) -> None:
            pass  # a client that was refused

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.path("cluster.pem"))
    context.load_verify_locations(tls.path("client.pem"))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield ("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def tls(tmp_path) -> FlinkTls:
    return files(tmp_path / "tls", Authority())


def files(directory, authority: Authority) -> FlinkTls:
    cluster = authority.pair("cluster")
    found = write_flink_files(directory, cluster=cluster, client=authority.pair("client"))
    found.path("cluster.pem").write_bytes(
        cluster.key.private_pem().reveal() + found.path("server.pem").read_bytes()
    )
    return found


async def ask(address, tls: FlinkTls, path: str = "/overview", kind: type = Overview):
    client = RestClient(address, tls)
    try:
        return await client.get(path, kind)
    finally:
        client.close()


async def test_an_answer_and_what_is_none(tls) -> None:
    answers = {
        "/overview": (200, GOOD),
        "/moved": (302, b""),
        "/missing": (404, b"{}"),
        "/broken": (500, b"{}"),
        "/text": (200, b"<html>"),
        "/wrong": (200, b'{"taskmanagers":"1","slots-available":2}'),
        "/deep": (200, b"[" * 100_000),
        "/endless": (200, b" " * (BODY_BYTES + 1)),
    }
    with serving(tls, answers) as address:
        assert await ask(address, tls) == Overview(taskmanagers=1, slots_available=2)
        with pytest.raises(NotFound):
            await ask(address, tls, "/missing")
        for path in ("/moved", "/broken", "/text", "/wrong", "/deep", "/endless"):
            with pytest.raises(PeerProtocolError):
                await ask(address, tls, path)
    with pytest.raises(ConnectionLost):
        await ask(address, tls)


async def test_another_certificate_of_the_ca_is_no_server_and_no_client(tmp_path) -> None:
    authority = Authority()
    ours, theirs = files(tmp_path / "ours", authority), files(tmp_path / "theirs", authority)
    with serving(ours, {"/overview": (200, GOOD)}) as address:
        assert await ask(address, ours)
        with pytest.raises(ConnectionLost):  # their server is another
            await ask(address, theirs)
        stranger = tmp_path / "stranger"
        stranger.mkdir()
        for name, of in (("client.pem", theirs), ("client.key", theirs), ("server.pem", ours)):
            (stranger / name).write_bytes(of.path(name).read_bytes())
        with pytest.raises(ConnectionLost):
            await ask(address, FlinkTls(directory=stranger, password=""))


async def test_a_job_that_is_not_ours_and_one_that_is_unknown(tls) -> None:
    answers = {
        "/jobs/1": (200, b'{"state":"RUNNING","vertices":[]}'),
        "/jobs/2": (404, b"{}"),
        "/jobs/3": (200, b'{"state":"RUNNING","vertices":[{"id":"v"}]}'),
        "/jobs/3/vertices/v": (
            200,
            b'{"subtasks":[{"subtask":0,"status":"RUNNING","attempt":0,"endpoint":"h:1"}]}',
        ),
        "/jobs/3/vertices/v/metrics": (200, b'[{"id":"0.tending.wardian.worker"},{"id":"0.x"}]'),
        "/jobs/3/vertices/v/metrics?get=0.tending.wardian.worker": (
            200,
            b'[{"id":"0.tending.wardian.worker","value":"-5; rm"}]',
        ),
    }
    with serving(tls, answers) as address:
        client = RestClient(address, tls)
        jobs = Jobs(client)
        with pytest.raises(PeerProtocolError):
            await jobs.subtasks("1")
        assert await jobs.subtasks("2") == []
        assert await jobs.state("2") is None
        ((subtask, report, reason),) = await jobs.subtasks("3")
        assert (subtask.endpoint, reason) == ("h:1", "")
        assert report is not None
        assert report.state == "waiting"
        client.close()


def test_files_that_are_missing(tmp_path) -> None:
    with pytest.raises(ConfigError):
        RestClient(("127.0.0.1", 1), FlinkTls(directory=tmp_path, password=""))
