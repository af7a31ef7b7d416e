"""What Redis says, byte by byte: whatever it is, replies of the allowed size or a typed error."""

import contextlib
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian.errors import PeerProtocolError
from wardian.serving.queue.redis_entries import (
    Entry,
    parse_answers,
    parse_id,
    parse_lanes,
    parse_names,
    parse_pending,
    parse_request,
    parse_streams,
    xadd_answers,
    xadd_request,
)
from wardian.serving.queue.redis_wire import MAX_ELEMENTS, Refusal, ReplyReader, command

FRONT = b"0123456789abcdef" * 2


def read(data: bytes, *, max_bytes: int = 2**16, piece: int = 10**9):
    reader = ReplyReader(max_bytes=max_bytes)
    replies = []
    for at in range(0, len(data), piece):
        replies += reader.feed(data[at : at + piece])
    return replies


REPLIES = st.recursive(
    st.none() | st.integers(-(2**62), 2**62) | st.binary(max_size=80),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


def encoded(reply) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))


def depth(reply) -> int:
    return 1 + max(map(depth, reply), default=0) if isinstance(reply, list) else 0


@given(st.lists(REPLIES.filter(lambda reply: depth(reply) <= 5), max_size=4), st.integers(1, 40))
def test_replies_come_out_as_they_went_in_whatever_the_pieces(replies, piece):
    assert read(b"".join(map(encoded, replies)), piece=piece) == replies


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_bytes_end_in_replies_or_one_error(data, piece):
    with contextlib.suppress(PeerProtocolError):
        read(data, piece=piece)


@given(REPLIES, st.data())
def test_a_changed_reply_ends_in_replies_or_one_error(reply, data):
    raw = bytearray(encoded(reply))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PeerProtocolError):
        read(bytes(raw))


def test_an_error_is_a_code_that_may_be_logged_and_a_text_that_may_not():
    assert read(b"-OOM command not allowed\r\n") == [Refusal("OOM", b"OOM command not allowed")]
    assert read(b"-<script> x\r\n")[0].code == "ERR"
    assert read(b"-\xff\xfe\r\n")[0].code == "ERR"
    assert read(b"-\r\n")[0].code == "ERR"


