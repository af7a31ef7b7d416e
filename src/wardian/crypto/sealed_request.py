"""Requests that a client seals to a model's request key, past the front end (TRUST T13).

The request is HPKE; its answer is sealed under a key from the exporter of that very request, as
in RFC 9458, section 4.4: only who opened the request can answer it, and the answer opens for no
other. What is sealed has a length from a short list (`padded_bytes`), so that sizes tell little.

Byte tables: `docs/reference/sealed-request.md`. What is inside is `serving.sealed_content`'s.
"""

import secrets
import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardian._internal import wire
from wardian.crypto.hpke_context import (
    KEY_BYTES,
    TAG_BYTES,
    HpkeContext,
    decapsulate,
    encapsulate,
)
from wardian.crypto.kdf import expand, extract
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError

Buffer: TypeAlias = bytes | bytearray | memoryview

REQUEST_MAGIC: Final = b"wdsr"
ANSWER_MAGIC: Final = b"wdsa"
FORMAT: Final = 1
PREFIX: Final = struct.Struct(">4sB3xQ")
"""Of a request: magic, format version, three zeros, epoch. Readable by everyone on the way."""
ANSWER_PREFIX: Final = struct.Struct(">4sB3x")
NONCE_BYTES: Final = 32  # max(Nn, Nk) of the suite (RFC 9458, section 4.4)
REQUEST_OVERHEAD: Final = PREFIX.size + KEY_BYTES + TAG_BYTES
ANSWER_OVERHEAD: Final = ANSWER_PREFIX.size + NONCE_BYTES + TAG_BYTES
MIN_PADDED_BYTES: Final = 1024
MAX_PLAINTEXT_BYTES: Final = 2**30

_INFO_LABEL: Final = "wardian sealed request v1"
_ANSWER_LABEL: Final = b"wardian sealed answer v1"
_STEPS_LOG2: Final = 3  # eight lengths between two powers of two
_MAX_EPOCH: Final = 2**63 - 1


class RequestPlace(NamedTuple):
    """What a request key is for; both ends bind all of it.

    Attributes:
        mesh: the mesh's name.
        model: the model's.
        manifest_digest: SHA-256 of the manifest in force, 32 bytes.
        epoch: of the key, 1 to 2**63 - 1.
    """

    mesh: str
    model: str
    manifest_digest: bytes
    epoch: int

    def info(self) -> bytes:
        """Return the HPKE `info`: a request opens for this place and no other."""
        return wire.fields(
            _INFO_LABEL,
            self.mesh.encode(),
            self.model.encode(),
            self.manifest_digest,
            self.epoch.to_bytes(8, "big"),
        )


