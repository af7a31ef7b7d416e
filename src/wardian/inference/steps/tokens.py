"""Texts to the numbers of tokens, with every length looked at before work is done for it."""

from dataclasses import replace
from typing import Final

import numpy as np

from wardian._internal.steps import TokensStep
from wardian.errors import ConfigError, JobFailed
from wardian.inference.dtypes import BYTES, numpy_dtype
from wardian.inference.spec import FREE, Tensors, TensorSpec
from wardian.inference.text.byte_bpe import ByteBpe
from wardian.inference.text.vocabulary import Vocabulary
from wardian.inference.text.wordpiece import WordPiece

Specs = tuple[TensorSpec, ...]
MAX_NUMBERS: Final = 4 * 1024**2
"""Of one inference, padding included: a text of one byte may be filled up to `max_length`."""
MAX_BYTES: Final = 4 * 1024**2
"""Of all texts of one inference together: splitting them takes up to about a microsecond a byte."""
_SPECIAL: Final = {
    "wordpiece": {"first": "[CLS]", "last": "[SEP]", "pad": "[PAD]", "unknown": "[UNK]"},
    "byte-bpe": {"first": "", "last": "", "pad": "<|endoftext|>"},
}


def bind_tokens(
    specs: Specs, ask: TokensStep, vocabulary: Vocabulary
) -> tuple[Specs, "SplitTexts"]:
    """Return the tensors outside of the step that is asked for, and the step.

    Raises:
        ConfigError: an input that it names is not there, or is no rows of INT64 or INT32; or the
            vocabulary has not one of its tokens.
    """
    by_name = {spec.name: spec for spec in specs}
    wanted = {"ids": ask.ids, "mask": ask.mask, "types": ask.types}
    usual = {"mask": "attention_mask", "types": "token_type_ids"}
    found: dict[str, TensorSpec] = {}
    for what, name in wanted.items():
        spec = by_name.get(name or usual[what])
        if spec is not None:
            found[what] = spec
        elif name is not None:
            known = ", ".join(repr(known[:64]) for known in by_name)
            raise ConfigError(f"`pre`: tokens: no tensor {name!r}; there is: {known}")
    for spec in found.values():
        if spec.dtype not in ("INT64", "INT32") or len(spec.shape) != 2:
            raise ConfigError(
                f"`pre`: tokens gives INT64 or INT32 of shape [N, L]; {spec.name!r} is "
                f"{spec.dtype} {list(spec.shape)}"
            )
    lengths = {spec.shape[1] for spec in found.values()} - {FREE}
    length = min(lengths, default=FREE)
    if len(lengths) > 1 or (length != FREE and length < ask.max_length):
        raise ConfigError(
            f"`pre`: tokens: `max_length` {ask.max_length} is above the model's {length}"
        )
    taken = {spec.name for spec in found.values()}
    if len(taken) < len(found):
        raise ConfigError("`pre`: tokens: `ids`, `mask` and `types` are different tensors")
    step = SplitTexts(found, ask, vocabulary, length=length)
    return (*step.outside, *(spec for spec in specs if spec.name not in taken)), step


class SplitTexts:
    """Rows of texts to rows of numbers."""

    def __init__(
        self,
        found: dict[str, TensorSpec],
        ask: TokensStep,
        vocabulary: Vocabulary,
        *,
        length: int,
    ) -> None:
        """Prepare; see `bind_tokens`. `length` is that of all rows, or `FREE`."""
        special = _special(ask, vocabulary)
        self.name = ask.input
        self._found, self._length = found, length
        self._max_text_bytes = ask.max_text_bytes
        self._first, self._last = special["first"], special["last"]
        (self._pad,) = special["pad"]
        self._room = ask.max_length - len(self._first) - len(self._last)
        self._split = _splitter(ask, vocabulary, special.get("unknown", []))

    @property
    def outside(self) -> Specs:
        """What a client sends: texts."""
        ids = self._found["ids"]
        return (replace(ids, name=self.name, dtype=BYTES, shape=ids.shape[:1]),)

    def apply(self, tensors: Tensors) -> Tensors:
        """Return `tensors` with the texts given way to numbers.

        Raises:
            JobFailed: one is too long, no UTF-8, or has no token at all where none is put before
                it; or all together are too much for one inference.
        """
        texts = tensors.pop(self.name)
        if sum(map(len, texts)) > MAX_BYTES:
            raise JobFailed("the texts of one inference are too long together")
        if len(texts) * max(self._length, 1) > MAX_NUMBERS:
            raise JobFailed("too many texts for one inference")
        rows = [self._row(text) for text in texts]
        length = self._length if self._length != FREE else max(map(len, rows), default=1)
        if len(rows) * length > MAX_NUMBERS:
            raise JobFailed("too many texts for one inference")
        made = {
            "ids": np.full((len(rows), length), self._pad, np.int64),
            "mask": np.zeros((len(rows), length), np.int64),
            "types": np.zeros((len(rows), length), np.int64),
        }
        for at, row in enumerate(rows):
            made["ids"][at, : len(row)] = row
            made["mask"][at, : len(row)] = 1
        for what, spec in self._found.items():
            tensors[spec.name] = made[what].astype(numpy_dtype(spec.dtype), copy=False)
        return tensors

    def _row(self, text: object) -> list[int]:
        """Return the numbers of one text, unpadded."""
        if not isinstance(text, bytes):
            raise JobFailed("a text is no bytes")
        if len(text) > self._max_text_bytes:
            raise JobFailed(f"a text has more than {self._max_text_bytes} bytes")
        try:
            decoded = text.decode()
        except UnicodeDecodeError as err:
            raise JobFailed("a text is not UTF-8") from err
        row = [*self._first, *self._split.encode(decoded, self._room), *self._last]
        if not row:  # a row of nothing but padding would be answered by its neighbours' length
            raise JobFailed("a text without any token")
        return row


def _special(ask: TokensStep, vocabulary: Vocabulary) -> dict[str, list[int]]:
    """Return the number of each special token, in a list that is empty where there is none.

    Raises:
        ConfigError: the vocabulary does not have it.
    """
    numbers, found = vocabulary.numbers(), {}
    for what, usual in _SPECIAL[vocabulary.kind].items():
        given: str | None = getattr(ask, what)
        token = usual if given is None else given
        if token not in numbers and (token or what in ("pad", "unknown")):
            raise ConfigError(f"`pre`: tokens: the vocabulary has no token {token!r}, its `{what}`")
        found[what] = [numbers[token]] if token else []
    return found


def _splitter(ask: TokensStep, vocabulary: Vocabulary, unknown: list[int]) -> WordPiece | ByteBpe:
    """Return what splits a text."""
    numbers = vocabulary.numbers()
    if vocabulary.kind == "wordpiece":
        return WordPiece(numbers, unknown=unknown[0], lowercase=ask.lowercase)
    if ask.lowercase or ask.unknown is not None:
        raise ConfigError("`pre`: tokens: `lowercase` and `unknown` are for wordpiece alone")
    return ByteBpe(numbers, vocabulary.merges)
