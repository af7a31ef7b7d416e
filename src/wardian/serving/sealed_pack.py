"""How a request that its client sealed travels on the queue: as the one tensor of its own pack.

The front end cannot look into it, so it is not measured and shares no message. All else is as with
other requests: deadline, redelivery, who is suspect, tenants.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from wardian.crypto.sealed_request import Buffer
from wardian.errors import FormatError
from wardian.inference.spec import Array, Tensors
from wardian.serving.tensors import Group, Pack

TENSOR: Final = "sealed"
OUTPUTS: Final = frozenset({TENSOR})
_BYTE: Final = np.dtype("u1")


def as_tensors(body: Buffer) -> Tensors:
    """Return the sealed bytes as what an inference takes and gives; nothing is copied."""
    return {TENSOR: np.frombuffer(body, _BYTE)}


def answer_pack(number: int, body: bytes) -> Pack:
    """Return the pack that answers request `number` with sealed bytes."""
    parts = {name: [array] for name, array in as_tensors(body).items()}
    return Pack(groups=[Group(ids=[number], rows=[1], parts=parts)])


def body_of(tensors: Mapping[str, Array]) -> memoryview:
    """Return the sealed bytes in `tensors`.

    Raises:
        FormatError: there is anything else.
    """
    array = tensors.get(TENSOR)
    if array is None or len(tensors) > 1 or array.dtype != _BYTE or array.ndim != 1:
        raise FormatError("sealed message: one tensor of bytes was expected")
    return array.data


def body_in(pack: Pack) -> memoryview:
    """Return the sealed bytes of the one request in `pack`.

    Raises:
        FormatError: there are more requests, or anything else.
    """
    if len(pack.groups) != 1 or len(pack.groups[0].ids) != 1:
        raise FormatError("sealed message: one request was expected")
    return body_of({name: parts[0] for name, parts in pack.groups[0].parts.items()})
