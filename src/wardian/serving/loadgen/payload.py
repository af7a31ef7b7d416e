"""Requests that a load repeats: made once, so that repeating one costs next to nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from zipfile import BadZipFile

import msgspec
import numpy as np

from wardian.crypto.secret import Secret
from wardian.errors import ConfigError
from wardian.inference.dtypes import BF16, NUMPY_OF, dtype_name, to_bf16
from wardian.inference.spec import Array, Tensors
from wardian.serving.client.credentials import authorization
from wardian.serving.client.messages import Call, build_infer, model_target

Encoding: TypeAlias = Literal["binary", "json"]
MAX_INPUT_BYTES: Final = 128 * 1024**2
"""Largest input that is made up; a file may hold more, and the server then says what it takes."""
_NOT_IN_JSON: Final = frozenset({"FP16", "BF16"})
"""The protocol has no text form for these (Open Inference Protocol v2, "Tensor Data")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A request but for its idempotency key, as bytes of HTTP/1.1.

    Attributes:
        before: up to the key.
        after: the rest of the header, and the body.
        number: its place among the payloads of a load; a judge may look up what is expected.
    """

    before: bytes
    after: bytes = field(repr=False)  # it may hold an API key
    number: int = 0


def build_payload(
    call: Call, *, authority: str, number: int = 0, api_key: Secret | None = None
) -> Payload:
    """Return `call` to `authority` as bytes; the key of `call` itself is not used.

    `api_key` is of the tenant who asks, where front ends serve tenants.
    """
    before = b"%s %s HTTP/1.1\r\nHost: %s\r\nIdempotency-Key: " % (
        call.method,
        call.target,
        authority.encode("ascii"),
    )
    headers = call.headers if api_key is None else (*call.headers, authorization(api_key))
    fields = b"".join(b"%s: %s\r\n" % header for header in headers)
    after = b"\r\n%sContent-Length: %d\r\n\r\n" % (fields, len(call.body))
    return Payload(before=before, after=after + call.body, number=number)


def build_call(
    model: str,
    inputs: Tensors,
    *,
    version: int | None,
    timeout_s: float,
    encoding: Encoding,
) -> Call:
    """Return the inference of `inputs` in the encoding that is asked for.

    Raises:
        ConfigError: an input has no JSON form, or `timeout_s` is out of range.
        FormatError: the protocol has no name for a type.
    """
    binary = build_infer(model, inputs, version=version, outputs=None, timeout_s=timeout_s)
    if encoding == "binary":
        return binary
    described = []
    for name, array in inputs.items():
        datatype = dtype_name(array.dtype)
        if datatype in _NOT_IN_JSON:
            raise ConfigError(f"input {name!r}: {datatype} has no JSON form; ask for binary")
        described.append(
            {"name": name, "datatype": datatype, "shape": array.shape, "data": _listed(name, array)}
        )
    body = {"inputs": described, "parameters": {"timeout": int(timeout_s * 1e6)}}
    return Call(
        method=b"POST",
        target=model_target(model, version, "/infer"),
        headers=((b"Content-Type", b"application/json"),),
        body=msgspec.json.encode(body),
    )


def _listed(name: str, array: Array) -> list[Any]:
    values: list[Any] = array.ravel().tolist()
    try:
        return [each.decode() if isinstance(each, bytes) else each for each in values]
    except UnicodeDecodeError as err:
        raise ConfigError(f"input {name!r}: holds bytes that are no text; ask for binary") from err


def make_inputs(metadata: Mapping[str, Any], *, rows: int = 1, seed: int = 1) -> Tensors:
    """Return random inputs of the types and shapes that a model's metadata names.

    Args:
        metadata: as `AsyncClient.metadata` returns it.
        rows: what a free first dimension becomes.
        seed: the same gives the same inputs.

    Raises:
        ConfigError: the model has no worker yet, or a shape or type of which nothing sensible can
            be made up; says to give a file.
    """
    try:
        described: Sequence[Mapping[str, Any]] = metadata["inputs"]
        if not described:
            raise ConfigError(f"no worker has described the model {metadata['name']!r} yet")
        generator = np.random.default_rng(seed)
        return {str(each["name"]): _made_up(each, rows, generator) for each in described}
    except (KeyError, TypeError, ValueError) as err:
        raise ConfigError("the server's metadata does not describe the inputs") from err


def _made_up(described: Mapping[str, Any], rows: int, generator: np.random.Generator) -> Array:
    name, datatype = described["name"], described["datatype"]
    shape = [int(size) for size in described["shape"]]
    if shape and shape[0] == -1:
        shape[0] = rows
    if any(size < 0 for size in shape):
        raise ConfigError(f"input {name!r}: shape {shape} is free: give the inputs in an .npz file")
    dtype = NUMPY_OF.get(datatype)
    if dtype is None or (dtype.kind not in "biuf" and dtype is not BF16):
        raise ConfigError(f"input {name!r}: give inputs of type {datatype} in an .npz file")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > MAX_INPUT_BYTES:
        raise ConfigError(f"input {name!r}: would be larger than {MAX_INPUT_BYTES} bytes")
    if dtype is BF16:
        return to_bf16(generator.random(shape))
    if dtype.kind == "f":
        return generator.random(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


def load_inputs(path: Path) -> Tensors:
    """Return the arrays in the .npz file at `path`: the inputs of one request, by name.

    Raises:
        ConfigError: it cannot be read, holds objects, or nothing at all.
    """
    try:
        with path.open("rb") as file:  # numpy leaves a path that it opened itself open on errors
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ConfigError(f"{path}: one array; expected an .npz file with one per input")
            with archive:
                inputs = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile) as err:
        raise ConfigError(f"{path}: not an .npz file of plain arrays: {err}") from err
    if not inputs:
        raise ConfigError(f"{path}: holds no array")
    return inputs
