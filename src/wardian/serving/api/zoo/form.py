"""Which front end's answers a request gets, and how they are written."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from wardian.inference.spec import Array
from wardian.serving.api.zoo.answers import (
    MAX_ARROW_NUMBERS,
    MAX_JSON_NUMBERS,
    NAN_ARROW,
    arrow_prediction,
    json_prediction,
    pretty,
)
from wardian.serving.zoo.answers import NAN_ANSWER, predictions


class Origin(Enum):
    """Which of the three front ends had a path, or a method."""

    APP = "FrontEndApp"
    SINGLE = "Frontend2"
    GRPC = "FrontEndGRPCService"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a path answers.

    Attributes:
        origin: whose path it was.
        strict: what goes wrong is answered as it was there.
        arrow: a prediction is an Arrow stream, not JSON.
    """

    origin: Origin
    strict: bool
    arrow: bool

    @property
    def nan(self) -> str:
        """What is in the place of a prediction that there is not, in the strict form."""
        return NAN_ARROW if self.arrow else NAN_ANSWER

    @property
    def most_numbers(self) -> int:
        """How many numbers an answer may have."""
        return MAX_ARROW_NUMBERS if self.arrow else MAX_JSON_NUMBERS

    def write(self, texts: Sequence[str]) -> bytes:
        """Return the answer of these predictions, one for each instance in its order."""
        return pretty(texts).encode() if self.origin is Origin.GRPC else predictions(texts)

    def encode(self, outputs: Sequence[Array]) -> str:
        """Return the prediction for one instance, whose `outputs` are in the model's order.

        Raises:
            RequestError: 400; this form has no way to say them.
        """
        if self.arrow:
            return arrow_prediction(outputs)
        return json_prediction(outputs, strict=self.strict)
