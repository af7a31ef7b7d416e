"""The file that holds an owner's private key, in the clear or under a passphrase.

    wardian owner key v1
    kind ed25519
    public 64 hex digits; of a P-256 key 66
    private 64 hex digits

With a passphrase the last line is `passphrase` and 114 hex digits: the stanza that a sealed file
has for one (`recipients.PassphraseRecipient`: salt, work factor of scrypt, AES-256-KW). The public
key is there for its owner to read; the private key has to fit it, so a file in which the one was
put beside another says so.
"""

import re
from typing import Final

from wardian.crypto.recipients import PassphraseIdentity, PassphraseRecipient
from wardian.crypto.sealed_header import (
    MAX_SCRYPT_LOG2,
    MIN_SCRYPT_LOG2,
    Stanza,
    StanzaKind,
)
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.errors import FormatError, WrongRecipient

MAX_OWNER_KEY_BYTES: Final = 1024
_FILE: Final = re.compile(
    r"wardian owner key v1\n"
    r"kind (?P<kind>ed25519|p256)\n"
    r"public (?P<public>[0-9a-f]{64}|0[23][0-9a-f]{64})\n"
    r"(?:private (?P<private>[0-9a-f]{64})|passphrase (?P<wrapped>[0-9a-f]{114}))\n?"
)
_WORK_AT: Final = 16
"""Where the stanza says log2 of scrypt's work factor."""


def encode_owner_key(key: SigningKey, *, passphrase: Secret | None = None) -> Secret:
    """Return the file for `key`; as secret as the key is without a passphrase."""
    if passphrase is None:
        last = f"private {key.to_secret().reveal().hex()}"
    else:
        last = f"passphrase {PassphraseRecipient(passphrase).wrap(key.to_secret()).body.hex()}"
    head = f"wardian owner key v1\nkind {key.kind.value}\npublic {key.public.hex()}\n"
    return Secret(f"{head}{last}\n".encode())


def needs_passphrase(file: Secret) -> bool:
    """Return whether the key in `file` is under a passphrase; FormatError if there is none."""
    return _match(file)["wrapped"] is not None


def owner_public(file: Secret) -> bytes:
    """Return the public key that `file` states, without opening it; see `decode_owner_key`."""
    return bytes.fromhex(_match(file)["public"])


def decode_owner_key(file: Secret, *, passphrase: Secret | None = None) -> SigningKey:
    """Return the key in `file`, which fits the public key beside it.

    Args:
        file: what `encode_owner_key` returned, untrusted.
        passphrase: for a file that has one; without it such a file does not open.

    Raises:
        FormatError: not such a file, or the private key is of another public key.
        WrongRecipient: the passphrase is missing, or another one.
    """
    found = _match(file)
    kind = SignatureKind(found["kind"])
    if found["wrapped"] is None:
        private = Secret(bytes.fromhex(found["private"]))
    else:
        private = _unwrap(bytes.fromhex(found["wrapped"]), passphrase)
    key = SigningKey.from_secret(private, kind)
    if key.public.hex() != found["public"]:
        raise FormatError("owner key: the private key does not belong to the public key beside it")
    return key


def _unwrap(body: bytes, passphrase: Secret | None) -> Secret:
    if passphrase is None:
        raise WrongRecipient("owner key: it is under a passphrase, and none was given")
    if not MIN_SCRYPT_LOG2 <= body[_WORK_AT] <= MAX_SCRYPT_LOG2:
        raise FormatError("owner key: the passphrase's work factor is out of range")
    stanza = Stanza(kind=StanzaKind.PASSPHRASE, body=body)
    private = PassphraseIdentity(passphrase).unwrap(stanza)
    if private is None:
        raise WrongRecipient("owner key: this is not its passphrase")
    return private


def _match(file: Secret) -> re.Match[str]:
    found = None
    if len(file) <= MAX_OWNER_KEY_BYTES:
        found = _FILE.fullmatch(file.reveal().decode(errors="replace"))
    if found is None:
        raise FormatError("owner key: not a file of `wardian owner keygen`")
    return found
