"""Attacks on sealed files, exhaustive where the issue asks for all of them."""

import dataclasses
import hashlib
import io

import pytest
from sealed_samples import AS_DIGITS, seal

from wardian.crypto import sealed_stream
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.recipients import (
    BrokerKey,
    HpkeIdentity,
    HpkeRecipient,
    PassphraseIdentity,
    PassphraseRecipient,
)
from wardian.crypto.sealed_file import Pin, SealedReader, open_bytes, read_header
from wardian.crypto.sealed_stream import finish_header
from wardian.crypto.secret import Secret
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    CryptoError,
    FormatError,
    WardianError,
    WrongRecipient,
)


@pytest.fixture(scope="module")
def small():
    """A file of one chunk with two recipients."""
    sealed = seal(b"weights " * 40, recipients=[BrokerKey(Secret.random())])
    assert len(sealed.raw) >= 300
    return sealed


@pytest.fixture(scope="module")
def long():
    """A file of three chunks, the last one short."""
    return seal(bytes(4096) + b"\x01" * 4096 + b"end")


def pin_as_it_stands(raw):
    """Return the pin that names `raw` itself, as if the owner had signed the attacked file.

    Then only the format's own checks stand between the attacker and the reader.
    """
    header = read_header(io.BytesIO(raw))
    return Pin(header_digest=header.digest, last_tag=raw[-16:])


def flips(raw):
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(flipped)


def test_every_bit_flip_is_refused(small):
    for bit, raw in flips(small.raw):
        with pytest.raises((CryptoError, FormatError)):
            small.open(raw)
            pytest.fail(f"bit {bit} changed and nobody noticed")


def test_every_bit_flip_is_refused_even_if_the_pin_names_it(small):
    parsed = 0
    for bit, raw in flips(small.raw):
        try:
            pin = pin_as_it_stands(raw)
        except WardianError:
            continue  # does not even parse, so nothing opens it
        with pytest.raises(WardianError):
            small.open(raw, pin=pin)
            pytest.fail(f"bit {bit} changed and nobody noticed")
        parsed += 1
    assert parsed > 8 * 400  # most flips parse, so it was the cryptography that refused them


def test_truncation_at_every_length_is_refused(long):
    for length in range(len(long.raw)):
        with pytest.raises(FormatError):
            open_bytes(
                io.BytesIO(long.raw[:length]),
                identities=[long.key],
                pin=long.pin,
                max_bytes=10**6,
                **AS_DIGITS,
            )
            pytest.fail(f"opened after {length} bytes")


def test_truncation_never_yields_more_than_an_authentic_beginning(small):
    for length in range(len(small.raw)):
        with pytest.raises(FormatError):
            small.open(small.raw[:length])


@pytest.mark.parametrize("tail", [b"\x00", b"\n", b"x" * 16, b"x" * 4112])
def test_trailing_bytes_are_refused(long, tail):
    with pytest.raises(FormatError, match="goes on"):
        long.open(long.raw + tail)


def split(raw):
    start = read_header(io.BytesIO(raw)).header_bytes
    return raw[:start], [raw[at : at + 4112] for at in range(start, len(raw), 4112)]


@pytest.mark.parametrize(
    "order", [(1, 0, 2), (0, 0, 2), (1, 1, 2), (0, 2), (1, 2), (2,), (0, 1, 1), (2, 1, 0)]
)
def test_moved_chunks_are_refused(long, order):
    header, chunks = split(long.raw)
    with pytest.raises((AuthenticationFailed, FormatError)):
        long.open(header + b"".join(chunks[i] for i in order))


def test_chunks_of_another_file_are_refused():
    """Same key, same name, same length: still another file."""
    one = seal(bytes(8192))
    two = seal(bytes(8192))
    header, mine = split(one.raw)
    _, theirs = split(two.raw)
    with pytest.raises(AuthenticationFailed):
        one.open(header + theirs[0] + mine[1])


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"name": "fraud"}, "not as application/onnx 'fraud' version 1"),
        ({"version": 2}, "version 2"),
        ({"version": 0}, "version 0"),
        ({"media_type": "application/x-onnx"}, "not as application/x-onnx"),
    ],
)
def test_a_file_renamed_is_refused(small, asked, shown):
    with pytest.raises(AuthenticationFailed, match=shown):
        small.open(**asked)


def test_a_trojan_sealed_by_somebody_else_is_refused(small):
    """TRUST T14: a recipient's public key is no secret, so anyone can seal to it."""
    key = HpkePrivateKey.generate()
    honest = seal(b"model", recipients=[HpkeRecipient(key.public)])
    trojan = seal(b"troja", recipients=[HpkeRecipient(key.public)])
    me = [HpkeIdentity(key)]
    assert honest.open(identities=me) == b"model"
    assert trojan.open(identities=me) == b"troja"
    with pytest.raises(AuthenticationFailed, match="not the file that is pinned"):
        honest.open(trojan.raw, identities=me)


def test_an_old_version_put_back_is_refused():
    old, new = seal(b"old", version=1), seal(b"new", version=2)
    with pytest.raises(AuthenticationFailed, match="not the file that is pinned"):
        new.open(old.raw, version=2)


