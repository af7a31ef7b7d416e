"""Open Inference Protocol v2 over REST, the server's half: a body to arrays, arrays to a body.

Tensors come as JSON or as raw bytes behind the JSON header (Triton's binary tensor extension):

    Inference-Header-Content-Length: N
    body = N bytes of JSON || the raw little-endian bytes of each binary tensor, in order

What is decoded here is only shaped and typed as the request itself says. Whether the model takes
such a tensor is for `dispatch` to say, in one place for all dialects.

Sources: Open Inference Protocol v2 (REST), Triton's "binary tensor data extension".
"""

import math
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from wardian.errors import RequestError
from wardian.inference.dtypes import BF16, BYTES_DTYPE
from wardian.inference.spec import Array, Tensors
from wardian.serving.api.elements import (
    json_values,
    parse_elements,
    parse_texts,
    raw_bytes,
    to_bf16,
    wire_dtype,
    wire_name,
)
from wardian.serving.api.json_tensors import (
    bound_answer,
    bound_json,
    empty_array,
    explain_json,
    parse_tensor,
)
from wardian.serving.http.messages import Buffer

MAX_RANK: Final = 16
MAX_DIMENSION: Final = 2**40
MAX_TENSORS: Final = 256
MAX_ID_CHARS: Final = 1024
MAX_TIMEOUT_US: Final = 2**63

_ABSENT: Final = msgspec.Raw()
_Dimension = Annotated[int, msgspec.Meta(ge=0, le=MAX_DIMENSION)]


class _TensorParameters(msgspec.Struct, gc=False):
    """Parameters of one tensor that mean something here; others are tolerated."""

    binary_data_size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    binary_data: bool | None = None
    classification: int | None = None
    shared_memory_region: str | None = None


class _Parameters(msgspec.Struct, gc=False):
    """Parameters of the request that mean something here; others are tolerated."""

    binary_data_output: bool = False
    timeout: int | str | None = None


