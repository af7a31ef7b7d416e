"""The keys of queue messages: what each is derived from, and who may use which nonce.

A GCM nonce is used once under a key because (1) each process draws its own salt of 256 bits, (2) it
throws the salt away when it forks, and (3) a counter under the salt never goes back. The table of
derivations stands in `docs/reference/queue-message.md`.
"""

import hashlib
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardian._internal import wire
from wardian.crypto.kdf import Expander, expand, extract
from wardian.crypto.message_header import (
    DIGEST_BYTES,
    MAX_U63,
    SALT_BYTES,
    Direction,
    MessageHeader,
    build_header,
)
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError

KEY_BYTES = 32
TAG_BYTES = 16
MAX_MESSAGES_PER_SALT = 2**32
MAX_CACHED_KEYS = 1024

MAX_PLAINTEXT_BYTES = 2**30

_REQUEST_LABEL = "wardian queue request v1"
_ANSWER_LABEL = "wardian queue answer v2"

K = TypeVar("K")


class Forks:
    """Counts the forks that lie between the first process and this one."""

    generation = 0

    @classmethod
    def count(cls) -> None:
        """Note that this process came out of a fork."""
        cls.generation += 1


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no forks to count
    os.register_at_fork(after_in_child=Forks.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the keys of one model and epoch are derived from; the certificate of this process."""

    queue_key: Secret
    model: str
    epoch: int
    certificate_digest: bytes

    def __post_init__(self) -> None:
        if len(self.queue_key) != KEY_BYTES or len(self.certificate_digest) != DIGEST_BYTES:
            raise LocalProtocolError("queue key and certificate digest have 32 bytes each")
        if not 0 <= self.epoch <= MAX_U63:
            raise LocalProtocolError("an epoch is 0 to 2**63 - 1")

    @property
    def erased(self) -> bool:
        """Whether the queue key was wiped: nothing is derived from it any more."""
        return not self.queue_key

    def request_cipher(self, salt: bytes, certificate_digest: bytes) -> AESGCM:
        """Return the cipher for every request of the process that drew `salt`."""
        info = self._info(_REQUEST_LABEL, certificate_digest)
        return AESGCM(expand(extract(self.queue_key, salt=salt), info))

    def answer_root(self, salt: bytes, certificate_digest: bytes) -> "AnswerRoot":
        """Return what the keys of every answer of the worker that drew `salt` come from."""
        return AnswerRoot(
            keys=Expander(extract(self.queue_key, salt=salt)),
            info=self._info(_ANSWER_LABEL, certificate_digest),
        )

    def verify(self, header: MessageHeader, direction: Direction) -> None:
        """Return if `header` is of this model and epoch and goes in `direction`."""
        if header.direction is not direction:
            raise AuthenticationFailed("queue message: goes in the other direction")
        if header.model != self.model:
            raise AuthenticationFailed("queue message: for another model")
        if header.epoch != self.epoch:
            raise AuthenticationFailed("queue message: of another epoch")

    def _info(self, label: str, certificate_digest: bytes) -> bytes:
        epoch = self.epoch.to_bytes(8, "big")
        return wire.fields(label, certificate_digest, self.model.encode(), epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRoot:
    """What the keys of one worker's answers are expanded from."""

    keys: Expander
    info: bytes

    def cipher(self, request: "RequestName") -> AESGCM:
        """Return the cipher for answers to one request message."""
        # `info` is injective and the rest has fixed lengths: no two requests share a key.
        tail = request.salt + request.counter.to_bytes(8, "big") + request.digest
        return AESGCM(self.keys.key(self.info + tail))


class RequestName(msgspec.Struct, frozen=True, kw_only=True):
    """Names one request message: `digest` is SHA-256 over its header and its tag.

    Of a message that is authentic, these two are as good as the whole: nobody without the key makes
    another ciphertext that the tag fits, and who has the key uses each counter once. And they
    cost the same whatever its size, where hashing the whole takes longer than encrypting it.
    """

    salt: bytes
    counter: int
    digest: bytes

    @classmethod
    def of(cls, header: MessageHeader, sealed: bytes, end: int) -> "RequestName":
        """Return the name of `sealed`, whose header ends at byte `end`, once it is authentic."""
        digest = hashlib.sha256(sealed[:end] + sealed[-TAG_BYTES:]).digest()
        return cls(salt=header.salt, counter=header.counter, digest=digest)


class Turn(Generic[K]):
    """A salt that one process drew, the keys derived from it, and a counter under them."""

    __slots__ = ("_counter", "_lock", "generation", "keys", "salt")

    def __init__(self, derive: Callable[[bytes], K]) -> None:
        self.generation = Forks.generation
        self.salt = secrets.token_bytes(SALT_BYTES)
        self.keys = derive(self.salt)
        self._counter = 0
        self._lock = threading.Lock()

    def count(self) -> int:
        """Return 1, then one more with each call; 0 for ever once 2**32 messages were counted."""
        with self._lock:
            if self._counter >= MAX_MESSAGES_PER_SALT:
                return 0
            self._counter += 1
            return self._counter


class Turns(Generic[K]):
    """The turns of one process: a new one at first use, after a fork, and when one is used up."""

    __slots__ = ("_derive", "_turn")

    def __init__(self, derive: Callable[[bytes], K]) -> None:
        self._derive = derive
        self._turn: Turn[K] | None = None

    def take(self) -> tuple[Turn[K], int]:
        """Return a turn and a counter that were never returned together, in any process."""
        turn = self._turn
        if turn is not None and turn.generation == Forks.generation and (counter := turn.count()):
            return turn, counter
        # Two threads may pass here at once: each gets its own salt, which is as good. A lock would
        # be worse, since a fork in another thread could leave it held for ever in the child.
        turn = self._turn = Turn(self._derive)
        return turn, turn.count()

    def forget(self) -> None:
        """Let go of the keys."""
        self._turn = None


Peer: TypeAlias = tuple[bytes, bytes]
"""A process: its salt and the digest of its certificate."""


class Cache(Generic[K]):
    """Keys of the processes that were heard of last. Forgetting one costs a derivation."""

    __slots__ = ("_derive", "_keys", "_lock")

    def __init__(self, derive: Callable[[bytes, bytes], K]) -> None:
        self._derive = derive
        self._keys: OrderedDict[Peer, K] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, peer: Peer) -> K:
        """Return the keys of `peer`, who need not exist: nothing is authentic yet."""
        with self._lock:
            keys = self._keys.get(peer)
            if keys is not None:
                self._keys.move_to_end(peer)
                return keys
            keys = self._keys[peer] = self._derive(*peer)
            if len(self._keys) > MAX_CACHED_KEYS:
                self._keys.popitem(last=False)
            return keys

    def forget(self) -> None:
        """Let go of all keys."""
        with self._lock:
            self._keys.clear()


