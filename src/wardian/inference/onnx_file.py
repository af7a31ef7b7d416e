"""What an ONNX file says, read before any engine does: no file beside it, nothing out of bounds.

Engines are large programs in C++ that believe what they are given. Told that a weight lies in
another file, both ONNX Runtime and OpenVINO open a path relative to the working directory; told
that it lies at an address in memory, OpenVINO reads there and crashes. So the message is walked
here first, with nothing of it copied, and refused where it names anything outside of itself.

Source: onnx.proto (ONNX IR version 14); Protocol Buffers, "Encoding".
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from wardian.errors import ConfigError, FormatError

MAX_DEPTH = 16
"""Of graphs within graphs; engines recurse."""
MAX_PARTS = 4_000_000
"""Submessages and texts. Each costs 2 bytes in the file, and tens to hundreds in an engine."""
MAX_PLAIN_BYTES = 64 * 1024**2
"""Of all that is neither a weight nor walked: names, types, documentation."""
STANDARD = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
"""Domains of operators that the engines have themselves; others would need a library."""
_OUTSIDE = frozenset(("EPContext", "PythonOp", "PyCustomOp", "ExternalBuffer"))
"""Operators of those domains that carry, or name, another program."""

_TEXTS = b"|".join(rb"\x4a\x%02x.{%d}" % (length, length) for length in range(4, 32))
_PAYLOAD_RUN = re.compile(rb"(?:\x3d.{4}|\x40[\x80-\xff]{0,9}[\x00-\x7f]|%s)++" % _TEXTS, re.DOTALL)
"""A run of AttributeProto's floats (7), integers (8) and short texts (9), which are not packed. A
forest of trees has millions, so they are passed over at once. An engine makes at most five times
its size of one."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_METADATA = 14  # ModelProto: metadata_props
_PAYLOAD = frozenset((4, 5, 7, 9, 10, 11))  # TensorProto: float, int32, int64, raw, double, uint64


@dataclass(slots=True)
class _Walk:
    """What was met so far."""

    parts: int = 0
    plain_bytes: int = 0
    used: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)
    tensors: set[str] = field(default_factory=set)

    def count(self, *, plain_bytes: int = 0) -> None:
        self.parts += 1
        self.plain_bytes += plain_bytes
        if self.parts > MAX_PARTS or self.plain_bytes > MAX_PLAIN_BYTES:
            raise FormatError("model: more parts, or more text, than any ONNX model has")


_Field = tuple[int, int, int | memoryview]


def verify_onnx(data: bytes | bytearray) -> frozenset[str]:
    """Return the names of the inputs and outputs of `data`, which needs nothing but itself.

    Raises:
        FormatError: not the encoding of a model with a graph, a weight lies outside of it, or it
            is nested or split up beyond all bounds.
        ConfigError: it uses operators that no engine here has, or holds what trains it.
    """
    walk = _Walk()
    graphs = 0
    for number, wire, value in _fields(memoryview(data)):
        if number == 7:
            graphs += 1
            _walk_graph(_message(wire, value), walk, 0)
        elif number == 20:
            raise ConfigError("model: holds training information; export it for inference")
        elif number == 25:
            _walk_function(_message(wire, value), walk)
        else:
            _pass(value, walk)
    if graphs != 1:
        raise FormatError("model: not an ONNX model: it has no graph, or several")
    unknown = walk.used - walk.defined - STANDARD
    if unknown:
        names = ", ".join(sorted(repr(name[:64]) for name in unknown)[:8])
        raise ConfigError(f"model: uses operators of {names}, which no engine here has")
    return frozenset(walk.tensors)


def metadata(data: bytes | bytearray, key: str) -> bytes | None:
    """Return the value of `key` in the model's `metadata_props`; None: it has no such key.

    Raises:
        FormatError: it is there twice, or `data` is not the encoding of a model.
    """
    found: bytes | None = None
    for number, wire, value in _fields(memoryview(data)):
        if number != _METADATA:
            continue
        entry = {
            at: bytes(_message(kind, part)) for at, kind, part in _fields(_message(wire, value))
        }
        if entry.get(1) == key.encode():
            if found is not None:
                raise FormatError(f"model: its metadata have {key!r} twice")
            found = entry.get(2, b"")
    return found


def with_metadata(data: bytes, key: str, value: bytes) -> bytes:
    """Return the model in `data` with `key`, which it has not yet, in its `metadata_props`.

    A repeated field of protobuf may stand anywhere, so at the end as well; nothing else changes.
    """
    parts = [_field(1, key.encode()), _field(2, value)]
    return b"".join((data, _field(_METADATA, b"".join(parts))))


def _field(number: int, content: bytes) -> bytes:
    """Return `content` as the protobuf field `number`."""
    head = bytearray()
    for value in (number << 3 | _BYTES, len(content)):
        while value > 0x7F:
            head.append(value & 0x7F | 0x80)
            value >>= 7  # noqa: PLW2901
        head.append(value)
    return bytes(head) + content


