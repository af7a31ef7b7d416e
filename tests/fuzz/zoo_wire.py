"""Parsers of Cluster Serving's dialects: what strangers put into a stream or send over HTTP.

Keystores are an operator's, and no stranger's; a damaged one is to end in an error, too.

What was read is read to its last element, and is no larger than a few times its bytes.
"""

import json
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from wardian.crypto.pkcs12 import open_keystore
from wardian.crypto.pkcs12_frame import read_frame
from wardian.crypto.secret import Secret
from wardian.serving.zoo.arrow import parse_stream
from wardian.serving.zoo.columns import Columns, Dense, Image, Sparse
from wardian.serving.zoo.instances import parse_instances
from wardian.serving.zoo.records import parse_record, parse_uri
from wardian.serving.zoo.result_arrays import parse_result

_VECTORS = Path(__file__).parents[1] / "vectors" / "zoo"
_PAYLOADS = tuple(
    case["payload"].encode()
    for name in ("payloads.json", "refused.json")
    for case in json.loads((_VECTORS / name).read_text())
    if len(case["payload"]) < 4000
)
_STREAMS = tuple(b64decode(payload) for payload in _PAYLOADS)
_RESULTS = tuple(
    b64decode(case["value"])
    for case in json.loads((_VECTORS / "results.json").read_text())
    if case["client_reads"] != "NaN"
)
_BODIES = (
    b'{"instances":[{"t":[[1,2.5],[-3e2,0]],"u":7},{"t":"a|b","u":["c","d|"]}]}',
    b'{"instances":[{"i":{"b64":"/9j/4AAQSkZJRg=="},"j":"/9j/4AAQSkZJRg=="}]}',
    b'{"instances":[{"s":{"shape":[100,10000,10],"data":[0.2,0.5],"indices":[[1,1,1],[2,2,2]]}}]}',
    b'{"instances":[{"a":[],"b":[[],[]],"c":[[[1]]]}]}',
)
_KEYSTORES = tuple(path.read_bytes() for path in sorted((_VECTORS.parent / "pkcs12").glob("*.p12")))
_FEW_ITERATIONS = 10_000


def zoo_parsers() -> Iterator[tuple[str, Callable[[bytes], object], tuple[bytes, ...]]]:
    """Yield name, parser and seeds of each."""
    yield "Arrow stream", lambda raw: _read(parse_stream(raw), len(raw)), _STREAMS
    yield "Zoo record", partial(_record, {}), _PAYLOADS
    yield "Zoo record in JSON", partial(_record, {b"serde": b"stream"}), _BODIES
    yield "Zoo instances", _instances, _BODIES
    yield "PKCS #12 frame", read_frame, _KEYSTORES
    yield "PKCS #12 keystore", _keystore, _KEYSTORES
    yield "Zoo result", _result, _RESULTS


def _keystore(raw: bytes) -> None:
    if read_frame(raw).iterations <= _FEW_ITERATIONS:  # others take their time by right
        open_keystore(raw, Secret(b"1234qwer"))


def _record(fields: dict[bytes, bytes], raw: bytes) -> None:
    fields = fields | {b"data": raw, b"uri": raw[:5000]}
    parse_uri(fields)
    for columns in parse_record(fields):
        _read(columns, len(raw))


def _instances(raw: bytes) -> None:
    for columns in parse_instances(raw):
        _read(columns, len(raw))


def _result(raw: bytes) -> None:
    outputs = parse_result(b2a_base64(raw, newline=False))
    for output in outputs:
        _sum(output)
    if sum(each.nbytes for each in outputs) > len(raw):
        raise AssertionError("more numbers than bytes")


def _read(columns: Columns, size: int) -> None:
    """Read every element, and compare how large all are with the `size` of what they came from."""
    total = 0
    for column in columns.values():
        if isinstance(column, Dense):
            _sum(column.array)
            total += column.array.nbytes
        elif isinstance(column, Sparse):
            _sum(column.values)
            total += column.values.nbytes + column.indices.nbytes
            _within(column)
        elif isinstance(column, Image):
            total += len(column.raw)
        else:
            total += sum(map(len, column.values))
    if total > 8 * size:  # two bytes of JSON are a number of four
        raise AssertionError(f"{total} bytes of columns from {size}")


def _sum(array: np.ndarray) -> None:
    if array.dtype != np.float32:
        raise AssertionError(f"{array.dtype}")
    with np.errstate(all="ignore"):
        array.sum()


def _within(column: Sparse) -> None:
    if column.indices.shape != (column.values.size, len(column.shape)):
        raise AssertionError(f"{column.indices.shape}")
    if column.indices.size and (column.indices.max(0) >= np.array(column.shape)).any():
        raise AssertionError("an index outside")
