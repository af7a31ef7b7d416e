"""Byte-level byte pair encoding, as GPT-2 and RoBERTa split texts.

A text is cut into words, each with the space before it; a word is its bytes, each a token; then the
two neighbours whose merge is most urgent become one, again and again. Every text can be encoded.
What looks like a special token in a text is text.

Merges wait in a heap, so that a word of n bytes takes n log n steps: the usual n squared would let
one long word stop a worker for minutes.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners", section 2.2, and its
published encoder.py (MIT).
"""

import heapq
import re
import sys
import unicodedata
from functools import cache
from itertools import pairwise

from wardian.inference.text.vocabulary import BYTE_CHARS

_SPACES = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space; Python's \\s has four separators of ASCII more."""


class ByteBpe:
    """Splits texts by one vocabulary."""

    def __init__(self, numbers: dict[str, int], merges: list[str]) -> None:
        """Split by `numbers`, the tokens', and `merges`: two tokens each, most urgent first."""
        self._of_byte = [numbers[char] for char in BYTE_CHARS]
        self._merges: dict[tuple[int, int], tuple[int, int]] = {}
        for urgency, merge in enumerate(merges):
            left, right = merge.split(" ")
            pair = numbers[left], numbers[right]
            self._merges[pair] = urgency, numbers[left + right]
        self._word = _word_pattern()

    def encode(self, text: str, most: int) -> list[int]:
        """Return the numbers of the first `most` tokens of `text`."""
        found: list[int] = []
        for word in self._word.finditer(text):
            if len(found) >= most:
                break
            found += self._merged([self._of_byte[byte] for byte in word.group().encode()])
        del found[most:]
        return found

    def _merged(self, tokens: list[int]) -> list[int]:
        """Return `tokens`, those of one word, merged as far as they can be."""
        merges, end = self._merges, len(tokens)
        after = list(range(1, end + 1))  # the next that is left of those behind; `end`: none
        before = list(range(-1, end - 1))
        heap = [
            (*merge, at, pair)
            for at, pair in enumerate(pairwise(tokens))
            if (merge := merges.get(pair)) is not None
        ]
        heapq.heapify(heap)
        while heap:
            _, made, at, pair = heapq.heappop(heap)
            behind = after[at]
            if behind == end or (tokens[at], tokens[behind]) != pair:
                continue  # one of the two was merged with another before
            tokens[at], tokens[behind] = made, -1
            after[at] = after[behind]
            if after[at] < end:
                before[after[at]] = at
            for left in (before[at], at):
                if left >= 0 and after[left] < end:
                    new = tokens[left], tokens[after[left]]
                    if (merge := merges.get(new)) is not None:
                        heapq.heappush(heap, (*merge, left, new))
        return [token for token in tokens if token >= 0]


@cache
def _word_pattern() -> re.Pattern[str]:
    r"""Return the pattern of a word.

    The original's: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Python's `re` knows no categories, so they are spelled out once, in some tenths of a second.
    """
    letters, digits = _category("L"), _category("N")
    return re.compile(
        "'s|'t|'re|'ve|'m|'ll|'d"
        f"| ?[{letters}]+| ?[{digits}]+| ?[^{_SPACES}{letters}{digits}]+"
        f"|[{_SPACES}]+(?![^{_SPACES}])|[{_SPACES}]+"
    )


def _category(initial: str) -> str:
    """Return the characters of the categories that begin with `initial`, as ranges of a class."""
    ranges: list[str] = []
    first = None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code))[0] == initial
        if inside and first is None:
            first = code
        elif not inside and first is not None:
            ranges.append(f"\\U{first:08x}-\\U{code - 1:08x}")
            first = None
    return "".join(ranges)
