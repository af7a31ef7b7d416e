"""What a hostile client can do to the front end: be refused, with a reason, and disturb nobody."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from simulators.front_end import FrontEnd, RawClient

from wardian.serving.http import connection as http1
from wardian.serving.http import server as http_server

MAX_BODY = 200_000
INFER = "/v1/models/digits:predict"
GOOD = json.dumps({"instances": [[0.0] * 64]}).encode()
HEAD = b"POST /v1/models/digits:predict HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def front() -> Iterator[FrontEnd]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_server, "MAX_SWEEP_S", 0.04)
        patch.setattr(http1, "LINGER_QUIET_S", 0.1)  # the tests wait for it many times
        with FrontEnd(
            max_body_bytes=MAX_BODY,
            header_timeout_s=1.0,
            body_timeout_s=1.0,
            idle_timeout_s=30.0,
            max_connections=24,
        ) as running:
            yield running


@pytest.fixture
def neighbour(front: FrontEnd) -> Iterator[RawClient]:
    """Another client's connection; it is served during and after whatever the test does."""
    with front.raw() as client:
        assert_served(client)
        yield client
        assert_served(client)


def assert_served(client: RawClient) -> None:
    status, _, body = client.post(INFER, GOOD)
    assert (status, list(json.loads(body))) == (200, ["predictions"])


def refused(client: RawClient, data: bytes) -> tuple[int, str]:
    """What the server says to `data`, after which it has to close the connection."""
    status, headers, body = client.send(data).response()
    assert headers["connection"] == "close"
    answer = json.loads(body)
    assert set(answer) == {"error", "code"}
    assert "Traceback" not in answer["error"]
    assert client.ended()
    return status, answer["error"]


def whole(front: FrontEnd, data: bytes) -> tuple[int, str]:
    with front.raw() as attacker:
        return refused(attacker, data)


@pytest.mark.parametrize(
    ("lines", "status", "says"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "can't be present"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, "can't be present"),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "Duplicate Content-Length"),
        (b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "Duplicate Content-Length"),
        (b"Content-Length: 5, 5\r\n\r\nhello", 400, "Invalid character in Content-Length"),
        (b"Content-Length: +5\r\n\r\nhello", 400, "Invalid character in Content-Length"),
        (b"Content-Length: -5\r\n\r\nhello", 400, "Invalid character in Content-Length"),
        (b"Content-Length: 99999999999999999999\r\n\r\n", 400, "overflow"),
        (b"Content-Length : 5\r\n\r\nhello", 400, "Invalid header field char"),
        (b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, "only Transfer-Encoding is chunked"),
        (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "only Transfer-Encoding is chunked"),
        (b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, "Invalid `Transfer-Encoding`"),
        (b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, "Invalid header value char"),
        (b"X-Folded: a\r\n b\r\n\r\n", 400, "whitespace after header value"),
        (b"X-Bare: a\nContent-Length: 5\r\n\r\nhello", 400, "Missing expected CR"),
        (b"X-Bare: a\rContent-Length: 5\r\n\r\nhello", 400, "Missing expected LF"),
        (b"X-Nul: a\0b\r\n\r\n", 400, "Invalid header value char"),
        (b"Host: y\r\n\r\n", 400, "exactly one Host"),
        (b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 415, "compressed"),
        (b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", 417, "100-continue"),
    ],
)  # fmt: skip
def test_smuggling_and_odd_headers_are_refused(
    front: FrontEnd, neighbour: RawClient, lines: bytes, status: int, says: str
) -> None:
    got, reason = whole(front, HEAD + lines)
    assert (got, says in reason) == (status, True), reason


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"GET / HTTP/1.1\nHost: x\n\n", 400, "CRLF"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "exactly one Host"),
        (b"GET /\r\n\r\n", 505, "HTTP/1.1"),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "HTTP/1.1"),
        (b"GET / HTTP/1.7\r\nHost: x\r\n\r\n", 400, "Invalid HTTP version"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"NONSENSE / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "unknown method"),
        (b"GET example.com HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid URL"),
        (b"CONNECT db:5432 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "path that begins with /"),
        (b"GET http://other/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "path that begins with /"),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid URL"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "unknown method"),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "needs HTTP/1.1"),
    ],
)
def test_what_is_not_http_1_1_is_refused(
    front: FrontEnd, neighbour: RawClient, data: bytes, status: int, says: str
) -> None:
    got, reason = whole(front, data)
    assert (got, says in reason) == (status, True), reason


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("chunks", "status", "says"),
    [
        (b"5\nhello\r\n0\r\n\r\n", 400, "Missing expected CR"),
        (b"5;a\nhello\r\n0\r\n\r\n", 400, "Missing expected CR"),
        (b"-5\r\nhello\r\n0\r\n\r\n", 400, "Invalid character in chunk size"),
        (b"0x5\r\nhello\r\n0\r\n\r\n", 400, "Invalid character in chunk size"),
        (b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n", 400, "Chunk size overflow"),
        (b"4\r\nhello\r\n0\r\n\r\n", 400, "LF after chunk data"),
        (b"%x\r\n" % (MAX_BODY + 1) + b"a" * (MAX_BODY + 1), 413, f"{MAX_BODY} bytes"),
    ],
)
def test_broken_and_large_chunks_are_refused(
    front: FrontEnd, neighbour: RawClient, chunks: bytes, status: int, says: str
) -> None:
    got, reason = whole(front, CHUNKED + chunks)
    assert (got, says in reason) == (status, True), reason


