"""Asking a PCCS, over a socket that does what a test wants and a clock that it moves."""

import socket
import ssl
from collections.abc import Iterable, Iterator

import pytest
from collateral_cases import fields_of, made, model
from simulators.pccs import answer_for

from wardian.attestation.collateral import pccs_client
from wardian.attestation.collateral.pccs import INTEL_PCS, Question, parse_pccs
from wardian.attestation.collateral.pccs_client import (
    MAX_ANSWER_BYTES,
    PccsClient,
    connect_resolved,
    connect_to,
)
from wardian.errors import ConnectionLost, FormatError, PeerProtocolError, Timeout

URL = "http://pccs.example:8081"


class Wire:
    """A socket: says `script` piece by piece, each of which takes `pause_s` on the clock."""

    def __init__(self, clock: "Clock", script: Iterable[bytes], *, pause_s: float = 0.0) -> None:
        self.clock, self.script, self.pause_s = clock, iter(script), pause_s
        self.sent, self.pending, self.closed, self.timeout = b"", b"", False, 0.0

    def settimeout(self, timeout_s: float) -> None:
        assert timeout_s > 0  # 0 would mean: do not wait at all
        self.timeout = timeout_s

    def sendall(self, content: bytes) -> None:
        self.sent += content

    def recv_into(self, buffer: memoryview) -> int:
        if not self.pending:
            self.clock.pass_s(min(self.pause_s, self.timeout))
            if self.pause_s > self.timeout:
                raise TimeoutError
            self.pending = next(self.script, b"")
        count = min(len(buffer), len(self.pending))
        buffer[:count], self.pending = self.pending[:count], self.pending[count:]
        return count

    def close(self) -> None:
        self.closed = True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += seconds


class Network:
    """Opens a `Wire` for each question; `script` makes what it says."""

    def __init__(self, script=None, **options) -> None:
        self.clock, self.options = Clock(), options
        self.script = script or (lambda question: [honest(question)])
        self.wires: list[Wire] = []
        self.questions: list[Question] = []

    def connect(self, question, left):
        assert left() > 0
        self.questions.append(question)
        self.wires.append(Wire(self.clock, self.script(question), **self.options))
        return self.wires[-1]

    def fetch(self, url: str = URL) -> bytes:
        client = PccsClient(parse_pccs(url), clock=self.clock, connect=self.connect)
        return client.fetch(model())


RAW = made()


def honest(question: Question) -> bytes:
    reply = answer_for([RAW], question.target)
    return response(reply.body, reply.headers)


def response(body: bytes, headers=(), status="200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(*pieces: bytes):
    return lambda _question: list(pieces)


def forever(head: bytes, piece: bytes):
    def script(_question) -> Iterator[bytes]:
        yield head
        while True:
            yield piece

    return script


# --- what is asked -------------------------------------------------------------------------------


def test_four_questions_and_their_answers():
    network = Network()
    assert fields_of(network.fetch()) == fields_of(RAW)
    assert [question.target.partition("?")[0] for question in network.questions] == [
        "/sgx/certification/v4/pckcrl",
        "/sgx/certification/v4/rootcacrl",
        "/tdx/certification/v4/tcb",
        "/tdx/certification/v4/qe/identity",
    ]
    assert all(wire.closed for wire in network.wires)
    request = network.wires[2].sent.decode()
    assert request.startswith("GET /tdx/certification/v4/tcb?fmspc=57524453494D&update=standard ")
    assert "\r\nHost: pccs.example:8081\r\n" in request
    assert request.count("\r\n\r\n") == 1


def test_in_pieces_and_without_an_announced_length():
    def script(question):
        content = honest(question)
        return [content[at : at + 7] for at in range(0, len(content), 7)]

    assert fields_of(Network(script).fetch()) == fields_of(RAW)

    def until_closed(question):
        head, _, body = honest(question).partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        return [b"\r\n".join(lines) + b"\r\n\r\n" + body]

    assert fields_of(Network(until_closed).fetch()) == fields_of(RAW)


def test_no_proxy_is_taken_from_the_environment(monkeypatch):
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://attacker.example:3128")
    network = Network()
    network.fetch()
    assert {question.host for question in network.questions} == {"pccs.example"}


# --- attacks: time -------------------------------------------------------------------------------


def test_one_byte_a_second_does_not_last_longer_than_the_deadline():
    network = Network(forever(b"HTTP/1.1 200 OK\r\nX-Pad: ", b"a"), pause_s=1.0)
    with pytest.raises(Timeout, match="within 10 seconds"):
        network.fetch()
    assert network.clock.now == 110.0
    assert network.wires[0].closed


def test_silence():
    network = Network(always(), pause_s=1e6)
    with pytest.raises(Timeout):
        network.fetch()
    assert network.clock.now == 110.0


def test_all_questions_have_one_deadline():
    network = Network(pause_s=3.0)
    with pytest.raises(Timeout):
        network.fetch()
    assert len(network.wires) == 4  # three seconds each, and the fourth had one left
    assert network.clock.now == 110.0


# --- attacks: size -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP",
    ],
)
def test_more_than_an_answer_may_have(head):
    network = Network(forever(head, bytes(65536)))
    with pytest.raises(PeerProtocolError):
        network.fetch()
    assert next(network.wires[0].script) == bytes(65536)  # it would have gone on


def test_endless_chunks():
    network = Network(
        forever(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"4000\r\n" + bytes(0x4000) + b"\r\n",
        )
    )
    with pytest.raises(PeerProtocolError):
        network.fetch()


def test_endless_interim_answers():
    interim = b"HTTP/1.1 100 Continue\r\nX: a\r\n\r\n"
    network = Network(forever(interim, interim))
    with pytest.raises(PeerProtocolError, match=f"more than {MAX_ANSWER_BYTES}"):
        network.fetch()


