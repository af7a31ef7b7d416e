"""Masks that cancel in a sum: what two parties agree on, and streams of numbers mod 2^64.

Two parties agree on a seed by X25519 (RFC 7748) and HKDF, bound to a scope (which run, which round)
and to both names and keys. The stream of a seed is ChaCha20 (RFC 8439) under it, nonce and first
counter 0, read as little-endian numbers of 64 bits: a seed is fresh in every round, so no stream is
ever used twice. The party whose name sorts first adds it, the other subtracts it.

The same agreement, under another label for each direction, gives the key that a party seals its
shares with for another: AES-256-GCM under a random nonce, so who opens knows who sealed.
"""

import hashlib
import secrets
from collections.abc import Iterable
from typing import Final, Self

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from wardian._internal import wire
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError

Ring = NDArray[np.uint64]
"""Numbers mod 2^64."""

KEY_BYTES: Final = 32
SEED_BYTES: Final = 32
SEAL_OVERHEAD_BYTES: Final = 12 + 16
"""The nonce, then the tag, of what is sealed."""
MAX_ELEMENTS: Final = 2**32
"""Of a vector; the counter of ChaCha20 would last for eight times as many."""
BLOCK_ELEMENTS: Final = 2**14
"""So much of a stream exists at a time, 128 KiB: it stays in the processor's cache."""
PAIR_LABEL: Final = "wardian mask pair v1"
SEAL_LABEL: Final = "wardian mask share key v1"
SEED_LABEL: Final = "wardian mask seed v1"

_ZEROS: Final = bytes(8 * BLOCK_ELEMENTS)
_NONCE: Final = bytes(16)  # the counter, 4 bytes, then the nonce of RFC 8439


class RoundKey:
    """A party's X25519 key for one round."""

    __slots__ = ("_key", "_public")

    def __init__(self, key: X25519PrivateKey) -> None:
        """Hold `key`; use `generate` or `from_secret`."""
        self._key = key
        self._public = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Self:
        """Return a fresh key."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: Secret) -> Self:
        """Return the key whose 32 raw bytes are in `secret`.

        Raises:
            FormatError: not 32 bytes.
        """
        if len(secret) != KEY_BYTES:
            raise FormatError("round key: 32 bytes are needed")
        return cls(X25519PrivateKey.from_private_bytes(secret.reveal()))

    def to_secret(self) -> Secret:
        """Return the 32 raw bytes of the private key."""
        return Secret(self._key.private_bytes_raw())

    @property
    def public(self) -> bytes:
        """The public key, 32 raw bytes."""
        return self._public

    def mask_seed(self, peer: bytes, *, scope: bytes, own: str, other: str) -> Secret:
        """Return the seed that the holders of this key and of `peer` have in common, 32 bytes.

        Args:
            peer: the other's public key, already known to be its.
            scope: names run and round, and nothing else has the same.
            own: the name of this key's holder.
            other: that of the other.

        Raises:
            FormatError: `peer` is no usable X25519 key (wrong length, or of small order, which
                would make the seed known to everybody).
        """
        first, second = sorted(((own, self._public), (other, peer)))
        parts = (first[0].encode(), second[0].encode(), first[1], second[1])
        return self._agree(peer, wire.fields(PAIR_LABEL, scope, *parts))

    def seal(
        self, plaintext: bytes, peer: bytes, *, scope: bytes, own: str, other: str, context: bytes
    ) -> bytes:
        """Return `plaintext` sealed from this key's holder to that of `peer`: nonce, text, tag.

        Args:
            plaintext: what only the other shall read.
            peer: as in `mask_seed`, and so for the next three.
            scope: names run and round.
            own: the name of this key's holder.
            other: that of the other.
            context: what both have to be of one mind about.

        Raises:
            FormatError: `peer` is no usable X25519 key.
        """
        info = _seal_info(scope, (own, self._public), (other, peer))
        nonce = secrets.token_bytes(12)
        key = self._agree(peer, info)
        return nonce + AESGCM(key.reveal()).encrypt(nonce, plaintext, context)

    def open(
        self, sealed: bytes, peer: bytes, *, scope: bytes, own: str, other: str, context: bytes
    ) -> bytes:
        """Return what the holder of `peer` sealed to this key's holder; arguments as `seal`.

        Raises:
            FormatError: `peer` is no usable X25519 key.
            AuthenticationFailed: it was not sealed by and for these two in this context.
        """
        key = self._agree(peer, _seal_info(scope, (other, peer), (own, self._public)))
        try:
            return AESGCM(key.reveal()).decrypt(sealed[:12], sealed[12:], context)
        except (InvalidTag, ValueError) as err:
            raise AuthenticationFailed("mask shares: not sealed by and for these two") from err

    def _agree(self, peer: bytes, info: bytes) -> Secret:
        try:
            shared = Secret(self._key.exchange(X25519PublicKey.from_public_bytes(peer)))
        except ValueError as err:
            raise FormatError("round key: not a usable X25519 key of 32 bytes") from err
        return hkdf(shared, salt=b"", info=info)


def seed_commitment(seed: Secret, *, scope: bytes, party: str) -> bytes:
    """Return the public 32 bytes by which the seed of `party`'s own mask is known again."""
    parts = scope, party.encode(), seed.reveal()
    return hashlib.sha256(wire.fields(SEED_LABEL, *parts)).digest()


def add_masks(vector: Ring, *, plus: Iterable[Secret] = (), minus: Iterable[Secret] = ()) -> None:
    """Add the streams of the seeds `plus` to `vector` in place, and subtract those of `minus`.

    Of each stream one block exists at a time; all streams go over a block before the next one.

    Args:
        vector: (elements,), contiguous.
        plus: 32 bytes each.
        minus: 32 bytes each.

    Raises:
        LocalProtocolError: another kind of vector, or too long.
    """
    if vector.dtype != np.dtype("<u8") or vector.ndim != 1 or not vector.flags.c_contiguous:
        raise LocalProtocolError("masks go over a contiguous vector of numbers mod 2^64")
    if vector.size > MAX_ELEMENTS:
        raise LocalProtocolError(f"masks go over at most {MAX_ELEMENTS} elements")
    streams: list[tuple[CipherContext, np.ufunc]] = [(_stream(seed), np.add) for seed in plus]
    streams += [(_stream(seed), np.subtract) for seed in minus]
    block = bytearray(8 * min(BLOCK_ELEMENTS, vector.size))
    mask = np.frombuffer(block, "<u8")
    for start in range(0, vector.size, BLOCK_ELEMENTS):
        part = vector[start : start + BLOCK_ELEMENTS]  # (at most a block,)
        zeros, raw = memoryview(_ZEROS)[: part.nbytes], memoryview(block)[: part.nbytes]
        for stream, combine in streams:
            stream.update_into(zeros, raw)
            combine(part, mask[: part.size], out=part)


def _stream(seed: Secret) -> CipherContext:
    return Cipher(algorithms.ChaCha20(seed.reveal(), _NONCE), mode=None).encryptor()


def _seal_info(scope: bytes, sender: tuple[str, bytes], recipient: tuple[str, bytes]) -> bytes:
    parts = (sender[0].encode(), recipient[0].encode(), sender[1], recipient[1])
    return wire.fields(SEAL_LABEL, scope, *parts)