def test_an_endless_chunk_extension_is_cut_off(front: FrontEnd, neighbour: RawClient) -> None:
    with front.raw() as attacker:
        attacker.send(CHUNKED + b"1;")
        assert_served(neighbour)
        for _ in range(18):
            attacker.send(b"a" * 1000)
            time.sleep(0.002)
        status, reason = refused(attacker, b"")
        assert (status, "chunk extensions" in reason) == (400, True)


def test_many_small_chunk_extensions_are_cut_off(front: FrontEnd, neighbour: RawClient) -> None:
    with front.raw() as attacker:
        attacker.send(CHUNKED)
        for _ in range(36):
            attacker.send(b"1;" + b"b" * 500 + b"\r\na\r\n")
            time.sleep(0.001)
        status, reason = refused(attacker, b"")
        assert (status, "chunk extensions" in reason) == (400, True)


def test_chunks_with_sane_extensions_and_trailers_are_read(front: FrontEnd) -> None:
    with front.raw() as client:
        body = b"%x;name=value\r\n%b\r\n0\r\nHost: y\r\nContent-Encoding: gzip\r\n\r\n"
        status, _, answer = client.send(CHUNKED + body % (len(GOOD), GOOD)).response()
        assert (status, json.loads(answer)) == (200, {"predictions": [[0.0] * 10]})
        assert_served(client)  # the trailers meant nothing


def test_a_length_in_a_trailer_is_refused(front: FrontEnd, neighbour: RawClient) -> None:
    body = b"1\r\n{\r\n0\r\nContent-Length: 7\r\n\r\n"
    assert whole(front, CHUNKED + body)[0] == 400


def test_a_body_in_one_byte_chunks_is_read(front: FrontEnd) -> None:
    with front.raw() as client:
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n"
        status, _, _ = client.send(CHUNKED + chunks).response()
        assert status == 200


def test_ten_thousand_headers(front: FrontEnd, neighbour: RawClient) -> None:
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    assert whole(front, HEAD + lines + b"\r\n") == (431, "more than 100 headers")


def test_headers_that_are_too_large(front: FrontEnd, neighbour: RawClient) -> None:
    says = (431, "the headers are larger than 32768 bytes")
    assert whole(front, HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n") == says


def test_a_header_without_end(front: FrontEnd, neighbour: RawClient) -> None:
    with front.raw() as attacker:
        attacker.send(HEAD + b"X: ")
        for _ in range(12):
            attacker.send(b"a" * 4000)
            time.sleep(0.005)
        assert refused(attacker, b"")[0] == 431


def test_ten_thousand_repetitions_of_one_header(front: FrontEnd, neighbour: RawClient) -> None:
    assert whole(front, HEAD + b"X: y\r\n" * 10_000 + b"\r\n")[0] == 431


@pytest.mark.parametrize("length", [9_000, 100_000])
def test_a_huge_url(front: FrontEnd, neighbour: RawClient, length: int) -> None:
    data = b"GET /" + b"a" * length + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert whole(front, data) == (414, "the URL is longer than 8192 bytes")


def test_a_body_too_large_is_refused_before_it_is_sent(
    front: FrontEnd, neighbour: RawClient
) -> None:
    lines = b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1)
    says = f"a body of {MAX_BODY + 1} bytes is more than the {MAX_BODY} bytes that are accepted"
    assert whole(front, HEAD + lines) == (413, says)


