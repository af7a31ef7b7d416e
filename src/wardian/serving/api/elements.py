"""Elements of tensors that numpy has no number for: texts and bytes (BYTES), and bfloat16 (BF16).

An array of BYTES has numpy's object type, each element `bytes`. In binary an element stands after
its length (u32, little-endian); in JSON it is a text, in UTF-8. An array of BF16 holds the upper
half of each FP32's bits; in binary it travels as that, in JSON as numbers.

Sources: Open Inference Protocol v2, "Tensor Data Types"; Triton's "binary tensor data extension".
"""

import math
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np

from wardian.errors import FormatError, RequestError
from wardian.inference import dtypes
from wardian.inference.dtypes import BF16, BYTES, BYTES_DTYPE, NAME_OF, NUMPY_OF, from_bf16
from wardian.inference.spec import Array
from wardian.serving.api.json_tensors import MAX_DEPTH, MAX_LISTS
from wardian.serving.http.messages import Buffer
from wardian.serving.tensors import decode_elements, encode_elements

MAX_ELEMENTS: Final = 65_536
"""Elements of BYTES in one tensor: each is an object of Python, made on the event loop."""
INLINE_BYTES: Final = 64 * 1024
"""Up to this size a tensor is copied into the answer, above it the answer refers to it."""
_BYTES_KIND: Final = BYTES_DTYPE.kind
_BF16_KIND: Final = BF16.kind
WIRE_TYPES: Final[dict[str, np.dtype[Any]]] = {**NUMPY_OF, BYTES: BYTES_DTYPE}
"""By the protocol's name, every type that a tensor on the wire may have."""
_NAMES: Final = {**NAME_OF, BYTES_DTYPE: BYTES}


def wire_dtype(datatype: str, name: str) -> np.dtype[Any]:
    """Return numpy's type for the protocol's `datatype` of the input `name`.

    Raises:
        RequestError: 400; there is none.
    """
    dtype = WIRE_TYPES.get(datatype)
    if dtype is None:
        raise RequestError(
            f"input {name[:64]!r}: datatype {datatype[:16]!r} is not served; "
            f"expected one of {', '.join(WIRE_TYPES)}"
        )
    return dtype


def wire_name(dtype: np.dtype[Any]) -> str:
    """Return the protocol's name for `dtype`, which an answer of ours has."""
    return _NAMES[dtype]


def raw_bytes(array: Array) -> Buffer:
    """Return the little-endian bytes of `array` in C order, as binary tensors have them."""
    if array.dtype is BYTES_DTYPE:
        return encode_elements(array)
    if array.nbytes <= INLINE_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def parse_elements(raw: Buffer, *, shape: list[int], name: str) -> Array:
    """Return the array of BYTES that `raw` is, all of it.

    Raises:
        RequestError: 400; not so many elements. 413; too many.
    """
    bound_elements(math.prod(shape), name)
    try:
        array, end = decode_elements(raw, offset=0, shape=tuple(shape))
    except FormatError as err:
        raise RequestError(f"input {name[:64]!r}: {err}") from err
    if end != len(raw):
        raise RequestError(
            f"input {name[:64]!r}: BYTES of shape {shape} end after {end} bytes of {len(raw)}"
        )
    return array


def bound_elements(count: int, name: str) -> None:
    """Return if a tensor of BYTES may have `count` elements.

    Raises:
        RequestError: 413.
    """
    if count > MAX_ELEMENTS:
        raise RequestError(
            f"input {name[:64]!r}: {count} elements of BYTES, at most {MAX_ELEMENTS} are accepted",
            status=413,
        )


def parse_texts(data: Buffer, *, shape: list[int], name: str) -> Array:
    """Return the array of BYTES that the JSON in `data` is: texts, flat or nested as `shape` says.

    Raises:
        RequestError: 400; not texts, or another number or nesting of them. 413; too many.
    """
    count = math.prod(shape)
    bound_elements(count, name)
    try:
        texts: list[Any] = msgspec.json.decode(data, type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError):  # nested, or not texts: told below
        texts = list(_flat(_decode_nested(data, str, len(shape), name), shape, name))
    if len(texts) != count:
        raise RequestError(
            f"input {name[:64]!r}: shape {shape} has {count} elements, data has {len(texts)}"
        )
    return build_elements([text.encode() for text in texts], shape)


