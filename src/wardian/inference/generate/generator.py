"""A model that takes a text and gives its continuation, a part at a time."""

import time
from collections.abc import Callable, Sequence

from typing_extensions import override

from wardian._internal.steps import GenerateTerms
from wardian.errors import ConfigError, JobFailed, RequestError
from wardian.inference.generate.caches import Caches, wipe
from wardian.inference.generate.decoder import Decoder
from wardian.inference.generate.parts import (
    INPUTS,
    LENGTH,
    MORE,
    NO_PROMPT,
    OUTPUTS,
    PARAMETERS,
    STOP,
    TEXT,
    TOO_LONG,
    Ask,
    Part,
    build_outputs,
    parse_ask,
)
from wardian.inference.generate.sampling import next_token
from wardian.inference.generate.unfolding import Unfolding
from wardian.inference.spec import FREE, Model, Tensors, TensorSpec
from wardian.inference.text.byte_bpe import ByteBpe
from wardian.inference.text.spelling import spelling
from wardian.inference.text.vocabulary import Vocabulary
from wardian.inference.text.wordpiece import WordPiece

_END = {"wordpiece": ("[SEP]",), "byte-bpe": ("<|endoftext|>",)}
"""The tokens that usually end a text."""


class Generator(Model):
    """A decoder with its vocabulary around it."""

    def __init__(
        self,
        decoder: Decoder,
        terms: GenerateTerms,
        vocabulary: Vocabulary,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Answer by `decoder`, as `terms` say.

        Raises:
            ConfigError: the vocabulary has not one of the tokens that `terms` name.
        """
        self._decoder, self._terms = decoder, terms
        self._splitter = _splitter(terms, vocabulary)
        self._spelling = spelling(vocabulary)
        numbers = vocabulary.numbers()
        ends = _END[vocabulary.kind] if terms.end is None else terms.end
        self._end = frozenset(_number(numbers, token, "end") for token in ends)
        self._first = [_number(numbers, terms.first, "first")] if terms.first else []
        known, scored = len(vocabulary.tokens), decoder.vocabulary
        self._tokens = known if scored == FREE else min(known, scored)
        self.caches = Caches(terms.cache_bytes, clock=clock)

    @property
    @override
    def engine(self) -> str:
        return self._decoder.model.engine

    @property
    @override
    def inputs(self) -> tuple[TensorSpec, ...]:
        return INPUTS

    @property
    @override
    def outputs(self) -> tuple[TensorSpec, ...]:
        return OUTPUTS

    @property
    @override
    def batchable(self) -> bool:
        return False  # each part has a length of its own

    @override
    def infer(self, inputs: Tensors) -> Tensors:
        """Return the next part of an answer.

        Raises:
            RequestError: what is asked is not of the form that it has to be.
            JobFailed: the engine failed.
        """
        text, raw = inputs[TEXT][0], inputs[PARAMETERS][0]
        if not isinstance(text, bytes) or not isinstance(raw, bytes):
            raise JobFailed("a text is no bytes")
        ask = parse_ask(raw)
        prompt = self._prompt(text, ask)
        if max(ask.tokens, default=0) >= self._tokens:
            raise RequestError("a token is none of the model's")
        if not prompt or len(prompt) > self._terms.most_prompt_tokens:
            finish = TOO_LONG if prompt else NO_PROMPT
            return build_outputs(Part(b"", [], finish, len(prompt)))
        return build_outputs(self._part(prompt, ask))

    @override
    def close(self) -> None:
        self.caches.close()
        self._decoder.model.close()

    def _prompt(self, text: bytes, ask: Ask) -> list[int]:
        """Return the tokens of the prompt; one more than there may be stand for any number."""
        most = self._terms.most_prompt_tokens
        if ask.input_ids is not None:
            if text:
                raise RequestError("a prompt is a text or `input_ids`, not both")
            if max(ask.input_ids, default=0) >= self._tokens:
                raise RequestError("a token is none of the model's")
            return ask.input_ids
        if len(text) > self._terms.max_text_bytes:
            return [0] * (most + 1)
        try:
            decoded = text.decode()
        except UnicodeDecodeError as err:
            raise RequestError("a text is not UTF-8") from err
        found = self._splitter.encode(decoded, most + 1)
        if max(found, default=0) >= self._tokens:
            raise JobFailed("the model has no scores for a token of its vocabulary")
        return [*self._first, *found]

    def _part(self, prompt: list[int], ask: Ask) -> Part:
        most = min(ask.max_tokens, self._terms.most_tokens)
        said = Unfolding(self._spelling, ask.stop)
        said.feed(ask.tokens)
        before = len(said.settled(over=False))
        room = min(most - len(ask.tokens), ask.limit or most)
        finish = MORE if most > len(ask.tokens) else LENGTH
        made: list[int] = []
        if finish == MORE:
            made, finish = self._run(prompt, ask, said, room)
            if finish == MORE and len(ask.tokens) + len(made) >= most:
                finish = LENGTH
        if finish != MORE:
            said.end()
            self.caches.take(ask.stream, ())  # nobody goes on with it
        text = said.settled(over=finish != MORE)[before:]
        return Part(text.encode(), made, finish, len(prompt))

    def _run(self, prompt: Sequence[int], ask: Ask, said: Unfolding, room: int) -> tuple[
        list[int], str
    ]:  # fmt: skip
        """Return up to `room` further tokens, and whether they end the answer."""
        tokens = [*prompt, *ask.tokens]
        position = len(ask.tokens)
        count, past = self.caches.take(ask.stream, tokens)
        made: list[int] = []
        try:
            while len(made) < room:
                logits, past = self._decoder.run(tokens, count, past)
                count = len(tokens) if self._decoder.caching else 0
                token = next_token(logits[: self._tokens], ask, position + len(made))
                ends = token in self._end
                if not ends:
                    made.append(token)
                    tokens.append(token)
                    said.feed((token,))
                if ends or said.stopped:
                    wipe(past)
                    return made, STOP
        except BaseException:
            wipe(past)
            raise
        self.caches.put(ask.stream, tokens[:count], past)
        return made, MORE


def _splitter(terms: GenerateTerms, vocabulary: Vocabulary) -> WordPiece | ByteBpe:
    numbers = vocabulary.numbers()
    if vocabulary.kind == "wordpiece":
        unknown = _number(numbers, terms.unknown or "[UNK]", "unknown")
        return WordPiece(numbers, unknown=unknown, lowercase=terms.lowercase)
    if terms.lowercase or terms.unknown is not None:
        raise ConfigError("`generate`: `lowercase` and `unknown` are for wordpiece alone")
    return ByteBpe(numbers, vocabulary.merges)


def _number(numbers: dict[str, int], token: str, what: str) -> int:
    if token not in numbers:
        raise ConfigError(f"`generate`: the vocabulary has no token {token!r}, its `{what}`")
    return numbers[token]
