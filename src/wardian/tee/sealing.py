"""State that only this enclave reads again, and only in its newest version.

The host keeps the bytes. It can lose them or hand back old ones; the caller passes the version that
a monotonic counter says is the newest, and anything else is refused.

    0   8  magic "WRDNSEAL"
    8   8  version, big endian
    16 32  salt
    48     AES-256-GCM ciphertext and tag; the associated data covers magic, label and version

Each sealing has a key of its own, HKDF-SHA256 over the sealing key and the random salt, so that the
nonce can be fixed.
"""

import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardian._internal import wire
from wardian.crypto.kdf import hkdf
from wardian.errors import LocalProtocolError, SealError
from wardian.tee.backend import Enclave

MAGIC = b"WRDNSEAL"
MAX_VERSION = 2**64 - 1
_SALT_BYTES, _TAG_BYTES = 32, 16
_HEADER = struct.Struct(">8sQ32s")
_NONCE = bytes(12)


def seal_state(enclave: Enclave, plaintext: bytes, *, label: str, version: int) -> bytes:
    """Return `plaintext` sealed to the measurement of `enclave`.

    Args:
        enclave: the TEE that this process runs in.
        plaintext: at most 2**31 - 1 bytes.
        label: what the state is; two kinds of state never share one.
        version: 0 to 2**64 - 1; the value that a monotonic counter has, or is about to have.
    """
    if not 0 <= version <= MAX_VERSION:
        raise LocalProtocolError(f"a version is a number from 0 to {MAX_VERSION}")
    salt = secrets.token_bytes(_SALT_BYTES)
    cipher = _cipher(enclave, salt, label)
    sealed = cipher.encrypt(_NONCE, plaintext, _associated(label, version))
    return _HEADER.pack(MAGIC, version, salt) + sealed


def unseal_state(enclave: Enclave, sealed: bytes, *, label: str, version: int) -> bytes:
    """Return what `seal_state` sealed on this platform, in this enclave, under `label`.

    Args:
        enclave: the TEE that this process runs in.
        sealed: from the host, untrusted.
        label: as given to `seal_state`.
        version: the version that it has to be, from a monotonic counter.

    Raises:
        SealError: not sealed state, of another enclave, platform or label, altered, or not of
            this version.
    """
    if len(sealed) < _HEADER.size + _TAG_BYTES:
        raise SealError("sealed state: too short")
    magic, found, salt = _HEADER.unpack_from(sealed)
    if magic != MAGIC:
        raise SealError("sealed state: not in a form that this release knows")
    if found != version:
        raise SealError(f"sealed state: version {found}, but the newest is {version}")
    cipher = _cipher(enclave, salt, label)
    try:
        return cipher.decrypt(_NONCE, sealed[_HEADER.size :], _associated(label, version))
    except InvalidTag as err:
        raise SealError(
            "sealed state: altered, or sealed by another measurement or on another platform"
        ) from err


def _cipher(enclave: Enclave, salt: bytes, label: str) -> AESGCM:
    info = wire.fields("wardian sealed state v1", label.encode())
    return AESGCM(hkdf(enclave.sealing_key(), salt=salt, info=info).reveal())


def _associated(label: str, version: int) -> bytes:
    return wire.fields("wardian sealed state v1", MAGIC, label.encode(), struct.pack(">Q", version))
