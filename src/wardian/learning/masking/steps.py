"""The questions of a masked round, as they travel among the others: the record "mask"."""

from enum import StrEnum
from typing import Final

import numpy as np

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.received import array_of
from wardian.learning.records import ConfigRecord, RecordDict

MASK: Final = "mask"
"""An array record with the protocol's message in bytes; MASK_STEP says which it answers."""
MASK_STEP: Final = "mask-step"
_MESSAGE: Final = "message"
STEPS_OF_A_ROUND: Final = 8
"""More than there are: so many numbers of questions a round takes."""


class Step(StrEnum):
    """What a party is shown: see the table of `masking`."""

    MODEL = "model"
    KEYS = "keys"
    DELIVERY = "delivery"
    SURVIVORS = "survivors"
    AGREEMENTS = "agreements"


FIRST: Final = Step.MODEL


def question_number(number: int, step: Step) -> int:
    """Return the number of the question that asks for `step` of the masked round `number`."""
    return STEPS_OF_A_ROUND * number + list(Step).index(step)


def question_of(number: int, step: Step, raw: bytes) -> RecordDict:
    """Return what a party is asked in `step` of the masked round `number`."""
    about = ConfigRecord({"number": number, "step": str(step)})
    return RecordDict({MASK_STEP: about, **message_of(raw)})


def message_of(raw: bytes) -> RecordDict:
    """Return the record that says `raw`, in either direction."""
    return RecordDict({MASK: ArrayRecord({_MESSAGE: np.frombuffer(raw, np.uint8)})})


def asked_step(content: RecordDict) -> tuple[int, Step, bytes]:
    """Return the masked round's number, the step, and the message; of the first step there is none.

    Raises:
        FormatError: it says none.
    """
    about = content.get(MASK_STEP)
    number, step = (
        (about.get("number"), about.get("step")) if isinstance(about, ConfigRecord) else (0, "")
    )
    if type(number) is not int or number < 1 or step not in tuple(Step):
        raise FormatError("masking: not a step of a masked round")
    return number, Step(str(step)), b"" if step == FIRST else said(content)


def said(content: RecordDict) -> bytes:
    """Return the protocol's message in `content`; FormatError where there is none."""
    return array_of(content, MASK, _MESSAGE, dtype="uint8", shape=(None,)).tobytes()
