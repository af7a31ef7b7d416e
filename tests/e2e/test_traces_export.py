"""`wardian traces` against a collector on loopback: files, pipes, TLS, and a collector in trouble."""

import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from simulators.front_end import FrontEnd, make_identity
from simulators.otlp_collector import OtlpCollector, Reply
from simulators.tenants import ClientAuthority

from wardian.cli.traces.collector import MAX_ANSWER_BYTES, Collector, parse_endpoint
from wardian.errors import ConfigError, ConnectionLost, PeerProtocolError, Timeout
from wardian.serving.http.tls import server_context

TRACE = "ab" * 16


def line(number: int) -> bytes:
    fields = {
        "time": 1.5, "level": "info", "role": "frontend", "event": "span", "name": "queue",
        "trace": TRACE, "span": f"{number:016x}", "parent": "0b" * 8,
        "start_ns": 1_800_000_000_000_000_000, "duration_ns": 5,
    }  # fmt: skip
    return json.dumps(fields).encode() + b"\n"


OTHERS = b'{"event": "worker.admitted", "model": "digits"}\n\xff\xfe not JSON\n' + b"x" * 20_000
GARBAGE = b'{"event": "span", "name": "queue"}\n' + OTHERS + b"\n"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "wardian.cli", "traces", *arguments]


def run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments), input=given, capture_output=True, timeout=60, check=False
    )


def numbers(collector: OtlpCollector) -> list[int]:
    return [int(each["spanId"], 16) for each in collector.spans()]


def test_a_file_is_sent_whole(tmp_path: Path) -> None:
    log, more = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    log.write_bytes(b"".join(GARBAGE + line(n) for n in range(1, 701)))
    more.write_bytes(line(701)[:-1])  # cut off, but whole
    with OtlpCollector() as collector:
        done = run("--endpoint", collector.url, str(log), str(more), "--service", "mine")
    assert done.returncode == 0, done.stderr
    assert numbers(collector) == list(range(1, 702))
    assert len(collector.requests) == 2
    attributes = collector.requests[0]["resourceSpans"][0]["resource"]["attributes"]
    assert attributes == [{"key": "service.name", "value": {"stringValue": "mine"}}]
    head = collector.heads[0]
    assert (head["path"], head["content-type"]) == ("/v1/traces", "application/json")
    assert done.stdout == b""
    assert b"701 sent, 0 waiting, 0 dropped, 0 refused, 0 given up" in done.stderr
    assert b"700 lines said that they are spans, and were none" in done.stderr


def test_other_lines_of_a_pipe_go_on_as_they_are() -> None:
    given = GARBAGE + line(1) + OTHERS + b"\n" + line(2) + b"no end"
    with OtlpCollector() as collector:
        done = run("--endpoint", collector.url, given=given)
    assert done.returncode == 0, done.stderr
    assert numbers(collector) == [1, 2]
    assert done.stdout == GARBAGE + OTHERS + b"\nno end"


def test_an_empty_log_is_no_request() -> None:
    with OtlpCollector() as collector:
        assert run("--endpoint", collector.url, given=OTHERS).returncode == 0
    assert collector.requests == []


