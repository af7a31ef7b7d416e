"""`recordEncrypted` of Cluster Serving: images that clients encrypted, with a key that all know.

Its server passes the words "secret" and "salt" where the passphrase and the salt should be, so that
every installation has one key. It hides nothing from anybody; records that come so are opened only
where the owner asks for it, and only so that such clients need not change (TRUST T17).
"""

import binascii
from typing import Final

from wardian.crypto.secret import Secret
from wardian.crypto.zoo_formats import ZooForm, ZooKeys, decrypt_zoo_bytes
from wardian.errors import AuthenticationFailed, FormatError
from wardian.serving.zoo.columns import Columns, Image

_FORMS: Final = (ZooForm.GCM_128, ZooForm.GCM_256)  # of Analytics Zoo, and of BigDL 2


class RecordOpener:
    """Opens the images of records; tensors and strings are never encrypted there."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys = ZooKeys(Secret(b"secret"), b"salt")

    def open(self, columns: Columns) -> Columns:
        """Return `columns` with every image opened.

        What was encrypted is an image file, as their server expects, or its base64, as their own
        benchmark sends.

        Raises:
            FormatError: an image is not encrypted so, or was altered.
        """
        return {
            name: Image(self._opened(column.raw)) if isinstance(column, Image) else column
            for name, column in columns.items()
        }

    def _opened(self, sealed: bytes) -> bytes:
        for form in _FORMS:
            try:
                raw = decrypt_zoo_bytes(sealed, keys=self._keys, form=form)
            except AuthenticationFailed:
                continue
            try:
                return binascii.a2b_base64(raw, strict_mode=True)
            except binascii.Error:
                return raw
        raise FormatError("an image is not encrypted with the key that all records share")
