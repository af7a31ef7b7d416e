"""Whose key and which form: the encryption of Analytics Zoo, read so that its models can leave it.

These are another's formats (`EncryptSupportive` of Analytics Zoo 0.9 to 0.11 and BigDL 2.x; byte by
byte in `docs/reference/zoo-encryption.md`), and weak ones. The key comes of a passphrase that is
stretched for a moment; nothing in a file says what it is, so one file can stand in for another; and
all but GCM let whoever holds a file change it unnoticed. What is sealed here uses `sealed_file`.
"""

import enum
import hashlib
from typing import Final

from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError

PBKDF2_ROUNDS: Final = 65_536
MAX_SALT_BYTES: Final = 2**16
_STRETCHED_BYTES: Final = 32


class ZooForm(enum.Enum):
    """How the bytes are encrypted. No file says which, so somebody has to know.

    `GCM`: IV (12 bytes), ciphertext, tag (16). `UNAUTHENTICATED_CBC`: IV (16), ciphertext padded as
    PKCS #7 says. `UNAUTHENTICATED_FIXED_IV`, of 0.9 alone: the same under an IV of zeros that is
    not written; equal beginnings of files encrypt to equal bytes. It is read and never written.
    """

    GCM_128 = "gcm-128"
    GCM_256 = "gcm-256"
    UNAUTHENTICATED_CBC_128 = "cbc-128"
    UNAUTHENTICATED_CBC_256 = "cbc-256"
    UNAUTHENTICATED_FIXED_IV_256 = "v09-256"

    @property
    def key_bytes(self) -> int:
        """Length of its key."""
        return int(self.value[-3:]) // 8

    @property
    def is_gcm(self) -> bool:
        """Whether alterations are noticed."""
        return self in (ZooForm.GCM_128, ZooForm.GCM_256)

    @property
    def iv_bytes(self) -> int:
        """Length of the IV at the front of what is encrypted."""
        if self is ZooForm.UNAUTHENTICATED_FIXED_IV_256:
            return 0
        return 12 if self.is_gcm else 16


class ZooKeys:
    """What a secret and a salt stretch to: PBKDF2-HMAC-SHA256, 65,536 rounds, once.

    The work is done when the object is made, some 20 ms, and for both lengths: 32 bytes are one
    block of PBKDF2 (RFC 8018, section 5.2), so the key of 128 bits is the front of that of 256.
    """

    __slots__ = ("_stretched",)

    def __init__(self, secret: Secret, salt: bytes) -> None:
        """Stretch `secret`, the passphrase in UTF-8, with `salt`, 1 to 65,536 bytes.

        Raises:
            LocalProtocolError: an empty salt, which Java refuses as well, or a longer one.
        """
        if not 1 <= len(salt) <= MAX_SALT_BYTES:
            raise LocalProtocolError(f"a salt has 1 to {MAX_SALT_BYTES} bytes")
        stretched = hashlib.pbkdf2_hmac(
            "sha256", secret.reveal(), salt, PBKDF2_ROUNDS, _STRETCHED_BYTES
        )
        self._stretched = Secret(stretched)

    def key(self, form: ZooForm) -> Secret:
        """Return the key of `form`."""
        return Secret(self._stretched.reveal()[: form.key_bytes])

    def wipe(self) -> None:
        """Overwrite what was stretched; see `Secret.wipe`."""
        self._stretched.wipe()
