"""Records as they travel: what they are in the message, the elements of arrays as raw bytes."""

from collections.abc import Iterable, Iterator
from math import prod
from typing import Final

import numpy as np

from wardian.errors import FormatError
from wardian.learning.arrays import KINDS, PLACES, Array, ArrayRecord
from wardian.learning.messages import CHUNK_BYTES, Arrays, ArraySpec, Config, Metrics
from wardian.learning.records import ConfigRecord, MetricRecord, Record, RecordDict

Spec = Arrays | Metrics | Config

_ITEM_BYTES: Final = tuple(kind.itemsize for kind in KINDS)


def specs_of(content: RecordDict) -> tuple[Spec, ...]:
    """Return what `content` is made of."""
    return tuple(_spec(name, record) for name, record in content.items())


def _spec(name: str, record: Record) -> Spec:
    if isinstance(record, MetricRecord):
        return Metrics(name=name, entries=dict(record))  # type: ignore[arg-type]
    if isinstance(record, ConfigRecord):
        raw = {key: value for key, value in record.items() if isinstance(value, bytes)}
        rest = {key: value for key, value in record.items() if not isinstance(value, bytes)}
        return Config(name=name, entries=rest, raw=raw)  # type: ignore[arg-type]
    return Arrays(name=name, arrays=array_specs(record))


def array_specs(arrays: ArrayRecord) -> tuple[ArraySpec, ...]:
    """Return what each of `arrays` is, in their order."""
    return tuple(
        ArraySpec(name=each, dtype=PLACES[array.dtype], shape=array.shape)
        for each, array in arrays.items()
    )


def array_bytes(spec: ArraySpec) -> int:
    """Return how many bytes the elements of an array take."""
    return prod(spec.shape) * _ITEM_BYTES[spec.dtype]


def arrays_of(specs: Iterable[Spec]) -> Iterator[ArraySpec]:
    """Yield every array, in the order in which their elements travel."""
    for each in specs:
        if isinstance(each, Arrays):
            yield from each.arrays


def content_bytes(specs: Iterable[Spec]) -> int:
    """Return how many bytes follow a message with these records."""
    return sum(array_bytes(each) for each in arrays_of(specs))


def raw_arrays(content: RecordDict) -> Iterator[memoryview]:
    """Yield the bytes of every array, in the order of `specs_of`; nothing is copied."""
    for record in content.array_records.values():
        for array in record.values():
            if array.size:
                yield memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def chunks(content: RecordDict) -> Iterator[list[memoryview]]:
    """Yield the content in frames of `CHUNK_BYTES`, the last one shorter, as parts to be joined."""
    parts: list[memoryview] = []
    room = CHUNK_BYTES
    for raw in raw_arrays(content):
        at = 0
        while at < len(raw):
            part = raw[at : at + room]
            parts.append(part)
            at, room = at + len(part), room - len(part)
            if not room:
                yield parts
                parts, room = [], CHUNK_BYTES
    if parts:
        yield parts


def frames(message: bytes, content: RecordDict | None = None) -> Iterator[list[bytes]]:
    """Yield the frames of `message` and its content, in groups that are written at once."""
    group = [message]
    for pieces in chunks(content) if content is not None else ():
        group.append(b"".join(pieces))
        if len(group) > 1 and len(group[-1]) == CHUNK_BYTES:
            yield group
            group = []
    if group:
        yield group


def rebuild(specs: Iterable[Spec], raw: bytes | bytearray | memoryview) -> RecordDict:
    """Return the records whose elements are `raw`; the arrays are views of it.

    Raises:
        FormatError: `raw` has another length, a record is there twice, or holds what it may not.
    """
    specs = tuple(specs)
    if len(raw) != content_bytes(specs):
        raise FormatError("content: not as long as its records say")
    found: dict[str, Record] = {}
    at = 0
    for spec in specs:
        if spec.name in found:
            raise FormatError("content: a record is there twice")
        if isinstance(spec, Metrics):
            found[spec.name] = MetricRecord(spec.entries)
        elif isinstance(spec, Config):
            found[spec.name] = ConfigRecord({**spec.entries, **spec.raw})  # type: ignore[dict-item]
        else:
            arrays: dict[str, Array] = {}
            for each in spec.arrays:
                if each.name in arrays:
                    raise FormatError("content: an array is there twice")
                arrays[each.name] = _view(raw, at, each)
                at += array_bytes(each)
            found[spec.name] = ArrayRecord(arrays)
    return RecordDict(found)


def _view(raw: bytes | bytearray | memoryview, at: int, spec: ArraySpec) -> Array:
    kind = KINDS[spec.dtype]
    if kind.kind == "b":
        stated = np.frombuffer(raw, np.uint8, count=array_bytes(spec), offset=at)
        if stated.size and stated.max() > 1:
            raise FormatError("content: a truth value is 0 or 1")
    return np.frombuffer(raw, kind, count=prod(spec.shape), offset=at).reshape(spec.shape)
