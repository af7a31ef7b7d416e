"""Tokens back to the bytes that they stand for."""

from collections.abc import Iterable

from wardian.inference.text.vocabulary import BYTE_CHARS, Vocabulary


class ByteSpelling:
    """Of byte-level BPE: each token is bytes, which need not be whole characters."""

    def __init__(self, tokens: list[str]) -> None:
        """Spell `tokens`, by number; a character that stands for no byte is itself, in UTF-8."""
        of_char = {char: bytes((byte,)) for byte, char in enumerate(BYTE_CHARS)}
        self._bytes = [
            b"".join([of_char.get(char) or char.encode() for char in token]) for token in tokens
        ]

    def spell(self, tokens: Iterable[int], *, first: bool) -> bytes:
        """Return the bytes of `tokens`; that they are the `first` changes nothing."""
        del first
        return b"".join([self._bytes[token] for token in tokens])


class PieceSpelling:
    """Of WordPiece: a word is its pieces, and a space is before each word but the first."""

    def __init__(self, tokens: list[str]) -> None:
        """Spell `tokens`, by number."""
        self._bytes = [
            token[2:].encode() if token.startswith("##") else b" " + token.encode()
            for token in tokens
        ]

    def spell(self, tokens: Iterable[int], *, first: bool) -> bytes:
        """Return the bytes of `tokens`; `first`: they begin a text."""
        raw = b"".join([self._bytes[token] for token in tokens])
        return raw.removeprefix(b" ") if first else raw


def spelling(vocabulary: Vocabulary) -> ByteSpelling | PieceSpelling:
    """Return what spells the tokens of `vocabulary`."""
    kind = PieceSpelling if vocabulary.kind == "wordpiece" else ByteSpelling
    return kind(vocabulary.tokens)