BAD = {
    "an unknown kind": b"?1\r\n",
    "resp3": b"%1\r\n",
    "no length": b"$\r\n",
    "no number": b"$1e3\r\n",
    "a sign": b"$+3\r\nabc\r\n",
    "a space": b"$ 3\r\nabc\r\n",
    "a negative": b"$-2\r\n",
    "digits of another script": "$٣\r\n".encode(),
    "twenty digits": b"$" + b"9" * 20 + b"\r\n",
    "a long string": b"$70000\r\n",
    "a long array": b"*%d\r\n" % (MAX_ELEMENTS + 1),
    "a long array within": b"*2\r\n*1\r\n:1\r\n*%d\r\n" % MAX_ELEMENTS,
    "a nest": b"*1\r\n" * 7,
    "a long line": b"+" + b"x" * 600,
    "no end of a string": b"$1\r\nabc\r\n",
    "no integer": b":1.5\r\n",
    "no integer but a sign": b":-\r\n",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("piece", [1, 7, 10**6])
def test_what_is_no_reply_is_refused_at_once(name, piece):
    with pytest.raises(PeerProtocolError):
        read(BAD[name], piece=piece)


def test_nothing_is_reserved_for_what_is_only_announced():
    """Two hundred bytes that announce terabytes: a C parser would believe the arrays."""
    tracemalloc.start()
    for data in (b"$60000\r\n", b"*19999\r\n", b"*2\r\n*9000\r\n", b"*5\r\n" * 4):
        assert read(data, max_bytes=2**16) == []
    for data in (b"*4000000000\r\n", b"$99999999999\r\n"):
        with pytest.raises(PeerProtocolError):
            read(data)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_an_endless_reply_ends_at_the_limit():
    reader = ReplyReader(max_bytes=10_000)
    reader.feed(b"*19999\r\n")
    with pytest.raises(PeerProtocolError):
        for _ in range(2000):
            reader.feed(b":1\r\n" * 10)


def test_a_large_string_in_small_pieces_is_not_parsed_over_and_over():
    large = random.Random(1).randbytes(2**20)
    raw = encoded([[b"k", [[b"1-1", [b"n", large]]]]])
    reader = ReplyReader(max_bytes=2**21)
    tries = 0

    class Counting(ReplyReader):
        def _next(self, *args):
            nonlocal tries
            tries += 1
            return super()._next(*args)

    reader = Counting(max_bytes=2**21)
    replies = []
    for at in range(0, len(raw), 1000):
        replies += reader.feed(raw[at : at + 1000])
    assert replies == [[[b"k", [[b"1-1", [b"n", large]]]]]]
    assert 0 < tries < 40


def words_of(pieces: list[bytes]) -> list[bytes]:
    (words,) = read(b"".join(pieces))
    return words


@pytest.mark.parametrize("piece", [1, 9, 64, 10**6])
def test_the_limit_is_the_same_in_whatever_pieces(piece):
    reply = b"*3\r\n$5\r\nabcde\r\n:12\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"
    found = [[b"abcde", 12, [b"a", b"b"]]] * 3
    assert read(reply * 3, max_bytes=len(reply), piece=piece) == found
    with pytest.raises(PeerProtocolError, match="more than"):
        read(reply * 3, max_bytes=len(reply) - 1, piece=piece)


def test_what_was_parsed_of_an_array_is_not_kept_as_bytes_to_be_parsed_again():
    """A stream's entries come in parts of 64 KiB; each part was the beginning all over again."""
    entry = b"*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\na\r\n$20\r\n%b\r\n" % (b"x" * 20)
    reply = b"*500\r\n" + entry * 500
    reader, replies = ReplyReader(max_bytes=2**20), []
    for at in range(0, len(reply), 100):
        replies += reader.feed(reply[at : at + 100])
        assert sum(map(len, reader._chunks)) < len(entry)
    assert replies == [[[b"1-1", [b"a", b"x" * 20]]] * 500]


def test_commands_are_what_they_say():
    assert words_of([command(b"SET", b"k", 5, b"")]) == [b"SET", b"k", b"5", b""]
    sent = words_of(xadd_request(b"q", FRONT, 7, b"\r\nsealed", own=False))
    assert sent == [b"XADD", b"q", b"*", FRONT + b":7", b"\r\nsealed"]
    sent = words_of(xadd_request(b"o", FRONT, 0, b"", own=True))
    assert sent == [b"XADD", b"o", b"NOMKSTREAM", b"*", FRONT + b":0", b""]
    sent = words_of(xadd_answers(b"r", [(b"1", b"a"), (b"-2", b"b")]))
    assert sent == [b"XADD", b"r", b"NOMKSTREAM", b"*", b"1", b"a", b"-2", b"b"]


def test_entries_are_read_back():
    assert parse_request(Entry(b"1-1", [FRONT + b":7", b"x"])) == (FRONT, 7, b"x")
    answers = parse_answers(Entry(b"1-1", [b"7", b"a", b"-8", b"1-1", b"0:" + FRONT, b"c"]))
    assert answers == [(7, b"", False, b"a"), (8, b"", True, b"1-1"), (0, FRONT, False, b"c")]


BAD_REQUESTS = [
    [], [b"x"], [FRONT + b":7"], [FRONT + b":7", b"x", b"y"], [FRONT + b":-7", b"x"],
    [FRONT[:31] + b":7", b"x"], [FRONT.upper() + b":7", b"x"], [FRONT + b":07", b"x"],
    [FRONT + b":" + b"9" * 20, b"x"], [FRONT + b":7\n", b"x"],
]  # fmt: skip
BAD_ANSWERS = [
    [], [b"1"], [b"1", b"a", b"2"], [b"", b"a"], [b"x", b"a"], [b"01", b"a"], [b"--1", b"a"],
    [b"9" * 20, b"a"], [b"1:zz", b"a"], [b"1\n", b"a"], [b"1", b"a"] * 2049,
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD_REQUESTS)
def test_an_entry_that_is_no_request(fields):
    with pytest.raises(PeerProtocolError):
        parse_request(Entry(b"1-1", fields))


@pytest.mark.parametrize("fields", BAD_ANSWERS)
def test_an_entry_that_holds_no_answers(fields):
    with pytest.raises(PeerProtocolError):
        parse_answers(Entry(b"1-1", fields))


@given(REPLIES)
def test_any_reply_is_read_as_what_was_asked_for_or_refused(reply):
    for parse in (
        lambda: parse_streams(reply, (b"a", b"b")),
        lambda: parse_pending(reply),
        lambda: parse_id(reply),
        lambda: parse_lanes(reply),
        lambda: parse_names(reply),
    ):
        with contextlib.suppress(PeerProtocolError):
            parse()


def test_streams_that_were_not_asked_for_or_come_twice():
    entries = [[b"1-1", [b"a", b"b"]], [b"1-2", None]]
    assert parse_streams([[b"a", entries]], (b"a",)) == {
        b"a": [Entry(b"1-1", [b"a", b"b"]), Entry(b"1-2", [])]
    }
    for bad in ([[b"c", []]], [[b"a", []], [b"a", []]], [[b"a"]], [b"a"], 7, b"a"):
        with pytest.raises(PeerProtocolError):
            parse_streams(bad, (b"a",))


def test_members_that_are_none_are_left_out():
    lanes = [b"digits:1", b"Digits:1", b"a:0", b"a:01", b"a", b":1", b"a:1\n", 7, None]
    assert [tuple(lane) for lane in parse_lanes(lanes)] == [("digits", 1)]
    assert parse_names([FRONT, FRONT[:-1], b"", 1, None, FRONT + b"\n"]) == [FRONT]
