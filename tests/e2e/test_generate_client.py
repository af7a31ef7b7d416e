"""`client.generate`, sync and async, against a whole front end."""

from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
from simulators.generating import GeneratingFrontEnd, tiny

from wardian.errors import (
    ConfigError,
    ConnectionLost,
    PeerProtocolError,
    QueueFull,
    RequestError,
    Timeout,
)
from wardian.inference.generate.parts import Ask, build_inputs, parse_outputs
from wardian.serving.client.aio import connect_async
from wardian.serving.client.generating import MAX_EVENT_BYTES, PartReader
from wardian.serving.client.sync import Client, connect

TEXT = "the owner"


@pytest.fixture(scope="module")
def front() -> Iterator[GeneratingFrontEnd]:
    with GeneratingFrontEnd(deadline_ms=5000) as running:
        running.wait_for(lambda: running.dispatcher.catalog()["tiny"].ready)
        yield running


@pytest.fixture(autouse=True)
def _quick(front: GeneratingFrontEnd) -> Iterator[None]:
    yield
    front.delay_s = 0.0


@pytest.fixture
def client(front: GeneratingFrontEnd) -> Iterator[Client]:
    with connect(front.url, policy=front.policy()) as made:
        yield made


def whole(tokens: int, **ask: Any) -> str:
    part = parse_outputs(tiny().infer(build_inputs(TEXT.encode(), Ask(max_tokens=tokens, **ask))))
    return part.text.decode()


def test_parts(client: Client) -> None:
    for _ in range(2):
        parts = list(client.generate("tiny", TEXT, max_tokens=40))
        assert "".join(part.text for part in parts) == whole(40)
        last = parts.pop()
        assert (last.finish_reason, last.prompt_tokens, last.generated_tokens) == ("length", 8, 40)
        assert {part.finish_reason for part in parts} == {None}
        assert {part.version for part in parts} == {"1"}
        assert len(client._links._idle) == 1  # the connection goes on


def test_every_parameter(client: Client) -> None:
    asked = {"temperature": 1.1, "top_k": 40, "top_p": 0.9, "seed": 8}
    parts = client.generate("tiny", TEXT, version=1, max_tokens=50, **asked)
    assert "".join(part.text for part in parts) == whole(50, **asked)
    said = whole(50)
    for stop in (said[9:12], (said[9:12], "never")):
        parts = client.generate("tiny", TEXT, max_tokens=50, stop=stop)
        assert "".join(part.text for part in parts) == said[: said.index(said[9:12])]


def test_leaving_early_ends_the_answer(client: Client, front: GeneratingFrontEnd) -> None:
    front.delay_s = 0.03
    for part in client.generate("tiny", TEXT, max_tokens=300):
        assert part.text
        break
    front.wait_for(lambda: front.frontend._api.in_flight == 0)
    assert not client._links._idle
    front.delay_s = 0.0
    assert len(list(client.generate("tiny", TEXT, max_tokens=1))) == 1


def test_errors(client: Client, front: GeneratingFrontEnd) -> None:
    for model, options, error in (
        ("none", {}, RequestError),
        ("digits", {}, RequestError),
        ("tiny", {"max_tokens": -1}, RequestError),
        ("tiny", {"timeout_s": 0}, ConfigError),
    ):
        with pytest.raises(error):
            list(client.generate(model, TEXT, **options))
    front.delay_s = 0.05
    found = []
    with pytest.raises(Timeout):
        for part in client.generate("tiny", TEXT, max_tokens=300, timeout_s=0.3):
            found.append(part)  # noqa: PERF402  what came before the error
    assert found
    front.delay_s = 0.0
    with (
        connect(front.url, policy=front.policy(), seal="worker") as sealing,
        pytest.raises(ConfigError, match="cannot be answered in parts"),
    ):
        sealing.generate("tiny", TEXT)


def test_a_connection_lost_before_the_first_part_is_replaced(
    client: Client, front: GeneratingFrontEnd
) -> None:
    client.ready()
    front.call(lambda: [each.abort() for each in tuple(front.frontend._server._state.connections)])
    parts = list(client.generate("tiny", TEXT, max_tokens=5))
    assert "".join(part.text for part in parts) == whole(5)
    front.delay_s = 0.05
    answer = client.generate("tiny", TEXT, max_tokens=300)
    assert next(answer).text
    front.call(lambda: [each.abort() for each in tuple(front.frontend._server._state.connections)])
    with pytest.raises(ConnectionLost):
        list(answer)


async def test_async(front: GeneratingFrontEnd) -> None:
    async with await connect_async(front.url, policy=front.policy(), max_connections=1) as client:
        said = [part async for part in client.generate("tiny", TEXT, max_tokens=40)]
        assert "".join(part.text for part in said) == whole(40)
        assert said[-1].generated_tokens == 40
        front.delay_s = 0.03
        async with aclosing(client.generate("tiny", TEXT, max_tokens=300)) as parts:
            async for part in parts:
                assert part.text
                break
        with pytest.raises(Timeout):
            async for _ in client.generate("tiny", TEXT, max_tokens=300, timeout_s=0.2):
                pass
        front.delay_s = 0.0
        with pytest.raises(RequestError):
            async for _ in client.generate("none", TEXT):
                pass
        assert await client.ready()  # the one connection that there may be is free
    front.wait_for(lambda: front.frontend._api.in_flight == 0)


class Scripted:
    """A connection on which these bodies come."""

    def __init__(self, *bodies: tuple[bytes, bool]) -> None:
        self.bodies = list(bodies)

    def receive_part(self, data: bytes) -> tuple[bytes, bool]:
        del data
        return self.bodies.pop(0)


GOOD = b'data: {"text_output":"a","model_version":"1"}\n\n'
LAST = b'data: {"text_output":"b","model_version":"1","finish_reason":"stop"}\n\n'


def test_events_may_be_cut_anywhere() -> None:
    raw = GOOD + LAST
    for size in (1, 7, len(raw)):
        pieces = [(raw[at : at + size], False) for at in range(0, len(raw), size)]
        reader = PartReader(Scripted(*pieces, (b"", True)))
        found = [part for _ in range(len(pieces) + 1) for part in reader.feed(b"")]
        assert [part.text for part in found] == ["a", "b"]
        assert reader.over


@pytest.mark.parametrize(
    ("raw", "whole_", "error"),
    [
        (GOOD, True, PeerProtocolError),  # cut off, though the connection says that it is whole
        (b"", True, PeerProtocolError),
        (LAST + b"data", True, PeerProtocolError),
        (LAST + GOOD, False, PeerProtocolError),
        (b"event: x\n\n", False, PeerProtocolError),
        (b"data: {}\n\n", False, PeerProtocolError),
        (b"data: [1]\n\n", False, PeerProtocolError),
        (b"data: \xff\n\n", False, PeerProtocolError),
        (b"x" * (MAX_EVENT_BYTES + 1), False, PeerProtocolError),
        (b'data: {"error":"e","code":"busy"}\n\n', False, QueueFull),
        (b'data: {"error":"e","code":"deadline_exceeded"}\n\n', False, Timeout),
        (b'data: {"error":"e","code":"new word"}\n\n', False, RequestError),
    ],
)
def test_what_is_no_answer(raw: bytes, whole_: bool, error: type[Exception]) -> None:
    with pytest.raises(error):
        PartReader(Scripted((raw, whole_))).feed(b"")
