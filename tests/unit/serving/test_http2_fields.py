"""Frames and field blocks of HTTP/2: any bytes end in a typed error, none in another."""

import contextlib

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian.serving.http.http2 import frames
from wardian.serving.http.http2.allowance import BURST, PER_S, Allowance
from wardian.serving.http.http2.fields import (
    FieldReader,
    Malformed,
    TooLarge,
    field,
    response_block,
)
from wardian.serving.http.http2.frames import Frame, FrameReader, Violation
from wardian.serving.http.messages import HttpResponse, error_response

USUAL = [(":method", "GET"), (":scheme", "https"), (":path", "/v2?x=1"), (":authority", "host")]


def read(*fields: tuple[str, str], reader: FieldReader | None = None, encoder=None):
    block = (encoder or hpack.Encoder()).encode([*USUAL, *fields])
    return (reader or FieldReader()).read_head(block)


def test_a_request_becomes_what_http_1_makes_of_it() -> None:
    head = read(
        ("x-a", "1"), ("x-a", "2"), ("cookie", "a=b"), ("cookie", "c=d"), ("te", "trailers")
    )
    assert head[:2] == (b"GET", b"/v2?x=1")
    assert head.headers == {
        b"x-a": b"1, 2", b"cookie": b"a=b; c=d", b"te": b"trailers", b"host": b"host",
    }  # fmt: skip
    assert head.length is None
    assert read(("content-length", "12")).length == 12


def test_what_is_remembered_of_a_block_is_forgotten_when_the_table_changes() -> None:
    reader, encoder = FieldReader(), hpack.Encoder()
    first = read(("x-name", "one"), reader=reader, encoder=encoder)
    again = [read(("x-name", "one"), reader=reader, encoder=encoder) for _ in range(3)]
    assert again == [first] * 3
    again[0].headers[b"x-name"] = b"changed"
    assert read(("x-name", "one"), reader=reader, encoder=encoder) == first
    for index in range(200):  # pushes everything out of the table, and brings new entries in
        name = f"value-{index}"
        assert read(("x-name", name), reader=reader, encoder=encoder).headers[b"x-name"] == (
            name.encode()
        )


@given(st.lists(st.sampled_from(["one", "two", "three"]), max_size=30))
def test_remembering_changes_nothing(values: list[str]) -> None:
    reader, encoder = FieldReader(), hpack.Encoder()
    for value in values:
        head = read(("x-value", value), reader=reader, encoder=encoder)
        assert head.headers[b"x-value"] == value.encode()


@given(st.binary(max_size=300))
def test_any_block_is_a_request_or_a_typed_error(block: bytes) -> None:
    reader = FieldReader()
    for read_block in (reader.read_head, reader.read_trailers, reader.skip):
        with contextlib.suppress(Malformed, TooLarge, Violation):
            read_block(block)


@given(st.data())
def test_any_damage_to_a_block_is_a_request_or_a_typed_error(data) -> None:
    block = bytearray(hpack.Encoder().encode([*USUAL, ("x-long", "abc" * 30)]))
    for _ in range(data.draw(st.integers(1, 5))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed, TooLarge, Violation):
        FieldReader().read_head(bytes(block))


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**31 - 1),
                          st.binary(max_size=50)), max_size=8), st.integers(1, 20))  # fmt: skip
def test_frames_do_not_depend_on_how_their_bytes_are_cut(made, step: int) -> None:
    data = b"".join(frames.frame(*each) for each in made)
    reader = FrameReader(max_payload=100)
    found = [each for at in range(0, len(data), step) for each in reader.feed(data[at : at + step])]
    assert found == [Frame(*each) for each in made]


def test_a_large_frame_is_refused_by_its_head() -> None:
    with pytest.raises(Violation, match="at most 100"):
        list(FrameReader(max_payload=100).feed(frames.frame_head(101, 0, 0, 1)))


@pytest.mark.parametrize("status", [200, 204, 206, 304, 400, 404, 500, 421, 503])
def test_answers_are_read_by_another_decoder(status: int) -> None:
    response = HttpResponse(
        status=status, content_type=b"a" * 200, headers=b"Retry-After: 3\r\nX-Y: z\r\n"
    )
    assert list(hpack.Decoder().decode(response_block(response, 70_000))) == [
        (":status", str(status)), ("content-type", "a" * 200), ("content-length", "70000"),
        ("retry-after", "3"), ("x-y", "z"),
    ]  # fmt: skip
    refused = response_block(error_response(503, "x", retry_after_s=2), 5)
    assert ("retry-after", "2") in list(hpack.Decoder().decode(refused))


@given(st.binary(max_size=20_000))
def test_fields_of_any_length(value: bytes) -> None:
    assert list(hpack.Decoder().decode(field(b"x", value), raw=True)) == [(b"x", value)]


def test_an_allowance_comes_back_with_time_and_with_work() -> None:
    allowed = Allowance(0.0)
    allowed.spend(int(BURST), 0.0)
    with pytest.raises(Violation):
        allowed.spend(1, 0.0)
    allowed = Allowance(0.0)
    allowed.spend(int(BURST), 0.0)
    allowed.spend(int(PER_S), 1.5)
    allowed = Allowance(0.0)
    allowed.spend(int(BURST), 0.0)
    allowed.earn(3)
    allowed.spend(3, 0.0)
    with pytest.raises(Violation):
        allowed.spend(1, 0.0)