class Base64(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Bytes that are no text, as TensorFlow Serving spells them in JSON: `{"b64": "..."}`."""

    b64: bytes


def parse_element_rows(data: Buffer, *, rank: int, name: str) -> Array:
    """Return the array of BYTES of `rank` axes that the nested JSON in `data` is.

    Raises:
        RequestError: 400; neither texts nor `Base64`, another nesting, or ragged. 413; too many.
    """
    values = _decode_nested(data, str | Base64, rank, name)
    shape: list[int] = []
    inner: Any = values
    for _ in range(rank):
        shape.append(len(inner))
        inner = inner[0] if inner else []
    bound_elements(math.prod(shape), name)
    elements = [
        each.encode() if isinstance(each, str) else each.b64 for each in _flat(values, shape, name)
    ]
    return build_elements(elements, shape)


def json_rows(array: Array) -> Any:
    """Return `array` nested as JSON has it; bytes that are no text as `Base64`."""
    kind = array.dtype.kind
    if kind == _BF16_KIND:
        return from_bf16(array).tolist()
    if kind != _BYTES_KIND:
        return array.tolist()
    told = np.empty(array.shape, object)
    for index, element in np.ndenumerate(array):
        try:
            told[index] = element.decode()
        except UnicodeDecodeError:
            told[index] = Base64(element)
    return told.tolist()


def build_elements(elements: list[bytes], shape: list[int]) -> Array:
    """Return `elements`, as many as `shape` has, as an array of BYTES."""
    array = np.empty(len(elements), BYTES_DTYPE)
    array[:] = elements
    return array.reshape(shape)


def texts_of(array: Array) -> list[object]:
    """Return the elements of an array of BYTES as texts for JSON.

    Raises:
        RequestError: 400; one is not UTF-8.
    """
    try:
        return [element.decode() for element in array.flat]
    except UnicodeDecodeError:
        raise RequestError(
            "the answer has bytes that are no text in UTF-8; ask for binary_data_output"
        ) from None


def to_bf16(values: Array, name: str) -> Array:
    """Return FP32 `values` as BF16, rounded to nearest, ties to even.

    Raises:
        RequestError: 400; a number is out of range.
    """
    try:
        return dtypes.to_bf16(values)
    except FormatError as err:
        raise RequestError(f"input {name[:64]!r}: {err}") from err


def json_values(array: Array) -> list[object]:
    """Return the elements of `array`, flat, as JSON has them.

    Raises:
        RequestError: 400; JSON has no form for one of them.
    """
    kind = array.dtype.kind
    if kind == _BYTES_KIND:
        return texts_of(array)
    flat = array.reshape(-1)
    values: list[object] = (from_bf16(flat) if kind == _BF16_KIND else flat).tolist()
    return values


def _decode_nested(data: Buffer, element: Any, rank: int, name: str) -> list[Any]:
    if not 1 <= rank <= MAX_DEPTH:
        raise RequestError(f"input {name[:64]!r}: {rank} axes, 1 to {MAX_DEPTH} were expected")
    if bytes(data).count(b"[") > MAX_LISTS:
        raise RequestError(
            f"input {name[:64]!r}: more than {MAX_LISTS} lists; send the texts flat", status=413
        )
    nested: Any = element
    for _ in range(rank):
        nested = list[nested]
    try:
        return msgspec.json.decode(data, type=nested)  # type: ignore[no-any-return]
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise RequestError(f"input {name[:64]!r}: {err}"[:300]) from err


def _flat(values: list[Any], shape: list[int], name: str) -> Iterator[Any]:
    """Yield the elements of `values`, which are nested as `shape` says."""
    if len(values) != shape[0]:
        raise RequestError(f"input {name[:64]!r}: data are not nested as shape {shape} says")
    if len(shape) == 1:
        yield from values
        return
    for each in values:
        yield from _flat(each, shape[1:], name)
