"""How messages are sealed, as the data plane sees it: one method on each side, and an end.

`crypto.QueueSender` is a `MessageCodec` as it is; `epochs.EpochCodec` is a `WorkerCodec`.
The clear twin that benchmarks compare with lives in `bench/`: there is no unsealed mode here.
"""

from typing import Protocol

from wardian.crypto.message_header import RequestHeader
from wardian.crypto.sealed_request import Buffer, ReceivedRequest


class Pending(Protocol):
    """Waits for the answer to one request message."""

    def open(self, sealed: bytes) -> bytearray:
        """Return the plaintext of the answer.

        Raises:
            FormatError, AuthenticationFailed: it is not the answer to that request; the true one
                may still come.
        """


class MessageCodec(Protocol):
    """Front end side, for one model and epoch."""

    def seal_request(
        self, plaintext: bytes | bytearray, *, header: RequestHeader
    ) -> tuple[bytes, Pending]:
        """Return the message, and the one thing that opens its answer."""

    def erase(self) -> None:
        """Erase the keys: nothing is sealed any more, and no answer is opened."""


class OpenedMessage(Protocol):
    """A request message that was authentic and had not been seen."""

    @property
    def plaintext(self) -> bytearray:
        """What the front end sealed."""

    @property
    def header(self) -> RequestHeader:
        """What it stated beside it, authenticated as well."""

    def answer(self, plaintext: bytes | bytearray) -> bytes:
        """Return `plaintext` sealed as the answer to this message alone.

        Raises:
            AuthenticationFailed: the keys were erased meanwhile.
        """


class SealedOpener(Protocol):
    """Worker side: opens what clients seal to the model's request key."""

    def open_sealed(self, body: Buffer) -> ReceivedRequest:
        """Return the request in `body`.

        Raises:
            FormatError, AuthenticationFailed: it is none, or not to a key that this worker has.
        """


class WorkerCodec(Protocol):
    """Worker side, for one model."""

    def open_request(self, sealed: bytes) -> OpenedMessage:
        """Return the request in `sealed`, once.

        Raises:
            FormatError, AuthenticationFailed: no request to this model's workers, seen before, or
                of an epoch whose key this worker does not have.
        """
