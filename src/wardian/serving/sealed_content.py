"""What is inside a sealed request and its answer: an envelope of fixed fields around a pack.

The tensors have the form that they have on the queue (`tensors`): the worker then reads them where
they lie, as arrays aligned to 64 bytes, and its process gets no second reader of tensors and no
JSON of strangers. The author here is a stranger, so what a front end would have measured is
measured: one group of one request, no failure, a BOOL of 0 or 1, zeros where zeros belong.

Byte tables: `docs/reference/sealed-request.md`.
"""

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

import msgspec
import numpy as np

from wardian._internal import wire
from wardian.crypto.sealed_request import Buffer, padded_bytes
from wardian.errors import FormatError, JobFailed, PeerProtocolError, RequestError
from wardian.inference.spec import Array, Tensors
from wardian.serving.tensors import Failure, Group, Pack, decode_pack, encode_pack

MAX_TEXT_BYTES: Final = 2000
"""Of what an answer says went wrong."""
MAX_ELEMENTS: Final = 65_536
"""Of BYTES, in a request: as many as a front end takes in one tensor."""
MAX_HEAD_BYTES: Final = 64 * 1024

_HEAD: Final = struct.Struct(">IQ")  # lengths of head and pack
_ANSWER: Final = struct.Struct(">B7xQQ")  # outcome, version that answered, length of the content
_ALIGN: Final = 64
_CONTENT_AT: Final = 64
_NOBODY: Final = 0  # a pack's request id: there is one request


