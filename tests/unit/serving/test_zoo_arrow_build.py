"""Requests, written: they hold what the original's client puts into them."""

import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from wardian.errors import FormatError
from wardian.serving.zoo import arrow_build
from wardian.serving.zoo.arrow import parse_columns
from wardian.serving.zoo.arrow_build import build_columns
from wardian.serving.zoo.columns import Column, Dense, Image, Sparse, Strings

VECTORS = Path(__file__).parents[2] / "vectors" / "zoo"
PAYLOADS = json.loads((VECTORS / "payloads.json").read_text())


def content(column: Column) -> tuple:
    if isinstance(column, Dense):
        return ("dense", column.array.shape, column.array.tobytes())
    if isinstance(column, Sparse):
        return ("sparse", column.shape, column.indices.tolist(), column.values.tobytes())
    if isinstance(column, Strings):
        return ("strings", column.values)
    return ("image", column.raw)


@pytest.mark.parametrize("case", PAYLOADS, ids=lambda case: f"{case['name']}, {case['source']}")
def test_what_their_clients_wrote_is_written_to_the_same_content(case: dict) -> None:
    theirs = parse_columns(case["payload"].encode())
    ours = parse_columns(build_columns(theirs))
    assert list(ours) == list(theirs)
    assert [content(each) for each in ours.values()] == [content(each) for each in theirs.values()]


def test_texts_are_written_as_their_client_does_where_that_says_the_same() -> None:
    plain = b64decode(build_columns({"t": Strings(("a", "b"))}))
    assert b"a|b" in plain
    assert b"indiceData" not in plain
    for texts in (("a",), ("a|b", "c")):
        assert b"indiceData" in b64decode(build_columns({"t": Strings(texts)}))


def test_bodies_begin_at_multiples_of_eight() -> None:
    raw = b64decode(build_columns({"t": Dense(np.ones(3, np.float32)), "u": Image(b"x")}))
    assert len(raw) % 8 == 0


def test_no_columns_and_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError, match="0 columns"):
        build_columns({})
    monkeypatch.setattr(arrow_build, "MAX_STREAM_BYTES", 2000)
    build_columns({"t": Dense(np.ones(100, np.float32))})
    with pytest.raises(FormatError, match="more than 2000"):
        build_columns({"t": Dense(np.ones(500, np.float32))})
    with pytest.raises(FormatError, match="more than 2000"):
        build_columns({"t": Image(bytes(2000))})
