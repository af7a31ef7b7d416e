"""What holds for every input: parse and build are inverse, and garbage ends in our own errors."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian.crypto.kdf import expand, extract
from wardian.crypto.message import REPLAY_WINDOW, QueueReceiver, QueueSender, _Window
from wardian.crypto.message_header import (
    Direction,
    MessageHeader,
    RequestHeader,
)
from wardian.crypto.message_header import build_header as build_message
from wardian.crypto.message_header import parse_header as parse_message
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import SealedReader, open_bytes, read_header, seal_stream
from wardian.crypto.sealed_header import (
    STANZA_BYTES,
    HeaderFields,
    Stanza,
    StanzaKind,
    build_header,
    parse_header,
)
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError, UnsupportedAlgorithm

KEY = BrokerKey(Secret(bytes(range(32))))
AS_DIGITS = {"media_type": "application/onnx", "name": "digits", "version": 1}
U63 = st.integers(0, 2**63 - 1)


def stanza(kind):
    body = st.binary(min_size=STANZA_BYTES[kind], max_size=STANZA_BYTES[kind])
    return st.builds(Stanza, kind=st.just(kind), body=body)


HEADERS = st.builds(
    HeaderFields,
    file_id=st.binary(min_size=16, max_size=16),
    chunk_log2=st.integers(12, 24),
    total_bytes=st.integers(0, 2**48),
    version=U63,
    media_type=st.from_regex(
        r"[a-z0-9][a-z0-9.+-]{0,40}/[a-z0-9][a-z0-9.+-]{0,40}", fullmatch=True
    ),
    name=st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=60),
    stanzas=st.lists(
        st.one_of(stanza(StanzaKind.BROKER_KEY), stanza(StanzaKind.HPKE)), min_size=1, max_size=32
    ).map(tuple),
)


@given(HEADERS)
def test_headers_build_and_parse(fields):
    assert parse_header(build_header(fields)) == fields


@given(HEADERS, st.data())
def test_a_header_has_one_form(fields, data):
    """Whatever parses after a change is built back to the changed bytes."""
    raw = bytearray(build_header(fields))
    at = data.draw(st.integers(14, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        parsed = parse_header(bytes(raw))
    except (FormatError, UnsupportedAlgorithm):
        return
    assert build_header(parsed) == bytes(raw)


@given(st.binary(max_size=400), st.booleans())
def test_garbage_is_no_sealed_file(raw, begins_well):
    front = b"wardian\x00\x00\x01" if begins_well else b""
    with pytest.raises((FormatError, UnsupportedAlgorithm)):
        read_header(io.BytesIO(front + raw))


@given(
    st.binary(max_size=20000),
    st.sampled_from([12, 13]),
    st.lists(st.tuples(st.integers(0, 21000), st.integers(0, 21000)), max_size=5),
)
@settings(max_examples=30)
def test_files_open_whole_and_in_parts(plaintext, chunk_log2, parts):
    target = io.BytesIO()
    pin = seal_stream(
        io.BytesIO(plaintext),
        target,
        total_bytes=len(plaintext),
        recipients=[KEY],
        chunk_bytes=1 << chunk_log2,
        **AS_DIGITS,
    )
    wanted = {"identities": [KEY], "pin": pin} | AS_DIGITS
    sealed = target.getvalue()
    assert open_bytes(io.BytesIO(sealed), max_bytes=20000, **wanted) == plaintext
    reader = SealedReader(io.BytesIO(sealed), **wanted)
    for offset, length in parts:
        assert reader.read(offset, length) == plaintext[offset : offset + length]


MESSAGE_HEADERS = st.builds(
    MessageHeader,
    version=U63,
    deadline_ms=U63,
    request_ids=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=255).map(tuple),
    direction=st.just(Direction.REQUEST),
    model=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    epoch=U63,
    salt=st.binary(min_size=32, max_size=32),
    certificate_digest=st.binary(min_size=32, max_size=32),
    counter=st.integers(1, 2**63 - 1),
)


@given(MESSAGE_HEADERS, st.binary(max_size=50))
def test_message_headers_build_and_parse(header, body):
    raw = build_message(header)
    assert parse_message(raw + body) == (header, len(raw))


@given(st.binary(max_size=300), st.booleans())
def test_garbage_is_no_message(raw, begins_well):
    message = (b"wdnq\x01\x01\x06\x01" if begins_well else b"") + raw
    receiver = QueueReceiver(
        queue_key=Secret(bytes(32)), model="digits", epoch=1, certificate_digest=bytes(32)
    )
    with pytest.raises((FormatError, AuthenticationFailed)):
        receiver.open_request(message)


@given(st.binary(max_size=2000), st.binary(max_size=2000), st.integers(0, 2**63 - 1))
def test_messages_go_there_and_back(request, answer, epoch):
    place = {"queue_key": Secret(bytes(32)), "model": "digits", "epoch": epoch}
    sender = QueueSender(**place, certificate_digest=b"f" * 32)
    receiver = QueueReceiver(**place, certificate_digest=b"w" * 32)
    header = RequestHeader(version=1, deadline_ms=0, request_ids=(1,))
    sealed, pending = sender.seal_request(request, header=header)
    opened = receiver.open_request(sealed)
    assert opened.plaintext == request
    assert pending.open(opened.answer(answer)) == answer


JUMPS = st.integers(-REPLAY_WINDOW - 3, REPLAY_WINDOW + 3) | st.integers(-5, 5)


@given(st.lists(JUMPS, max_size=60))
def test_the_window_admits_each_counter_once(jumps):
    """Against a set that remembers everything."""
    window, seen, highest = _Window(), set(), 0
    at = 3 * REPLAY_WINDOW
    for jump in jumps:
        at = max(1, at + jump)
        try:
            window.admit(at)
        except AuthenticationFailed:
            assert at in seen or at <= highest - REPLAY_WINDOW
        else:
            assert at not in seen
            assert at > highest - REPLAY_WINDOW
            seen.add(at)
            highest = max(highest, at)


@given(st.binary(min_size=16, max_size=64), st.binary(max_size=64), st.binary(max_size=64))
def test_longer_output_begins_with_the_shorter(key, salt, info):
    root = extract(Secret(key), salt=salt)
    assert expand(root, info, length=100).startswith(expand(root, info, length=17))
