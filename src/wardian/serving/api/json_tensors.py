"""Numbers in JSON to arrays, and what to say when they are not.

JSON has one kind of number and lists within lists; an array has one type and one shape. Nothing is
guessed: a fraction for an integer, a number that the type cannot hold, a ragged list, a text for a
number are all refused.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec
import numpy as np

from wardian.errors import RequestError
from wardian.inference.spec import Array
from wardian.serving.http.messages import Buffer

MAX_DEPTH: Final = 16
MAX_JSON_BYTES: Final = 1024**2
MAX_LISTS: Final = 65_536
"""Decoding so many bytes and lists takes less than 0.1 s, during which the event loop serves nobody
else. A list costs far more than a number and takes only two bytes."""
MAX_JSON_VALUES: Final = 262_144
"""Numbers and lists in an answer; encoding so many takes about as long."""
_ELEMENT: Final[dict[str, type]] = {"f": float, "i": int, "u": int, "b": bool}


@cache
def _decoder(kind: str, depth: int) -> msgspec.json.Decoder[list[Any]]:
    """Return the decoder of lists nested `depth` deep around numbers of `kind`."""
    nested: Any = _ELEMENT[kind]
    for _ in range(depth):
        nested = list[nested]
    return msgspec.json.Decoder(nested)


def parse_tensor(
    data: Buffer | msgspec.Raw, *, dtype: np.dtype[Any], shape: list[int], name: str
) -> Array:
    """Return the array that the JSON in `data` is, flat or nested as `shape` says.

    Raises:
        RequestError: 400; another number of elements, another nesting, or not such numbers. 413;
            more lists than are accepted.
    """
    text = bytes(data)
    count = math.prod(shape)
    lists = bound_lists(text)
    if count and lists and text.count(b",") != count - 1:
        raise RequestError(
            f"input {name[:64]!r}: shape {shape} has {count} elements, data has another number of "
            "them or is ragged"
        )
    if lists > 1 and lists != count_lists(shape):
        raise RequestError(
            f"input {name[:64]!r}: shape {shape} has {count} elements in {count_lists(shape)} "
            f"lists, data is neither flat nor of this nesting: it has {lists} lists"
        )
    values = _nested(text, dtype, len(shape) if lists > 1 else 1, name)
    array = build_array(values, dtype=dtype, name=name)
    if array.size != count or (array.ndim > 1 and list(array.shape) != shape):
        raise RequestError(
            f"input {name[:64]!r}: shape {shape} has {count} elements, data has "
            f"{array.size} in shape {list(array.shape)}"
        )
    if count == 0:
        return empty_array(dtype=dtype, shape=shape, name=name)
    return array.reshape(shape)


def empty_array(*, dtype: np.dtype[Any], shape: list[int], name: str) -> Array:
    """Return an array without elements.

    Raises:
        RequestError: 400; the other axes are longer than any array could be.
    """
    try:
        return np.empty(shape, dtype)
    except (ValueError, MemoryError) as err:
        raise RequestError(f"input {name[:64]!r}: shape {shape} is not possible") from err


def parse_rows(data: Buffer | msgspec.Raw, *, dtype: np.dtype[Any], rank: int, name: str) -> Array:
    """Return the array of `rank` axes that the nested JSON in `data` is.

    Raises:
        RequestError: 400; another nesting, ragged, or not such numbers. 413; more lists than are
            accepted.
    """
    bound_lists(bytes(data))
    return build_array(_nested(data, dtype, rank, name), dtype=dtype, name=name)


def build_array(values: list[Any], *, dtype: np.dtype[Any], name: str) -> Array:
    """Return `values` as an array of exactly `dtype`.

    Raises:
        RequestError: 400; ragged, or a number is out of the type's range.
    """
    try:
        with np.errstate(over="raise"):  # 1e300 is not infinity, it is a mistake
            return np.array(values, dtype)
    except (FloatingPointError, OverflowError) as err:
        raise RequestError(
            f"input {name[:64]!r}: a number is out of range for {dtype.name}"
        ) from err
    except (ValueError, TypeError) as err:
        raise RequestError(
            f"input {name[:64]!r}: the lists are ragged; rows of one length were expected"
        ) from err


def bound_json(body: Buffer) -> None:
    """Return if `body` is not too much JSON.

    Raises:
        RequestError: 413; says what to send in its place.
    """
    if len(body) > MAX_JSON_BYTES:
        raise RequestError(
            f"{len(body)} bytes of JSON, at most {MAX_JSON_BYTES} are accepted; send large tensors "
            "in binary (Inference-Header-Content-Length)",
            status=413,
        )


def bound_lists(text: bytes) -> int:
    """Return how many lists are in `text`, JSON of a tensor.

    Raises:
        RequestError: 413; too many.
    """
    lists = text.count(b"[")
    if lists > MAX_LISTS:
        raise RequestError(
            f"{lists} lists of JSON, at most {MAX_LISTS} are accepted; send large tensors flat, or "
            "in binary (Inference-Header-Content-Length)",
            status=413,
        )
    return lists


def count_lists(shape: Sequence[int]) -> int:
    """Return how many lists an array of `shape` is as nested JSON."""
    return sum(math.prod(shape[:axis]) for axis in range(max(1, len(shape))))


def bound_answer(values: int) -> None:
    """Return if so many numbers and lists may go out as JSON.

    Raises:
        RequestError: 413; says how to ask for them.
    """
    if values > MAX_JSON_VALUES:
        raise RequestError(
            f"the answer is {values} numbers and lists, at most {MAX_JSON_VALUES} go out as JSON; "
            "ask for binary_data_output (/v2/models/NAME/infer), or send fewer rows",
            status=413,
        )


def explain_json(err: Exception, body: Buffer) -> str:
    """Return why `body` is not the JSON that was expected, without its content."""
    if isinstance(err, msgspec.ValidationError):
        return f"request: {err}"[:300]
    text = bytes(body)
    if b"NaN" in text or b"Infinity" in text:
        return (
            "request: JSON has no NaN or Infinity; send the tensor in binary "
            "(Inference-Header-Content-Length) if it must carry them"
        )
    if not text.strip():
        return "request: the body is empty; JSON was expected"
    return f"request: the body is not valid JSON: {err}"[:300]


def _nested(data: Buffer | msgspec.Raw, dtype: np.dtype[Any], rank: int, name: str) -> list[Any]:
    if not 1 <= rank <= MAX_DEPTH:
        raise RequestError(f"input {name[:64]!r}: {rank} axes, 1 to {MAX_DEPTH} were expected")
    try:
        return _decoder(dtype.kind, rank).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise RequestError(f"input {name[:64]!r}: {err}"[:300]) from err
