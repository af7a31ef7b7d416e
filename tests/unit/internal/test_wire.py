"""Wire forms: one encoding per value, nothing unknown accepted, no content in messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian._internal import wire
from wardian.errors import FormatError


class Point(wire.Message):
    x: int
    tag: bytes = b""


def test_round_trip() -> None:
    assert wire.decode(wire.encode(Point(x=1, tag=b"\0")), Point, what="p") == Point(x=1, tag=b"\0")


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"x":1,"y":2}', b'{"x":"1"}', b"\xff", b"[" * 9999]
)
def test_anything_else_is_a_format_error(raw: bytes) -> None:
    with pytest.raises(FormatError, match="^p: "):
        wire.decode(raw, Point, what="p")


def test_content_is_not_quoted() -> None:
    with pytest.raises(FormatError) as caught:
        wire.decode(b'{"x":"hunter2"}', Point, what="p")
    assert "hunter2" not in str(caught.value)


def test_size_is_bounded() -> None:
    with pytest.raises(FormatError, match="at most"):
        wire.decode(b" " * (wire.MAX_MESSAGE_BYTES + 1), Point, what="p")


@given(st.lists(st.binary(max_size=9), max_size=4), st.lists(st.binary(max_size=9), max_size=4))
def test_fields_is_injective(a: list[bytes], b: list[bytes]) -> None:
    assert (wire.fields("l", *a) == wire.fields("l", *b)) == (a == b)
