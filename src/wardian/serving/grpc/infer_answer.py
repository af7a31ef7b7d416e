"""Arrays to ModelInferResponse.

Source: Open Inference Protocol v2, gRPC; numbers of fields are those of its `.proto`.
"""

from typing import Final

import numpy as np

from wardian.inference.dtypes import BF16
from wardian.inference.spec import Array, Tensors
from wardian.serving.api.elements import raw_bytes, wire_name
from wardian.serving.api.json_tensors import bound_answer
from wardian.serving.api.oip import InferRequest
from wardian.serving.grpc import wire
from wardian.serving.grpc.infer_request import CONTENTS, FIXED, Asked
from wardian.serving.http.messages import Buffer

_RAW_ONLY: Final = frozenset({np.dtype("<f2"), BF16})


def build_infer(
    *, model: str, version: str, request: InferRequest, outputs: Tensors
) -> list[Buffer]:
    """Return the parts of the ModelInferResponse with `outputs`.

    Raw outputs to a request with raw inputs, and wherever one of them has no typed form.

    Raises:
        RequestError: 413; more numbers than go out typed.
    """
    raw = request.binary is None or any(array.dtype in _RAW_ONLY for array in outputs.values())
    if not raw:
        bound_answer(sum(array.size for array in outputs.values()))
    head = [
        wire.field(1, model.encode()),
        wire.field(2, version.encode()),
        wire.field(3, (request.id or "").encode()),
    ]
    tail: list[Buffer] = []
    for name, array in outputs.items():
        datatype = wire_name(array.dtype)
        tensor = (
            wire.field(1, name.encode())
            + wire.field(2, datatype.encode())
            + wire.field(3, b"".join([wire.varint(axis) for axis in array.shape]))
        )
        if raw:
            data = raw_bytes(array)
            tail += (wire.key(6) + wire.varint(len(data)), data)
        else:
            tensor += wire.element(5, _build_contents(array, datatype))
        head.append(wire.element(5, tensor))
    return [b"".join(head), *tail]


def error_message(asked: Asked | None, why: str) -> bytes:
    """Return the ModelStreamInferResponse that says `why` the request `asked` failed."""
    asked_id = asked.request.id if asked is not None else None
    infer = wire.field(3, (asked_id or "").encode())
    return wire.field(1, why.encode()) + wire.element(2, infer)


def final_parameter(*, final: bool) -> bytes:
    """Return the parameter of a ModelInferResponse that says whether it is the last of several."""
    value = wire.key(1, wire.VARINT) + wire.varint(int(final))
    return wire.element(4, wire.field(1, b"triton_final_response") + wire.element(2, value))


def _build_contents(array: Array, datatype: str) -> bytes:
    number = CONTENTS[datatype]
    if number == 8:
        return b"".join([wire.element(8, each) for each in array.flat])
    if number in FIXED:
        return wire.field(number, array.astype(FIXED[number]).tobytes())
    if number == 1:
        return wire.field(1, array.tobytes())
    return wire.field(number, wire.pack_varints(array.reshape(-1)))
