"""The generate extension over real TLS: whole, as events, over HTTP/1.1 and HTTP/2."""

import asyncio
import contextlib
import json
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from simulators.front_end import RawClient, make_manifest
from simulators.generating import NEXT, GeneratingFrontEnd, tiny
from simulators.http2_client import CANCEL, RST_STREAM, Http2Client, Reset, frame, settings, u32
from simulators.tenants import key_of, terms, verified

from wardian._internal.clock import monotonic, unix_time
from wardian.inference.generate.parts import Ask, build_inputs, parse_outputs
from wardian.serving.http import server as http_server
from wardian.serving.sealed_types import REQUEST_TYPE
from wardian.serving.tenants.roster import Roster

GENERATE = "/v2/models/tiny/generate"
STREAM = "/v2/models/tiny/generate_stream"
TEXT = "the owner"


@pytest.fixture(scope="module")
def front() -> Iterator[GeneratingFrontEnd]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_server, "MAX_SWEEP_S", 0.04)
        with GeneratingFrontEnd(body_timeout_s=0.5, deadline_ms=5000) as running:
            running.wait_for(lambda: running.dispatcher.catalog()["tiny"].ready)
            yield running


@pytest.fixture(autouse=True)
def _quick(front: GeneratingFrontEnd) -> Iterator[None]:
    yield
    front.delay_s = 0.0
    while len(front.workers) < 2:
        front.call(front.hire)


def whole(tokens: int, **ask: Any) -> str:
    """What the model says by itself, in one part."""
    part = parse_outputs(tiny().infer(build_inputs(TEXT.encode(), Ask(max_tokens=tokens, **ask))))
    return part.text.decode()


def body(text: str | None = TEXT, **parameters: Any) -> bytes:
    return json.dumps({"text_input": text, "parameters": parameters}).encode()


def post(client: RawClient, path: str, raw: bytes, **headers: str) -> None:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n{lines}\r\n"
    client.send(head.encode() + raw)


def events(raw: bytes) -> list[dict[str, Any]]:
    lines = raw.decode().split("\n\n")
    assert lines.pop() == ""
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def text_of(found: list[dict[str, Any]]) -> str:
    return "".join(each["text_output"] for each in found)


def first_event(client: RawClient) -> bytes:
    """Read the head and the first event; what follows stays with the connection."""
    raw = b""
    while raw.count(b"\n\n") < 1 or b"data: " not in raw:
        raw += client.sock.recv(65536)
    return raw


def test_whole(front: GeneratingFrontEnd) -> None:
    with front.raw() as client:
        status, headers, raw = client.post(GENERATE, body(max_tokens=40))
        said = json.loads(raw)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert said == {
            "model_name": "tiny", "model_version": "1", "text_output": whole(40),
            "finish_reason": "length", "prompt_tokens": 8, "generated_tokens": 40,
        }  # fmt: skip
        deeper = client.post("/v2/models/tiny/versions/1/generate", body(max_tokens=40))
        assert deeper[2] == raw


def test_as_events(front: GeneratingFrontEnd) -> None:
    before = len(front.parts)
    with front.raw() as client:
        for _ in range(2):  # the connection goes on
            status, headers, raw = client.post(STREAM, body(max_tokens=40))
            assert (status, headers["content-type"]) == (200, "text/event-stream")
            assert headers["transfer-encoding"] == "chunked"
            found = events(raw)
            assert text_of(found) == whole(40)
            assert found[-1]["finish_reason"] == "length"
            assert (found[-1]["prompt_tokens"], found[-1]["generated_tokens"]) == (8, 40)
            assert not any("finish_reason" in each for each in found[:-1])
        assert client.post("/v2/models/tiny/infer", b"{}")[0] == 400
    assert len(front.parts) - before == 2 * 6  # 1, 2, 4, 8, 16, 9


def test_drawn_by_a_seed(front: GeneratingFrontEnd) -> None:
    asked = {"max_tokens": 30, "temperature": 1.2, "top_k": 50, "top_p": 0.95}
    with front.raw() as client:
        one = text_of(events(client.post(STREAM, body(seed=5, **asked))[2]))
        two = json.loads(client.post(GENERATE, body(seed=5, **asked))[2])["text_output"]
        assert one == two == whole(30, temperature=1.2, top_k=50, top_p=0.95, seed=5)
        unseeded = {client.post(GENERATE, body(**asked))[2] for _ in range(3)}
        assert len(unseeded) == 3


