"""WordPiece, as BERT splits texts: words and punctuation, then the longest known pieces of each.

Pieces within a word begin with `##`. A word with a piece that is unknown is unknown as a whole.
What looks like a special token in a text is text: `[SEP]` is three words, so that whoever writes
the text cannot end it.

Source: Devlin et al., "BERT", section 3, and its published tokenization.py (Apache-2.0); where that
and the Rust library `tokenizers` differ (which characters are controls, the final sigma), the
latter.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

MAX_WORD_CHARS: Final = 100
"""A longer word is unknown; the original's figure."""
_PUNCTUATION: Final = r"!-/:-@\[-`{-~"
_ASCII_WORD: Final = re.compile(rf"[^ {_PUNCTUATION}]+|[{_PUNCTUATION}]")
_WORD: Final = re.compile(r"\S+")
_ASCII_CLEAN: Final = {code: " " if chr(code) in "\t\n\r" else None for code in (*range(32), 127)}
_CONTROLS: Final = frozenset(("Cc", "Cf", "Co"))  # no UTF-8 has a surrogate
_CJK: Final = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPiece:
    """Splits texts by one vocabulary."""

    def __init__(self, numbers: dict[str, int], *, unknown: int, lowercase: bool) -> None:
        """Split by `numbers`.

        Args:
            numbers: of each token.
            unknown: of the token for words that are not known.
            lowercase: texts are made lower-case first, and lose their accents: "uncased" models.
        """
        self._first = {token: number for token, number in numbers.items() if token[:2] != "##"}
        self._later = {token[2:]: number for token, number in numbers.items() if token[:2] == "##"}
        self._longest = max(map(len, numbers))
        self._unknown = unknown
        self._lowercase = lowercase

    def encode(self, text: str, most: int) -> list[int]:
        """Return the numbers of the first `most` tokens of `text`; what is behind is not looked at.

        Takes time in proportion to the length of `text`, and to `most` times the longest token.
        """
        found: list[int] = []
        for word in self._words(text):
            if len(found) >= most:
                break
            found += self._pieces(word)
        del found[most:]
        return found

    def _words(self, text: str) -> Iterator[str]:
        if text.isascii():
            text = text.translate(_ASCII_CLEAN)
            if self._lowercase:
                text = text.lower()
            return (found.group() for found in _ASCII_WORD.finditer(text))
        text = "".join(map(_cleaned, text))
        if self._lowercase:
            text = unicodedata.normalize("NFD", text)
            text = "".join(char for char in text if unicodedata.category(char) != "Mn")
            text = text.replace("\u03a3", "\u03c3").lower()  # of a sigma, it would look at the next
        text = "".join(f" {char} " if _is_punctuation(char) else char for char in text)
        return (found.group() for found in _WORD.finditer(text))

    def _pieces(self, word: str) -> list[int]:
        """Return the numbers of the pieces of `word`, longest first; or that of the unknown."""
        if len(word) > MAX_WORD_CHARS:
            return [self._unknown]
        pieces: list[int] = []
        known, start, end = self._first, 0, len(word)
        while start < end:
            for stop in range(min(end, start + self._longest), start, -1):
                number = known.get(word[start:stop])
                if number is not None:
                    pieces.append(number)
                    start, known = stop, self._later
                    break
            else:
                return [self._unknown]
        return pieces


def _cleaned(char: str) -> str:
    """Return what stands for `char` in a text whose words are parted by spaces."""
    if char in "\t\n\r":
        return " "
    if char == "\ufffd" or unicodedata.category(char) in _CONTROLS:
        return ""
    if char.isspace():
        return " "
    code = ord(char)
    if code > 0x33FF and any(low <= code <= high for low, high in _CJK):
        return f" {char} "
    return char


def _is_punctuation(char: str) -> bool:
    if char < "\x80":
        return not char.isalnum() and "!" <= char <= "~"
    return unicodedata.category(char)[0] == "P"
