"""Strings, bytes and model files as Analytics Zoo encrypts them, both ways, bit for bit.

| here | there |
|---|---|
| `..._zoo_text` | `...WithAESCBC`, `...WithAESGCM`; in 0.9, read only, `...WithAES256` |
| `..._zoo_bytes` | `...BytesWithAESGCM` |
| `..._zoo_model` | `...FileWithAESCBC(..., "ISO-8859-1")` |

Reading is for whoever leaves, and writing for whoever has to feed an installation that stays: each
writing warns with `ZooFormatWarning`. How weak each form is stands at `zoo_keys.ZooForm`.
"""

import binascii
import contextlib
import hashlib
import io
import secrets
import warnings

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from wardian.crypto.secret import Secret
from wardian.crypto.zoo_keys import ZooForm, ZooKeys
from wardian.crypto.zoo_stream import (
    BLOCK_BYTES,
    MAX_BYTES,
    PIECE_BYTES,
    decode_base64,
    open_model_pieces,
    open_pieces,
    refused,
)
from wardian.errors import FormatError, LocalProtocolError, UnsupportedAlgorithm

__all__ = [
    "ZooForm",
    "ZooFormatWarning",
    "ZooKeys",
    "decrypt_zoo_bytes",
    "decrypt_zoo_model",
    "decrypt_zoo_text",
    "encrypt_zoo_bytes",
    "encrypt_zoo_model",
    "encrypt_zoo_text",
    "open_model_pieces",
]


class ZooFormatWarning(UserWarning):
    """Something was encrypted in a form of Analytics Zoo, which protects less than sealing does."""


def decrypt_zoo_bytes(sealed: bytes, *, keys: ZooKeys, form: ZooForm) -> bytes:
    """Return the plaintext of `sealed`, which is not in base64.

    Under GCM the result is authentic. Under CBC it may be what somebody else made of it.

    Raises:
        FormatError: of a length that the form does not have, or above 2**31 - 1 bytes.
        AuthenticationFailed: another secret, salt or form, or altered: one message for all.
    """
    _verify_length(sealed)
    pieces = (sealed[at : at + PIECE_BYTES] for at in range(0, len(sealed), PIECE_BYTES))
    return b"".join(open_pieces(pieces, keys=keys, form=form))


def decrypt_zoo_text(sealed: str, *, keys: ZooKeys, form: ZooForm) -> str:
    """Return the string that was encrypted to `sealed`, which is base64.

    Raises:
        FormatError: as `decrypt_zoo_bytes`; not base64; or authentic (GCM) and no text.
        AuthenticationFailed: as `decrypt_zoo_bytes`; under CBC also where no text came out.
    """
    _verify_length(sealed)
    try:
        raw = decode_base64(sealed.encode("ascii"))
    except UnicodeError:
        raise FormatError("Analytics Zoo: not base64 in one line") from None
    plaintext = decrypt_zoo_bytes(raw, keys=keys, form=form)
    with contextlib.suppress(UnicodeError):  # has plaintext in it, so it is no error's context
        return plaintext.decode()
    if form.is_gcm:
        raise FormatError("Analytics Zoo: authentic, but not text in UTF-8")
    raise refused()


def decrypt_zoo_model(sealed: bytes, *, keys: ZooKeys, form: ZooForm) -> bytes:
    """Return the model whose encrypted file has the bytes `sealed`.

    Raises:
        FormatError, AuthenticationFailed: see `open_model_pieces`.
    """
    pieces = open_model_pieces(
        io.BytesIO(sealed), keys=keys, form=form, latin1=True, digest=hashlib.sha256()
    )
    return b"".join(pieces)


def encrypt_zoo_bytes(
    plaintext: bytes, *, keys: ZooKeys, form: ZooForm, iv: bytes | None = None
) -> bytes:
    """Return `plaintext` encrypted in `form`, not in base64. Warns: seal instead where you can.

    Args:
        plaintext: 0 to 2**31 - 1 bytes.
        keys: of whoever is to decrypt it.
        form: any but that of 0.9.
        iv: for vectors alone; by default fresh random bytes.

    Raises:
        UnsupportedAlgorithm: the form of 0.9, which is read only.
        FormatError: too long.
        LocalProtocolError: an `iv` of another length than the form's.
    """
    _warn()
    return _encrypt(plaintext, keys.key(form), form, iv)


def encrypt_zoo_text(text: str, *, keys: ZooKeys, form: ZooForm, iv: bytes | None = None) -> str:
    """Return `text` encrypted in `form`, in base64; see `encrypt_zoo_bytes`.

    Raises:
        FormatError: `text` has half of a surrogate pair, so no UTF-8.
    """
    _warn()
    try:
        plaintext = text.encode()
    except UnicodeError:
        raise FormatError("Analytics Zoo: not text that UTF-8 has bytes for") from None
    return _base64(_encrypt(plaintext, keys.key(form), form, iv)).decode("ascii")


def encrypt_zoo_model(
    model: bytes, *, keys: ZooKeys, form: ZooForm, iv: bytes | None = None
) -> bytes:
    """Return the encrypted file of `model`; see `encrypt_zoo_bytes`."""
    _warn()
    return _base64(_encrypt(model.decode("latin-1").encode(), keys.key(form), form, iv))


def _encrypt(plaintext: bytes, key: Secret, form: ZooForm, iv: bytes | None) -> bytes:
    if form is ZooForm.UNAUTHENTICATED_FIXED_IV_256:
        raise UnsupportedAlgorithm("the form of Analytics Zoo 0.9 is read, and never written")
    _verify_length(plaintext)
    drawn = secrets.token_bytes(form.iv_bytes) if iv is None else iv
    if len(drawn) != form.iv_bytes:
        raise LocalProtocolError(f"the IV of {form.value} has {form.iv_bytes} bytes")
    if form.is_gcm:
        return drawn + AESGCM(key.reveal()).encrypt(drawn, plaintext, None)
    padder = PKCS7(8 * BLOCK_BYTES).padder()
    padded = padder.update(plaintext) + padder.finalize()
    encryptor = Cipher(AES(key.reveal()), CBC(drawn)).encryptor()
    return drawn + encryptor.update(padded) + encryptor.finalize()


def _base64(raw: bytes) -> bytes:
    return binascii.b2a_base64(raw, newline=False)


def _verify_length(given: bytes | str) -> None:
    if len(given) > MAX_BYTES:
        raise FormatError(f"Analytics Zoo: above {MAX_BYTES:,} bytes")


def _warn() -> None:
    warnings.warn(
        "encrypted in a form of Analytics Zoo, which protects less than `wardian seal`: see "
        "docs/reference/zoo-encryption.md",
        ZooFormatWarning,
        stacklevel=3,
    )
