"""Frames that only the other end of one session can have sent, in their order. Pure.

What they carry is ciphertext already. A frame is HMAC-SHA256 (32 bytes), then the content; the HMAC
is over the frame's number in its direction and the content, under a key of that direction. So none
is changed, dropped, repeated, turned back on its sender or taken from another session unnoticed.
"""

import enum
import hmac
from typing import Final

from wardian._internal import wire
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed

TAG_BYTES: Final = 32
LABEL: Final = "wardian standby channel v1"


class Direction(enum.StrEnum):
    """Who sends what."""

    STATE = "state"
    """The active: the state in pieces."""
    STATE_TAKEN = "state taken"
    """The standby: that it is in place."""
    COMMITS = "commits"
    """The active: commits, and in between that it lives."""
    COMMITS_TAKEN = "commits taken"
    """The standby: what its copy is now."""


class _End:
    __slots__ = ("_key", "_next")

    def __init__(self, session_key: Secret, direction: Direction) -> None:
        """Begin at frame 0 of `direction` in the session with `session_key` (32 bytes)."""
        info = wire.fields(LABEL, direction.encode())
        self._key = hkdf(session_key, salt=b"", info=info).reveal()
        self._next = 0

    def _tag(self, content: bytes) -> bytes:
        """Return the tag of `content` as the next frame."""
        return hmac.digest(self._key, self._next.to_bytes(8, "big") + content, "sha256")


class Sender(_End):
    """The end that sends."""

    __slots__ = ()

    def frame(self, content: bytes) -> bytes:
        """Return `content` as the next frame."""
        frame = self._tag(content) + content
        self._next += 1
        return frame


class Receiver(_End):
    """The end that receives."""

    __slots__ = ()

    def content(self, frame: bytes) -> bytes:
        """Return what is in the next frame. One that is refused takes nobody's place.

        Raises:
            AuthenticationFailed: it is not the next frame of this session and direction.
        """
        tag, content = frame[:TAG_BYTES], frame[TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(content)):
            raise AuthenticationFailed("not the next frame of this session between two brokers")
        self._next += 1
        return content
