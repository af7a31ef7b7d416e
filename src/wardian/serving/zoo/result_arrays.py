"""Results, read: what `results` and the servers of Cluster Serving write, for a client of ours.

Their reader drops what is null or zero in `shape` and reshapes `data` to what is left; so does this
one, with each offset, length and count compared with the bytes at hand.
"""

from math import prod
from typing import Final

import numpy as np

from wardian.errors import FormatError
from wardian.inference.spec import Array
from wardian.serving.zoo.arrow import (
    Batch,
    buffer_place,
    read_batch,
    read_metadata,
    read_numbers,
    view_buffer,
)
from wardian.serving.zoo.arrow_schema import Leaf, Schema, parse_schema
from wardian.serving.zoo.columns import MAX_AXES
from wardian.serving.zoo.text import decode_base64

MAX_OUTPUTS: Final = 1024
"""Record batches in one result."""


def parse_result(value: bytes) -> list[Array]:
    """Return the outputs in a result: float32 arrays of their own, one or more.

    Args:
        value: base64 of an Arrow stream, untrusted.

    Raises:
        FormatError: not base64, malformed, or not of the two columns of a result.
    """
    raw = decode_base64(value, what="a result")
    metadata, at = read_metadata(raw, 0)
    schema = parse_schema(metadata)
    data, shape = _columns(schema)
    outputs: list[Array] = []
    while True:
        metadata, at = read_metadata(raw, at)
        if not metadata:
            break
        if len(outputs) == MAX_OUTPUTS:
            raise FormatError(f"a result: more than {MAX_OUTPUTS} outputs")
        batch = read_batch(raw, at, metadata=metadata, schema=schema)
        outputs.append(_output(batch, data, shape))
        at += batch.size
    if at != len(raw) or not outputs:
        raise FormatError("a result: no output, or bytes behind its end")
    return outputs


def _columns(schema: Schema) -> tuple[Leaf, Leaf]:
    """Return where data and shape are."""
    found = [leaf for name, leaf in schema.columns if isinstance(leaf, Leaf)]
    if [name for name, _ in schema.columns] == ["data", "shape"] and [
        leaf.kind for leaf in found
    ] == ["float32", "int32"]:
        return found[0], found[1]
    raise FormatError("a result: columns data, of float32, and shape, of int32, were expected")


def _output(batch: Batch, data: Leaf, shape: Leaf) -> Array:
    values = read_numbers(batch, data)
    axes = _axes(batch, shape)
    if len(axes) > MAX_AXES or prod(axes) != values.size:
        raise FormatError(f"a result: {values.size} elements, and a shape that is not theirs")
    return np.array(values, np.float32).reshape(axes)


def _axes(batch: Batch, shape: Leaf) -> list[int]:
    """Return what stands in the rows of `shape` that are neither null nor zero."""
    rows, nulls = batch.nodes[2 * shape.node : 2 * shape.node + 2]
    if not 0 <= nulls <= rows:
        raise FormatError("a result: more nulls than rows, or fewer than none")
    axes = view_buffer(batch, shape.buffer + 1, rows, "int32")
    if nulls:
        at, size = buffer_place(batch, shape.buffer)
        if 8 * size < rows:
            raise FormatError("a result: a validity buffer is shorter than its rows")
        bits = np.frombuffer(batch.raw, np.uint8, -(-rows // 8), at)
        axes = axes[np.unpackbits(bits, count=rows, bitorder="little").astype(bool)]
    kept: list[int] = axes[axes != 0].tolist()
    if any(axis < 0 for axis in kept):
        raise FormatError("a result: an axis of a negative length")
    return kept