def seal_message(cipher: AESGCM, header: MessageHeader, plaintext: bytes | bytearray) -> bytes:
    """Return header, ciphertext and tag.

    Raises:
        FormatError: a field of `header` is out of range, or the plaintext is longer than 1 GiB.
    """
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise FormatError(f"queue message: at most {MAX_PLAINTEXT_BYTES} bytes")
    clear = build_header(header)
    return clear + cipher.encrypt(_nonce(header), plaintext, clear)


def open_message(cipher: AESGCM, header: MessageHeader, sealed: bytes, end: int) -> bytearray:
    """Return the plaintext of `sealed`, whose header ends at byte `end`.

    Raises:
        FormatError: too short to hold a tag, or longer than 1 GiB of plaintext.
        AuthenticationFailed: not sealed under this cipher, or changed.
    """
    length = len(sealed) - end - TAG_BYTES
    if not 0 <= length <= MAX_PLAINTEXT_BYTES:
        raise FormatError("queue message: too short for a tag, or too long")
    plaintext = bytearray(length)
    view = memoryview(sealed)
    try:
        cipher.decrypt_into(_nonce(header), view[end:], view[:end], plaintext)
    except InvalidTag as err:
        raise AuthenticationFailed("queue message: not what was sealed") from err
    return plaintext


def _nonce(header: MessageHeader) -> bytes:
    return bytes(4) + header.counter.to_bytes(8, "big")