def test_the_announced_length_reserves_nothing(monkeypatch):
    asked: list[int] = []
    original = pccs_client._Reader.readinto

    def readinto(self, buffer):
        asked.append(len(buffer))
        return original(self, buffer)

    monkeypatch.setattr(pccs_client._Reader, "readinto", readinto)
    network = Network(always(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\nabc"))
    with pytest.raises(PeerProtocolError, match="too long, or was cut off"):
        network.fetch()
    assert max(asked) <= MAX_ANSWER_BYTES + 1


def test_an_answer_that_is_cut_off():
    def script(question):
        return [honest(question)[:-1]]

    with pytest.raises(PeerProtocolError, match="cut off"):
        Network(script).fetch()


# --- attacks: other answers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        "https://attacker.example/sgx/certification/v4/pckcrl",
        "/elsewhere",
    ],
)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_no_redirect_is_followed(location, status):
    network = Network(always(response(b"", [("Location", location)], status)))
    with pytest.raises(PeerProtocolError, match="redirects are not followed"):
        network.fetch()
    assert len(network.questions) == 1


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("404 Not Found", "no such collateral there"),
        ("461 Unknown", "answered 461"),
        ("500 Oops", "answered 500"),
        ("204 No Content", "answered 204"),
        ("206 Partial", "answered 206"),
    ],
)
def test_other_statuses(status, told):
    with pytest.raises(PeerProtocolError, match=told):
        Network(always(response(b"", status=status))).fetch()


@pytest.mark.parametrize(
    "content",
    [
        b"\x15\x03\x03\x00\x02\x02\x28",  # a TLS alert
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc",
        b"",
    ],
)
def test_what_is_no_http(content):
    with pytest.raises((PeerProtocolError, ConnectionLost)):
        Network(always(content)).fetch()


def test_an_answer_of_another_form():
    with pytest.raises(FormatError):
        Network(always(response(b"<html>hello</html>"))).fetch()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ssl.SSLError("no"), "SSLError"),
    ],
)
def test_no_way_there(error, told):
    def connect(_question, _left):
        raise error

    with pytest.raises(ConnectionLost, match=f"pccs.example:8081: {told}"):
        PccsClient(parse_pccs(URL), connect=connect).fetch(model())


# --- opening a stream ----------------------------------------------------------------------------


@pytest.fixture
def resolved(monkeypatch):
    """Six addresses of which each refuses, until a test says which one answers."""
    tried: list[str] = []
    answering: set[str] = set()
    names = [f"10.0.0.{last}" for last in range(1, 7)]

    def getaddrinfo(_host, port, *, type):  # noqa: A002
        return [(socket.AF_INET, type, 6, "", (name, port)) for name in names]

    def create_connection(address, timeout):
        assert timeout == 5.0
        tried.append(address[0])
        if address[0] not in answering:
            raise ConnectionRefusedError(111, "Connection refused")
        return socket.socket()

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    return tried, answering


def question(*, secure: bool) -> Question:
    return Question(secure=secure, host="pccs.example", port=8081, target="/")


def test_some_addresses_are_tried_and_not_all(resolved):
    tried, _ = resolved
    with pytest.raises(ConnectionRefusedError):
        connect_to(question(secure=False), lambda: 5.0)
    assert tried == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]


def test_the_first_address_that_answers(resolved):
    tried, answering = resolved
    answering.add("10.0.0.2")
    connect_to(question(secure=False), lambda: 5.0).close()
    assert tried == ["10.0.0.1", "10.0.0.2"]


def test_a_failed_handshake_leaves_nothing_open(resolved, monkeypatch):
    _, answering = resolved
    answering.add("10.0.0.1")
    opened: list[socket.socket] = []

    def wrap_socket(_context, channel, *, server_hostname):
        assert server_hostname == "pccs.example"
        opened.append(channel)
        raise ssl.SSLError("no TLS there")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap_socket)
    with pytest.raises(ssl.SSLError):
        connect_to(question(secure=True), lambda: 5.0)
    assert [channel.fileno() for channel in opened] == [-1]


def test_the_clock_stops_addresses_too(resolved):
    def left():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        connect_to(question(secure=False), left)
    assert resolved[0] == []


def test_a_process_without_a_resolver_goes_where_it_was_told(resolved, monkeypatch):
    tried, answering = resolved
    answering.add("10.0.0.9")
    monkeypatch.setattr(socket, "getaddrinfo", pytest.fail)
    connect = connect_resolved({"pccs.example": "10.0.0.9"})
    connect(question(secure=False), lambda: 5.0).close()
    assert tried == ["10.0.0.9"]
    with pytest.raises(OSError, match="nobody said where"):
        connect_resolved({"other.example": "10.0.0.9"})(question(secure=False), lambda: 5.0)


def test_it_still_speaks_tls_to_the_name(resolved, monkeypatch):
    resolved[1].add("10.0.0.9")
    shown: list[str] = []

    def wrap_socket(_context, channel, *, server_hostname):
        shown.append(server_hostname)
        return channel

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap_socket)
    connect_resolved({"pccs.example": "10.0.0.9"})(question(secure=True), lambda: 5.0).close()
    assert shown == ["pccs.example"]


def test_which_hosts_are_asked():
    own = parse_pccs("https://pccs.example:8081/x")
    assert own.hosts() == (("pccs.example", 8081),)
    intel = parse_pccs(f"https://{INTEL_PCS}")
    asked = {(each.host, each.port) for each in intel.questions(model()).values()}
    assert set(intel.hosts()) == asked
    assert len(asked) == 2
