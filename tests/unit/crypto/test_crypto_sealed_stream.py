import io

import pytest
from sealed_samples import AS_DIGITS, seal

from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.recipients import (
    BrokerKey,
    HpkeIdentity,
    HpkeRecipient,
    PassphraseIdentity,
    PassphraseRecipient,
)
from wardian.crypto.sealed_file import (
    SealedReader,
    open_bytes,
    open_stream,
    read_header,
    seal_stream,
)
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, ConfigError, FormatError, LocalProtocolError

LENGTHS = [0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 20000]


@pytest.mark.parametrize("length", LENGTHS)
def test_what_was_sealed_is_opened(length):
    plaintext = bytes(i * 7 % 251 for i in range(length))
    sealed = seal(plaintext)
    header = read_header(io.BytesIO(sealed.raw))
    assert sealed.open() == plaintext
    assert header.sealed_bytes == len(sealed.raw)
    assert plaintext[:20] not in sealed.raw or length < 2


@pytest.mark.parametrize("length", LENGTHS)
def test_any_part_is_read(length):
    plaintext = bytes(i * 7 % 251 for i in range(length))
    sealed = seal(plaintext)
    reader = SealedReader(
        io.BytesIO(sealed.raw), identities=[sealed.key], pin=sealed.pin, **AS_DIGITS
    )
    assert reader.header.total_bytes == length
    for offset in (0, 1, 4095, 4096, 8191, length - 1, length, length + 5):
        for size in (0, 1, 2, 4096, 4097, 10**6):
            if offset >= 0:
                assert reader.read(offset, size) == plaintext[offset : offset + size]


def test_parts_are_opened_where_they_are_wanted():
    plaintext = bytes(i * 7 % 251 for i in range(3 * 4096 + 100))
    sealed = seal(plaintext)
    source = io.BytesIO(sealed.raw)
    reader = SealedReader(source, identities=[sealed.key], pin=sealed.pin, **AS_DIGITS)
    whole = bytearray(len(plaintext) + 50)
    assert reader.read_into(0, memoryview(whole)) == len(plaintext)
    assert whole == plaintext + bytes(50)
    for offset, size in ((4000, 4300), (8192, 4096), (8200, 10), (8210, 10), (12_380, 9)):
        piece = bytearray(size)
        found = reader.read_into(offset, memoryview(piece))
        assert piece[:found] == plaintext[offset : offset + size]
    assert reader.read_into(len(plaintext) + 1, memoryview(whole)) == 0
    raw = bytearray(sealed.raw)
    raw[-4200] ^= 1  # within the chunk before the last
    source.seek(0)
    source.write(raw)
    for _ in range(2):  # what did not open is not kept as if it had
        with pytest.raises(AuthenticationFailed):
            reader.read_into(8200, memoryview(bytearray(10)))
        with pytest.raises(AuthenticationFailed):
            reader.read_into(8192, memoryview(bytearray(4096)))
    with pytest.raises(LocalProtocolError):
        reader.read_into(-1, memoryview(whole))


def test_negative_parts_are_our_own_mistake():
    sealed = seal(b"abc")
    reader = SealedReader(
        io.BytesIO(sealed.raw), identities=[sealed.key], pin=sealed.pin, **AS_DIGITS
    )
    for offset, length in ((-1, 1), (0, -1)):
        with pytest.raises(LocalProtocolError):
            reader.read(offset, length)


def test_each_recipient_opens():
    private = HpkePrivateKey.generate()
    words = Secret(b"correct horse battery staple")
    sealed = seal(
        b"model",
        recipients=[HpkeRecipient(private.public), PassphraseRecipient(words, log2_n=15)],
    )
    for identity in (sealed.key, HpkeIdentity(private), PassphraseIdentity(words)):
        assert sealed.open(identities=[identity]) == b"model"


def test_the_header_says_what_is_inside():
    sealed = seal(b"x" * 5000, name="größe", version=7, media_type="text/csv")
    header = read_header(io.BytesIO(sealed.raw))
    assert (header.media_type, header.name, header.version) == ("text/csv", "größe", 7)
    assert (header.total_bytes, header.chunk_bytes, len(header.stanzas)) == (5000, 4096, 1)
    assert sealed.open(name="größe", version=7, media_type="text/csv") == b"x" * 5000


