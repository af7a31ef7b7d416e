"""ModelInferRequest to arrays.

What is decoded here is only shaped and typed as the request itself says; whether the model takes
it is for `dispatch` to say, as for REST.

Source: Open Inference Protocol v2, gRPC; numbers of fields are those of its `.proto`.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from wardian.errors import FormatError, RequestError
from wardian.inference.dtypes import BYTES_DTYPE
from wardian.inference.spec import Array, Tensors
from wardian.serving.api.elements import (
    bound_elements,
    build_elements,
    parse_elements,
    wire_dtype,
)
from wardian.serving.api.json_tensors import empty_array
from wardian.serving.api.oip import (
    MAX_DIMENSION,
    MAX_ID_CHARS,
    MAX_RANK,
    MAX_TENSORS,
    InferRequest,
    parse_timeout,
    view_array,
)
from wardian.serving.grpc import wire
from wardian.serving.grpc.wire import Budget

CONTENTS: Final = {
    "BOOL": 1, "INT8": 2, "INT16": 2, "INT32": 2, "INT64": 3, "UINT8": 4, "UINT16": 4, "UINT32": 4,
    "UINT64": 5, "FP32": 6, "FP64": 7, "BYTES": 8,
}  # fmt: skip
"""Which field of InferTensorContents carries a datatype; the others travel raw alone."""
FIXED: Final[dict[int, np.dtype[Any]]] = {6: np.dtype("<f4"), 7: np.dtype("<f8")}
_SHARED: Final = "shared_memory_region"

Span = tuple[int, int]
"""Where in the message something begins and ends."""


class Asked(NamedTuple):
    """A decoded request.

    Attributes:
        model: its name.
        version: as written; "" for the newest.
        request: the rest. Its `binary` is None if the answer goes out raw, else empty.
        parameters: of the request, by name.
    """

    model: str
    version: str
    request: InferRequest
    parameters: Mapping[str, object]


class _Tensor:
    """One InferInputTensor while it is read."""

    __slots__ = ("contents", "datatype", "name", "shape")

    def __init__(self) -> None:
        self.name = self.datatype = ""
        self.shape: list[int] = []
        self.contents: Span | None = None


class _Reader:
    """Reads one ModelInferRequest."""

    def __init__(self, source: bytes | bytearray) -> None:
        self._source = source
        self._budget = Budget()
        self.model = self.version = self.id = ""
        self.tensors: list[_Tensor] = []
        self.outputs: list[str] = []
        self.raw: list[Span] = []
        self.parameters: dict[str, object] = {}

    def read(self, start: int, end: int) -> None:
        """Take everything from `start` to `end`, which is the message."""
        source = self._source
        for number, kind, a, b in wire.read_fields(source, start, end, self._budget):
            if number == 7:
                wire.expect(kind, wire.BYTES)
                self.raw.append((a, b))
            elif number == 5:
                wire.expect(kind, wire.BYTES)
                self.tensors.append(self._tensor(a, b))
            elif number == 6:
                wire.expect(kind, wire.BYTES)
                self.outputs.append(self._output(a, b))
            elif number == 1:
                self.model = wire.read_text(source, kind, a, b)
            elif number == 2:
                self.version = wire.read_text(source, kind, a, b)
            elif number == 3:
                self.id = wire.read_text(source, kind, a, b)
            elif number == 4:
                wire.expect(kind, wire.BYTES)
                self._parameter(a, b, self.parameters)
        if max(len(self.tensors), len(self.outputs)) > MAX_TENSORS or len(self.id) > MAX_ID_CHARS:
            raise RequestError(
                f"at most {MAX_TENSORS} tensors, and {MAX_ID_CHARS} characters of id, are accepted"
            )

    def arrays(self) -> Tensors:
        """Return the inputs."""
        raw = self.raw
        if raw and len(raw) != len(self.tensors):
            raise RequestError(
                f"{len(raw)} raw_input_contents for {len(self.tensors)} inputs; one each expected"
            )
        arrays: Tensors = {}
        for index, tensor in enumerate(self.tensors):
            if tensor.name in arrays:
                raise RequestError(f"input {tensor.name[:64]!r} is given twice")
            if not raw:
                arrays[tensor.name] = self._typed(tensor)
            elif tensor.contents is not None:
                raise RequestError(
                    f"input {tensor.name[:64]!r} has contents beside raw_input_contents"
                )
            else:
                arrays[tensor.name] = self._raw(tensor, raw[index])
        return arrays

    def _tensor(self, start: int, end: int) -> _Tensor:
        tensor, source = _Tensor(), self._source
        parameters: dict[str, object] = {}
        for number, kind, a, b in wire.read_fields(source, start, end, self._budget):
            if number == 1:
                tensor.name = wire.read_text(source, kind, a, b)
            elif number == 2:
                tensor.datatype = wire.read_text(source, kind, a, b)
            elif number == 3:
                self._axes(kind, a, b, tensor.shape)
            elif number == 4:
                wire.expect(kind, wire.BYTES)
                self._parameter(a, b, parameters)
            elif number == 5:
                wire.expect(kind, wire.BYTES)
                if tensor.contents is not None:
                    raise FormatError("message: contents are given twice")
                tensor.contents = (a, b)
        _refuse_shared(parameters)
        return tensor

    def _output(self, start: int, end: int) -> str:
        name, source = "", self._source
        parameters: dict[str, object] = {}
        for number, kind, a, b in wire.read_fields(source, start, end, self._budget):
            if number == 1:
                name = wire.read_text(source, kind, a, b)
            elif number == 2:
                wire.expect(kind, wire.BYTES)
                self._parameter(a, b, parameters)
        if name in self.outputs:
            raise RequestError(f"output {name[:64]!r} is asked for twice")
        if parameters.get("classification"):
            raise RequestError("the classification extension is not served; ask for the tensor")
        _refuse_shared(parameters)
        return name

    def _axes(self, kind: int, a: int, b: int, shape: list[int]) -> None:
        if kind == wire.VARINT:
            axes = [a]
        else:
            wire.expect(kind, wire.BYTES)
            self._budget.varints(b - a)
            if b - a > 10 * MAX_RANK:
                raise RequestError(f"a shape has at most {MAX_RANK} axes")
            axes = []
            while a < b:
                axis, a = wire.read_varint(self._source, a, b)
                axes.append(axis)
        shape.extend(axes)
        if len(shape) > MAX_RANK or any(axis > MAX_DIMENSION for axis in axes):
            raise RequestError(f"a shape has at most {MAX_RANK} axes, each of 0 to {MAX_DIMENSION}")

    def _parameter(self, start: int, end: int, into: dict[str, object]) -> None:
        """Add one entry of a map of parameters to `into`."""
        name, value, source = "", None, self._source
        for number, kind, a, b in wire.read_fields(source, start, end, self._budget):
            if number == 1:
                name = wire.read_text(source, kind, a, b)
            elif number == 2:
                wire.expect(kind, wire.BYTES)
                value = self._choice(a, b)
        into[name] = value

    def _choice(self, start: int, end: int) -> object:
        """Return the value of an InferParameter."""
        value: object = None
        for number, kind, a, b in wire.read_fields(self._source, start, end, self._budget):
            if number == 3:
                value = wire.read_text(self._source, kind, a, b)
            elif number == 4:
                wire.expect(kind, wire.FIXED64)
                value = wire.unpack_double(self._source, a)
            elif number in (1, 2, 5):
                wire.expect(kind, wire.VARINT)
                value = bool(a) if number == 1 else wire.signed(a) if number == 2 else a
        return value

    def _raw(self, tensor: _Tensor, span: Span) -> Array:
        dtype = wire_dtype(tensor.datatype, tensor.name)
        start, end = span
        if dtype is BYTES_DTYPE:
            raw = memoryview(self._source)[start:end]
            return parse_elements(raw, shape=tensor.shape, name=tensor.name)
        return view_array(
            self._source,
            dtype=dtype,
            shape=tensor.shape,
            at=start,
            size=end - start,
            name=tensor.name,
            said="raw_input_contents has",
        )

    def _typed(self, tensor: _Tensor) -> Array:
        """Return the array in the contents of `tensor`."""
        dtype = wire_dtype(tensor.datatype, tensor.name)
        wanted = CONTENTS.get(tensor.datatype)
        if wanted is None:
            raise RequestError(
                f"input {tensor.name[:64]!r}: {tensor.datatype} travels in raw_input_contents"
            )
        parts = self._contents(tensor, wanted)
        if dtype is BYTES_DTYPE:
            bound_elements(len(parts), tensor.name)
            _expect_count(tensor, len(parts))
            return build_elements(parts, tensor.shape)
        values = (
            wire.read_repeated(parts, np.uint64 if wanted < 6 else dtype)
            if parts
            else np.empty(0, dtype)
        )
        _expect_count(tensor, values.size)
        if not values.size:
            return empty_array(dtype=dtype, shape=tensor.shape, name=tensor.name)
        return _narrowed(values, dtype, tensor.name).reshape(tensor.shape)

    def _contents(self, tensor: _Tensor, wanted: int) -> list[Any]:
        """Return the parts of the field `wanted` of the contents: arrays, lists, or elements."""
        parts: list[Any] = []
        if tensor.contents is None:
            return parts
        source, (start, end) = self._source, tensor.contents
        for number, kind, a, b in wire.read_fields(source, start, end, self._budget):
            if number != wanted:
                raise RequestError(
                    f"input {tensor.name[:64]!r}: contents are not those of {tensor.datatype}"
                )
            if wanted == 8:
                wire.expect(kind, wire.BYTES)
                parts.append(bytes(source[a:b]))
            elif wanted in FIXED:
                parts.append(_floats(source, kind, (a, b), FIXED[wanted]))
            elif kind == wire.BYTES:
                self._budget.varints(b - a)
                parts.append(wire.unpack_varints(source, a, b))
            else:
                wire.expect(kind, wire.VARINT)
                if not (parts and isinstance(parts[-1], list)):
                    parts.append([])
                parts[-1].append(a)
        return parts


def parse_infer(source: bytes | bytearray, start: int, end: int) -> Asked:
    """Return the ModelInferRequest from `start` to `end`; its arrays may alias `source`.

    Raises:
        FormatError: not such a message.
        RequestError: 400, or 413; a tensor is not what it says, or too much.
    """
    reader = _Reader(source)
    reader.read(start, end)
    timeout = reader.parameters.get("timeout")
    if timeout is not None and not isinstance(timeout, int | str):
        raise RequestError("parameters.timeout: expected microseconds, a whole number")
    request = InferRequest(
        reader.id or None,
        reader.arrays(),
        tuple(reader.outputs) or None,
        frozenset() if any(tensor.contents for tensor in reader.tensors) else None,
        parse_timeout(timeout),
    )
    return Asked(reader.model, reader.version, request, reader.parameters)


def _floats(source: bytes | bytearray, kind: int, span: Span, dtype: np.dtype[Any]) -> Array:
    """Return packed floating-point numbers, or one alone."""
    a, b = span
    if kind != (wire.FIXED32 if dtype.itemsize == 4 else wire.FIXED64):
        wire.expect(kind, wire.BYTES)
    if (b - a) % dtype.itemsize:
        raise FormatError("message: packed numbers are cut off")
    count = (b - a) // dtype.itemsize
    return np.frombuffer(source, dtype, count, a) if count else np.empty(0, dtype)


def _narrowed(values: Array, dtype: np.dtype[Any], name: str) -> Array:
    """Return `values`, integers as varints have them, as `dtype`.

    Raises:
        RequestError: 400; one is out of range.
    """
    if values.dtype == dtype:
        return values
    if dtype.kind == "b":
        return np.not_equal(values, 0)
    wide = values.view(np.int64) if dtype.kind == "i" else values
    bounds = np.iinfo(dtype)
    if wide.max() > bounds.max or wide.min() < bounds.min:
        raise RequestError(f"input {name[:64]!r}: a number is out of range for {dtype.name}")
    narrow: Array = wide.astype(dtype)
    return narrow


def _expect_count(tensor: _Tensor, count: int) -> None:
    wanted = 1
    for axis in tensor.shape:
        wanted *= axis
    if wanted != count:
        raise RequestError(
            f"input {tensor.name[:64]!r}: shape {tensor.shape} has {wanted} elements, contents "
            f"have {count}"
        )


def _refuse_shared(parameters: dict[str, object]) -> None:
    if _SHARED in parameters:
        raise RequestError("shared memory is not served: the host could read it")