def test_a_busy_collector_gets_it_later_and_one_that_refuses_gets_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(line(1))
    with OtlpCollector(Reply(503, headers=(("Retry-After", "0"),))) as collector:
        done = run("--endpoint", collector.url, str(log))
    assert (done.returncode, numbers(collector)) == (0, [1, 1])
    assert b"it answers 503; spans wait" in done.stderr
    with OtlpCollector(Reply(500, b"\x00garbage")) as collector:
        done = run("--endpoint", collector.url, str(log))
    assert (done.returncode, numbers(collector)) == (1, [1])
    assert b"1 refused" in done.stderr
    assert b"not every span arrived" in done.stderr


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Any]:
    """Start `wardian traces -f`; its process ends with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command("-f", *arguments), stderr=subprocess.PIPE)
        running.append(process)
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"following ")
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_log_that_grows(tmp_path: Path, following: Any, by: signal.Signals) -> None:
    log, arrived = tmp_path / "later.jsonl", threading.Event()
    with OtlpCollector() as collector:
        process = following("--endpoint", collector.url, str(log))
        log.write_bytes(b"".join(line(n) for n in range(1, 514)))  # more than a batch
        while not collector.requests:
            assert process.poll() is None
            arrived.wait(0.02)
        process.send_signal(by)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert sorted(numbers(collector))[:512] == list(range(1, 513))


def test_a_followed_log_waits_for_a_collector_that_is_away(tmp_path: Path, following: Any) -> None:
    log = tmp_path / "later.jsonl"
    with socket.socket() as nobody:  # the port is taken, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        process = following("--endpoint", f"http://127.0.0.1:{nobody.getsockname()[1]}", str(log))
        log.write_bytes(b"".join(line(n) for n in range(1, 514)))
        assert process.stderr.readline() == b"collector: Connection refused; spans wait\n"
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"513 given up" in told or b"512 given up" in told  # the last line may not be read yet


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--endpoint", "grpc://localhost:4317"], b"http(s)://HOST:PORT/v1/traces was expected"),
        (["--endpoint", "http://u:hunter2@localhost"], b"no user and no password"),
        (["--endpoint", "http://localhost", "-f"], b"name the files"),
        (["--endpoint", "http://localhost", "--ca", __file__], b"proves nothing"),
        (["--endpoint", "https://localhost", "--ca", __file__], b"no certificates"),
        ([], b"--endpoint"),
    ],
)
def test_wrong_use(arguments: list[str], says: bytes) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert b"hunter2" not in done.stderr


def test_a_file_that_is_not_there() -> None:
    done = run("--endpoint", "http://localhost:9", "/nowhere/log")
    assert done.returncode == 1
    assert b"/nowhere/log" in done.stderr


def collector_of(url: str, ca: Path | None = None, timeout_s: float = 20) -> Collector:
    return Collector(parse_endpoint(url), ca=ca, timeout_s=timeout_s)


def test_tls_proves_the_collector(tmp_path: Path) -> None:
    front = FrontEnd()  # for its certificate alone
    ca, other = tmp_path / "ca.pem", tmp_path / "other.pem"
    ca.write_text(ssl.DER_cert_to_PEM_cert(front.ca.certificate))
    other.write_text(ssl.DER_cert_to_PEM_cert(ClientAuthority(tmp_path).der))
    with OtlpCollector(tls=server_context(front.identity)) as collector:
        assert collector_of(collector.url, ca).post(b"{}").status == 200
        for wrong in (other, None):
            with pytest.raises(ConnectionLost, match="certificate is refused"):
                collector_of(collector.url, wrong).post(b"{}")
        plain = collector.url.replace("https", "http")
        with pytest.raises((ConnectionLost, PeerProtocolError)):
            collector_of(plain).post(b"{}")
    nameless = server_context(make_identity(front.issuer, role="worker"))
    with (
        OtlpCollector(tls=nameless) as other_name,
        pytest.raises(ConnectionLost, match="certificate is refused"),
    ):
        collector_of(other_name.url, ca).post(b"{}")
    front.loop.close()
    assert (len(collector.requests), other_name.requests) == (1, [])
    with pytest.raises(ConfigError):
        collector_of("https://localhost", Path(__file__))


def test_a_slow_collector_is_not_waited_for() -> None:
    late = threading.Event()
    with OtlpCollector(Reply(wait=late)) as collector:
        try:
            with pytest.raises(Timeout):
                collector_of(collector.url, timeout_s=0.1).post(b"{}")
        finally:
            late.set()


def test_a_long_answer_is_cut_off() -> None:
    with OtlpCollector(Reply(body=b"x" * 2**20)) as collector:
        assert len(collector_of(collector.url).post(b"{}").body) == MAX_ANSWER_BYTES


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00" * 100, b"220 smtp\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200,
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"x" * 100_000],
)  # fmt: skip
def test_what_is_no_collector(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        with pytest.raises((PeerProtocolError, ConnectionLost)):
            collector_of(f"http://127.0.0.1:{port}").post(b"{}")
        thread.join()
