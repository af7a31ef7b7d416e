"""The plain JSON dialect, for curl: `POST /v1/models/NAME:predict`, spelt as TensorFlow Serving's.

    {"instances": [row, row, ...]}      ->  {"predictions": [row, row, ...]}

A row is the nested list of one input without its batch axis, or, for a model with several inputs,
an object of them by name; an answer of several outputs likewise. Types are the model's own; BYTES
are texts, or `{"b64": "..."}` where they are none.
"""

import re
from typing import Final

import msgspec
import numpy as np

from wardian.errors import RequestError
from wardian.inference.dtypes import BF16, BYTES, numpy_dtype
from wardian.inference.spec import Array, Tensors, TensorSpec
from wardian.serving.api.elements import json_rows, parse_element_rows, to_bf16
from wardian.serving.api.json_tensors import (
    bound_answer,
    bound_json,
    count_lists,
    explain_json,
    parse_rows,
)

MAX_ROWS_BY_NAME: Final = 16_384


class _Predict(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    instances: msgspec.Raw
    signature_name: str | None = None
    """Tolerated: a model has one signature here."""


_decode = msgspec.json.Decoder(_Predict).decode
_decode_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_encode = msgspec.json.Encoder().encode


def decode_predict(body: bytes | bytearray, *, inputs: tuple[TensorSpec, ...]) -> Tensors:
    """Return the tensors in `body` for a model that takes `inputs`.

    Raises:
        RequestError: 400, or 413 for too much JSON; says what was expected.
    """
    bound_json(body)
    try:
        instances = _decode(body).instances
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        reason = explain_json(err, body)
        raise RequestError(f'{reason}; expected {{"instances": [row, ...]}}') from err
    if len(inputs) == 1 and not _by_name(instances, inputs[0]):
        spec = inputs[0]
        return {spec.name: _rows(instances, spec)}
    try:
        rows = _decode_rows(instances)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        names = ", ".join(spec.name for spec in inputs)
        raise RequestError(
            f"instances: expected a list of objects with the inputs {names}: {err}"[:300]
        ) from err
    return _columns(rows, inputs)


def encode_predict(outputs: Tensors) -> bytes:
    """Return `outputs` as a JSON body; values that JSON has no number for go out as null.

    Raises:
        RequestError: 413; more numbers than go out as JSON.
    """
    bound_answer(sum(array.size + count_lists(array.shape) for array in outputs.values()))
    if len(outputs) == 1:
        (array,) = outputs.values()
        return _encode({"predictions": json_rows(array)})
    columns = {name: json_rows(array) for name, array in outputs.items()}
    if len({array.shape[:1] for array in outputs.values()}) != 1 or any(
        array.ndim == 0 for array in outputs.values()
    ):
        return _encode({"outputs": columns})  # no common batch axis, so there are no rows
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _encode({"predictions": rows})


def _rows(data: msgspec.Raw | bytes, spec: TensorSpec) -> Array:
    rank = max(1, len(spec.shape))
    if spec.dtype == BYTES:
        array = parse_element_rows(data, rank=rank, name=spec.name)
    else:
        dtype = numpy_dtype(spec.dtype)
        numbers = np.dtype("<f4") if dtype is BF16 else dtype
        array = parse_rows(data, dtype=numbers, rank=rank, name=spec.name)
        if dtype is BF16:
            array = to_bf16(array, spec.name)
    if array.shape[0] == 0:
        raise RequestError("instances is empty; at least one row was expected")
    if array.ndim != len(spec.shape):  # rows without elements end the nesting early
        raise RequestError(f"input {spec.name!r}: rows of shape {list(spec.shape[1:])} expected")
    return array


def _columns(rows: list[dict[str, msgspec.Raw]], inputs: tuple[TensorSpec, ...]) -> Tensors:
    """Return one array per input, from rows that each name all of them."""
    if len(rows) > MAX_ROWS_BY_NAME:
        raise RequestError(f"instances: at most {MAX_ROWS_BY_NAME} rows by name; use /v2")
    names = {spec.name for spec in inputs}
    for number, row in enumerate(rows):
        if row.keys() != names:
            raise RequestError(
                f"instances[{number}]: expected the inputs {', '.join(sorted(names))}, "
                f"got {', '.join(sorted(key[:64] for key in row)) or 'none'}"[:500]
            )
    return {
        spec.name: _rows(b"[%b]" % b",".join(bytes(row[spec.name]) for row in rows), spec)
        for spec in inputs
    }


def _by_name(instances: msgspec.Raw, first: TensorSpec) -> bool:
    """Return whether the rows are objects of inputs by name, by how the first begins."""
    start = bytes(memoryview(instances)[:64]).lstrip(b"[ \t\r\n")
    if first.dtype == BYTES and _BASE64.match(start):
        return False
    return start[:1] == b"{"


_BASE64: Final = re.compile(rb'\{\s*"b64"\s*:')
