"""State that only this enclave reads again, and only in its newest version.

The host keeps the bytes. It can lose them or hand back old ones; the caller passes the version that
a monotonic counter says is the newest, and anything else is refused. `sealed_state` does all that.

    0   8  magic: "WRDNSEAL" to the measurement, "WRDNSIGN" to signer and product id
    8   8  version, big endian
    16  8  follows: the counter's value that it was written on, big endian; 0 where none counts
    24 32  salt
    56     AES-256-GCM ciphertext and tag; the associated data covers magic, label, version, follows

Each sealing has a key of its own, HKDF-SHA256 over the sealing key and the random salt, so that the
nonce can be fixed.

To the signer seals only what may be read by every enclave that this signer ever signs: a malicious
one says any product id that it likes. The label keeps honest roles apart, no more (TRUST T6).
"""

import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardian._internal import wire
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError, SealError, StateRolledBack
from wardian.tee.backend import Enclave, SealTo

MAGIC = {SealTo.MEASUREMENT: b"WRDNSEAL", SealTo.SIGNER: b"WRDNSIGN"}
OVERHEAD_BYTES = 72
"""By how much sealed state is longer than its plaintext."""
MAX_VERSION = 2**64 - 1
_SALT_BYTES = 32
_HEADER = struct.Struct(">8sQQ32s")
_NONCE = bytes(12)


def seal_state(
    enclave: Enclave,
    plaintext: bytes,
    *,
    label: str,
    version: int,
    follows: int = 0,
    to: SealTo = SealTo.MEASUREMENT,
) -> bytes:
    """Return `plaintext` sealed to the measurement of `enclave`, or to its signer.

    Args:
        enclave: the TEE that this process runs in.
        plaintext: at most 2**31 - 1 bytes.
        label: what the state is; two kinds of state never share one.
        version: 0 to 2**64 - 1; the value that a monotonic counter has, or is about to have.
        follows: 0 to 2**64 - 1; the counter's value that this state comes after.
        to: whom it belongs to.
    """
    if not 0 <= version <= MAX_VERSION or not 0 <= follows <= MAX_VERSION:
        raise LocalProtocolError(f"a version is a number from 0 to {MAX_VERSION}")
    salt = secrets.token_bytes(_SALT_BYTES)
    cipher = _cipher(enclave, salt, label, to)
    sealed = cipher.encrypt(_NONCE, plaintext, _associated(label, version, follows, to))
    return _HEADER.pack(MAGIC[to], version, follows, salt) + sealed


def unseal_state(
    enclave: Enclave,
    sealed: bytes,
    *,
    label: str,
    version: int,
    to: SealTo = SealTo.MEASUREMENT,
) -> bytes:
    """Return what `seal_state` sealed on this platform, in this enclave, under `label`.

    Args:
        enclave: the TEE that this process runs in.
        sealed: from the host, untrusted.
        label: as given to `seal_state`.
        version: the version that it has to be, from a monotonic counter.
        to: whom it has to belong to. What was sealed to the other is refused.

    Raises:
        SealError: not sealed state, of another enclave, platform or label, altered, or of a later
            version.
        StateRolledBack: of an earlier version.
    """
    found, follows, salt = _header(sealed, to)
    if found != version:
        late = SealError if found > version else StateRolledBack
        raise late(f"sealed state: version {found}, but the newest is {version}")
    cipher = _cipher(enclave, salt, label, to)
    try:
        return cipher.decrypt(
            _NONCE, sealed[_HEADER.size :], _associated(label, version, follows, to)
        )
    except InvalidTag as err:
        raise SealError(_NOT_OURS[to]) from err


def sealed_version(sealed: bytes, *, to: SealTo = SealTo.MEASUREMENT) -> int:
    """Return the version that `sealed` says it has, **not believed** until it is unsealed.

    Raises:
        SealError: not state that was sealed `to` this.
    """
    return _header(sealed, to)[0]


def sealed_follows(sealed: bytes, *, to: SealTo = SealTo.MEASUREMENT) -> int:
    """Return what `sealed` says that it follows, **not believed** until it is unsealed.

    Raises:
        SealError: not state that was sealed `to` this.
    """
    return _header(sealed, to)[1]


def mark_key(enclave: Enclave, *, label: str, to: SealTo = SealTo.MEASUREMENT) -> Secret:
    """Return the key (32 bytes) of the marks of the states under `label` (`_internal.counter`)."""
    info = wire.fields("wardian sealed state mark v1", MAGIC[to], label.encode())
    return hkdf(enclave.sealing_key(to), salt=b"", info=info)


def _header(sealed: bytes, to: SealTo) -> tuple[int, int, bytes]:
    """Return version, what it follows, and salt of what claims to be sealed `to` this."""
    if len(sealed) < OVERHEAD_BYTES:
        raise SealError("sealed state: too short")
    magic, version, follows, salt = _HEADER.unpack_from(sealed)
    if magic == MAGIC[to]:
        return version, follows, salt
    if magic in MAGIC.values():
        raise SealError(f"sealed state: not sealed to the {to.value}, as it has to be")
    raise SealError("sealed state: not in a form that this release knows")


def _cipher(enclave: Enclave, salt: bytes, label: str, to: SealTo) -> AESGCM:
    info = wire.fields("wardian sealed state v1", label.encode())
    return AESGCM(hkdf(enclave.sealing_key(to), salt=salt, info=info).reveal())


def _associated(label: str, version: int, follows: int, to: SealTo) -> bytes:
    numbers = struct.pack(">Q", version), struct.pack(">Q", follows)
    return wire.fields("wardian sealed state v1", MAGIC[to], label.encode(), *numbers)


_NOT_OURS = {
    SealTo.MEASUREMENT: (
        "sealed state: altered, or sealed by another measurement or on another platform"
    ),
    SealTo.SIGNER: (
        "sealed state: altered, or sealed by another signer or role or on another platform"
    ),
}
