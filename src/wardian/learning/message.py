"""What coordinator and party say to each other in a round, as a strategy and an app see it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from typing_extensions import override

from wardian.errors import FormatError
from wardian.learning.records import RecordDict

MAX_REASON: Final = 200


class MessageType(StrEnum):
    """What a message asks for."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    QUERY = "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """About a message, beside its content.

    Attributes:
        run: the run's identifier.
        round: counted from 1; 0 outside of a round.
        party: whom it is for, or who answers.
        message_type: what is asked for; an answer has that of its question.
    """

    run: str
    round: int
    party: str
    message_type: MessageType


class Message:
    """A question to a party, or its answer: records, or the reason why there are none."""

    __slots__ = ("_content", "error", "metadata")

    def __init__(
        self,
        content: RecordDict | None = None,
        *,
        reply_to: "Message | None" = None,
        metadata: Metadata | None = None,
        error: str | None = None,
    ) -> None:
        """Say `content`.

        Args:
            content: records; None for an error.
            reply_to: the question that this answers: from there its metadata are taken.
            metadata: of a message that answers none.
            error: why there is no content, 1 to 200 characters.
        """
        found = reply_to.metadata if reply_to is not None else metadata
        if found is None:
            raise FormatError("message: neither `reply_to` nor `metadata`")
        if (content is None) == (error is None):
            raise FormatError("message: either content or an error")
        self.metadata: Metadata = found
        self.error: str | None = None if error is None else error[:MAX_REASON] or "unknown"
        self._content = content

    @property
    def content(self) -> RecordDict:
        """The records.

        Raises:
            FormatError: it is an error.
        """
        if self._content is None:
            raise FormatError("message: an error has no content")
        return self._content

    def has_error(self) -> bool:
        """Return whether it says why there is no content."""
        return self.error is not None

    def has_content(self) -> bool:
        """Return whether it carries records."""
        return self._content is not None

    @override
    def __repr__(self) -> str:
        about = self.metadata
        return f"Message({about.message_type}, round {about.round}, {about.party})"
