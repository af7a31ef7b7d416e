"""Tensors of one message, from and to one buffer: a small header and raw little-endian buffers.

A message carries a *pack*: 1 to 64 requests (or their answers) in *groups*. The requests of a group
have tensors of the same names, types and trailing shapes, so that theirs travel stacked along axis
0 and a worker can hand a whole group to the engine as it arrived, without touching single requests.

The byte form is in `docs/reference/queue-socket.md`. It is only ever read after it authenticated;
the reader is strict and bounded all the same.
"""

import enum
import math
import struct
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np

from wardian.errors import FormatError
from wardian.inference.dtypes import BYTES, BYTES_DTYPE, bytes_array, dtype_name, numpy_dtype
from wardian.inference.spec import Array

MAX_ITEMS = 64
"""Most requests in one pack."""

Buffer: TypeAlias = bytes | bytearray | memoryview

_PREFIX = struct.Struct("<B3xI")  # kind, length of the header
_ELEMENT = struct.Struct("<I")  # length of an element of BYTES, before its bytes
_ALIGN = 64  # a cache line: what vector loads of the engines like best
_PADS = tuple(bytes(count) for count in range(_ALIGN))


class Kind(enum.IntEnum):
    """What a message asks for; its answer carries the same kind."""

    INFER = 1
    DESCRIBE = 2
    SEALED = 3  # a pack of one request, whose one tensor is what its client sealed


_KINDS = {int(kind): kind for kind in Kind}


class Failure(enum.IntEnum):
    """Why requests of a group have no tensors in the answer: a closed code, never a text."""

    NONE = 0
    BAD_INPUT = 1  # names, types or shapes are not the model's
    FAILED = 2  # the engine failed on this request alone
    EXPIRED = 3  # its deadline had passed before it was run
    UNOPENED = 4  # sealed by its client, and not to a request key that the worker has


# Structs and not dataclasses: four of each are made for a message, in a quarter of the time.
class Group(msgspec.Struct, kw_only=True):
    """Requests whose tensors are stacked along axis 0.

    Attributes:
        ids: the requests', in the order of their rows.
        rows: rows of each. A group of one request may have tensors that do not share an axis 0;
            its `rows` is then not looked at.
        parts: by name, arrays that follow one another along axis 0.
        failure: in an answer, why there are no tensors.
    """

    ids: list[int]
    rows: list[int]
    parts: dict[str, list[Array]] = msgspec.field(default_factory=dict)
    failure: Failure = Failure.NONE


class Pack(msgspec.Struct, kw_only=True):
    """What one message carries, all for one tenant."""

    groups: list[Group]
    tenant: str = ""


_U63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Length = Annotated[int, msgspec.Meta(ge=0, le=2**48)]


class _Tensor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(max_length=256)]
    dtype: Annotated[str, msgspec.Meta(max_length=8)]
    shape: Annotated[tuple[_Length, ...], msgspec.Meta(max_length=32)]


