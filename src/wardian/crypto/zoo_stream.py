"""Opening what Analytics Zoo encrypted, piece by piece: any length in a few MB of memory.

A piece is handed out before the end was seen, so before anything was verified: nobody may use one
until the iterator ended well. Under GCM that says that the whole is authentic. Under CBC it says
next to nothing (`docs/reference/zoo-encryption.md`).

Every failure that depends on the key is one error with one message, raised at the end of what was
read. Otherwise padding, and the encoding below it, would answer questions about a plaintext
(Vaudenay, "Security Flaws Induced by CBC Padding", EUROCRYPT 2002). The times that it takes are
close to each other and not equal: let no stranger ask often.
"""

import binascii
import codecs
import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, GCM
from cryptography.hazmat.primitives.padding import PKCS7

from wardian.crypto.secret import Secret
from wardian.crypto.zoo_keys import ZooForm, ZooKeys
from wardian.errors import AuthenticationFailed, FormatError

MAX_BYTES: Final = 2**31 - 1
"""The longest that was ever written: Java holds a file in one string, and no more fits there."""

TAG_BYTES: Final = 16
BLOCK_BYTES: Final = 16
PIECE_BYTES: Final = 3 * 2**16  # a multiple of 3, so that base64 of pieces is that of the whole

_REFUSED: Final = (
    "Analytics Zoo: does not open: another secret, salt, form, key length or encoding, or altered"
)


def open_model_pieces(
    source: BinaryIO, *, keys: ZooKeys, form: ZooForm, latin1: bool, digest: "hashlib._Hash"
) -> Iterator[bytes]:
    """Yield what the file `source` holds, unverified until it ended; see the module.

    Args:
        source: base64 in one line without an end, untrusted, at most `MAX_BYTES`.
        keys: of whoever encrypted it.
        form: in which it was encrypted.
        latin1: whether it went through text as models did: each byte as the character of Latin-1,
            in UTF-8. Otherwise what was encrypted is what is yielded.
        digest: told every byte of `source`.

    Raises:
        FormatError: not base64 as it is written, longer than `MAX_BYTES`, or of a length that the
            form does not have; or authentic, and not what `latin1` says.
        AuthenticationFailed: anything else: one message, whatever it was.
    """
    opened = open_pieces(_decoded(source, digest), keys=keys, form=form)
    return _as_latin1(opened, form) if latin1 else opened


def open_pieces(sealed: Iterator[bytes], *, keys: ZooKeys, form: ZooForm) -> Iterator[bytes]:
    """Yield the plaintext of `sealed`, whose pieces but the last have 32 bytes or more.

    Raises:
        FormatError: of a length that the form does not have.
        AuthenticationFailed: anything else: one message, whatever it was.
    """
    first = next(sealed, b"")
    if len(first) < form.iv_bytes:
        raise FormatError("Analytics Zoo: ends within its IV")
    iv, rest = first[: form.iv_bytes], chain((first[form.iv_bytes :],), sealed)
    if form.is_gcm:
        yield from _open_gcm(rest, keys.key(form), iv)
    else:
        yield from _open_unauthenticated_cbc(rest, keys.key(form), iv or bytes(BLOCK_BYTES))


def _open_gcm(sealed: Iterable[bytes], key: Secret, iv: bytes) -> Iterator[bytes]:
    decryptor = Cipher(AES(key.reveal()), GCM(iv)).decryptor()
    held = b""
    for piece in sealed:
        held += piece
        yield decryptor.update(held[:-TAG_BYTES])
        held = held[-TAG_BYTES:]
    if len(held) < TAG_BYTES:
        raise FormatError("Analytics Zoo: ends within its tag")
    try:
        decryptor.finalize_with_tag(held)
    except InvalidTag:
        raise refused() from None


def _open_unauthenticated_cbc(sealed: Iterable[bytes], key: Secret, iv: bytes) -> Iterator[bytes]:
    decryptor = Cipher(AES(key.reveal()), CBC(iv)).decryptor()
    unpadder = PKCS7(8 * BLOCK_BYTES).unpadder()  # holds the last block back
    length = 0
    for piece in sealed:
        length += len(piece)
        yield unpadder.update(decryptor.update(piece))
    if not length or length % BLOCK_BYTES:
        raise FormatError("Analytics Zoo: not whole blocks")
    try:
        last = unpadder.update(decryptor.finalize()) + unpadder.finalize()
    except ValueError:
        raise refused() from None  # the cause would be the answer of a padding oracle
    yield last


def _as_latin1(pieces: Iterator[bytes], form: ZooForm) -> Iterator[bytes]:
    """Yield the bytes whose characters of Latin-1 `pieces` are in UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    good = True
    for piece, final in chain(((each, False) for each in pieces), ((b"", True),)):
        content = b""
        if good:
            try:
                content = decoder.decode(piece, final).encode("latin-1")
            except UnicodeError:  # has plaintext in it, so nothing is raised while it is there
                good = False
        yield content  # to the end: where it failed must not show, and GCM decides first
    if good:
        return
    if form.is_gcm:
        raise FormatError("Analytics Zoo: authentic, but not of the encoding ISO-8859-1")
    raise refused()


def _decoded(source: BinaryIO, digest: "hashlib._Hash") -> Iterator[bytes]:
    """Yield what the base64 in `source` stands for, `PIECE_BYTES` each but the last."""
    total, ended = 0, False
    while text := _read_up_to(source, PIECE_BYTES // 3 * 4):
        total += len(text)
        if ended or total > MAX_BYTES:
            raise FormatError(f"Analytics Zoo: goes on after its end, or above {MAX_BYTES:,} bytes")
        digest.update(text)
        piece = decode_base64(text)
        ended = len(piece) < PIECE_BYTES
        yield piece


def decode_base64(text: bytes) -> bytes:
    """Return what `text` stands for, if it is written as Java writes it (RFC 4648, section 4).

    Raises:
        FormatError: not base64, line ends, no padding, or bits behind the end that are not zero.
    """
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as err:
        raise FormatError(f"Analytics Zoo: not base64 in one line: {err}") from None
    if binascii.b2a_base64(raw[-(len(raw) % 3 or 3) :], newline=False) != text[-4:]:
        raise FormatError("Analytics Zoo: base64 that is not written as it should be")
    return raw


def _read_up_to(source: BinaryIO, length: int) -> bytes:
    """Return the next `length` bytes of `source`, or those up to its end, however it gives them."""
    read = bytearray()
    while len(read) < length and (piece := source.read(length - len(read))):
        read += piece
    return bytes(read)


def refused() -> AuthenticationFailed:
    """Return the one error of everything that depends on the key."""
    return AuthenticationFailed(_REFUSED)
