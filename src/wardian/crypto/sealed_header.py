"""The header of a sealed file, version 1: its bytes, and the pin that names one file.

The byte table stands in `docs/reference/sealed-file.md`. Parsing is bounded and total: a header is
at most `MAX_BODY_BYTES` long, every field has one encoding, and what parses builds back to the same
bytes. Parsing proves nothing about who made the header; `sealed_file` opens files only after the
digest of the header has met a pin.
"""

import enum
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO, Self

from typing_extensions import override

from wardian.crypto.aead_stream import TAG_BYTES, count_chunks, read_exactly
from wardian.errors import FormatError, LocalProtocolError, UnsupportedAlgorithm

MAGIC = b"wardian\x00"
FORMAT_VERSION = 1
MAC_BYTES = 32
DIGEST_BYTES = 32
FILE_ID_BYTES = 16
MAX_BODY_BYTES = 8192
MAX_STANZAS = 32
MAX_TOTAL_BYTES = 2**48
MAX_VERSION = 2**63 - 1
MIN_CHUNK_LOG2 = 12
MAX_CHUNK_LOG2 = 24
MIN_SCRYPT_LOG2 = 15  # 32 MiB of memory
MAX_SCRYPT_LOG2 = 20  # 1 GiB: more would let a header exhaust whoever opens the file

_PREFIX = struct.Struct(">8sHI")  # magic, format version, length of the body
_FIXED = struct.Struct(">16sBQQ")  # file id, log2 of the chunk, total length, model version
_STANZA = struct.Struct(">BH")  # kind, length of the body
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")
# No controls, line separators, text-direction marks, surrogates: what one sees is what is compared.
_NAME = re.compile(
    "[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+"
)
_PIN = re.compile(r"wardian-pin-v1:([0-9a-f]{64}):([0-9a-f]{32})")


class StanzaKind(enum.IntEnum):
    """How a stanza wraps the file key. A new kind is a new format version."""

    BROKER_KEY = 1
    HPKE = 2
    PASSPHRASE = 3


