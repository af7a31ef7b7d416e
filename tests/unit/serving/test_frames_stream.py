import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian._internal import wire
from wardian.errors import ConfigError, FormatError, PeerProtocolError
from wardian.serving.queue.frames import (
    Address,
    FrameKind,
    FrameReader,
    Hello,
    credit_frame,
    frame,
    message_head,
    parse_number,
    split_message,
)


@settings(max_examples=100, deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=50), max_size=6),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_frames_come_out_whole_however_the_stream_is_cut(bodies, cuts):
    stream = b"".join(frame(FrameKind.ANSWER, body) for body in bodies)
    reader = FrameReader(max_bytes=100)
    found = []
    while stream:
        for cut in cuts:
            found += reader.feed(memoryview(stream)[:cut])
            stream = stream[cut:]
    assert found == [(FrameKind.ANSWER, body) for body in bodies]


@pytest.mark.parametrize("head", [b"\0\0\0\0\x01", b"\0\0\0\x0b\x01", b"\xff\xff\xff\xff\x01"])
def test_empty_and_oversized_frames_end_the_stream(head):
    with pytest.raises(PeerProtocolError):
        FrameReader(max_bytes=10).feed(head)


def test_messages_and_numbers_come_back():
    whole = message_head(FrameKind.REQUEST, 7, b"sealed") + b"sealed"
    ((kind, body),) = FrameReader(max_bytes=100).feed(whole)
    assert (kind, split_message(body)) == (FrameKind.REQUEST, (7, b"sealed"))
    ((kind, body),) = FrameReader(max_bytes=100).feed(credit_frame(3))
    assert (kind, parse_number(body)) == (FrameKind.CREDIT, 3)
    with pytest.raises(PeerProtocolError):
        split_message(b"1234567")


def test_a_hello_states_protocol_lane_and_credit():
    hello = Hello(model="digits", version=1, credit=2)
    assert wire.decode(wire.encode(hello), Hello, what="hello") == hello
    for bad in (b"{}", b'{"protocol":2,"model":"m","version":1,"credit":1}', b"\xff"):
        with pytest.raises(FormatError):
            wire.decode(bad, Hello, what="hello")


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("/run/wardian/queue.sock", "/run/wardian/queue.sock"),
        ("tcp:127.0.0.1:7000", "tcp:127.0.0.1:7000"),
        ("tcp:[::1]:0", "tcp:[::1]:0"),
    ],
)
def test_addresses_are_paths_or_tcp(text, again):
    assert str(Address.parse(text)) == again


@pytest.mark.parametrize("text", ["", "tcp:", "tcp:host", "tcp::1", "tcp:h:99999", "/" * 108])
def test_addresses_that_cannot_be_are_refused_with_a_hint(text):
    with pytest.raises(ConfigError, match="queue address"):
        Address.parse(text)
