"""Instances in JSON, as the HTTP front ends of Cluster Serving take them: to columns.

`{"instances": [{NAME: VALUE, ...}, ...]}`, where a value is a number, lists of numbers (one within
another, all rows of one length), a text (strings between "|", or an image in base64), a list of
texts, `{"b64": TEXT}` (an image), or `{"shape": [..], "data": [..], "indices": [[..], ..]}` (a
sparse tensor, a row of indices for each of its data).
"""

from functools import cache
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from wardian.errors import FormatError
from wardian.inference.spec import Array
from wardian.serving.zoo.columns import (
    MAX_AXES,
    MAX_STRINGS,
    Column,
    Columns,
    Image,
    Sparse,
    Strings,
    bound_columns,
    column_name,
)
from wardian.serving.zoo.tensors import build_dense, build_sparse
from wardian.serving.zoo.text import decode_base64, parse_text

MAX_JSON_BYTES: Final = 1024 * 1024
MAX_LISTS: Final = 65_536
"""A list costs far more than a number, and takes only two bytes."""
MAX_INSTANCES: Final = 1024

_Index = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
_SPACE: Final = b" \t\r\n"


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    instances: list[dict[str, msgspec.Raw]]


class _Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    b64: str


class _Sparse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shape: list[_Index]
    data: list[float]
    indices: list[list[_Index]]


_BODY: Final = msgspec.json.Decoder(_Body)
_TEXT: Final = msgspec.json.Decoder(str)
_TEXTS: Final = msgspec.json.Decoder(Annotated[list[str], msgspec.Meta(max_length=MAX_STRINGS)])
_NUMBER: Final = msgspec.json.Decoder(float)
_IMAGE: Final = msgspec.json.Decoder(_Image)
_SPARSE: Final = msgspec.json.Decoder(_Sparse)
_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse_instances(body: bytes, *, max_bytes: int = MAX_JSON_BYTES) -> list[Columns]:
    """Return the instances in `body`, one or more, each of one or more columns.

    Args:
        body: JSON, untrusted.
        max_bytes: of the body.

    Raises:
        FormatError: too large, not JSON, no instances, or a value that is not of the kinds above.
    """
    if len(body) > max_bytes:
        raise FormatError(f"instances: {len(body)} bytes, at most {max_bytes} are accepted")
    lists = body.count(b"[")
    if lists > MAX_LISTS:
        raise FormatError(f"instances: {lists} lists, at most {MAX_LISTS} are accepted")
    try:
        found = _BODY.decode(body).instances
    except _FAULTS as err:
        raise FormatError(f'instances: {_reason(err)}; {{"instances": [..]}} was expected') from err
    if not 0 < len(found) <= MAX_INSTANCES:
        raise FormatError(f"{len(found)} instances, 1 to {MAX_INSTANCES} were expected")
    return [_columns(instance) for instance in found]


def _columns(instance: dict[str, msgspec.Raw]) -> Columns:
    bound_columns(len(instance))
    columns: Columns = {}
    for name, raw in instance.items():
        columns[column_name(name, columns)] = _column(bytes(raw).strip(_SPACE), len(columns))
    return columns


def _column(text: bytes, index: int) -> Column:
    """Return the column that the JSON in `text` is; `index` tells a reader which one is wrong."""
    try:
        if text.startswith(b'"'):
            return parse_text(_TEXT.decode(text))
        if text.startswith(b"["):
            return _list(text)
        if text.startswith(b"{"):
            return _object(text)
        return build_dense(_floats(_NUMBER.decode(text)).reshape(1), ())
    except FormatError as err:
        raise FormatError(f"column {index}: {err}") from err
    except _FAULTS as err:
        raise FormatError(f"column {index}: {_reason(err)}") from err


def _list(text: bytes) -> Column:
    """Return a tensor, or strings: what the first of the innermost elements is, all are."""
    depth, inner = 0, text
    while inner.startswith(b"["):
        depth, inner = depth + 1, inner[1:].lstrip(_SPACE)
        if depth > MAX_AXES:
            raise FormatError(f"more than {MAX_AXES} lists, one within another")
    if inner.startswith(b'"'):
        if depth > 1:
            raise FormatError("strings in lists within lists; one list was expected")
        return Strings(tuple(_TEXTS.decode(text)))
    array = _floats(_numbers(depth).decode(text))
    return build_dense(array.reshape(-1), array.shape)


def _object(text: bytes) -> Image | Sparse:
    if b'"b64"' in text:
        return Image(decode_base64(_IMAGE.decode(text).b64, what="an image"))
    parts = _SPARSE.decode(text)
    rows = parts.indices or np.empty((0, len(parts.shape)), np.int32)
    indices = _array(rows, np.int32)
    return build_sparse(
        _floats(parts.data), parts.shape, indices=indices, indices_shape=indices.shape
    )


@cache
def _numbers(depth: int) -> msgspec.json.Decoder[Any]:
    """Return the decoder of lists nested `depth` deep, at most `MAX_AXES`, around numbers."""
    nested: Any = float
    for _ in range(depth):
        nested = list[nested]
    return msgspec.json.Decoder(nested)


def _floats(values: Any) -> Array:
    return _array(values, np.float32)


def _array(values: Any, dtype: Any) -> Array:
    try:
        with np.errstate(over="raise"):  # 1e300 is not infinity, it is a mistake
            return np.array(values, dtype)
    except (FloatingPointError, OverflowError) as err:
        raise FormatError("a number is out of float32's range") from err
    except (ValueError, TypeError) as err:
        raise FormatError("the lists are ragged; rows of one length were expected") from err


def _reason(err: Exception) -> str:
    """Return what was expected and where, without the content: field names are the sender's."""
    if isinstance(err, msgspec.ValidationError) and "unknown field" not in str(err):
        reason = str(err).partition(" - at ")[0]
        return "not as expected" if reason.startswith("Invalid") else reason[:200]
    return "an unknown field" if isinstance(err, msgspec.ValidationError) else "not valid JSON"
