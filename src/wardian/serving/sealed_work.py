"""The worker's part in requests that clients seal past the front end (TRUST T13).

Once a request is open, however it ends is told inside its sealed answer: an answer, inputs that are
not the model's and a failure of the engine look alike to front end, queue and host. An answer that
holds no tensors is as long as one with tensors would have been (`sealed_lengths`).
"""

from typing import Final, NamedTuple

from wardian.crypto.sealed_request import ReceivedRequest
from wardian.errors import AuthenticationFailed, FormatError, RequestError
from wardian.inference.spec import Tensors
from wardian.serving.codec import SealedOpener
from wardian.serving.rules import InputRules
from wardian.serving.sealed_content import (
    Asked,
    Ended,
    Told,
    decode_asked,
    encode_ended,
)
from wardian.serving.sealed_lengths import AnswerLengths
from wardian.serving.tensors import Failure, Group

FAILED_TEXT: Final = "the model failed on this input"


class SealedAnswer:
    """Seals how one opened request ended, for its client alone."""

    __slots__ = ("_desk", "_outputs", "_received", "_refusal", "_rows")

    def __init__(
        self,
        desk: "SealedDesk",
        received: ReceivedRequest,
        *,
        rows: int = 1,
        outputs: tuple[str, ...] | None = None,
        refusal: str = "",
    ) -> None:
        """Answer `received` with `outputs`, or with `refusal` whatever happens.

        `rows` are those of its inputs, or as many as they might have been.
        """
        self._desk = desk
        self._received = received
        self._rows = rows
        self._outputs = outputs
        self._refusal = refusal

    def seal(self, group: Group) -> bytes:
        """Return the sealed answer, given what became of the request."""
        plaintext = self._desk.encode(self._ended(group), rows=self._rows, wanted=self._outputs)
        return self._received.seal_answer(plaintext)

    def _ended(self, group: Group) -> Ended:
        version = self._desk.version
        if self._refusal:
            return Ended(told=Told.BAD_INPUT, version=version, outputs={}, text=self._refusal)
        if group.failure is not Failure.NONE:
            return Ended(told=Told.FAILED, version=version, outputs={}, text=FAILED_TEXT)
        names = group.parts if self._outputs is None else self._outputs
        outputs = {name: group.parts[name][0] for name in names}
        return Ended(told=Told.ANSWERED, version=version, outputs=outputs)


class OpenedRequest(NamedTuple):
    """A sealed request that was opened.

    Attributes:
        answer: what its answer is sealed with.
        inputs: measured and found to fit, or None: nothing is to be run.
        rows: along axis 0.
    """

    answer: SealedAnswer
    inputs: Tensors | None
    rows: int = 0


class SealedDesk:
    """Opens the sealed requests of one worker, and encodes their answers. One thread.

    Attributes:
        version: of the model that the worker serves.
    """

    def __init__(
        self,
        opener: SealedOpener | None,
        *,
        rules: InputRules,
        lengths: AnswerLengths,
        version: int,
        most_bytes: int,
    ) -> None:
        """Open with `opener`.

        Args:
            opener: has the request keys; None: nothing opens.
            rules: what the model takes.
            lengths: how long its answers are.
            version: of the model.
            most_bytes: largest answer.
        """
        self._open = _refuse if opener is None else opener.open_sealed
        self._rules = rules
        self._lengths = lengths
        self._most_bytes = most_bytes
        self.version = version

    def open(self, body: memoryview) -> OpenedRequest:
        """Return the request in `body`.

        Raises:
            FormatError, AuthenticationFailed: it does not open: the last thing about it that
                anybody but its client is told.
        """
        received = self._open(body)
        try:
            asked = decode_asked(received.plaintext)
        except FormatError as err:
            return OpenedRequest(SealedAnswer(self, received, refusal=str(err)), None)
        outputs, refusal = asked.outputs, ""
        try:
            rows = self._measure(asked)
        except RequestError as err:
            rows, refusal = self._lengths.rows_of(asked.inputs), str(err)
        answer = SealedAnswer(self, received, rows=rows, outputs=outputs, refusal=refusal)
        return OpenedRequest(answer, None if refusal else asked.inputs, rows)

    def _measure(self, asked: Asked) -> int:
        """Return the rows of a request to this version of the model; RequestError if it is none.

        The version is the client's word: the one beside the request is the front end's.
        """
        if asked.version not in (0, self.version):
            raise RequestError(
                f"version {asked.version} was asked for, and this is version {self.version}"
            )
        rows, _, _ = self._rules.measure(asked.inputs)
        if asked.outputs is not None:
            self._rules.expect_outputs(asked.outputs)
        return rows

    def encode(self, ended: Ended, *, rows: int, wanted: tuple[str, ...] | None) -> bytes:
        """Return the padded plaintext of an answer; without tensors, as long as one for `rows`."""
        if ended.told is Told.ANSWERED:
            plaintext = encode_ended(ended)
            if len(plaintext) <= self._most_bytes:
                return plaintext
            text = f"the answer is larger than {self._most_bytes} bytes"
            ended = Ended(told=Told.FAILED, version=self.version, outputs={}, text=text)
        return encode_ended(ended, least_bytes=self._lengths.length(rows, wanted))


def _refuse(_: memoryview) -> ReceivedRequest:
    raise AuthenticationFailed("sealed request: this worker has no request key")