def padded_bytes(length: int) -> int:
    """Return the least length of the list that is not below `length`.

    The list: 1024, and eight equal steps from each power of two to the next. What is added is at
    most an eighth.
    """
    if length <= MIN_PADDED_BYTES:
        return MIN_PADDED_BYTES
    step = 1 << ((length - 1).bit_length() - 1 - _STEPS_LOG2)
    return -(-length // step) * step


def epoch_of_sealed(body: Buffer) -> int:
    """Return the epoch that a sealed request names; anybody can write it.

    Raises:
        FormatError: it is no sealed request of this format.
    """
    if len(body) < REQUEST_OVERHEAD:
        raise FormatError(f"sealed request: at least {REQUEST_OVERHEAD} bytes were expected")
    prefix = bytes(body[: PREFIX.size])
    magic, form, epoch = PREFIX.unpack(prefix)
    if magic != REQUEST_MAGIC or form != FORMAT or epoch > _MAX_EPOCH:
        raise FormatError("sealed request: not of format 1")
    if prefix != PREFIX.pack(REQUEST_MAGIC, FORMAT, epoch):
        raise FormatError("sealed request: bytes 5 to 7 are zero")
    return int(epoch)


class SentRequest:
    """A request that was sealed, and the one thing that opens its answer. One caller at a time."""

    __slots__ = ("_context", "body")

    def __init__(self, *, body: bytes, context: HpkeContext) -> None:
        """Wait for the answer to `body`; made by `seal_request` alone."""
        self.body = body
        self._context = context

    def open_answer(self, sealed: Buffer) -> bytes:
        """Return the plaintext of an answer to this request.

        Raises:
            FormatError: it is no sealed answer.
            AuthenticationFailed: it answers another request, or was changed.
        """
        if len(sealed) < ANSWER_OVERHEAD:
            raise FormatError(f"sealed answer: at least {ANSWER_OVERHEAD} bytes were expected")
        prefix, at = bytes(sealed[: ANSWER_PREFIX.size]), ANSWER_PREFIX.size
        if prefix != ANSWER_PREFIX.pack(ANSWER_MAGIC, FORMAT):
            raise FormatError("sealed answer: not of format 1")
        drawn = bytes(sealed[at : at + NONCE_BYTES])
        key, nonce = _answer_key(self._context, drawn)
        try:
            return AESGCM(key).decrypt(nonce, memoryview(sealed)[at + NONCE_BYTES :], prefix)
        except InvalidTag as err:
            raise AuthenticationFailed("sealed answer: not to this request, or changed") from err


def seal_request(
    public: bytes,
    plaintext: bytes | bytearray,
    *,
    place: RequestPlace,
    ephemeral: X25519PrivateKey | None = None,
) -> SentRequest:
    """Return `plaintext` sealed to the model's workers.

    Args:
        public: the request key, from a statement that was verified, 32 bytes.
        plaintext: at most 1 GiB, padded by the caller.
        place: what that statement says.
        ephemeral: for vectors alone.

    Raises:
        FormatError: an unusable key, or too long a plaintext.
    """
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise FormatError(f"sealed request: at most {MAX_PLAINTEXT_BYTES} bytes of plaintext")
    context = encapsulate(public, info=place.info(), ephemeral=ephemeral)
    prefix = PREFIX.pack(REQUEST_MAGIC, FORMAT, place.epoch)
    ciphertext = context.seal(plaintext, aad=prefix)
    return SentRequest(body=b"".join((prefix, context.encapsulated, ciphertext)), context=context)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A request that a worker opened.

    Attributes:
        plaintext: what the client sealed. Whoever has the public key can have sealed it.
    """

    plaintext: bytes = field(repr=False)
    _context: HpkeContext = field(repr=False)

    def seal_answer(self, plaintext: bytes | bytearray, *, nonce: bytes | None = None) -> bytes:
        """Return `plaintext`, padded by the caller, sealed as an answer to this request alone.

        Args:
            plaintext: the answer.
            nonce: for vectors alone; by default 32 fresh random bytes, and so a key of its own.
        """
        drawn = secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce
        key, iv = _answer_key(self._context, drawn)
        prefix = ANSWER_PREFIX.pack(ANSWER_MAGIC, FORMAT)
        return b"".join((prefix, drawn, AESGCM(key).encrypt(iv, plaintext, prefix)))


class RequestOpener:
    """The private request key of one model and epoch. Safe to use from several threads."""

    __slots__ = ("_info", "_key", "_public", "_secret", "place")

    def __init__(self, secret: Secret, *, place: RequestPlace) -> None:
        """Open what is sealed to this key.

        Args:
            secret: 32 bytes of an X25519 private key, owned by this opener from now on.
            place: what the key is for.

        Raises:
            FormatError: not 32 bytes.
        """
        if len(secret) != KEY_BYTES:
            raise FormatError("request key: 32 bytes are needed")
        self._secret = secret
        self._key: X25519PrivateKey | None = X25519PrivateKey.from_private_bytes(secret.reveal())
        self._public = self._key.public_key().public_bytes_raw()
        self._info = place.info()
        self.place = place

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._public

    def same(self, other: "RequestOpener") -> bool:
        """Return whether `other` opens the same requests."""
        return (self._public, self.place) == (other.public, other.place)

    def erase(self) -> None:
        """Erase the key: nothing is opened any more. OpenSSL cleanses what it frees."""
        self._secret.wipe()
        self._key = None

    def open(self, body: Buffer) -> ReceivedRequest:
        """Return the request in `body`.

        Raises:
            FormatError: it is no sealed request.
            AuthenticationFailed: sealed to another key, for another model, manifest, mesh or
                epoch, or changed; or the key was erased.
        """
        epoch, key = epoch_of_sealed(body), self._key
        if key is None or epoch != self.place.epoch:
            raise AuthenticationFailed("sealed request: of an epoch whose key is not here")
        view, at = memoryview(body), PREFIX.size
        enc = bytes(view[at : at + KEY_BYTES])
        context = decapsulate(key, enc, public=self._public, info=self._info)
        plaintext = context.open(view[at + KEY_BYTES :], aad=bytes(view[:at]))
        return ReceivedRequest(plaintext=plaintext, _context=context)


def _answer_key(context: HpkeContext, drawn: bytes) -> tuple[bytes, bytes]:
    """Return key and nonce of an answer (RFC 9458, section 4.4)."""
    exported = context.export(_ANSWER_LABEL)
    prk = extract(exported, salt=context.encapsulated + drawn)
    return expand(prk, b"key", length=32), expand(prk, b"nonce", length=12)