def _walk_graph(graph: memoryview, walk: _Walk, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FormatError(f"model: graphs nested deeper than {MAX_DEPTH}")
    for number, wire, value in _fields(graph):
        if number == 1:
            _walk_node(_message(wire, value), walk, depth)
        elif number == 5:
            _walk_tensor(_message(wire, value), walk)
        elif number == 15:
            _walk_sparse(_message(wire, value), walk)
        else:
            if depth == 0 and number in (11, 12):
                walk.tensors.update(_names(_message(wire, value)))
            _pass(value, walk)


def _names(tensor: memoryview) -> Iterator[str]:
    return (_text(wire, value) for number, wire, value in _fields(tensor) if number == 1)


def _walk_node(node: memoryview, walk: _Walk, depth: int) -> None:
    walk.count()
    name, domain = "", ""
    for number, wire, value in _fields(node):
        if number == 4:
            name = _text(wire, value)
        elif number == 5:
            _walk_attribute(_message(wire, value), walk, depth)
        elif number == 7:
            domain = _text(wire, value)
        else:
            _pass(value, walk)
    if name in _OUTSIDE:
        raise ConfigError(f"model: operator {name} carries another program; not served")
    walk.used.add(domain)


def _walk_attribute(attribute: memoryview, walk: _Walk, depth: int) -> None:
    walk.count()
    for number, wire, value in _fields(attribute, passed=_PAYLOAD_RUN):
        if number in (6, 11):
            _walk_graph(_message(wire, value), walk, depth + 1)
        elif number in (5, 10):
            _walk_tensor(_message(wire, value), walk)
        elif number in (22, 23):
            _walk_sparse(_message(wire, value), walk)
        elif number in (4, 7, 8):  # a text may be a vocabulary, numbers packed: payload
            walk.count()
        else:
            _pass(value, walk)


def _walk_function(function: memoryview, walk: _Walk) -> None:
    for number, wire, value in _fields(function):
        if number == 7:
            _walk_node(_message(wire, value), walk, 0)
        elif number == 10:
            walk.defined.add(_text(wire, value))
        elif number == 11:
            _walk_attribute(_message(wire, value), walk, 0)
        else:
            _pass(value, walk)


def _walk_sparse(sparse: memoryview, walk: _Walk) -> None:
    for number, wire, value in _fields(sparse):
        if number in (1, 2):
            _walk_tensor(_message(wire, value), walk)
        else:
            _pass(value, walk)


def _walk_tensor(tensor: memoryview, walk: _Walk) -> None:
    walk.count()
    elements = 1
    for number, wire, value in _fields(tensor):
        if number in (13, 14) and (number == 13 or value != 0):  # external_data, data_location
            raise FormatError(
                "model: a weight lies in another file; embed all weights in the model"
            )
        if number == 1:
            elements *= math.prod(_integers(wire, value))
        elif number in _PAYLOAD:
            continue
        else:
            _pass(value, walk)
    # The smallest element has 4 bits; a tensor of more than it has bytes for would be made up.
    if elements > 2 * len(tensor):
        raise FormatError("model: a weight says that it has more elements than bytes")


def _pass(value: int | memoryview, walk: _Walk) -> None:
    """Count what is not walked."""
    walk.count(plain_bytes=len(value) if isinstance(value, memoryview) else 0)


def _message(wire: int, value: int | memoryview) -> memoryview:
    if wire != _BYTES or not isinstance(value, memoryview):
        raise FormatError("model: not ONNX: a message was expected where a number stands")
    return value


def _text(wire: int, value: int | memoryview) -> str:
    try:
        return bytes(_message(wire, value)).decode()
    except UnicodeDecodeError as err:
        raise FormatError("model: a name is not UTF-8") from err


def _integers(wire: int, value: int | memoryview) -> Iterator[int]:
    """Yield lengths of axes, packed or one by one; a negative one is huge, as protobuf has it."""
    if isinstance(value, int):
        if wire != _VARINT:
            raise FormatError("model: the length of an axis is no integer")
        yield value
        return
    if len(value) > 1024:
        raise FormatError("model: a weight has hundreds of axes")
    at = 0
    while at < len(value):
        one, at = _varint(value, at)
        yield one


def _fields(message: memoryview, *, passed: re.Pattern[bytes] | None = None) -> Iterator[_Field]:
    """Yield number, wire type and value of each field that is not `passed`; bytes are views.

    Raises:
        FormatError: it ends within a field, or has a group or a wire type that does not exist.
    """
    at, end = 0, len(message)
    while at < end:
        if passed is not None and (run := passed.match(message, at)) is not None:
            at = run.end()
            continue
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        # Protobuf in C++ drops what is above 32 bits of a tag, and would see another field.
        if number == 0 or tag >= 2**32 or wire not in _READ:
            raise FormatError("model: not ONNX: no such field")
        value, at = _READ[wire](message, at)
        if at > end:
            raise FormatError("model: not ONNX: it ends within a field")
        yield number, wire, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise FormatError("model: not ONNX: a number without an end")


def _view(message: memoryview, at: int) -> tuple[memoryview, int]:
    length, at = _varint(message, at)
    if length >= 2**31:
        raise FormatError("model: not ONNX: a part of 2 GiB")
    return message[at : at + length], at + length


def _fixed(size: int) -> Callable[[memoryview, int], tuple[int, int]]:
    return lambda message, at: (int.from_bytes(message[at : at + size], "little"), at + size)


_READ: dict[int, Callable[[memoryview, int], tuple[int | memoryview, int]]] = {
    _VARINT: _varint,
    _FIXED64: _fixed(8),
    _BYTES: _view,
    _FIXED32: _fixed(4),
}
