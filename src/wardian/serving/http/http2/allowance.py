"""How much work without a purpose a client may cause on one HTTP/2 connection.

HTTP/2 lets a client have work done for a few bytes: settings and pings to acknowledge, streams
that are opened and reset at once (CVE-2023-44487), empty frames, header blocks without an end
(CVE-2024-27316). Each such frame costs points; time and requests that are answered give points
back. Whoever has none left is told ENHANCE_YOUR_CALM, and its connection ends.
"""

from typing import Final

from wardian.serving.http.http2.frames import ErrorCode, Violation

BURST: Final = 2000.0
PER_S: Final = 200.0
FRAME: Final = 1
"""A frame that moves nothing."""
SETTINGS_FRAME: Final = 20
"""New settings touch every stream."""
LOST_STREAM: Final = 5
"""A stream that was opened for nothing: reset, refused or malformed."""
ANSWERED: Final = 5
"""Given back for a request that got its answer."""


class Allowance:
    """Points of one connection."""

    __slots__ = ("_at", "_points")

    def __init__(self, now: float) -> None:
        """Begin with `BURST` points; `now` is monotonic, in seconds."""
        self._points = BURST
        self._at = now

    def spend(self, points: int, now: float) -> None:
        """Take `points`.

        Raises:
            Violation: there are not so many left.
        """
        self._points -= points
        if self._points < 0:
            self._points = min(BURST, self._points + (now - self._at) * PER_S)
            self._at = now
            if self._points < 0:
                raise Violation(
                    ErrorCode.ENHANCE_YOUR_CALM, "too many frames that serve nothing", status=429
                )

    def earn(self, points: int) -> None:
        """Give `points` back, up to `BURST`."""
        self._points = min(BURST, self._points + points)
