"""Vocabularies: read strictly, made of what models are published with, sealed inside of a model."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto
from simulators.data_plane import onnx_digits

from wardian.errors import ConfigError, FormatError
from wardian.inference import load_model
from wardian.inference.attached import KEY, vocabulary_of, with_vocabulary
from wardian.inference.ir_file import MEDIA_TYPE, build_ir, parse_ir, vocabulary_in
from wardian.inference.onnx_file import metadata, with_metadata
from wardian.inference.text import vocabulary as module
from wardian.inference.text.source import read_vocabulary
from wardian.inference.text.vocabulary import (
    BYTE_CHARS,
    Vocabulary,
    build_vocabulary,
    parse_vocabulary,
)

ONNX = "application/onnx"
PIECES = Vocabulary(kind="wordpiece", tokens=["[PAD]", "[UNK]", "a", "##b"])
PAIRS = Vocabulary(kind="byte-bpe", tokens=[*BYTE_CHARS, "ab", "abc"], merges=["a b", "ab c"])
FROZEN = b'{"kind":"wordpiece","tokens":["[PAD]","[UNK]","a","##b"],"merges":[]}'


def test_the_form_is_frozen() -> None:
    assert build_vocabulary(PIECES) == FROZEN
    assert parse_vocabulary(FROZEN) == PIECES
    assert parse_vocabulary(build_vocabulary(PAIRS)) == PAIRS


def test_the_characters_of_bytes_are_the_original_s() -> None:
    assert len(set(BYTE_CHARS)) == 256
    assert (BYTE_CHARS[0x20], BYTE_CHARS[0x0A], BYTE_CHARS[0x41]) == ("Ġ", "Ċ", "A")
    assert (BYTE_CHARS[0xAD], BYTE_CHARS[0xFF], BYTE_CHARS[0x00]) == ("Ń", "ÿ", "Ā")


def changed(of: Vocabulary, **members: object) -> bytes:
    return json.dumps(json.loads(build_vocabulary(of)) | members).encode()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"kind":"wordpiece"}', "missing required field `tokens`"),
        (b"\xff\xfe", "malformed"),
        (b'{"kind":' + b"[" * 100_000, "vocabulary"),
        (changed(PIECES, kind="sentencepiece"), "Invalid enum value"),
        (changed(PIECES, more=1), "unknown field"),
        (changed(PIECES, tokens=[]), "length >= 1"),
        (changed(PIECES, tokens=["a", "b", "a"]), "twice"),
        (changed(PIECES, tokens=["a", ""]), "length >= 1"),
        (changed(PIECES, tokens=["a" * 513]), "length <= 512"),
        (changed(PIECES, tokens=[1]), "Expected `str`"),
        (changed(PIECES, merges=["a b"]), "no merges"),
        (changed(PAIRS, tokens=["a", "b", "ab", "abc", "c"]), "each of the 256"),
        (changed(PAIRS, merges=["a b", "a b"]), "twice"),
        (changed(PAIRS, merges=["a c"]), "into none"),
        (changed(PAIRS, merges=["zz b"]), "no token"),
        (changed(PAIRS, merges=["ab"]), "matching regex"),
        (changed(PAIRS, merges=["a b c"]), "matching regex"),
        (changed(PAIRS, merges=["a "]), "matching regex"),
    ],
)
def test_what_is_no_vocabulary_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        parse_vocabulary(raw)


def test_a_vocabulary_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_VOCABULARY_BYTES", len(FROZEN) - 1)
    with pytest.raises(FormatError, match="16 MiB"):
        parse_vocabulary(FROZEN)


def files(directory: Path, **texts: str | bytes) -> list[Path]:
    made = []
    for name, text in texts.items():
        path = directory / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        made.append(path)
    return made


def test_a_vocab_txt(tmp_path) -> None:
    (path,) = files(tmp_path, vocab="[PAD]\n[UNK]\na\n##b\n")
    assert read_vocabulary(path, None) == FROZEN
    (path,) = files(tmp_path, vocab="[PAD]\r\n[UNK]\r\n\u2028\r\n\x85")  # tokens, and no line ends
    assert parse_vocabulary(read_vocabulary(path, None)).tokens == [
        "[PAD]",
        "[UNK]",
        "\u2028",
        "\x85",
    ]


def test_a_vocab_json_with_its_merges(tmp_path) -> None:
    numbers = {token: number for number, token in enumerate(PAIRS.tokens)}
    backwards = dict(reversed(numbers.items()))
    path, merges = files(tmp_path, vocab=json.dumps(backwards), merges="#version: 0.2\na b\nab c\n")
    assert parse_vocabulary(read_vocabulary(path, merges)) == PAIRS


@pytest.mark.parametrize(
    ("vocab", "merges", "says"),
    [
        ("", None, "length >= 1"),
        ("a\n\nb\n", None, "length >= 1"),
        ("a\na\n", None, "twice"),
        (b"\xff\n", None, "UTF-8"),
        ('{"a": 0}', None, "--merges"),
        ('["a"]', "", "object of numbers"),
        ('{"a": "0"}', "", "object of numbers"),
        ('{"a": 0, "b": 2}', "", "gaps"),
        ('{"a": 0, "b": 0}', "", "gaps"),
        ('{"a": 0}', "", "256"),
        ("{" * 100_000, "", "object of numbers"),
    ],
)
def test_other_files_are_refused(tmp_path, vocab, merges, says) -> None:
    (path,) = files(tmp_path, vocab=vocab)
    beside = None if merges is None else files(tmp_path, merges=merges)[0]
    with pytest.raises(ConfigError, match=says):
        read_vocabulary(path, beside)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_vocabulary(tmp_path / "missing", None)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_onnx_with_a_vocabulary_is_the_same_model(engine: str) -> None:
    plain = onnx_digits()
    made = with_vocabulary(plain, media_type=ONNX, vocabulary=FROZEN)
    assert made.startswith(plain)
    (entry,) = ModelProto.FromString(made).metadata_props  # onnx's own reader
    assert (entry.key, entry.value.encode()) == (KEY, FROZEN)
    assert vocabulary_of(made, media_type=ONNX) == PIECES
    image = {"image": np.ones((2, 64), np.float32)}
    answers = [
        load_model(each, media_type=ONNX, engine=engine, threads=1).infer(image)["probabilities"]
        for each in (plain, made)
    ]
    assert np.array_equal(*answers)


def test_metadata_that_others_wrote_are_read_over() -> None:
    model = ModelProto.FromString(onnx_digits())
    for key, value in (("author", "somebody"), ("wardian", "x")):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    data = model.SerializeToString()
    assert metadata(data, KEY) is None
    assert metadata(data, "author") == b"somebody"
    assert metadata(with_metadata(data, KEY, b""), KEY) == b""


def test_two_vocabularies_are_none() -> None:
    once = with_vocabulary(onnx_digits(), media_type=ONNX, vocabulary=FROZEN)
    with pytest.raises(ConfigError, match="already"):
        with_vocabulary(once, media_type=ONNX, vocabulary=FROZEN)
    twice = with_metadata(once, KEY, FROZEN)
    with pytest.raises(FormatError, match="twice"):
        vocabulary_of(twice, media_type=ONNX)
    with pytest.raises(ConfigError, match="wardian seal --vocab"):
        vocabulary_of(onnx_digits(), media_type=ONNX)
    with pytest.raises(FormatError, match="vocabulary"):
        with_vocabulary(onnx_digits(), media_type=ONNX, vocabulary=b"{}")


XML = b"<net><layers></layers></net>"


def test_ir_with_a_vocabulary() -> None:
    data = build_ir(XML, b"w" * 100, FROZEN)
    assert data[:8] == b"WRDNIR2\n"
    assert struct.unpack("<QQ", data[8:24]) == (len(XML), len(FROZEN))
    xml, weights = parse_ir(data)
    assert (xml, bytes(weights)) == (XML, b"w" * 100)
    assert (len(data) - len(weights)) % 64 == 0
    assert vocabulary_of(data, media_type=MEDIA_TYPE) == PIECES
    assert (
        with_vocabulary(build_ir(XML, b"w" * 100), media_type=MEDIA_TYPE, vocabulary=FROZEN) == data
    )
    assert vocabulary_in(build_ir(XML, b"")) is None
    assert build_ir(XML, b"w")[:8] == b"WRDNIR1\n"  # as before


@pytest.mark.parametrize(
    ("at", "value"), [(16, 0), (16, 2**24 + 1), (16, 2**63), (16, len(FROZEN) + 64), (8, 2**40)]
)
def test_ir_that_says_other_lengths_is_refused(at: int, value: int) -> None:
    data = bytearray(build_ir(XML, b"", FROZEN))
    data[at : at + 8] = struct.pack("<Q", value)
    with pytest.raises(FormatError):
        parse_ir(data)
    for cut in range(len(data)):
        with pytest.raises(FormatError):
            parse_ir(build_ir(XML, b"", FROZEN)[:cut])