class _Input(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str
    shape: Annotated[list[_Dimension], msgspec.Meta(max_length=MAX_RANK)]
    datatype: str
    data: msgspec.Raw = _ABSENT
    parameters: _TensorParameters | None = None


class _Output(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str
    parameters: _TensorParameters | None = None


class _Request(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    inputs: Annotated[list[_Input], msgspec.Meta(max_length=MAX_TENSORS)]
    id: Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARS)] | None = None
    outputs: Annotated[list[_Output], msgspec.Meta(max_length=MAX_TENSORS)] | None = None
    parameters: _Parameters | None = None
    model_name: str | None = None
    model_version: str | None = None


class InferRequest(msgspec.Struct, frozen=True, gc=False):
    """A decoded request.

    Attributes:
        id: the client's own, echoed; None if it gave none.
        inputs: read-only arrays that may alias the request's body.
        outputs: the outputs that are wanted, or None for all.
        binary: the outputs that go out as raw bytes; None for all, empty for none.
        timeout_s: the client's own deadline, or None.
    """

    id: str | None
    inputs: Tensors
    outputs: tuple[str, ...] | None
    binary: frozenset[str] | None
    timeout_s: float | None


class _WireParameters(msgspec.Struct, gc=False):
    binary_data_size: int


class _WireOutput(msgspec.Struct, gc=False, omit_defaults=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: _WireParameters | None = None
    data: list[object] | None = None


class _WireAnswer(msgspec.Struct, gc=False, omit_defaults=True):
    model_name: str
    outputs: list[_WireOutput]
    model_version: str = ""
    id: str | None = None


_decode_request = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode
_ALL_JSON: Final[frozenset[str]] = frozenset()


def decode_infer(body: bytes | bytearray, *, header_length: int | None) -> InferRequest:
    """Return the request in `body`.

    Args:
        body: JSON, followed by the tensors' raw bytes if `header_length` is given.
        header_length: bytes of `body` that are JSON, from `Inference-Header-Content-Length`.

    Raises:
        RequestError: 400, or 413 for too much JSON; says what was expected.
    """
    tail: Buffer = b""
    header: Buffer = body
    if header_length is not None:
        if header_length > len(body):
            raise RequestError(
                f"Inference-Header-Content-Length is {header_length}, the body has {len(body)}"
            )
        view = memoryview(body)
        header, tail = view[:header_length], view[header_length:]
    bound_json(header)
    try:
        request = _decode_request(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise RequestError(explain_json(err, header)) from err
    outputs, binary = _wanted(request)
    timeout_s = None if request.parameters is None else parse_timeout(request.parameters.timeout)
    return InferRequest(request.id, _tensors(request.inputs, tail), outputs, binary, timeout_s)


def encode_infer(
    *,
    model: str,
    version: str,
    request: InferRequest,
    outputs: Tensors,
) -> tuple[list[Buffer], int | None]:
    """Return the body's parts, and the length of its JSON header if binary tensors follow.

    An empty `version` is left out, as the protocol allows.

    A JSON number cannot be NaN or infinite: such values go out as null, which numpy reads back as
    NaN (`tritonclient` does). Binary tensors carry every value.

    Raises:
        RequestError: 413; more numbers than go out as JSON.
    """
    described: list[_WireOutput] = []
    parts: list[Buffer] = [b""]
    binary = request.binary
    if binary is not None:
        bound_answer(sum(array.size for name, array in outputs.items() if name not in binary))
    for name, array in outputs.items():
        datatype = wire_name(array.dtype)
        if binary is None or name in binary:
            raw = raw_bytes(array)
            described.append(
                _WireOutput(name, datatype, array.shape, parameters=_WireParameters(len(raw)))
            )
            parts.append(raw)
        else:
            described.append(_WireOutput(name, datatype, array.shape, data=json_values(array)))
    parts[0] = header = _encode(_WireAnswer(model, described, version, request.id))
    return parts, None if len(parts) == 1 else len(header)


def _tensors(inputs: list[_Input], tail: Buffer) -> Tensors:
    """Return the arrays of `inputs`, which use up `tail` exactly."""
    arrays: Tensors = {}
    at = 0
    for tensor in inputs:
        if tensor.name in arrays:
            raise RequestError(f"input {tensor.name[:64]!r} is given twice")
        parameters = tensor.parameters
        size = None if parameters is None else parameters.binary_data_size
        if size is None:
            arrays[tensor.name] = _from_json(tensor)
        else:
            arrays[tensor.name] = _from_bytes(tensor, tail, at, size)
            at += size
    if at != len(tail):
        raise RequestError(
            f"{len(tail)} bytes follow the JSON header, but its binary_data_size sum up to {at}"
        )
    return arrays


def _from_bytes(tensor: _Input, tail: Buffer, at: int, size: int) -> Array:
    """Return the binary tensor that is `size` bytes of `tail` from `at`; no byte is copied."""
    name, shape = tensor.name, tensor.shape
    dtype = wire_dtype(tensor.datatype, name)
    if tensor.data is not _ABSENT:
        raise RequestError(f"input {name[:64]!r} has both data and binary_data_size")
    if at + size > len(tail):
        raise RequestError(
            f"input {name[:64]!r}: {size} bytes were announced, "
            f"{max(0, len(tail) - at)} are left in the body"
        )
    if dtype is BYTES_DTYPE:
        raw = memoryview(tail)[at : at + size]
        return parse_elements(raw, shape=shape, name=name)
    return view_array(tail, dtype=dtype, shape=shape, at=at, size=size, name=name)


def view_array(
    raw: Buffer,
    *,
    dtype: np.dtype[Any],
    shape: list[int],
    at: int,
    size: int,
    name: str,
    said: str = "binary_data_size says",
) -> Array:
    """Return the array of fixed-size elements that is `size` bytes of `raw` from `at`.

    `said` tells in an error who named the size.

    Raises:
        RequestError: 400; its shape has another size, or a BOOL is neither 0 nor 1.
    """
    count = math.prod(shape)
    if count * dtype.itemsize != size:
        raise RequestError(
            f"input {name[:64]!r}: {wire_name(dtype)} of shape {shape} is "
            f"{count * dtype.itemsize} bytes, {said} {size}"
        )
    if count == 0:
        return empty_array(dtype=dtype, shape=shape, name=name)
    array: Array = np.frombuffer(raw, dtype, count, at).reshape(shape)
    if dtype.char == "?" and (array.view(np.uint8) > 1).any():
        raise RequestError(f"input {name[:64]!r}: a BOOL is a byte of 0 or 1")
    return array


def _from_json(tensor: _Input) -> Array:
    if tensor.data is _ABSENT:
        raise RequestError(
            f"input {tensor.name[:64]!r} has neither data nor parameters.binary_data_size"
        )
    dtype = wire_dtype(tensor.datatype, tensor.name)
    if dtype is BYTES_DTYPE:
        return parse_texts(tensor.data, shape=tensor.shape, name=tensor.name)
    if dtype is BF16:
        values = parse_tensor(
            tensor.data, dtype=np.dtype("<f4"), shape=tensor.shape, name=tensor.name
        )
        return to_bf16(values, tensor.name)
    return parse_tensor(tensor.data, dtype=dtype, shape=tensor.shape, name=tensor.name)


def _wanted(request: _Request) -> tuple[tuple[str, ...] | None, frozenset[str] | None]:
    """Return which outputs are wanted, and which of them in binary."""
    everything = request.parameters is not None and request.parameters.binary_data_output
    if not request.outputs:
        return None, None if everything else _ALL_JSON
    names: list[str] = []
    binary: list[str] = []
    for output in request.outputs:
        if output.name in names:
            raise RequestError(f"output {output.name[:64]!r} is asked for twice")
        names.append(output.name)
        parameters = output.parameters
        if parameters is not None and parameters.classification:
            raise RequestError("the classification extension is not served; ask for the tensor")
        if parameters is not None and parameters.shared_memory_region is not None:
            raise RequestError("shared memory is not served: the host could read it")
        own = None if parameters is None else parameters.binary_data
        if everything if own is None else own:
            binary.append(output.name)
    return tuple(names), frozenset(binary)


def parse_timeout(timeout: int | str | None) -> float | None:
    """Return the `timeout` parameter (microseconds, as in Triton) in seconds."""
    if timeout is None:
        return None
    try:
        microseconds = int(timeout)
    except ValueError:
        microseconds = -1
    if not 0 <= microseconds < MAX_TIMEOUT_US:
        raise RequestError("parameters.timeout: expected microseconds, a whole number") from None
    return microseconds / 1e6 if microseconds else None
