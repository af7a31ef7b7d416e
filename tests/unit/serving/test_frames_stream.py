import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian._internal import wire
from wardian.errors import ConfigError, FormatError, PeerProtocolError
from wardian.serving.queue.frames import (
    LARGE_BYTES,
    Address,
    FrameKind,
    FrameReader,
    Hello,
    credit_frame,
    frame,
    message_head,
    numbered_frame,
)

SIZES = st.one_of(st.integers(0, 50), st.integers(LARGE_BYTES - 20, LARGE_BYTES + 9000))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(SIZES, max_size=6),
    cuts=st.lists(st.one_of(st.integers(1, 40), st.integers(3000, 90_000)), min_size=1),
    as_view=st.booleans(),
)
def test_frames_come_out_whole_however_the_stream_is_cut(sizes, cuts, as_view):
    sent = [(FrameKind.ANSWER, number, bytes([number]) * size) for number, size in enumerate(sizes)]
    stream = b"".join(numbered_frame(*each) for each in sent)
    reader = FrameReader(max_bytes=2 * LARGE_BYTES)
    found, start = [], 0
    if sum(sizes) > 1000 * max(cuts):
        cuts = [*cuts, 50_000]
    while start < len(stream):
        for cut in cuts:
            piece = stream[start : start + cut]
            found += reader.feed(memoryview(piece) if as_view else piece)
            start += cut
            assert reader.missing <= max(0, 2 * LARGE_BYTES)
    assert found == sent
    assert reader.missing == 0


def test_a_large_message_in_crumbs_takes_no_more_memory_than_it_has():
    whole = numbered_frame(FrameKind.ANSWER, 1, bytes(LARGE_BYTES))
    reader = FrameReader(max_bytes=len(whole))
    found = []
    for start in range(0, len(whole), 2):
        found += reader.feed(whole[start : start + 2])
        assert len(reader._pieces) <= 1
    assert found == [(FrameKind.ANSWER, 1, bytes(LARGE_BYTES))]


@pytest.mark.parametrize("head", [b"\0\0\0\0\x01", b"\0\0\0\x0b\x01", b"\xff\xff\xff\xff\x01"])
def test_empty_and_oversized_frames_end_the_stream(head):
    with pytest.raises(PeerProtocolError):
        FrameReader(max_bytes=10).feed(head)


def test_messages_and_numbers_come_back():
    whole = message_head(FrameKind.REQUEST, 7, b"sealed") + b"sealed"
    assert FrameReader(max_bytes=100).feed(whole) == [(FrameKind.REQUEST, 7, b"sealed")]
    assert FrameReader(max_bytes=100).feed(credit_frame(3)) == [(FrameKind.CREDIT, 3, b"")]
    hello = frame(FrameKind.HELLO, b"{}")
    assert FrameReader(max_bytes=100).feed(hello) == [(FrameKind.HELLO, 0, b"{}")]


@pytest.mark.parametrize("kind", [*set(FrameKind) - {FrameKind.HELLO, FrameKind.FETCH}, 0, 99])
def test_a_frame_that_ends_within_its_number_ends_the_stream(kind):
    with pytest.raises(PeerProtocolError, match="within its number"):
        FrameReader(max_bytes=100).feed(b"\0\0\0\x08" + bytes([kind]) + b"1234567")


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