def test_progress_adds_up():
    done = []
    plaintext = bytes(10000)
    key = BrokerKey(Secret.random())
    target = io.BytesIO()
    pin = seal_stream(
        io.BytesIO(plaintext),
        target,
        total_bytes=10000,
        recipients=[key],
        chunk_bytes=4096,
        progress=done.append,
        **AS_DIGITS,
    )
    assert done == [4096, 4096, 1808]
    wanted = {"identities": [key], "pin": pin, "progress": done.append} | AS_DIGITS
    open_stream(io.BytesIO(target.getvalue()), io.BytesIO(), **wanted)
    open_bytes(io.BytesIO(target.getvalue()), max_bytes=10000, **wanted)
    assert sum(done) == 30000


class Trickle(io.RawIOBase):
    """Gives a few bytes at a time, as a pipe does."""

    def __init__(self, raw):
        self._source = io.BytesIO(raw)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._source.readinto(memoryview(buffer)[:100])


class OnlyRead:
    """Has no `readinto`, as an HTTP response may not."""

    def __init__(self, raw):
        self._source = io.BytesIO(raw)

    def read(self, size):
        return self._source.read(min(size, 1000))


@pytest.mark.parametrize("kind", [Trickle, OnlyRead])
def test_pieces_of_any_size_will_do(kind):
    sealed = seal(bytes(9000))
    wanted = {"identities": [sealed.key], "pin": sealed.pin} | AS_DIGITS
    assert open_bytes(kind(sealed.raw), max_bytes=9000, **wanted) == bytes(9000)
    target = io.BytesIO()
    key = BrokerKey(Secret.random())
    seal_stream(
        kind(bytes(9000)), target, total_bytes=9000, recipients=[key], chunk_bytes=4096, **AS_DIGITS
    )
    with pytest.raises(FormatError):
        open_bytes(kind(sealed.raw[:-1]), max_bytes=9000, **wanted)


@pytest.mark.parametrize(("has", "says"), [(10, 11), (10, 9), (0, 1), (1, 0), (4096, 8192)])
def test_a_source_of_another_length_is_refused(has, says):
    with pytest.raises(ConfigError, match=f"(fewer|more) than {says}"):
        seal_stream(
            io.BytesIO(bytes(has)),
            io.BytesIO(),
            total_bytes=says,
            recipients=[BrokerKey(Secret.random())],
            **AS_DIGITS,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk_bytes": 5000}, "power of two"),
        ({"chunk_bytes": 0}, "power of two"),
        ({"chunk_bytes": -4096}, "power of two"),
        ({"chunk_bytes": 2048}, "4 KiB to 16 MiB"),
        ({"chunk_bytes": 2**25}, "4 KiB to 16 MiB"),
        ({"total_bytes": -1}, "total length"),
        ({"total_bytes": 2**48 + 1}, "total length"),
        ({"version": -1}, "version"),
        ({"version": 2**63}, "version"),
        ({"name": ""}, "name"),
        ({"name": "n" * 256}, "name"),
        ({"name": "ü" * 128}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"media_type": "Text/plain"}, "media type"),
        ({"media_type": "text"}, "media type"),
        ({"media_type": "a/" + "b" * 64}, "media type"),
        ({"recipients": []}, "stanzas"),
        ({"recipients": [BrokerKey(Secret(bytes(range(32))))] * 33}, "stanzas"),
        ({"recipients": [PassphraseRecipient(Secret(b"p"), log2_n=15)] * 2}, "one passphrase"),
    ],
)
def test_what_the_format_cannot_say_is_refused(change, message):
    target = io.BytesIO()
    wanted = {
        "total_bytes": 0,
        "recipients": [BrokerKey(Secret.random())],
    } | AS_DIGITS
    with pytest.raises(FormatError, match=message):
        seal_stream(io.BytesIO(), target, **(wanted | change))
    assert target.getvalue() == b""
