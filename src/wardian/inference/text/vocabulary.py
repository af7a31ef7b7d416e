"""The vocabulary of a model: which text each number stands for. It is sealed inside of the model.

    {"kind": "wordpiece", "tokens": ["[PAD]", ...]}
    {"kind": "byte-bpe", "tokens": ["!", ...], "merges": ["h e", "l l", ...]}

The number of a token is its place. The byte form is in `docs/reference/models.md`; `source` makes
it of the files that models are published with.
"""

from typing import Annotated, Final, Literal

import msgspec

from wardian.errors import FormatError

MAX_VOCABULARY_BYTES: Final = 16 * 1024**2
MAX_TOKENS: Final = 500_000
MAX_TOKEN_CHARS: Final = 512

_Token = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TOKEN_CHARS)]
_Merge = Annotated[
    str, msgspec.Meta(max_length=2 * MAX_TOKEN_CHARS + 1, pattern=r"\A[^ \n]+ [^ \n]+\Z")
]


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What a model's tokens are.

    Attributes:
        kind: how texts are split into them.
        tokens: by number; no two are alike.
        merges: for byte-bpe, which two become one, most urgent first; each in `tokens`, and so is
            what they become.
    """

    kind: Literal["wordpiece", "byte-bpe"]
    tokens: Annotated[list[_Token], msgspec.Meta(min_length=1, max_length=MAX_TOKENS)]
    merges: Annotated[list[_Merge], msgspec.Meta(max_length=MAX_TOKENS)] = []

    def numbers(self) -> dict[str, int]:
        """Return the number of each token."""
        return {token: number for number, token in enumerate(self.tokens)}


_decode = msgspec.json.Decoder(Vocabulary).decode


def build_vocabulary(vocabulary: Vocabulary) -> bytes:
    """Return `vocabulary` as it is sealed.

    Raises:
        FormatError: it is not what `parse_vocabulary` accepts.
    """
    raw = msgspec.json.encode(vocabulary)
    parse_vocabulary(raw)
    return raw


def parse_vocabulary(raw: bytes | memoryview) -> Vocabulary:
    """Return the vocabulary in `raw`.

    Raises:
        FormatError: too large, not of that form, or not consistent in itself.
    """
    if len(raw) > MAX_VOCABULARY_BYTES:
        raise FormatError("vocabulary: larger than 16 MiB")
    try:
        vocabulary = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise FormatError(f"vocabulary: {err}"[:200]) from err
    known = set(vocabulary.tokens)
    if len(known) < len(vocabulary.tokens):
        raise FormatError("vocabulary: a token is there twice")
    if vocabulary.kind == "wordpiece":
        if vocabulary.merges:
            raise FormatError("vocabulary: wordpiece has no merges")
        return vocabulary
    if not known.issuperset(BYTE_CHARS):
        raise FormatError("vocabulary: byte-bpe has a token for each of the 256 bytes")
    for merge in vocabulary.merges:
        left, right = merge.split(" ")
        if left not in known or right not in known or left + right not in known:
            raise FormatError("vocabulary: a merge of what is no token, or into none")
    if len(set(vocabulary.merges)) < len(vocabulary.merges):
        raise FormatError("vocabulary: a merge is there twice")
    return vocabulary


def _byte_chars() -> str:
    """Return the character that stands for each byte in tokens of byte-bpe.

    Source: `bytes_to_unicode` of GPT-2's encoder: printable bytes of Latin-1 stand for themselves,
    the others for characters from U+0100 on, in order.
    """
    own = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in own else next(others)) for byte in range(256))


BYTE_CHARS: Final = _byte_chars()