def test_a_stop_text_and_an_id(front: GeneratingFrontEnd) -> None:
    said = whole(60)
    stop = said[8:11]
    raw = json.loads(body(max_tokens=60, stop=stop, stream=True)) | {"id": "seven"}
    with front.raw() as client:
        found = events(client.post(STREAM, json.dumps(raw).encode())[2])
    assert text_of(found) == said[: said.index(stop)]
    assert found[-1]["finish_reason"] == "stop"
    assert {each["id"] for each in found} == {"seven"}


def test_a_prompt_in_numbers(front: GeneratingFrontEnd) -> None:
    numbers = tiny()._prompt(TEXT.encode(), Ask())
    raw = json.dumps({"input_ids": numbers, "parameters": {"max_tokens": 20}}).encode()
    with front.raw() as client:
        assert json.loads(client.post(GENERATE, raw)[2])["text_output"] == whole(20)


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (b"{", 400, "JSON"),
        (b"[]", 400, "expected"),
        (b"{}", 400, "exactly one"),
        (json.dumps({"text_input": "a", "input_ids": [1]}).encode(), 400, "exactly one"),
        (b'{"text_input":"\\ud800"}', 400, ""),
        (json.dumps({"text_input": "a", "prompt": "b"}).encode(), 400, "prompt"),
        (body(max_tokens=-1), 400, "max_tokens"),
        (body(max_tokens=32_769), 400, "max_tokens"),
        (body(max_tokens="many"), 400, "max_tokens"),
        (body(temperature=-0.1), 400, "temperature"),
        (body(temperature=101), 400, "temperature"),
        (body(top_p=0), 400, "top_p"),
        (body(top_k=-1), 400, "top_k"),
        (body(seed=-1), 400, "seed"),
        (body(seed=2**63), 400, "seed"),
        (body(stop=""), 400, "stop"),
        (body(stop=["a"] * 5), 400, "stop"),
        (body(stop=["a" * 129]), 400, "stop"),
        (body(presence_penalty=1), 400, "presence_penalty"),
        (body(timeout="soon"), 400, "timeout"),
        (body(""), 400, "no token"),
        (body("a" * 70_000), 413, "too long"),
        (body("a b" * 1000), 413, "at most 768"),
        (json.dumps({"input_ids": [400]}).encode(), 400, "not what the model expects"),
    ],
)
def test_what_cannot_be_served(
    front: GeneratingFrontEnd, raw: bytes, status: int, said: str
) -> None:
    with front.raw() as client:
        for path in (GENERATE, STREAM):
            answer = client.post(path, raw)
            assert (answer[0], answer[1]["content-type"]) == (status, "application/json")
            assert said in json.loads(answer[2])["error"]


def test_no_token_is_asked_for(front: GeneratingFrontEnd) -> None:
    with front.raw() as client:
        found = events(client.post(STREAM, body(max_tokens=0))[2])
    assert found == [
        {"model_name": "tiny", "model_version": "1", "text_output": "", "finish_reason": "length",
         "prompt_tokens": 8, "generated_tokens": 0}
    ]  # fmt: skip


def test_other_models_methods_and_types(front: GeneratingFrontEnd) -> None:
    with front.raw() as client:
        status, _, raw = client.post("/v2/models/digits/generate", body())
        assert (status, "use /infer" in json.loads(raw)["error"]) == (400, True)
        assert client.post("/v2/models/none/generate_stream", body())[0] == 404
        assert client.post("/v2/models/tiny/versions/9/generate", body())[0] == 404
        assert client.get(STREAM)[0] == 405
        sealed = {"Content-Type": REQUEST_TYPE.decode()}
        status, _, raw = client.post(STREAM, body(), sealed)
        assert (status, "sealed" in json.loads(raw)["error"]) == (415, True)
        assert client.post(STREAM, body(), {"Content-Type": "image/png"})[0] == 415


