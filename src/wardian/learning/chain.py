"""The chain of a run's outcomes: who has seen one of its heads cannot be shown another past.

Parties keep the newest head that they were told. A coordinator that was put back to an older state
by its host continues another chain, and every party that has seen more refuses it.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from wardian._internal import wire
from wardian.learning.content import raw_arrays, specs_of
from wardian.learning.messages import encode_specs
from wardian.learning.records import RecordDict

START: Final = "wardian run v1"
OUTCOME: Final = "wardian run outcome v1"


def first_head(run: bytes) -> bytes:
    """Return the head before the first round of `run`, 32 bytes."""
    return hashlib.sha256(wire.fields(START, run)).digest()


def next_head(head: bytes, *, number: int, cohort: Iterable[str], model: RecordDict) -> bytes:
    """Return the head after round `number`, in which `cohort` made `model`."""
    parts = (head, number.to_bytes(8), *(party.encode() for party in sorted(cohort)))
    return hashlib.sha256(wire.fields(OUTCOME, digest(model), *parts)).digest()


def digest(content: RecordDict) -> bytes:
    """Return SHA-256 over what `content` is made of, and every element, 32 bytes."""
    found = hashlib.sha256(wire.fields(OUTCOME, encode_specs(specs_of(content))))
    for raw in raw_arrays(content):
        found.update(raw)
    return found.digest()
