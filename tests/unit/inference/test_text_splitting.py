"""Texts into tokens: as the usual library does it, whatever stands in them, and at bounded cost."""

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian.inference.text.byte_bpe import ByteBpe
from wardian.inference.text.source import read_vocabulary
from wardian.inference.text.vocabulary import BYTE_CHARS, Vocabulary, parse_vocabulary
from wardian.inference.text.wordpiece import WordPiece

VECTORS = Path(__file__).parents[2] / "vectors" / "tokens"
ALL = 10**9


@cache
def vocabulary(name: str) -> Vocabulary:
    if name == "bpe":
        return parse_vocabulary(read_vocabulary(VECTORS / "vocab.json", VECTORS / "merges.txt"))
    return parse_vocabulary(read_vocabulary(VECTORS / f"{name}.txt", None))


@cache
def splitter(name: str) -> WordPiece | ByteBpe:
    known = vocabulary(name)
    if name == "bpe":
        return ByteBpe(known.numbers(), known.merges)
    unknown = known.tokens.index("[UNK]")
    return WordPiece(known.numbers(), unknown=unknown, lowercase=name == "uncased")


def tokens(name: str, text: str) -> list[str]:
    return [vocabulary(name).tokens[number] for number in splitter(name).encode(text, ALL)]


CASES = [
    (name, text, numbers)
    for name, cases in json.loads((VECTORS / "cases.json").read_text()).items()
    for text, numbers in cases
]


def test_the_vectors_are_there() -> None:
    assert {name: sum(each == name for each, _, _ in CASES) for name in ("cased", "uncased", "bpe")} == {
        "cased": 201, "uncased": 201, "bpe": 201,
    }  # fmt: skip
    assert sum(len(numbers) for _, _, numbers in CASES) > 10_000


@pytest.mark.parametrize("name", ["cased", "uncased", "bpe"])
def test_as_the_usual_library(name: str) -> None:
    for each, text, numbers in CASES:
        if each == name:
            assert splitter(name).encode(text, ALL) == numbers, text


def test_pieces_are_the_longest_first() -> None:
    numbers = {
        t: n for n, t in enumerate(["[UNK]", "un", "##aff", "##able", "##a", "a", "u", "##n"])
    }
    made = WordPiece(numbers, unknown=0, lowercase=False)
    assert made.encode("unaffable", ALL) == [1, 2, 3]
    assert made.encode("unaffablex", ALL) == [0]  # as a whole
    assert made.encode("un affable", ALL) == [1, 0]


def test_a_text_cannot_write_special_tokens() -> None:
    """Else whoever writes one row could end it, and begin another."""
    assert "[SEP]" not in tokens("uncased", "a [SEP] b [CLS] [PAD]")
    assert tokens("cased", "[SEP]")[0] == "["
    assert "[SEP]" in vocabulary("cased").tokens  # it could
    assert "<|endoftext|>" in vocabulary("bpe").tokens
    assert "<|endoftext|>" not in tokens("bpe", "a<|endoftext|>b")


@given(text=st.text())
def test_byte_bpe_loses_nothing(text: str) -> None:
    byte_of = {char: byte for byte, char in enumerate(BYTE_CHARS)}
    together = "".join(tokens("bpe", text))
    assert bytes(byte_of[char] for char in together) == text.encode()


@given(text=st.text(), most=st.integers(0, 20))
def test_the_first_tokens_are_those_of_the_whole(text: str, most: int) -> None:
    for name in ("cased", "uncased", "bpe"):
        assert splitter(name).encode(text, most) == splitter(name).encode(text, ALL)[:most]


@given(text=st.text(alphabet=st.characters(max_codepoint=0x7F)))
def test_ascii_has_a_way_of_its_own_with_the_same_outcome(text: str) -> None:
    for name in ("cased", "uncased"):
        aside = splitter(name).encode(f"{text} \u4e00", ALL)  # one sign of CJK: the other way
        assert aside[:-1] == splitter(name).encode(text, ALL)


class Counting(dict):
    """Counts what is looked up."""

    asked = 0

    def get(self, key, default=None):
        Counting.asked += 1
        return super().get(key, default)


@pytest.mark.parametrize("length", [1_000, 10_000, 100_000])
def test_one_long_word_costs_no_square(length: int) -> None:
    """The usual loop over all pairs, for each merge, takes 5e9 steps for the longest of these."""
    made = ByteBpe(vocabulary("bpe").numbers(), vocabulary("bpe").merges)
    made._merges = Counting(made._merges)
    Counting.asked = 0
    for word in ("a" * length, "ab" * (length // 2), "she" * (length // 3)):
        assert made.encode(word, ALL)
    assert Counting.asked < 12 * length


def test_what_is_behind_the_last_token_is_not_looked_at() -> None:
    made = WordPiece(vocabulary("cased").numbers(), unknown=1, lowercase=False)
    made._first = Counting(made._first)
    Counting.asked = 0
    assert len(made.encode("a " * 100_000, 10)) == 10
    assert Counting.asked <= 10