class _Wanted(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    outputs: Annotated[list[Annotated[str, msgspec.Meta(max_length=256)]],
                       msgspec.Meta(min_length=1, max_length=256)] | None  # fmt: skip


_encode_wanted = msgspec.msgpack.Encoder().encode
_decode_wanted = msgspec.msgpack.Decoder(_Wanted).decode


class Asked(NamedTuple):
    """What a client sealed.

    Attributes:
        version: of the model that it has to be; 0 for any.
        outputs: names of those that are wanted; None for all.
        inputs: arrays, views of what was opened.
    """

    version: int
    outputs: tuple[str, ...] | None
    inputs: Tensors


class Told(enum.IntEnum):
    """How a request ended; in the sealed answer, so the front end cannot tell."""

    ANSWERED = 0
    BAD_INPUT = 1
    FAILED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one request ended at the worker.

    Attributes:
        told: which way.
        version: of the model that ran it.
        outputs: where it was answered.
        text: where it was not: for a person, what was expected.
    """

    told: Told
    version: int
    outputs: Mapping[str, Array]
    text: str = ""


def encode_asked(
    inputs: Mapping[str, Array], *, version: int, outputs: tuple[str, ...] | None, pad: bool
) -> bytes:
    """Return the plaintext of a request.

    Args:
        inputs: little-endian arrays by name.
        version: of the model; 0 for any.
        outputs: names of those that are wanted; None for all.
        pad: whether its length is rounded up to one of `padded_bytes`.

    Raises:
        FormatError: an array has a type that the protocol has no name for.
    """
    head = _encode_wanted(_Wanted(version, None if outputs is None else list(outputs)))
    parts = {name: [array] for name, array in inputs.items()}
    pack = encode_pack(Pack(groups=[Group(ids=[_NOBODY], rows=[0], parts=parts)]))
    start = _HEAD.size + len(head)
    content = b"".join((_HEAD.pack(len(head), len(pack)), head, bytes(-start % _ALIGN), pack))
    return _padded(content, padded_bytes(len(content))) if pad else content


def decode_asked(plaintext: bytes) -> Asked:
    """Return what `encode_asked` was given.

    Raises:
        FormatError: anything else.
    """
    if len(plaintext) < _HEAD.size:
        raise FormatError("sealed request: shorter than its lengths")
    head_bytes, pack_bytes = _HEAD.unpack_from(plaintext)
    end = _HEAD.size + head_bytes
    start = end + -end % _ALIGN
    if head_bytes > MAX_HEAD_BYTES or start + pack_bytes > len(plaintext):
        raise FormatError("sealed request: its parts are longer than it is")
    view = memoryview(plaintext)
    try:
        wanted = _decode_wanted(view[_HEAD.size : end])
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise FormatError("sealed request: head is not as specified") from err
    _expect_zeros(view[end:start])
    _expect_zeros(view[start + pack_bytes :])
    group = _only_group(view[start : start + pack_bytes], most_elements=MAX_ELEMENTS)
    outputs = None if wanted.outputs is None else tuple(wanted.outputs)
    return Asked(wanted.version, outputs, {name: part[0] for name, part in group.parts.items()})


def encode_ended(ended: Ended, *, least_bytes: int = 0) -> bytes:
    """Return the plaintext of an answer, of a length of `padded_bytes`.

    Args:
        ended: how the request ended.
        least_bytes: its least length; where nothing was computed, that of a usual answer.
    """
    if ended.told is Told.ANSWERED:
        parts = {name: [array] for name, array in ended.outputs.items()}
        content = encode_pack(Pack(groups=[Group(ids=[_NOBODY], rows=[0], parts=parts)]))
    else:
        content = ended.text.encode()[:MAX_TEXT_BYTES]
    fields = _ANSWER.pack(ended.told, ended.version, len(content))
    whole = b"".join((fields, bytes(_CONTENT_AT - len(fields)), content))
    return _padded(whole, padded_bytes(max(len(whole), least_bytes)))


def decode_ended(plaintext: bytes) -> Tensors:
    """Return the arrays in an answer; views of it, read-only.

    Raises:
        RequestError: the worker says that the inputs are not the model's.
        JobFailed: it says that the model failed on them.
        PeerProtocolError: it is no answer.
    """
    try:
        told, content = _split_ended(plaintext)
        if told is Told.ANSWERED:
            return {name: part[0] for name, part in _only_group(content).parts.items()}
        text = bytes(content).decode("utf-8", "replace")
    except FormatError as err:
        raise PeerProtocolError(f"the worker's answer is not one: {err}") from err
    if told is Told.BAD_INPUT:
        raise RequestError(wire.printable(text))
    raise JobFailed(wire.printable(text))


def _split_ended(plaintext: bytes) -> tuple[Told, memoryview]:
    if len(plaintext) < _CONTENT_AT:
        raise FormatError("sealed answer: shorter than its fields")
    number, version, length = _ANSWER.unpack_from(plaintext)
    if number not in _TOLD or length > len(plaintext) - _CONTENT_AT:
        raise FormatError("sealed answer: fields are not as specified")
    view = memoryview(plaintext)
    if bytes(view[: _ANSWER.size]) != _ANSWER.pack(number, version, length):
        raise FormatError("sealed answer: bytes 1 to 7 are zero")
    _expect_zeros(view[_ANSWER.size : _CONTENT_AT])
    _expect_zeros(view[_CONTENT_AT + length :])
    return Told(number), view[_CONTENT_AT : _CONTENT_AT + length]


_TOLD: Final = frozenset(Told)


def _only_group(raw: Buffer, *, most_elements: int | None = None) -> Group:
    """Return the one group of the pack in `raw`, of one request, with tensors."""
    pack = decode_pack(raw, most_elements=most_elements)
    group = pack.groups[0]
    if len(pack.groups) > 1 or group.ids != [_NOBODY] or group.rows != [0] or pack.tenant:
        raise FormatError("sealed request: one group of one request was expected")
    if group.failure is not Failure.NONE:
        raise FormatError("sealed request: a failure where tensors were expected")
    for (array,) in group.parts.values():
        if array.dtype.char == "?" and (array.view(np.uint8) > 1).any():
            raise FormatError("sealed request: a BOOL is a byte of 0 or 1")
    return group


def _padded(content: bytes, length: int) -> bytes:
    return content + bytes(length - len(content))


def _expect_zeros(view: memoryview) -> None:
    if bytes(view) != bytes(len(view)):  # of bytes, which is compared as memory
        raise FormatError("sealed content: padding is zeros")
