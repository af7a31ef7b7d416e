"""How each value of the broker's state is sealed: in its place, in its generation, under its key.

Nonces are random: the bound of 2**32 seals under one key (NIST SP 800-38D, 8.3) is years away at
the rate at which a broker releases.
"""

import hashlib
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardian._internal import wire
from wardian._internal.counter import stamp
from wardian.broker.state.master_key import OWNED, MasterKey
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import SealError

LABEL: Final = "wardian broker store v1"
OWNED_LABEL: Final = "wardian owner value v1"
NONCE_BYTES: Final = 12
KEY_ID_BYTES: Final = 8
ALTERED: Final = "the broker's state was altered, or it was sealed by another enclave"


class Sealer:
    """Seals and opens values of one state."""

    __slots__ = ("_aead", "_mark_key", "_master_key")

    def __init__(self, master_key: MasterKey) -> None:
        """Seal under `master_key`."""
        mesh = master_key.mesh
        self._aead = AESGCM(hkdf(mesh, salt=b"", info=LABEL.encode()).reveal())
        self._mark_key = hkdf(mesh, salt=b"", info=f"{LABEL} mark".encode()).reveal()
        self._master_key = master_key

    def seal(self, value: bytes, table: str, name: str, generation: int) -> bytes:
        """Return nonce (12 bytes), ciphertext, tag (16 bytes)."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, value, _associated(table, name, generation))

    def open(self, sealed: object, table: str, name: str, generation: object) -> bytes:
        """Return what was sealed for exactly this place and generation.

        Raises:
            SealError: it was not.
        """
        if not isinstance(sealed, bytes) or not isinstance(generation, int):
            raise SealError(ALTERED)  # SQLite stores what it is given, whatever the column says
        try:
            return self._aead.decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _associated(table, name, generation)
            )
        except (InvalidTag, ValueError, OverflowError) as err:
            raise SealError(ALTERED) from err

    def stamp(self, sealed_root: bytes, *, generation: int) -> int:
        """Return the counter's value that vouches for the state whose root this is."""
        return stamp(sealed_root, generation=generation, key=self._mark_key)

    def lock(self, value: bytes, place: str, key: str) -> bytes:
        """Return `value` under its owner's key, where it is an owner's own; else as it is."""
        if place not in OWNED:
            return value
        return lock_owned(value, place, key, owner_key=self._owner_key(key))

    def unlock(self, locked: bytes, place: str, key: str) -> bytes:
        """Return what `lock` was given.

        Raises:
            SealError: it was not locked here under this key.
        """
        if place not in OWNED:
            return locked
        return unlock_owned(locked, place, key, owner_key=self._owner_key(key))

    def locked(self, value: bytes, place: str, key: str) -> bool:
        """Return whether `value` lies under a key of its owner that this broker does not have."""
        return place in OWNED and value[:KEY_ID_BYTES] != owner_key_id(self._owner_key(key))

    def _owner_key(self, key: str) -> Secret:
        return self._master_key.owner_key(key.partition("/")[0])


def lock_owned(value: bytes, place: str, key: str, *, owner_key: Secret) -> bytes:
    """Return `value` under `owner_key`: the key's id (8 bytes), nonce, ciphertext, tag."""
    nonce = os.urandom(NONCE_BYTES)
    cipher = AESGCM(owner_key.reveal())
    return owner_key_id(owner_key) + nonce + cipher.encrypt(nonce, value, _owned(place, key))


def unlock_owned(locked: bytes, place: str, key: str, *, owner_key: Secret) -> bytes:
    """Return what `lock_owned` was given.

    Raises:
        SealError: it lies under another key, or in another place.
    """
    nonce, rest = locked[KEY_ID_BYTES:][:NONCE_BYTES], locked[KEY_ID_BYTES + NONCE_BYTES :]
    try:
        return AESGCM(owner_key.reveal()).decrypt(nonce, rest, _owned(place, key))
    except (InvalidTag, ValueError) as err:
        raise SealError("an owner's secret does not open: it lies under another key") from err


def digest(sealed: object) -> str:
    """Return SHA-256 of a sealed value, in hex.

    Raises:
        SealError: it is no bytes, which SQLite allows.
    """
    if not isinstance(sealed, bytes):
        raise SealError(ALTERED)
    return hashlib.sha256(sealed).hexdigest()


def owner_key_id(owner_key: Secret) -> bytes:
    """Return the 8 public bytes by which an owner's key is named."""
    return hkdf(owner_key, salt=b"", info=b"wardian owner key id v1", length=KEY_ID_BYTES).reveal()


def _associated(table: str, name: str, generation: int) -> bytes:
    return wire.fields(LABEL, table.encode(), name.encode(), generation.to_bytes(8, "big"))


def _owned(place: str, key: str) -> bytes:
    return wire.fields(OWNED_LABEL, place.encode(), key.encode())
