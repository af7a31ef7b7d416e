"""The smallest vocabularies that there are, to see at start that both kinds split a text."""

from wardian._internal.steps import TokensStep
from wardian.errors import JobFailed
from wardian.inference.dtypes import bytes_array
from wardian.inference.spec import FREE, TensorSpec
from wardian.inference.text.vocabulary import (
    BYTE_CHARS,
    Vocabulary,
    build_vocabulary,
    parse_vocabulary,
)

_PIECES = Vocabulary(
    kind="wordpiece", tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "caf", "##e", "!"]
)
_PAIRS = Vocabulary(
    kind="byte-bpe", tokens=[*BYTE_CHARS, "<|endoftext|>", "caf", "ca"], merges=["c a", "ca f"]
)
_TEXT = "CAFÉ!".encode()


def split_trials() -> str:
    """Return the kinds of vocabularies, after a text was split by each as it should be.

    Raises:
        JobFailed: it was not.
    """
    from wardian.inference.steps.tokens import bind_tokens  # noqa: PLC0415  where texts are served

    specs = (TensorSpec(name="input_ids", dtype="INT64", shape=(FREE, FREE)),)
    for vocabulary, ask, text, expected in (
        (_PIECES, TokensStep(lowercase=True), _TEXT, [2, 4, 5, 6, 3]),
        (_PAIRS, TokensStep(), _TEXT.lower(), [257, 0xC3, 0x89, 0x21]),
    ):
        sealed = parse_vocabulary(build_vocabulary(vocabulary))
        _, step = bind_tokens(specs, ask, sealed)
        numbers = step.apply({"text": bytes_array((text,), (1,))})["input_ids"]
        if numbers.tolist() != [expected]:
            raise JobFailed(f"self-test: {vocabulary.kind} splits a text into {numbers.tolist()}")
    return "wordpiece, byte-bpe"
