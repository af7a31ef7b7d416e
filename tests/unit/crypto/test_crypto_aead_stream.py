import io

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardian.crypto.aead_stream import ChunkCipher, count_chunks, read_exactly
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError


def cipher(*, total=10, chunk=4, key=b"k" * 32, associated=b"a"):
    return ChunkCipher(Secret(key), associated=associated, total_bytes=total, chunk_bytes=chunk)


def test_nonces_are_counter_and_last_flag():
    ours = cipher()
    aead = AESGCM(b"k" * 32)
    for index, last, text in ((0, 0, b"0123"), (1, 0, b"4567"), (2, 1, b"89")):
        target = bytearray(len(text) + 16)
        ours.seal(index, memoryview(text), memoryview(target))
        nonce = bytes(10) + bytes((index, last))
        assert target == aead.encrypt(nonce, text, b"a")


@pytest.mark.parametrize(
    ("total", "count", "last"), [(0, 1, 0), (1, 1, 1), (4, 1, 4), (5, 2, 1), (8, 2, 4), (9, 3, 1)]
)
def test_chunks_are_counted(total, count, last):
    stream = cipher(total=total)
    assert count_chunks(total, 4) == stream.chunks == count
    assert [stream.plain_bytes(i) for i in range(count)] == [4] * (count - 1) + [last]


@pytest.mark.parametrize(
    "other",
    [
        {"key": b"K" * 32},
        {"associated": b"A"},
        {"total": 8},  # then chunk 1 is the last
    ],
)
def test_another_stream_is_refused(other):
    target = bytearray(20)
    cipher().seal(1, memoryview(b"4567"), memoryview(target))
    opened = bytearray(4)
    cipher().open(1, memoryview(target), opened)
    assert opened == b"4567"
    with pytest.raises(AuthenticationFailed, match="chunk 1 is not"):
        cipher(**other).open(1, memoryview(target), opened)


@pytest.mark.parametrize("index", [-1, 3, 2**88])
def test_a_chunk_outside_the_stream_is_our_own_mistake(index):
    with pytest.raises(LocalProtocolError):
        cipher().seal(index, memoryview(b""), memoryview(bytearray(16)))


def test_a_key_has_32_bytes():
    with pytest.raises(LocalProtocolError):
        cipher(key=b"k" * 16)


def test_reading_exactly():
    target = bytearray(5)
    read_exactly(io.BytesIO(b"hello world"), target, what="greeting")
    assert target == b"hello"
    with pytest.raises(FormatError, match="ends within its greeting"):
        read_exactly(io.BytesIO(b"hell"), target, what="greeting")
