"""Sealing files to named recipients, and opening them: format version 1.

A file opens only under a `Pin` (TRUST T14): a file has no author, and whoever knows a recipient's
public key can seal to it, so what is opened is the one file that an owner named. In order:

1. the digest of the header meets the pin;
2. media type, name and version are those that the caller asked for;
3. an identity unwraps a file key;
4. the header's MAC verifies under it, which also commits the file to this one key;
5. each chunk authenticates in its place;
6. the last tag meets the pin, and the file ends there.

Memory is bounded by two chunks, whatever the length of the file.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import BinaryIO

from wardian.crypto.aead_stream import TAG_BYTES, ChunkCipher, read_exactly
from wardian.crypto.kdf import hkdf
from wardian.crypto.recipients import FILE_KEY_BYTES, Identity, Recipient
from wardian.crypto.sealed_header import (
    FILE_ID_BYTES,
    MAC_BYTES,
    HeaderFields,
    Pin,
    SealedHeader,
    build_header,
    parse_header,
    read_signed,
)
from wardian.crypto.secret import Secret
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    WrongRecipient,
)

DEFAULT_CHUNK_BYTES = 256 * 1024

Progress = Callable[[int], None]
"""Called with the number of plaintext bytes that were done since the last call."""

_HEADER_INFO = b"wardian sealed-file v1 header"
_PAYLOAD_INFO = b"wardian sealed-file v1 payload"


def seal_stream(
    source: BinaryIO,
    target: BinaryIO,
    *,
    total_bytes: int,
    recipients: Sequence[Recipient],
    media_type: str,
    name: str,
    version: int,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    progress: Progress | None = None,
) -> Pin:
    """Write `source` to `target` as a sealed file, and return the pin that names it.

    Args:
        source: gives exactly `total_bytes`.
        target: takes the file; nothing is read back or sought.
        total_bytes: 0 to 2**48.
        recipients: 1 to 32, at most one of them a passphrase; each opens the whole file.
        media_type: for example `application/onnx`.
        name: what the bytes are, for example the model's name.
        version: of the named thing, 0 to 2**63 - 1.
        chunk_bytes: a power of two, 4 KiB to 16 MiB.
        progress: told how many bytes are done.

    Raises:
        FormatError: a field is out of its range.
        ConfigError: `source` does not have `total_bytes`.
    """
    if chunk_bytes < 1 or chunk_bytes & (chunk_bytes - 1):
        raise FormatError("sealed file: chunk size: a power of two")
    file_key = Secret.random(FILE_KEY_BYTES)
    fields = HeaderFields(
        file_id=secrets.token_bytes(FILE_ID_BYTES),
        chunk_log2=chunk_bytes.bit_length() - 1,
        total_bytes=total_bytes,
        version=version,
        media_type=media_type,
        name=name,
        stanzas=tuple(recipient.wrap(file_key) for recipient in recipients),
    )
    header = finish_header(build_header(fields), fields, file_key)
    target.write(header.signed + header.mac)
    last_tag = _seal_chunks(source, target, payload_cipher(header, file_key), progress)
    return Pin(header_digest=header.digest, last_tag=last_tag)


def read_header(source: BinaryIO) -> SealedHeader:
    """Return the header at the front of `source`, unverified; `source` stands behind it.

    For showing what a file says about itself. Nothing in it is known to be true.

    Raises:
        FormatError: not a sealed file, truncated, or a field out of its range.
        UnsupportedAlgorithm: of another format version, or for a recipient of an unknown kind.
    """
    signed = read_signed(source)
    mac = bytearray(MAC_BYTES)
    read_exactly(source, mac, what="header")
    return _with_digest(signed, parse_header(signed), bytes(mac))


def open_stream(
    source: BinaryIO,
    target: BinaryIO,
    *,
    identities: Sequence[Identity],
    pin: Pin,
    media_type: str,
    name: str,
    version: int,
    progress: Progress | None = None,
) -> SealedHeader:
    """Write the plaintext of the sealed file `source` to `target`, and return its header.

    A chunk is written once it is authentic. If this raises, `target` holds an authentic beginning
    of the file or nothing, and must not be used: `open_file` sees to that.

    Args:
        source: a sealed file, untrusted, read once from front to end.
        target: takes the plaintext.
        identities: tried on each stanza.
        pin: the file that is to be opened.
        media_type: what it must be.
        name: under which name.
        version: and version.
        progress: told how many bytes are done.

    Raises:
        FormatError: not a sealed file, or truncated.
        AuthenticationFailed: not the file of the pin, not under this name, or changed.
        WrongRecipient: sealed to none of `identities`.
        UnsupportedAlgorithm: of another format version.
    """
    header = read_pinned(source, pin=pin, media_type=media_type, name=name, version=version)
    cipher = payload_cipher(header, unwrap_file_key(header, identities))
    size = min(header.chunk_bytes, header.total_bytes)
    plaintext, sealed = bytearray(size), bytearray(size + TAG_BYTES)
    view = memoryview(plaintext)
    for index in range(cipher.chunks):
        chunk = view[: cipher.plain_bytes(index)]
        open_chunk(source, cipher, index, buffer=sealed, target=chunk, pin=pin)
        target.write(chunk)
        _tell(progress, len(chunk))
    return header


def open_bytes(
    source: BinaryIO,
    *,
    identities: Sequence[Identity],
    pin: Pin,
    media_type: str,
    name: str,
    version: int,
    max_bytes: int,
    progress: Progress | None = None,
) -> bytearray:
    """Return the plaintext of the sealed file `source` in one buffer, which the caller may wipe.

    Args:
        source: a sealed file, untrusted, read once from front to end.
        identities: as for `open_stream`, like the other arguments that bear its names.
        pin: the file that is to be opened.
        media_type: what it must be.
        name: under which name.
        version: and version.
        max_bytes: longest plaintext that is accepted; decided before memory is taken.
        progress: told how many bytes are done.

    Raises:
        ConfigError: longer than `max_bytes`.
        FormatError, AuthenticationFailed, WrongRecipient, UnsupportedAlgorithm: see `open_stream`.
    """
    header = read_pinned(source, pin=pin, media_type=media_type, name=name, version=version)
    if header.total_bytes > max_bytes:
        raise ConfigError(f"{name}: {header.total_bytes} bytes, at most {max_bytes} are accepted")
    cipher = payload_cipher(header, unwrap_file_key(header, identities))
    plaintext = bytearray(header.total_bytes)
    sealed = bytearray(min(header.chunk_bytes, header.total_bytes) + TAG_BYTES)
    view = memoryview(plaintext)
    try:
        for index in range(cipher.chunks):
            chunk = view[index * header.chunk_bytes :][: cipher.plain_bytes(index)]
            open_chunk(source, cipher, index, buffer=sealed, target=chunk, pin=pin)
            _tell(progress, len(chunk))
    except BaseException:
        for at in range(0, len(view), len(sealed)):  # nobody else holds it to wipe it
            rest = view[at : at + len(sealed)]
            rest[:] = bytes(len(rest))
        raise
    return plaintext


def finish_header(signed: bytes, fields: HeaderFields, file_key: Secret) -> SealedHeader:
    """Return the header whose bytes before the MAC are `signed`, with its MAC under `file_key`.

    HMAC-SHA256 under a key derived from the file key commits: no second file key has this MAC, so
    a file cannot open to different plaintexts for different recipients.
    """
    mac_key = hkdf(file_key, salt=b"", info=_HEADER_INFO)
    return _with_digest(signed, fields, hmac.digest(mac_key.reveal(), signed, "sha256"))


def unwrap_file_key(header: SealedHeader, identities: Sequence[Identity]) -> Secret:
    """Return the file key that one of `identities` unwraps and that the header's MAC confirms.

    Raises:
        WrongRecipient: none of the stanzas is for any of `identities`.
        AuthenticationFailed: a key was found, but the header was not made with it.
    """
    found = False
    for stanza in header.stanzas:
        for identity in identities:
            file_key = identity.unwrap(stanza)
            if file_key is None or len(file_key) != FILE_KEY_BYTES:
                continue
            found = True
            if hmac.compare_digest(
                finish_header(header.signed, header.fields, file_key).mac, header.mac
            ):
                return file_key
    if found:
        raise AuthenticationFailed("sealed file: the header is not what was sealed")
    raise WrongRecipient("sealed file: no key or passphrase at hand opens it")


def payload_cipher(header: SealedHeader, file_key: Secret) -> ChunkCipher:
    """Return the cipher of the chunks behind `header`."""
    return ChunkCipher(
        hkdf(file_key, salt=header.digest, info=_PAYLOAD_INFO),
        associated=header.digest,
        total_bytes=header.total_bytes,
        chunk_bytes=header.chunk_bytes,
    )


def _with_digest(signed: bytes, fields: HeaderFields, mac: bytes) -> SealedHeader:
    digest = hashlib.sha256(signed + mac).digest()
    return SealedHeader(fields=fields, signed=signed, mac=mac, digest=digest)


def read_pinned(
    source: BinaryIO, *, pin: Pin, media_type: str, name: str, version: int
) -> SealedHeader:
    """Return the header of `source` if it is the one that is pinned and asked for."""
    header = read_header(source)
    if not hmac.compare_digest(header.digest, pin.header_digest):
        raise AuthenticationFailed("sealed file: not the file that is pinned")
    if (header.media_type, header.name, header.version) != (media_type, name, version):
        raise AuthenticationFailed(
            f"sealed file: sealed as {header.media_type} {header.name!r} version {header.version},"
            f" not as {media_type} {name!r} version {version}"
        )
    return header


def _seal_chunks(
    source: BinaryIO, target: BinaryIO, cipher: ChunkCipher, progress: Progress | None
) -> bytes:
    """Seal the whole of `source` to `target` and return the last tag."""
    size = min(cipher.chunk_bytes, cipher.total_bytes)
    plaintext, sealed = memoryview(bytearray(size)), memoryview(bytearray(size + TAG_BYTES))
    length = 0
    for index in range(cipher.chunks):
        length = cipher.plain_bytes(index)
        try:
            read_exactly(source, plaintext[:length], what="content")
        except FormatError as err:
            raise ConfigError(
                f"what is to be sealed has fewer than {cipher.total_bytes} bytes"
            ) from err
        cipher.seal(index, plaintext[:length], sealed[: length + TAG_BYTES])
        target.write(sealed[: length + TAG_BYTES])
        _tell(progress, length)
    if source.read(1):
        raise ConfigError(f"what is to be sealed has more than {cipher.total_bytes} bytes")
    return bytes(sealed[length : length + TAG_BYTES])


def open_chunk(
    source: BinaryIO,
    cipher: ChunkCipher,
    index: int,
    *,
    buffer: bytearray,
    target: memoryview,
    pin: Pin,
) -> None:
    """Fill `target` with chunk `index`, the next in `source`.

    The last one must carry the pinned tag, and nothing may follow it.

    Args:
        source: stands at the chunk.
        cipher: of the stream.
        index: of the chunk.
        buffer: scratch, at least 16 bytes longer than `target`.
        target: as long as the chunk's plaintext.
        pin: of the file.
    """
    sealed = memoryview(buffer)[: len(target) + TAG_BYTES]
    read_exactly(source, sealed, what="chunks")
    if index == cipher.chunks - 1:
        if not hmac.compare_digest(sealed[-TAG_BYTES:], pin.last_tag):
            raise AuthenticationFailed("sealed file: the last chunk is not the one that is pinned")
        if source.read(1):
            raise FormatError("sealed file: goes on after its last chunk")
    cipher.open(index, sealed, target)


def _tell(progress: Progress | None, done: int) -> None:
    if progress is not None:
        progress(done)