def test_plain_infer_answers_whole(front: GeneratingFrontEnd) -> None:
    def tensor(name: str, text: str) -> dict[str, Any]:
        return {"name": name, "shape": [1], "datatype": "BYTES", "data": [text]}

    raw = {"inputs": [tensor("text_input", TEXT), tensor("sampling_parameters",
                                                         '{"max_tokens":40}')]}  # fmt: skip
    before = len(front.parts)
    with front.raw() as client:
        status, _, answer = client.post("/v2/models/tiny/infer", json.dumps(raw).encode())
        found = {each["name"]: each["data"] for each in json.loads(answer)["outputs"]}
        assert (status, found["text_output"], found["finish_reason"]) == (200, [whole(40)],
                                                                          ["length"])  # fmt: skip
        raw["inputs"][1]["data"] = ['{"max_tokens":"many"}']
        assert client.post("/v2/models/tiny/infer", json.dumps(raw).encode())[0] == 400
    assert len(front.parts) == before + 2


def test_http_1_0_and_connections_that_end(front: GeneratingFrontEnd) -> None:
    raw = body(max_tokens=20)
    for line, header in (("1.0", b""), ("1.1", b"Connection: close\r\n")):
        with front.raw() as client:
            head = f"POST {STREAM} HTTP/{line}\r\nHost: x\r\nContent-Length: {len(raw)}\r\n"
            client.send(head.encode() + header + b"\r\n" + raw)
            got = b""
            with contextlib.suppress(OSError):
                while more := client.sock.recv(65536):
                    got += more
        top, _, rest = got.partition(b"\r\n\r\n")
        assert b"Connection: close" in top
        assert (b"chunked" in top) is (line == "1.1")
        if line == "1.1":
            assert rest.endswith(b"0\r\n\r\n")
            rest = b"".join(part for part in rest.split(b"\r\n") if part.startswith(b"data"))
        assert text_of(events(rest)) == whole(20)


def test_requests_behind_a_stream_wait_for_its_end(front: GeneratingFrontEnd) -> None:
    with front.raw() as client:
        post(client, STREAM, body(max_tokens=20))
        client.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        post(client, GENERATE, body(max_tokens=3))
        assert text_of(events(client.response()[2])) == whole(20)
        assert json.loads(client.response()[2]) == {"live": True}
        assert json.loads(client.response()[2])["text_output"] == whole(3)


def test_a_worker_dies_within_a_stream(front: GeneratingFrontEnd) -> None:
    front.delay_s = 0.03
    before = front.dispatcher.counters.redelivered
    with front.raw() as client:
        post(client, STREAM, body(max_tokens=60))
        raw = first_event(client)
        front.call(front.hire)
        front.call(front.kill, 0)  # the one that has the stream's keys and values, and a part
        front.delay_s = 0.0
        while not raw.endswith(b"0\r\n\r\n"):
            raw += client.sock.recv(65536)
    parts = [line for line in raw.split(b"\r\n") if line.startswith(b"data")]
    assert text_of(events(b"".join(parts))) == whole(60)
    assert front.dispatcher.counters.redelivered == before + 1


def test_a_client_that_left_costs_no_more_than_a_part(front: GeneratingFrontEnd) -> None:
    front.delay_s = 0.05
    with front.raw() as client:
        post(client, STREAM, body(max_tokens=200))
        first_event(client)
    front.wait_for(lambda: front.open_connections == 0)
    asked = len(front.parts)
    time.sleep(0.3)  # as long as several parts take
    assert len(front.parts) <= asked + 1
    front.wait_for(lambda: front.frontend._api.in_flight == 0)
    assert front.dispatcher.open_requests == 0


def test_an_error_within_a_stream_is_its_last_event(front: GeneratingFrontEnd) -> None:
    front.delay_s = 0.05
    with front.raw() as client:
        status, _, raw = client.post(STREAM, body(max_tokens=200, timeout=220_000))
        found = events(raw)
        assert status == 200
        assert found[-1].keys() == {"error", "code"}
        assert found[-1]["code"] == "deadline_exceeded"
        assert whole(200).startswith(text_of(found[:-1]))
        assert client.get("/v2/health/live")[0] == 200  # the connection goes on
        assert client.post(GENERATE, body(max_tokens=200, timeout=220_000))[0] == 504
    assert front.frontend._api.in_flight == 0


def test_as_much_as_may_waits_within_a_stream(front: GeneratingFrontEnd) -> None:
    def crowd(size: int) -> None:
        front.dispatcher._max_waiting = size

    front.delay_s = 0.02
    with front.raw() as client:
        post(client, STREAM, body(max_tokens=30))
        raw = first_event(client)
        front.call(crowd, 0)
        with front.raw() as other:
            assert other.post(GENERATE, body())[0] == 429
        time.sleep(0.1)
        front.call(crowd, 64)
        while not raw.endswith(b"0\r\n\r\n"):
            raw += client.sock.recv(65536)
    assert b'"error"' not in raw


