"""What a client sends and what it makes of the answers: arrays, or the error of a status."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt

from wardian._internal import wire
from wardian.errors import (
    ConfigError,
    JobFailed,
    PeerProtocolError,
    QueueFull,
    RequestError,
    RequestKeyOver,
    Timeout,
)
from wardian.inference.dtypes import NUMPY_OF, dtype_name
from wardian.inference.spec import Array, Tensors
from wardian.serving.sealed_types import KEY_OVER

if TYPE_CHECKING:
    from wardian.serving.client.policy import VerifiedFrontend

MAX_TIMEOUT_S: Final = 86_400
MAX_RETRY_AFTER_S: Final = 60
_HEADER_LENGTH: Final = b"inference-header-content-length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole HTTP response; header names in lower case.

    `frontend` is who answered, as it was verified; None on a connection that is not yet.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    frontend: "VerifiedFrontend | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to a verified front end.

    Attributes:
        method: b"GET" or b"POST".
        target: path and query.
        headers: beyond Host and Content-Length.
        body: empty for none.
        key: the same for every attempt at this call, so that they can be told to be one.
    """

    method: bytes = b"GET"
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    key: bytes = field(default_factory=lambda: secrets.token_hex(16).encode())


class _Error(msgspec.Struct):
    error: str = ""
    code: str = ""


class _OutputParameters(msgspec.Struct):
    binary_data_size: Annotated[int, msgspec.Meta(ge=0)]


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    parameters: _OutputParameters


class _Outputs(msgspec.Struct):
    outputs: list[_Output]


def model_target(model: str, version: int | None, action: str) -> bytes:
    """Return the path of `action` ("/infer", "/ready", "") on a model."""
    at = f"/v2/models/{quote(model, safe='')}"
    if version is not None:
        at += f"/versions/{version}"
    return (at + action).encode("ascii")


def bound_timeout(timeout_s: float) -> None:
    """Return if a call may take so long; ConfigError if not."""
    if not 0 < timeout_s <= MAX_TIMEOUT_S:  # false for NaN as well
        raise ConfigError(f"timeout_s: seconds, above 0 and at most {MAX_TIMEOUT_S}")


def little_endian(given: npt.ArrayLike) -> Array:
    """Return `given` as an array in the byte order in which tensors travel."""
    array = np.asarray(given)
    if not array.dtype.isnative or array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array


def build_infer(
    model: str,
    inputs: Mapping[str, npt.ArrayLike],
    *,
    version: int | None,
    outputs: tuple[str, ...] | None,
    timeout_s: float,
) -> Call:
    """Return the call that sends `inputs` as binary tensors and asks for binary outputs.

    Raises:
        FormatError: an array has a type that the protocol has no name for.
        ConfigError: `timeout_s` is not between 0 and a day.
    """
    bound_timeout(timeout_s)
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name, given in inputs.items():
        array = little_endian(given)
        data = array.tobytes()
        described.append(
            {
                "name": name,
                "datatype": dtype_name(array.dtype),
                "shape": array.shape,
                "parameters": {"binary_data_size": len(data)},
            }
        )
        raw.append(data)
    header: dict[str, Any] = {
        "inputs": described,
        "parameters": {"binary_data_output": True, "timeout": int(timeout_s * 1e6)},
    }
    if outputs is not None:
        header["outputs"] = [{"name": name} for name in outputs]
    head = msgspec.json.encode(header)
    return Call(
        method=b"POST",
        target=model_target(model, version, "/infer"),
        headers=(
            (b"Content-Type", b"application/octet-stream"),
            (b"Inference-Header-Content-Length", b"%d" % len(head)),
        ),
        body=b"".join((head, *raw)),
    )


def parse_infer(answer: Answer) -> Tensors:
    """Return the arrays in the answer to `build_infer`; they are read-only.

    Raises:
        PeerProtocolError: it is not such an answer.
        WardianError: it is an error; see `raise_for_status`.
    """
    raise_for_status(answer)
    try:
        length = int(answer.headers[_HEADER_LENGTH])
        described = msgspec.json.decode(answer.body[:length], type=_Outputs)
        arrays: dict[str, Array] = {}
        at = length
        for output in described.outputs:
            size, dtype = output.parameters.binary_data_size, NUMPY_OF[output.datatype]
            data = answer.body[at : at + size]
            arrays[output.name] = np.frombuffer(data, dtype).reshape(output.shape)
            at += size
    except (KeyError, ValueError, msgspec.DecodeError) as err:
        raise PeerProtocolError("the answer is not one of the Open Inference Protocol") from err
    if at != len(answer.body):
        raise PeerProtocolError("the answer has another length than it says")
    return arrays


def parse_json(answer: Answer) -> dict[str, Any]:
    """Return the JSON object in `answer`.

    Raises:
        PeerProtocolError: it is none.
        WardianError: it is an error; see `raise_for_status`.
    """
    raise_for_status(answer)
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise PeerProtocolError("the answer is not a JSON object") from err


def raise_for_status(answer: Answer) -> None:
    """Return if `answer` is a success.

    Raises:
        QueueFull: 429 or 503: come back later.
        Timeout: 504: the deadline passed at the server.
        JobFailed: the model failed on these inputs.
        RequestKeyOver: they were sealed to a request key that is not in force.
        RequestError: any other 4xx or 5xx, with its status.
        PeerProtocolError: neither success nor error.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    if status < 400:
        raise PeerProtocolError(f"the server answered with status {status}")
    try:
        told = msgspec.json.decode(answer.body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError):  # whoever answers may not be verified yet
        told = _Error()
    text = (
        wire.printable(told.error[:2000])
        or f"the server answered with status {status} and no reason"
    )
    if status in (429, 503):
        raise QueueFull(text, retry_after_s=_retry_after_s(answer))
    if status == 504:
        raise Timeout(text)
    if told.code == "inference_failed":
        raise JobFailed(text)
    if told.code == KEY_OVER:
        raise RequestKeyOver(text)
    raise RequestError(text, status=status)


def _retry_after_s(answer: Answer) -> int:
    value = answer.headers.get(b"retry-after", b"1")
    return min(int(value), MAX_RETRY_AFTER_S) if value.isdigit() and len(value) < 6 else 1