def test_a_client_that_sends_its_large_body_regardless_still_reads_the_reason(
    front: FrontEnd, neighbour: RawClient
) -> None:
    body = b"a" * 3_000_000
    with front.raw() as attacker:
        status, reason = refused(attacker, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert (status, "3000000 bytes" in reason) == (413, True)


def test_expect_continue_is_refused_before_the_body(front: FrontEnd) -> None:
    lines = b"Expect: 100-continue\r\nContent-Length: 999999999\r\n\r\n"
    assert whole(front, HEAD + lines)[0] == 413


def test_expect_continue_is_granted(front: FrontEnd) -> None:
    with front.connect() as sock:
        sock.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(GOOD))
        assert sock.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert RawClient(sock).send(GOOD).response()[0] == 200


def test_headers_that_trickle(front: FrontEnd, neighbour: RawClient) -> None:
    with front.raw() as attacker:
        attacker.send(HEAD)
        for byte in b"Slow":
            attacker.send(bytes((byte,)))
            assert_served(neighbour)
            time.sleep(0.1)
        assert refused(attacker, b"") == (408, "the headers did not arrive within 1 s")


def test_a_body_that_trickles(front: FrontEnd, neighbour: RawClient) -> None:
    with front.raw() as attacker:
        attacker.send(HEAD + b"Content-Length: 1000\r\n\r\n")
        for _ in range(4):
            attacker.send(b"{")
            assert_served(neighbour)
            time.sleep(0.1)
        assert refused(attacker, b"") == (408, "the body did not arrive within 1 s")