def test_the_version_that_began_goes_on(front: GeneratingFrontEnd) -> None:
    front.delay_s = 0.02
    with front.raw() as client:
        post(client, STREAM, body(max_tokens=40))
        raw = first_event(client)
        front.call(front.hire, NEXT)  # the newest takes what names none
        front.wait_for(lambda: 2 in front.dispatcher.catalog()["tiny"].ready_versions)
        with front.raw() as other:
            said = json.loads(other.post(GENERATE, body(max_tokens=2))[2])
            assert said["model_version"] == "2"
        while not raw.endswith(b"0\r\n\r\n"):
            raw += client.sock.recv(65536)
    assert raw.count(b'"model_version":"1"') == raw.count(b"data: ")
    front.call(front.kill, -1)


def test_a_stream_may_end_while_the_front_end_drains() -> None:
    with GeneratingFrontEnd() as front:
        front.wait_for(lambda: front.dispatcher.catalog()["tiny"].ready)
        front.delay_s = 0.03
        with front.raw() as client:
            post(client, STREAM, body(max_tokens=60))
            raw = first_event(client)
            stopping = asyncio.run_coroutine_threadsafe(
                front.frontend.stop(drain_s=5.0), front.loop
            )
            with contextlib.suppress(OSError):
                while more := client.sock.recv(65536):
                    raw += more
            stopping.result(10)
        parts = [line for line in raw.split(b"\r\n") if line.startswith(b"data")]
        assert text_of(events(b"".join(parts))) == whole(60)


def test_over_http_2(front: GeneratingFrontEnd) -> None:
    with Http2Client(front) as client:
        status, headers, raw = client.answer(client.request(STREAM, body(max_tokens=40)))
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert "content-length" not in headers
        assert text_of(events(raw)) == whole(40)
        status, _, raw = client.answer(client.request(GENERATE, body(max_tokens=40)))
        assert (status, json.loads(raw)["text_output"]) == (200, whole(40))
        assert client.answer(client.request(STREAM, body(max_tokens=-1)))[0] == 400


def test_metrics_count_a_stream_once_and_its_parts(front: GeneratingFrontEnd) -> None:
    def read(name: str) -> float:
        with front.raw() as client:
            for line in client.get("/metrics")[2].decode().splitlines():
                if line.startswith(name):
                    return float(line.rsplit(" ", 1)[1])
        return 0.0

    names = (
        'wardian_requests_total{model="tiny",route="generate_stream",status="200"}',
        'wardian_generated_parts_total{model="tiny"}',
        'wardian_generated_tokens_total{model="tiny"}',
    )
    before = [read(name) for name in names]
    with front.raw() as client:
        client.post(STREAM, body(max_tokens=40))
    assert [read(name) - was for name, was in zip(names, before, strict=True)] == [1, 6, 40]


