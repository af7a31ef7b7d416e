"""Tokens to text, part by part: never half a character, never the beginning of a stop text.

What a part adds is a function of the tokens alone: the text of all of them, less what was settled
by those before. So a part that is run twice adds the same.
"""

import codecs
from collections.abc import Iterable
from typing import Final, Protocol

_Utf8: Final = codecs.getincrementaldecoder("utf-8")


class Spelling(Protocol):
    """Knows the bytes of each token."""

    def spell(self, tokens: Iterable[int], *, first: bool) -> bytes:
        """Return the bytes of `tokens`; `first`: they begin an answer."""


class Unfolding:
    """The text of an answer as its tokens come.

    Attributes:
        stopped: a stop text was found; the answer ends before it.
    """

    def __init__(self, spelling: Spelling, stop: tuple[str, ...]) -> None:
        """Begin with no token."""
        self.stopped = False
        self._spelling, self._stop = spelling, stop
        self._longest = max(map(len, stop), default=0)
        self._decoder = _Utf8("replace")
        self._text = ""
        self._begun = False

    def feed(self, tokens: Iterable[int]) -> None:
        """Go on with `tokens`."""
        raw = self._spelling.spell(tokens, first=not self._begun)
        self._begun = self._begun or bool(raw)
        self._add(self._decoder.decode(raw))

    def end(self) -> None:
        """No token follows: what is left of a character stands as U+FFFD."""
        self._add(self._decoder.decode(b"", final=True))

    def settled(self, *, over: bool) -> str:
        """Return the text that stays whatever follows; all of it once the answer is `over`."""
        if self.stopped or over:
            return self._text
        return self._text[: len(self._text) - self._beginning()]

    def _add(self, more: str) -> None:
        if self.stopped or not more:
            return
        since = max(0, len(self._text) - self._longest)
        self._text += more
        found = [at for text in self._stop if (at := self._text.find(text, since)) >= 0]
        if found:
            self._text, self.stopped = self._text[: min(found)], True

    def _beginning(self) -> int:
        """Return how many of the last characters could be the beginning of a stop text."""
        for size in range(min(self._longest - 1, len(self._text)), 0, -1):
            tail = self._text[-size:]
            if any(text.startswith(tail) for text in self._stop if len(text) > size):
                return size
        return 0
