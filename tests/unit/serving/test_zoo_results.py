"""Results as the clients of Cluster Serving read them; what those read is in the vectors."""

import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from wardian.errors import FormatError
from wardian.serving.zoo import results
from wardian.serving.zoo.results import NAN, encode_result, readable_shape

VECTORS = Path(__file__).parents[2] / "vectors" / "zoo"
CASES = json.loads((VECTORS / "results.json").read_text())


def _outputs(case: dict) -> list[np.ndarray]:
    return [
        np.array(each["data"], each["dtype"]).reshape(each["shape"]) for each in case["outputs"]
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_result_is_what_their_client_was_seen_to_read(case: dict) -> None:
    value = encode_result(_outputs(case))

    assert value.decode() == case["value"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_client_read_every_element_in_its_order(case: dict) -> None:
    if case["client_reads"] == "NaN":
        assert any(each["data"] == [] for each in case["outputs"])
        return
    for output, read in zip(_outputs(case), case["client_reads"], strict=True):
        with np.errstate(over="ignore"):
            expected = output.astype("<f4").reshape(readable_shape(output.shape))
        assert tuple(read["shape"]) == expected.shape
        got = np.array([float(each) for each in read["data"]], "<f4")
        np.testing.assert_array_equal(got.reshape(read["shape"]), expected)


@pytest.mark.parametrize(
    ("shape", "readable"),
    [
        ((), ()),
        ((1,), (1,)),
        ((1, 1, 1), (1,)),
        ((1, 1, 2), (1, 2)),
        ((1, 2, 1, 1), (2, 1)),
        ((2, 1, 1, 1, 2), (2, 1, 1, 2)),
        ((1, 10), (1, 10)),
        ((2, 3, 4), (2, 3, 4)),
    ],
)
def test_only_axes_of_one_are_dropped_and_no_more_than_need_be(
    shape: tuple[int, ...], readable: tuple[int, ...]
) -> None:
    assert readable_shape(shape) == readable


def test_views_and_other_orders_of_memory_are_read_in_c_order() -> None:
    array = np.arange(24, dtype="<f4").reshape(2, 3, 4)

    for view in (array.transpose(2, 0, 1), array[:, ::2, ::-1], np.asfortranarray(array)):
        assert encode_result([view]) == encode_result([view.copy("C")])


def test_messages_and_buffers_begin_at_multiples_of_eight() -> None:
    for count in range(1, 70):
        assert len(b64decode(encode_result([np.ones(count, "<f4")]))) % 8 == 0


@pytest.mark.parametrize(
    "array",
    [
        np.array([b"a", b"b"], object),
        np.array(["a"]),
        np.array([b"a"]),
        np.array([1j]),
        np.zeros(2, "datetime64[s]"),
        np.zeros(2, [("a", "i4")]),
    ],
    ids=lambda array: array.dtype.name,
)
def test_what_is_not_of_real_numbers_has_no_place(array: np.ndarray) -> None:
    with pytest.raises(FormatError, match="output 1 is not of numbers"):
        encode_result([np.ones(1, "<f4"), array])


def test_no_outputs_and_too_many_elements_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError, match="no outputs"):
        encode_result([])
    monkeypatch.setattr(results, "MAX_RESULT_ELEMENTS", 8)
    assert encode_result([np.ones(8, "<f4")]) != NAN
    with pytest.raises(FormatError, match="9 elements, at most 8"):
        encode_result([np.ones(8, "<f4"), np.ones(1, "<f4")])


def test_what_becomes_float32_is_bounded_before_it_is_converted() -> None:
    """A view of one number, said to be 2^40 of them, costs nothing to refuse."""
    with pytest.raises(FormatError, match="at most"):
        encode_result([np.broadcast_to(np.float64(1), (2**20, 2**20))])