def test_curl(
    front: GeneratingFrontEnd, need_program: Callable[[str], str], tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(ssl.DER_cert_to_PEM_cert(front.ca.certificate))
    for spoken in ("--http1.1", "--http2", "--http1.0"):
        done = subprocess.run(
            [need_program("curl"), "-sSN", spoken, "--cacert", ca, "-d", body(max_tokens=20),
             f"https://localhost:{front.port}{STREAM}"],
            capture_output=True, check=True, timeout=30,
        )  # fmt: skip
        assert text_of(events(done.stdout)) == whole(20)


def test_tenants_have_turns_between_parts() -> None:
    roster = Roster(now=unix_time, monotonic=monotonic)
    roster.adopt(verified(terms("long", quota=2), terms("short"), terms("other", "digits")))
    with GeneratingFrontEnd(roster=roster) as front:
        front.wait_for(lambda: front.dispatcher.catalog()["tiny"].ready)
        front.delay_s = 0.02

        def auth(name: str) -> dict[str, str]:
            return {"Authorization": f"Bearer {key_of(name).decode()}"}

        with front.raw() as long, front.raw() as short:
            post(long, STREAM, body(max_tokens=400), **auth("long"))
            raw = first_event(long)
            for _ in range(3):
                status, _, answer = short.post(GENERATE, body(max_tokens=1), auth("short"))
                assert (status, json.loads(answer)["text_output"]) == (200, whole(1))
            assert not raw.endswith(b"0\r\n\r\n")
            while not raw.endswith(b"0\r\n\r\n"):
                raw += long.sock.recv(65536)
            assert b'"error"' not in raw
            # An answer is one inference of the quota, however many parts it has.
            assert long.post(GENERATE, body(max_tokens=20), auth("long"))[0] == 200
            status, _, answer = short.post(GENERATE, body(), auth("other"))
            assert status == 404
            assert "tiny" not in json.loads(answer)["error"].partition("serves")[2]
            assert short.post(STREAM, body())[0] == 401


def test_a_tenant_that_is_struck_off_gets_no_further_part() -> None:
    roster = Roster(now=unix_time, monotonic=monotonic)
    roster.adopt(verified(terms("long"), terms("short")))
    with GeneratingFrontEnd(roster=roster) as front:
        front.wait_for(lambda: front.dispatcher.catalog()["tiny"].ready)
        front.delay_s = 0.02
        with front.raw() as long:
            post(long, STREAM, body(max_tokens=400),
                 Authorization=f"Bearer {key_of('long').decode()}")  # fmt: skip
            raw = first_event(long)
            front.call(lambda: roster.adopt(verified(terms("short"), serial=2)))
            while not raw.endswith(b"0\r\n\r\n"):
                raw += long.sock.recv(65536)
            assert raw.count(b'"code":"unknown_credentials"') == 1
        assert front.frontend._api.in_flight == 0


def test_a_client_of_http_2_that_does_not_read(front: GeneratingFrontEnd) -> None:
    with Http2Client(front) as client:
        client.send(settings(_4=10))  # ten bytes of each answer
        before = len(front.parts)
        with pytest.raises(Reset) as reset:
            client.answer(client.request(STREAM, body(max_tokens=200)))
        assert reset.value.code == CANCEL
    assert len(front.parts) - before == 1
    front.wait_for(lambda: front.frontend._api.in_flight == 0)


def test_a_stream_of_http_2_that_its_client_resets(front: GeneratingFrontEnd) -> None:
    front.delay_s = 0.05
    with Http2Client(front) as client:
        number = client.request(STREAM, body(max_tokens=200))
        while not client.bodies.get(number):
            client.read()
        client.send(frame(RST_STREAM, 0, number, u32(CANCEL)))
        asked = len(front.parts)
        time.sleep(0.3)
        assert len(front.parts) <= asked + 1
        assert client.get() == 200
    front.wait_for(lambda: front.frontend._api.in_flight == 0)


@pytest.mark.parametrize("tokens", [1, 200])
def test_a_client_that_leaves_before_the_first_part(front: GeneratingFrontEnd, tokens: int) -> None:
    front.delay_s = 0.1
    before = len(front.parts)
    with front.raw() as client:
        post(client, STREAM, body(max_tokens=tokens))
        front.wait_for(lambda: len(front.parts) == before + 1)
    with Http2Client(front) as client:
        number = client.request(STREAM, body(max_tokens=tokens))
        front.wait_for(lambda: len(front.parts) == before + 2)
        client.send(frame(RST_STREAM, 0, number, u32(CANCEL)))
        assert client.get() == 200
        (connection,) = front.frontend._server._state.connections
        assert connection._working  # what it asked for counts until it is over
        front.wait_for(lambda: not connection._working)
        assert client.get() == 200
    front.wait_for(lambda: front.frontend._api.in_flight == 0)
    assert len(front.parts) == before + 2


def test_another_manifest_ends_a_stream() -> None:
    """Its client accepted the mesh as it was (TRUST T2): nothing more of the prompt goes on."""
    with GeneratingFrontEnd() as front:
        front.wait_for(lambda: front.dispatcher.catalog()["tiny"].ready)
        front.delay_s = 0.03
        with front.raw() as client:
            post(client, STREAM, body(max_tokens=400))
            raw = first_event(client)
            front.put_in_force(make_manifest(front.platform, version=4))
            asked = len(front.parts)
            with contextlib.suppress(OSError):
                while more := client.sock.recv(65536):
                    raw += more
        assert raw.count(b'"code":"moved"') == 1
        assert raw.endswith(b"0\r\n\r\n")
        assert len(front.parts) <= asked + 1
        front.wait_for(lambda: front.frontend._api.in_flight == 0)
