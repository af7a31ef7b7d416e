"""Sealed files for tests, and one way to open them that goes through both of ours."""

import io
import re
from dataclasses import dataclass

import pytest

from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, open_bytes, open_stream, seal_stream
from wardian.crypto.secret import Secret
from wardian.errors import WardianError

AS_DIGITS = {"media_type": "application/onnx", "name": "digits", "version": 1}


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A sealed file and all that it takes to open it."""

    raw: bytes
    pin: Pin
    key: BrokerKey
    plaintext: bytes

    def open(self, raw=None, *, pin=None, identities=None, max_bytes=2**20, **asked):
        """Open through both ways, which must agree, and return the plaintext."""
        raw = self.raw if raw is None else raw
        wanted = {
            "identities": [self.key] if identities is None else identities,
            "pin": pin or self.pin,
        } | (AS_DIGITS | asked)
        written = io.BytesIO()
        try:
            whole = open_bytes(io.BytesIO(raw), max_bytes=max_bytes, **wanted)
        except WardianError as err:
            with pytest.raises(type(err), match=f"^{re.escape(str(err))}$"):
                open_stream(io.BytesIO(raw), written, **wanted)
            assert self.plaintext.startswith(written.getvalue())
            raise
        open_stream(io.BytesIO(raw), written, **wanted)
        assert written.getvalue() == whole
        return bytes(whole)


def seal(plaintext, *, recipients=None, chunk_bytes=4096, **asked):
    """Seal `plaintext` to a fresh broker key, and to `recipients`."""
    key = BrokerKey(Secret.random())
    target = io.BytesIO()
    pin = seal_stream(
        io.BytesIO(plaintext),
        target,
        total_bytes=len(plaintext),
        recipients=[key, *(recipients or ())],
        chunk_bytes=chunk_bytes,
        **(AS_DIGITS | asked),
    )
    return Sealed(raw=target.getvalue(), pin=pin, key=key, plaintext=plaintext)