def test_the_pin_is_looked_at_before_any_key(small):
    """So that a planted header costs its reader no scrypt and no private key operation."""

    class Untouched:
        def unwrap(self, stanza):
            pytest.fail("a stanza was tried before the pin was met")

    raw = bytearray(small.raw)
    raw[20] ^= 1
    with pytest.raises(AuthenticationFailed, match="pinned"):
        small.open(bytes(raw), identities=[Untouched()])


def test_another_last_tag_is_refused(small):
    pin = dataclasses.replace(small.pin, last_tag=bytes(16))
    with pytest.raises(AuthenticationFailed, match="last chunk"):
        small.open(pin=pin)


def test_wrong_keys_are_refused(small):
    strangers = [
        BrokerKey(Secret.random()),
        HpkeIdentity(HpkePrivateKey.generate()),
        PassphraseIdentity(Secret(b"guess")),
    ]
    for identities in ([], strangers[:1], strangers):
        with pytest.raises(WrongRecipient):
            small.open(identities=identities)


def test_an_identity_that_unwraps_nonsense_is_refused(small):
    class Nonsense:
        def __init__(self, key):
            self.key = key

        def unwrap(self, stanza):
            return self.key

    with pytest.raises(AuthenticationFailed, match="header"):
        small.open(identities=[Nonsense(Secret.random())])
    with pytest.raises(WrongRecipient):
        small.open(identities=[Nonsense(Secret(b"short"))])
    assert small.open(identities=[Nonsense(Secret.random()), small.key]) == small.plaintext


def test_longer_than_accepted_is_refused_before_memory_is_taken(small):
    with pytest.raises(ConfigError, match="at most 319"):
        open_bytes(
            io.BytesIO(small.raw),
            identities=[small.key],
            pin=small.pin,
            max_bytes=319,
            **AS_DIGITS,
        )


def test_half_a_plaintext_is_wiped(long, monkeypatch):
    """`open_bytes` hands out all or nothing, and leaves no half behind."""
    made = []

    class Noted(bytearray):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(sealed_stream, "bytearray", Noted, raising=False)
    raw = bytearray(long.raw)
    raw[-20] ^= 1
    with pytest.raises(AuthenticationFailed):
        open_bytes(
            io.BytesIO(bytes(raw)),
            identities=[long.key],
            pin=long.pin,
            max_bytes=10**6,
            **AS_DIGITS,
        )
    (plaintext,) = [buffer for buffer in made if len(buffer) == len(long.plaintext)]
    assert bytes(plaintext) == bytes(len(plaintext))


def reader(sealed, source, **changes):
    wanted = {"identities": [sealed.key], "pin": sealed.pin} | AS_DIGITS | changes
    return SealedReader(source, **wanted)


def test_random_access_looks_at_length_and_end_first(long):
    """TRUST T14: what is never read might be missing."""
    for raw in (long.raw[:-1], long.raw + b"\x00", long.raw[:-19], long.raw[:-4112]):
        with pytest.raises(FormatError, match="not of"):
            reader(long, io.BytesIO(raw))
    cut_and_padded = long.raw[:-19] + bytes(19)
    with pytest.raises(AuthenticationFailed, match="last chunk"):
        reader(long, io.BytesIO(cut_and_padded))
    with pytest.raises(AuthenticationFailed, match="pinned"):
        reader(long, io.BytesIO(long.raw), pin=dataclasses.replace(long.pin, last_tag=bytes(16)))
    with pytest.raises(AuthenticationFailed, match="not as"):
        reader(long, io.BytesIO(long.raw), name="fraud")


def test_random_access_notices_what_changes_later(long):
    source = io.BytesIO(long.raw)
    opened = reader(long, source)
    assert opened.read(4096, 2) == b"\x01\x01"
    header, chunks = split(long.raw)
    source.seek(0)
    source.write(header + chunks[1] + chunks[0] + chunks[2])
    for offset in (0, 4096):
        with pytest.raises(AuthenticationFailed):
            opened.read(offset, 1)
    assert opened.read(8192, 100) == b"end"
    source.truncate(9)
    with pytest.raises(FormatError, match="ends within"):
        opened.read(0, 1)


def test_two_seals_share_nothing():
    one, two = seal(b"same"), seal(b"same")
    assert read_header(io.BytesIO(one.raw)).file_id != read_header(io.BytesIO(two.raw)).file_id
    assert one.raw[-20:] != two.raw[-20:]
    assert one.pin != two.pin


def test_one_header_opens_under_one_file_key_alone(small):
    """Key commitment: the MAC of the header is a hash of the file key."""
    header = read_header(io.BytesIO(small.raw))
    macs = {finish_header(header.signed, header.fields, Secret.random()).mac for _ in range(100)}
    assert len(macs) == 100
    assert header.mac not in macs
    assert header.digest == hashlib.sha256(header.signed + header.mac).digest()


def test_a_passphrase_of_two_files_is_salted():
    key = Secret.random()
    recipient = PassphraseRecipient(Secret(b"words"), log2_n=15)
    assert recipient.wrap(key).body != recipient.wrap(key).body