STANZA_BYTES = {StanzaKind.BROKER_KEY: 56, StanzaKind.HPKE: 80, StanzaKind.PASSPHRASE: 57}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """The file key, wrapped for one recipient. `body` has the length that `kind` prescribes."""

    kind: StanzaKind
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Names one sealed file: what an owner signs, and what opening demands (TRUST T14).

    Attributes:
        header_digest: SHA-256 over the header with its MAC, 32 bytes.
        last_tag: the tag of the last chunk, 16 bytes.
    """

    header_digest: bytes
    last_tag: bytes

    def __post_init__(self) -> None:
        if len(self.header_digest) != DIGEST_BYTES or len(self.last_tag) != TAG_BYTES:
            raise LocalProtocolError("a Pin is a digest of 32 bytes and a tag of 16")

    @override
    def __str__(self) -> str:
        return f"wardian-pin-v1:{self.header_digest.hex()}:{self.last_tag.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the pin that `str(pin)` wrote.

        Raises:
            FormatError: not `wardian-pin-v1:`, 64 hex digits, `:`, 32 hex digits, in lower case.
        """
        found = _PIN.fullmatch(text)
        if not found:
            raise FormatError("pin: expected wardian-pin-v1:<64 hex digits>:<32 hex digits>")
        return cls(
            header_digest=bytes.fromhex(found.group(1)), last_tag=bytes.fromhex(found.group(2))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderFields:
    """What a header says: the fields of its body, in their order.

    Attributes:
        file_id: 16 random bytes; two seals of the same bytes differ.
        chunk_log2: log2 of the plaintext bytes in a chunk, 12 to 24.
        total_bytes: length of the plaintext, 0 to 2**48.
        version: version of the named thing, 0 to 2**63 - 1.
        media_type: RFC 6838 type in lower case without parameters, 3 to 127 characters.
        name: 1 to 255 bytes of UTF-8, without control and text-direction characters.
        stanzas: 1 to 32, at most one of them for a passphrase.
    """

    file_id: bytes
    chunk_log2: int
    total_bytes: int
    version: int
    media_type: str
    name: str
    stanzas: tuple[Stanza, ...]

    def __post_init__(self) -> None:
        _require(len(self.file_id) == FILE_ID_BYTES, "file id: 16 bytes")
        _require(MIN_CHUNK_LOG2 <= self.chunk_log2 <= MAX_CHUNK_LOG2, "chunk size: 4 KiB to 16 MiB")
        _require(0 <= self.total_bytes <= MAX_TOTAL_BYTES, "total length: 0 to 2**48 bytes")
        _require(0 <= self.version <= MAX_VERSION, "version: 0 to 2**63 - 1")
        _require(_MEDIA_TYPE.fullmatch(self.media_type), "media type: type/subtype in lower case")
        _require(
            _NAME.fullmatch(self.name) and len(self.name.encode()) <= 255,
            "name: 1 to 255 bytes of UTF-8 without control characters",
        )
        _require(1 <= len(self.stanzas) <= MAX_STANZAS, f"stanzas: 1 to {MAX_STANZAS}")
        passphrases = [s for s in self.stanzas if s.kind is StanzaKind.PASSPHRASE]
        _require(len(passphrases) <= 1, "stanzas: at most one passphrase")
        for stanza in self.stanzas:
            _require(len(stanza.body) == STANZA_BYTES[stanza.kind], "stanza: wrong length")
        for stanza in passphrases:
            _require(
                MIN_SCRYPT_LOG2 <= stanza.body[16] <= MAX_SCRYPT_LOG2,
                f"passphrase stanza: scrypt work factor 2**{MIN_SCRYPT_LOG2} to "
                f"2**{MAX_SCRYPT_LOG2}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedHeader:
    """A header as it stands at the front of a file.

    From `read_header` it is untrusted. From `open_stream` and its kin it is what the pin named.
    """

    fields: HeaderFields
    signed: bytes
    """Everything before the MAC, which is what the MAC covers."""
    mac: bytes
    digest: bytes
    """SHA-256 over `signed` and `mac`."""

    @property
    def media_type(self) -> str:
        """What kind of bytes are sealed, for example `application/onnx`."""
        return self.fields.media_type

    @property
    def name(self) -> str:
        """The name under which the bytes were sealed."""
        return self.fields.name

    @property
    def version(self) -> int:
        """The version under which the bytes were sealed."""
        return self.fields.version

    @property
    def file_id(self) -> bytes:
        """16 random bytes of this seal."""
        return self.fields.file_id

    @property
    def stanzas(self) -> tuple[Stanza, ...]:
        """One for each recipient."""
        return self.fields.stanzas

    @property
    def total_bytes(self) -> int:
        """Length of the plaintext."""
        return self.fields.total_bytes

    @property
    def chunk_bytes(self) -> int:
        """Plaintext bytes in every chunk but the last."""
        return 1 << self.fields.chunk_log2

    @property
    def header_bytes(self) -> int:
        """Length of the header with its MAC; the first chunk stands behind it."""
        return len(self.signed) + len(self.mac)

    @property
    def sealed_bytes(self) -> int:
        """Length of the whole file: header, plaintext, one tag for each chunk."""
        chunks = count_chunks(self.total_bytes, self.chunk_bytes)
        return self.header_bytes + self.total_bytes + chunks * TAG_BYTES


def build_header(fields: HeaderFields) -> bytes:
    """Return the header's bytes up to, and without, the MAC."""
    out = bytearray(
        _FIXED.pack(fields.file_id, fields.chunk_log2, fields.total_bytes, fields.version)
    )
    for text in (fields.media_type.encode(), fields.name.encode()):
        out += bytes((len(text),)) + text
    out.append(len(fields.stanzas))
    for stanza in fields.stanzas:
        out += _STANZA.pack(stanza.kind, len(stanza.body)) + stanza.body
    return _PREFIX.pack(MAGIC, FORMAT_VERSION, len(out)) + bytes(out)


def read_signed(source: BinaryIO) -> bytes:
    """Return the header's bytes up to the MAC, having read not one byte more.

    Raises:
        FormatError: not a sealed file, truncated, or a body longer than 8 KiB.
        UnsupportedAlgorithm: a sealed file of another version.
    """
    prefix = bytearray(_PREFIX.size)
    read_exactly(source, prefix, what="header")
    magic, version, length = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise FormatError("not a sealed file: it does not begin with the magic bytes")
    if version != FORMAT_VERSION:
        raise UnsupportedAlgorithm(
            f"sealed file of format version {version}; this release opens {FORMAT_VERSION}"
        )
    if length > MAX_BODY_BYTES:  # before any byte of it is read
        raise FormatError(f"sealed file: header of {length} bytes, at most {MAX_BODY_BYTES}")
    body = bytearray(length)
    read_exactly(source, body, what="header")
    return bytes(prefix + body)


def parse_header(signed: bytes) -> HeaderFields:
    """Return the fields of a header that `read_signed` returned.

    Raises:
        FormatError: a field is cut off, out of range or not in its one encoding, or bytes follow.
        UnsupportedAlgorithm: a stanza of a kind that this version does not have.
    """
    cursor = _Cursor(signed, at=_PREFIX.size)
    file_id, chunk_log2, total_bytes, version = _FIXED.unpack(cursor.take(_FIXED.size))
    media_type, name = cursor.take_text(), cursor.take_text()
    stanzas = tuple(cursor.take_stanza() for _ in range(cursor.take(1)[0]))
    cursor.finish()
    return HeaderFields(
        file_id=file_id,
        chunk_log2=chunk_log2,
        total_bytes=total_bytes,
        version=version,
        media_type=media_type,
        name=name,
        stanzas=stanzas,
    )


class _Cursor:
    """Takes fields off the front of a header and never reads past its end."""

    def __init__(self, raw: bytes, *, at: int) -> None:
        self._raw = raw
        self._at = at

    def take(self, length: int) -> bytes:
        piece = self._raw[self._at : self._at + length]
        _require(len(piece) == length, f"byte {self._at}: cut off")
        self._at += length
        return piece

    def take_text(self) -> str:
        at = self._at
        try:
            return self.take(self.take(1)[0]).decode()
        except UnicodeDecodeError as err:
            raise FormatError(f"sealed file: byte {at}: not UTF-8") from err

    def take_stanza(self) -> Stanza:
        at = self._at
        kind, length = _STANZA.unpack(self.take(_STANZA.size))
        if kind not in STANZA_BYTES:
            raise UnsupportedAlgorithm(f"sealed file: byte {at}: recipient of unknown kind {kind}")
        _require(length == STANZA_BYTES[StanzaKind(kind)], f"byte {at}: stanza: wrong length")
        return Stanza(kind=StanzaKind(kind), body=self.take(length))

    def finish(self) -> None:
        _require(self._at == len(self._raw), f"byte {self._at}: the header goes on after its end")


def _require(holds: object, what: str) -> None:
    if not holds:
        raise FormatError(f"sealed file: {what}")
