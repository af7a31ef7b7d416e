import io

import pytest

from wardian.crypto.sealed_file import Pin, read_header
from wardian.crypto.sealed_header import (
    HeaderFields,
    Stanza,
    StanzaKind,
    build_header,
    parse_header,
    read_signed,
)
from wardian.errors import FormatError, LocalProtocolError, UnsupportedAlgorithm

PIN = Pin(header_digest=bytes(range(32)), last_tag=bytes(range(16)))
FIELDS = HeaderFields(
    file_id=bytes(16),
    chunk_log2=12,
    total_bytes=5,
    version=1,
    media_type="application/onnx",
    name="digits",
    stanzas=(Stanza(kind=StanzaKind.BROKER_KEY, body=bytes(56)),),
)


def test_a_pin_is_text_and_back():
    text = str(PIN)
    assert text == f"wardian-pin-v1:{bytes(range(32)).hex()}:{bytes(range(16)).hex()}"
    assert Pin.parse(text) == PIN


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.upper(),
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text[:-1],
        lambda text: text.replace("v1", "v2"),
        lambda text: text.replace(":", ""),
        lambda _: "",
        lambda text: text.replace("0", "\u0660"),
    ],
    ids=range(8),
)
def test_what_is_not_a_pin_is_refused(change):
    with pytest.raises(FormatError, match="pin: expected"):
        Pin.parse(change(str(PIN)))


@pytest.mark.parametrize(("digest", "tag"), [(31, 16), (32, 15), (33, 16), (32, 17), (0, 0)])
def test_a_pin_has_its_lengths(digest, tag):
    with pytest.raises(LocalProtocolError):
        Pin(header_digest=bytes(digest), last_tag=bytes(tag))


def test_the_bytes_of_a_header():
    """The table of docs/reference/sealed-file.md, byte for byte."""
    assert (
        build_header(FIELDS).hex(" ").split()
        == (
            "77 61 72 64 69 61 6e 00"  # magic
            " 00 01"  # format version
            " 00 00 00 75"  # length of the body
            + " 00" * 16  # file id
            + " 0c"  # log2 of the chunk
            + " 00 00 00 00 00 00 00 05"  # total length
            + " 00 00 00 00 00 00 00 01"  # version
            + " 10 61 70 70 6c 69 63 61 74 69 6f 6e 2f 6f 6e 6e 78"  # media type
            + " 06 64 69 67 69 74 73"  # name
            + " 01"  # stanzas
            + " 01 00 38"  # broker key, 56 bytes
            + " 00" * 56
        ).split()
    )


def test_reading_takes_the_header_and_not_a_byte_more():
    source = io.BytesIO(build_header(FIELDS) + bytes(32) + b"chunks")
    header = read_header(source)
    assert header.fields == FIELDS
    assert source.read() == b"chunks"
    assert header.header_bytes == 14 + 117 + 32
    assert header.sealed_bytes == header.header_bytes + 5 + 16


def test_parse_and_build_are_inverse():
    signed = build_header(FIELDS)
    assert parse_header(signed) == FIELDS
    assert read_signed(io.BytesIO(signed)) == signed


@pytest.mark.parametrize("length", range(14 + 117 + 32))
def test_a_header_cut_short_is_refused(length):
    raw = (build_header(FIELDS) + bytes(32))[:length]
    with pytest.raises(FormatError):
        read_header(io.BytesIO(raw))


def test_a_giant_header_is_refused_before_it_is_read():
    class Endless(io.RawIOBase):
        taken = 0

        def readinto(self, buffer):
            raw = b"wardian\x00\x00\x01\xff\xff\xff\xff"[self.taken :][: len(buffer)]
            self.taken += len(raw)
            if not raw:
                pytest.fail("read on after the length")
            buffer[: len(raw)] = raw
            return len(raw)

    with pytest.raises(FormatError, match="at most 8192"):
        read_header(Endless())


def test_versions_and_kinds_to_come_are_named():
    signed = bytearray(build_header(FIELDS))
    signed[9] = 2
    with pytest.raises(UnsupportedAlgorithm, match="format version 2; this release opens 1"):
        read_signed(io.BytesIO(bytes(signed)))
    signed = bytearray(build_header(FIELDS))
    signed[-59] = 9
    with pytest.raises(UnsupportedAlgorithm, match="unknown kind 9"):
        parse_header(bytes(signed))


@pytest.mark.parametrize("kind", list(StanzaKind))
def test_a_stanza_has_the_length_of_its_kind(kind):
    with pytest.raises(FormatError, match="wrong length"):
        HeaderFields(
            file_id=bytes(16),
            chunk_log2=12,
            total_bytes=0,
            version=0,
            media_type="a/b",
            name="n",
            stanzas=(Stanza(kind=kind, body=bytes(55)),),
        )


def test_a_file_id_has_16_bytes():
    with pytest.raises(FormatError, match="file id"):
        HeaderFields(
            file_id=bytes(15),
            chunk_log2=12,
            total_bytes=0,
            version=0,
            media_type="a/b",
            name="n",
            stanzas=FIELDS.stanzas,
        )