class _Group(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    ids: Annotated[list[_U63], msgspec.Meta(min_length=1, max_length=MAX_ITEMS)]
    rows: Annotated[list[_Length], msgspec.Meta(min_length=1, max_length=MAX_ITEMS)]
    tensors: Annotated[list[_Tensor], msgspec.Meta(max_length=256)]
    failure: Failure


class _Header(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    tenant: Annotated[str, msgspec.Meta(max_length=256)]
    groups: Annotated[list[_Group], msgspec.Meta(min_length=1, max_length=MAX_ITEMS)]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Header)


def kind_of(plaintext: Buffer) -> Kind:
    """Return what the message `plaintext` is.

    Raises:
        FormatError: shorter than a prefix, or an unknown kind.
    """
    kind = _KINDS.get(plaintext[0]) if len(plaintext) >= _PREFIX.size else None
    if kind is None:
        raise FormatError("message: kind is neither 1 (infer), 2 (describe) nor 3 (sealed)")
    return kind


def encode_body(kind: Kind, body: bytes) -> bytes:
    """Return a message of `kind` that carries `body` and no tensors."""
    return _PREFIX.pack(kind, len(body)) + body


def decode_body(plaintext: bytes | bytearray, kind: Kind) -> bytes:
    """Return what `encode_body` was given.

    Raises:
        FormatError: another kind, or bytes missing or left over.
    """
    length = _header_length(plaintext, kind)
    if _PREFIX.size + length != len(plaintext):
        raise FormatError("message: bytes left over")
    return bytes(memoryview(plaintext)[_PREFIX.size :])


def encode_pack(pack: Pack, kind: Kind = Kind.INFER) -> bytes:
    """Return `pack` as one buffer of `kind`; the arrays are copied once, into it.

    Raises:
        FormatError: an array has a type that the protocol does not name.
    """
    chunks: list[Any] = [b""]
    groups = []
    for group in pack.groups:
        heads = []
        for name, parts in group.parts.items():
            first = parts[0]
            shape = first.shape
            if len(parts) > 1:
                shape = (sum(map(len, parts)), *shape[1:])
            if first.dtype == BYTES_DTYPE:
                heads.append(_Tensor(name, BYTES, shape))
                elements = b"".join(map(encode_elements, parts))
                chunks += (elements, _PADS[-len(elements) % _ALIGN])
                continue
            heads.append(_Tensor(name, dtype_name(first.dtype), shape))
            chunks.extend(parts)
            chunks.append(_PADS[-(math.prod(shape) * first.itemsize) % _ALIGN])
        groups.append(_Group(group.ids, group.rows, heads, group.failure))
    header = _encoder.encode(_Header(pack.tenant, groups))
    used = _PREFIX.size + len(header)
    chunks[0] = b"".join((_PREFIX.pack(kind, len(header)), header, _PADS[-used % _ALIGN]))
    try:
        return b"".join(chunks)
    except (BufferError, TypeError):  # joining reads raw memory: an array is not in C order
        return b"".join(c if isinstance(c, bytes) else c.tobytes() for c in chunks)


def decode_pack(
    plaintext: Buffer, kind: Kind = Kind.INFER, *, most_elements: int | None = None
) -> Pack:
    """Return the pack in `plaintext`; its arrays are views of `plaintext`, which they keep alive.

    Args:
        plaintext: authentic; if its author is a stranger, `most_elements` bounds the work.
        kind: which it has to be.
        most_elements: of all tensors of BYTES together; each is read by itself.

    Raises:
        FormatError: not a pack of `kind`, lengths that do not agree, or bytes left over.
    """
    end = _PREFIX.size + _header_length(plaintext, kind)
    try:
        header = _decoder.decode(memoryview(plaintext)[_PREFIX.size : end])
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise FormatError("pack: header is not as specified") from err
    if most_elements is not None and _elements(header) > most_elements:
        raise FormatError(f"pack: more than {most_elements} elements of BYTES")
    offset = end + -end % _ALIGN
    groups, items = [], 0
    for head in header.groups:
        items += len(head.ids)
        if items > MAX_ITEMS:
            raise FormatError(f"pack: more than {MAX_ITEMS} requests")
        group, offset = _read_group(plaintext, offset, head)
        groups.append(group)
    if offset != len(plaintext):
        raise FormatError("pack: bytes left over")
    return Pack(groups=groups, tenant=header.tenant)


def encode_elements(array: Array) -> bytes:
    """Return the elements of an array of BYTES in C order, each after its length (u32).

    Source: Open Inference Protocol, "Binary Tensor Data Extension".

    Raises:
        FormatError: an element is not `bytes`.
    """
    chunks: list[bytes] = []
    for element in array.flat:
        if not isinstance(element, bytes):
            raise FormatError("tensor: an element of BYTES is no bytes")
        chunks += (_ELEMENT.pack(len(element)), element)
    return b"".join(chunks)


def decode_elements(raw: Buffer, *, offset: int, shape: tuple[int, ...]) -> tuple[Array, int]:
    """Return the array of BYTES that begins at `offset` of `raw`, and where it ends.

    Raises:
        FormatError: `raw` ends before it, or no array has this shape.
    """
    count = math.prod(shape)
    view = memoryview(raw)
    if count * _ELEMENT.size > len(view) - offset:
        raise FormatError("tensor: more elements of BYTES than the bytes hold")
    elements = []
    for _ in range(count):
        if offset + _ELEMENT.size > len(view):
            raise FormatError("tensor: an element of BYTES is cut off")
        (length,) = _ELEMENT.unpack_from(view, offset)
        offset += _ELEMENT.size
        if length > len(view) - offset:
            raise FormatError("tensor: an element of BYTES is longer than what is left")
        elements.append(bytes(view[offset : offset + length]))
        offset += length
    try:
        return bytes_array(elements, shape), offset
    except ValueError as err:  # an axis of 0 beside others that no array has
        raise FormatError("tensor: a shape that no array has") from err


def _elements(header: _Header) -> int:
    """Return how many elements of BYTES there are said to be."""
    tensors = [tensor for group in header.groups for tensor in group.tensors]
    return sum(math.prod(tensor.shape) for tensor in tensors if tensor.dtype == BYTES)


def _header_length(plaintext: Buffer, kind: Kind) -> int:
    if kind_of(plaintext) is not kind:
        raise FormatError("message: another kind than this one")
    _, length = _PREFIX.unpack_from(plaintext)
    if length > len(plaintext) - _PREFIX.size:
        raise FormatError("message: header is longer than the message")
    return int(length)


def _read_group(plaintext: Buffer, offset: int, head: _Group) -> tuple[Group, int]:
    if len(head.rows) != len(head.ids):
        raise FormatError("pack: a group has not as many row counts as requests")
    stacked = sum(head.rows) if len(head.ids) > 1 else None
    parts: dict[str, list[Array]] = {}
    for tensor in head.tensors:
        if stacked is not None and (not tensor.shape or tensor.shape[0] != stacked):
            raise FormatError("pack: a stacked tensor has not the rows of its requests")
        if tensor.dtype == BYTES:
            array, end = decode_elements(plaintext, offset=offset, shape=tensor.shape)
            parts[tensor.name] = [array]
            offset = end + -(end - offset) % _ALIGN
            continue
        dtype = numpy_dtype(tensor.dtype)
        count = math.prod(tensor.shape)
        size = count * dtype.itemsize
        if size > len(plaintext) - offset:
            raise FormatError("pack: a tensor is longer than the message")
        array = np.frombuffer(plaintext, dtype, count, offset) if count else np.empty(0, dtype)
        try:
            parts[tensor.name] = [array.reshape(tensor.shape)]
        except ValueError as err:  # an axis of 0 beside others that no array has
            raise FormatError("pack: a tensor has a shape that no array has") from err
        offset += size + -size % _ALIGN
    if len(parts) != len(head.tensors):
        raise FormatError("pack: a tensor is there twice")
    return Group(ids=head.ids, rows=head.rows, parts=parts, failure=head.failure), offset