def send_and_say_goodbye(front: FrontEnd, data: bytes) -> bytes:
    """Send `data` and the end of the TLS stream, and return what is still answered."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cadata=front.ca.certificate)
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", front.port), timeout=10) as sock:

        def do(step: Callable[..., object], *args: object) -> object:
            while True:
                try:
                    return step(*args)
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    received = sock.recv(65536)
                    incoming.write(received) if received else incoming.write_eof()

        do(tls.do_handshake)
        tls.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        return do(tls.read, 65536)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (HEAD + b"Content-Length: 1000\r\n\r\nhalf", "the body ended after 4 of 1000 bytes"),
        (HEAD, "the connection ended within the headers"),
    ],
)
def test_a_truncated_request(front: FrontEnd, neighbour: RawClient, data: bytes, says: str) -> None:
    before = front.open_connections
    answer = send_and_say_goodbye(front, data)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == says
    front.wait_for(lambda: front.open_connections <= before)


def test_a_connection_that_breaks_in_the_middle_leaves_nothing_behind(
    front: FrontEnd, neighbour: RawClient
) -> None:
    before = front.open_connections
    state = front.frontend._server._state
    sock = front.connect()
    sock.sendall(HEAD + b"Content-Length: 150000\r\n\r\n" + b"a" * 100_000)
    front.wait_for(lambda: state.buffered_bytes > 50_000)
    sock.close()
    front.wait_for(lambda: front.open_connections <= before and state.buffered_bytes == 0)


def test_a_connection_without_a_request_is_closed(front: FrontEnd, neighbour: RawClient) -> None:
    with front.connect() as sock:
        sock.settimeout(10)
        assert sock.recv(1) == b""


def test_a_tls_handshake_that_never_comes_is_closed(front: FrontEnd, neighbour: RawClient) -> None:
    with socket.create_connection(("127.0.0.1", front.port), timeout=10) as sock:
        sock.sendall(b"\x16\x03\x01")
        assert_served(neighbour)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""


@pytest.mark.parametrize("body", [b"not json", b"{", b"", b"\xff\xfe", b"[1]", b'{"instances":'])
def test_not_json(front: FrontEnd, neighbour: RawClient, body: bytes) -> None:
    status, _, answer = neighbour.post(INFER, body)
    error = json.loads(answer)
    assert (status, error["code"]) == (400, "bad_request")
    assert error["error"].startswith("request: ")


def test_deeply_nested_json(front: FrontEnd, neighbour: RawClient) -> None:
    for body in (b"[" * 90_000, b'{"instances":' + b"[" * 90_000 + b"]" * 90_000 + b"}"):
        assert neighbour.post(INFER, body)[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v2", "GET, HEAD"),
        ("GET", "/v2/models/digits/infer", "POST"),
        ("PUT", INFER, "POST"),
        ("OPTIONS", "/metrics", "GET, HEAD"),
        ("POST", "/v1/attestation", "GET, HEAD"),
    ],
)
def test_a_wrong_method(
    front: FrontEnd, neighbour: RawClient, method: str, path: str, allow: str
) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    status, headers, body = neighbour.send(request).response()
    assert (status, headers["allow"]) == (405, allow)
    assert json.loads(body) == {"error": f"this path takes {allow}", "code": "method_not_allowed"}


def test_pipelined_requests_are_answered_in_order(front: FrontEnd, neighbour: RawClient) -> None:
    one = b"GET /v2/models/%b HTTP/1.1\r\nHost: x\r\n\r\n"
    names = [b"digits", b"nobody", b"pair"] * 10
    with front.raw() as client:
        client.send(b"".join(one % name for name in names))
        assert_served(neighbour)
        statuses = [client.response()[0] for _ in names]
    assert statuses == [200, 404, 200] * 10


def test_a_slow_answer_keeps_its_place_in_the_pipeline(
    front: FrontEnd, neighbour: RawClient
) -> None:
    held = b"POST /v1/models/held:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
    with front.raw() as client:
        client.send(held % (len(GOOD), GOOD) + b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        front.wait_for(lambda: len(front.dispatcher.held) == 1)
        assert_served(neighbour)
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.sock.recv(1)  # the second answer waits for the first
        client.sock.settimeout(20)
        front.release()
        assert "predictions" in json.loads(client.response()[2])
        assert json.loads(client.response()[2])["name"] == "wardian"


def test_a_flood_of_pipelined_requests_is_answered_as_far_as_it_was_accepted(
    front: FrontEnd, neighbour: RawClient
) -> None:
    with front.raw() as client:
        client.send(b"POST /v1/models/held:predict HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(GOOD), GOOD))  # fmt: skip
        front.wait_for(lambda: len(front.dispatcher.held) == 1)
        client.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
        assert_served(neighbour)
        time.sleep(0.05)
        front.release()
        answers = [client.response() for _ in range(http1.MAX_PIPELINED + 1)]
        assert [status for status, _, _ in answers] == [200] * len(answers)
        assert answers[-1][1]["connection"] == "close"
        assert client.ended()


def test_a_bad_request_in_a_pipeline_is_answered_after_the_good_ones(
    front: FrontEnd, neighbour: RawClient
) -> None:
    with front.raw() as client:
        client.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"BAD\r\n\r\n")
        assert [client.response()[0] for _ in range(3)] == [200, 200, 400]
        assert client.ended()


def test_a_client_that_never_reads(front: FrontEnd, neighbour: RawClient) -> None:
    """Its answers fill its window; then nothing more is read from it, and then it is cut off."""
    before = front.open_connections
    rows = json.dumps({"instances": [[0.0] * 64] * 500}).encode()
    request = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (
        INFER.encode(), len(rows),
    )  # fmt: skip
    with front.connect() as sock:
        sock.settimeout(0.3)
        seen = len(front.dispatcher.seen)
        try:
            for _ in range(2000):
                sock.sendall(request + rows)
        except (TimeoutError, OSError):
            pass
        assert_served(neighbour)
        served = len(front.dispatcher.seen) - seen
        assert served < 2000
        front.wait_for(lambda: front.open_connections <= before)


def test_a_flood_of_connections_gives_way_to_a_newcomer(
    front: FrontEnd, neighbour: RawClient
) -> None:
    """At the limit the connection that is idle longest is closed; those at work stay."""
    flood = []
    try:
        for _ in range(60):
            sock = front.connect()
            flood.append(sock)
            RawClient(sock).get("/v2/health/live")
            assert front.open_connections <= 25
            assert_served(neighbour)  # and so it is never the one that was idle longest
        with front.raw() as newcomer:
            assert_served(newcomer)
    finally:
        for sock in flood:
            sock.close()
    front.wait_for(lambda: front.open_connections <= 1)


def test_a_flood_of_busy_connections_is_refused_at_the_limit(
    front: FrontEnd, neighbour: RawClient
) -> None:
    busy = []
    hold = b"POST /v1/models/held:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
    try:
        for _ in range(23):
            sock = front.connect()
            busy.append(sock)
            sock.sendall(hold % (len(GOOD), GOOD))
        front.wait_for(lambda: len(front.dispatcher.held) == 23)
        # 23 at work and the neighbour, who is idle: the first newcomer takes its place
        with front.connect() as first:
            first.sendall(hold % (len(GOOD), GOOD))
            front.wait_for(lambda: len(front.dispatcher.held) == 24)
            with pytest.raises((OSError, ssl.SSLError)):
                front.connect()
            front.release()
            assert RawClient(first).response()[0] == 200
            for sock in busy:
                assert RawClient(sock).response()[0] == 200
    finally:
        for sock in busy:
            sock.close()
    front.wait_for(lambda: front.open_connections <= 1)
    neighbour.sock.close()
    neighbour.__init__(front.connect())  # it was closed while it was idle, as any client may be


def test_half_open_handshakes_count_as_connections(front: FrontEnd, neighbour: RawClient) -> None:
    before = front.open_connections
    half = [socket.create_connection(("127.0.0.1", front.port), timeout=10) for _ in range(10)]
    try:
        front.wait_for(lambda: front.open_connections == before + 10)
        assert_served(neighbour)
        front.wait_for(lambda: front.open_connections == before)  # after header_timeout_s
    finally:
        for sock in half:
            sock.close()


def test_who_asks_for_evidence_without_end_locks_nobody_out(
    front: FrontEnd, neighbour: RawClient
) -> None:
    """Asking costs the platform, so it is rationed; but every connection has its turn."""
    ask = f"/v1/attestation?nonce={'ab' * 32}"
    stop = threading.Event()
    statuses: list[int] = []

    def loop() -> None:
        with front.raw() as greedy:
            while not stop.is_set():
                statuses.append(greedy.get(ask)[0])

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        front.wait_for(lambda: len(statuses) > 44)  # the ration is used up
        for _ in range(4):
            with front.raw() as newcomer:
                assert newcomer.get(ask)[0] == 200
        assert_served(neighbour)
    finally:
        stop.set()
        thread.join(10)


def test_many_large_bodies_at_once_are_refused_before_memory_is(front: FrontEnd) -> None:
    state = front.frontend._server._state
    normal, state.max_buffered_bytes = state.max_buffered_bytes, 250_000
    try:
        with front.connect() as first, front.raw() as second:
            first.sendall(HEAD + b"Content-Length: 190000\r\n\r\n" + b"a" * 180_000)
            front.wait_for(lambda: state.buffered_bytes >= 150_000)
            status, reason = refused(
                second, HEAD + b"Content-Length: 190000\r\n\r\n" + b"a" * 189_000
            )
            assert (status, "at once" in reason) == (503, True)
    finally:
        state.max_buffered_bytes = normal
    front.wait_for(lambda: state.buffered_bytes == 0)


def test_who_disconnects_does_not_free_the_memory_of_what_is_being_served(
    front: FrontEnd, neighbour: RawClient
) -> None:
    """The dispatcher keeps the inputs until it has answered, whoever hears it."""
    state = front.frontend._server._state
    front.wait_for(lambda: state.buffered_bytes == 0)
    hold = b"POST /v1/models/held:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
    before = front.open_connections
    for number in range(3):
        with front.connect() as sock:
            sock.sendall(hold % (len(GOOD), GOOD))
            front.wait_for(lambda number=number: len(front.dispatcher.held) == number + 1)
    front.wait_for(lambda: front.open_connections == before)
    assert state.buffered_bytes == 3 * len(GOOD)
    front.release()
    assert state.buffered_bytes == 0
