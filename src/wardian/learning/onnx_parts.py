"""The parts of an ONNX file, as bytes: what `layers` and `boosting.onnx` are put together from.

Source: onnx.proto (ONNX IR version 8, operators of version 17); Protocol Buffers, "Encoding".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from numpy.typing import NDArray

FLOAT: Final = 1  # TensorProto.DataType
INT64: Final = 7
_IR_VERSION, _OPERATOR_SET = 8, 17
_INT = 2  # AttributeProto.AttributeType
_ROWS: Final = "N"


def varint(value: int) -> bytes:
    """Return `value`, 0 or more, in 7 bits a byte."""
    head = bytearray()
    while value > 0x7F:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*head, value])


def number(field: int, value: int) -> bytes:
    """Return a field that is a number, 0 or more."""
    return varint(field << 3) + varint(value)


def content(field: int, value: bytes | str) -> bytes:
    """Return a field that is a text, bytes, or a message."""
    raw = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def tensor(name: str, array: NDArray[Any], kind: int) -> bytes:
    """Return a constant; `array` is little endian and of the elements `kind`."""
    dims = b"".join(number(1, length) for length in array.shape)
    return dims + number(2, kind) + content(8, name) + content(9, array.tobytes())


def attribute(name: str, payload: bytes, kind: int) -> bytes:
    """Return a setting of a node, whose `payload` is a field of its own."""
    return content(5, content(1, name) + payload + number(20, kind))


def node(operator: str, inputs: Sequence[str], output: str, **settings: int) -> bytes:
    """Return a node with whole numbers as settings."""
    found = b"".join(content(1, name) for name in inputs) + content(2, output)
    found += content(4, operator)
    for name, setting in settings.items():
        found += attribute(name, number(3, setting), _INT)
    return found


def value_info(name: str, kind: int, *axes: int) -> bytes:
    """Return what the graph says of an input or output: rows, then `axes`."""
    dims = content(1, content(2, _ROWS)) + b"".join(content(1, number(1, each)) for each in axes)
    return content(1, name) + content(2, content(1, number(1, kind) + content(2, dims)))


def model(
    nodes: Sequence[bytes],
    weights: Sequence[bytes],
    given: bytes,
    outputs: Sequence[bytes],
    *,
    domains: Mapping[str, int] | None = None,
) -> bytes:
    """Return the file.

    Args:
        nodes: in the order of computation.
        weights: constants.
        given: the input.
        outputs: likewise.
        domains: of operators beside ONNX's own, each with its version.
    """
    graph = b"".join(content(1, each) for each in nodes) + content(2, "layers")
    graph += b"".join(content(5, each) for each in weights) + content(11, given)
    graph += b"".join(content(12, each) for each in outputs)
    versions = b"".join(
        content(8, content(1, domain) + number(2, version))
        for domain, version in {"": _OPERATOR_SET, **(domains or {})}.items()
    )
    return number(1, _IR_VERSION) + content(2, "wardian") + content(7, graph) + versions
