"""The parsers of what a model's owner seals: vouched for, and yet read before any engine is."""

from collections.abc import Callable, Iterator

from wardian.inference.ir_file import build_ir, parse_ir, vocabulary_in
from wardian.inference.onnx_file import metadata, with_metadata
from wardian.inference.text.vocabulary import (
    BYTE_CHARS,
    Vocabulary,
    build_vocabulary,
    parse_vocabulary,
)

KEY = "wardian.vocabulary"


def model_parsers() -> Iterator[tuple[str, Callable[[bytes], object], tuple[bytes, ...]]]:
    """Yield name, parser and seeds of each."""
    pieces = Vocabulary(kind="wordpiece", tokens=["[PAD]", "[UNK]", "a", "##b"])
    pairs = Vocabulary(kind="byte-bpe", tokens=[*BYTE_CHARS, "ab"], merges=["a b"])
    sealed = (build_vocabulary(pieces), build_vocabulary(pairs))
    xml = b"<net><layers></layers></net>"
    bare = with_metadata(b"\x08\x09", "producer", b"x")
    yield "vocabulary", parse_vocabulary, sealed
    yield (
        "IR in one file",
        lambda raw: (parse_ir(raw), vocabulary_in(raw)),
        (build_ir(xml, b"weights"), build_ir(xml, b"weights", sealed[0])),
    )
    yield (
        "ONNX metadata",
        lambda raw: metadata(raw, KEY),
        (bare, with_metadata(bare, KEY, sealed[0])),
    )
