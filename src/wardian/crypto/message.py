"""Sealing what travels over the queue: requests one way, answers the other (TRUST T4, T18).

The queue, its host and the network between are the enemy: they may read, drop, delay, reorder,
replay and forge. Keys from the queue key, which is per model and epoch and known only to front ends
and that model's workers, keep them out:

- *Request*: a subkey per sending process, so that no two processes ever share one.
- *Answer*: a key per request message, which binds the request's salt, counter, header and tag, so
  that an answer opens only for the request that waits for it.

Both sides erase their keys when the epoch is over. The queue key is overwritten; the ciphers that
were derived from it are let go, and OpenSSL cleanses what it frees.

Byte table, derivations and bounds: `docs/reference/queue-message.md`.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from wardian.crypto.message_header import Direction, MessageHeader, RequestHeader, parse_header
from wardian.crypto.message_keys import (
    TAG_BYTES,
    AnswerRoot,
    Cache,
    K,
    Peer,
    Place,
    RequestName,
    Turns,
    open_message,
    seal_message,
)
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, LocalProtocolError

REPLAY_WINDOW = 16_384
MAX_SALTS = 4096

_WINDOW_MASK = (1 << REPLAY_WINDOW) - 1


class QueueSender:
    """The front end's side: seals requests to the workers of one model, in one epoch.

    Safe to use from several threads and across a fork.
    """

    __slots__ = ("_place", "_roots", "_turns")

    def __init__(
        self, *, queue_key: Secret, model: str, epoch: int, certificate_digest: bytes
    ) -> None:
        """Send under `queue_key`; the salt is drawn with the first message.

        Args:
            queue_key: 32 bytes, of this model and epoch.
            model: name, 1 to 64 characters of a-z, 0-9, '.', '_', '-'.
            epoch: 0 to 2**63 - 1.
            certificate_digest: SHA-256 of this process's mesh certificate in DER, 32 bytes.
        """
        self._place = Place(
            queue_key=queue_key, model=model, epoch=epoch, certificate_digest=certificate_digest
        )
        self._turns = Turns(lambda salt: self._place.request_cipher(salt, certificate_digest))
        self._roots = Cache(self._place.answer_root)

    def erase(self) -> None:
        """Erase the keys: nothing is sealed any more, and no answer is opened."""
        self._place.queue_key.wipe()
        self._turns.forget()
        self._roots.forget()

    def seal_request(
        self, plaintext: bytes | bytearray, *, header: RequestHeader
    ) -> "tuple[bytes, PendingAnswer]":
        """Return the sealed message, and the one thing that opens its answer.

        Args:
            plaintext: at most 1 GiB.
            header: authenticated, and readable by everyone on the way.

        Raises:
            FormatError: a field of `header` is out of range, or the plaintext is too long.
            LocalProtocolError: the keys were erased.
        """
        turn, counter = self._turns.take()
        full = MessageHeader(
            version=header.version,
            deadline_ms=header.deadline_ms,
            request_ids=header.request_ids,
            direction=Direction.REQUEST,
            model=self._place.model,
            epoch=self._place.epoch,
            salt=turn.salt,
            certificate_digest=self._place.certificate_digest,
            counter=counter,
        )
        sealed = seal_message(turn.keys, full, plaintext)
        request = RequestName.of(full, sealed, len(sealed) - len(plaintext) - TAG_BYTES)
        return sealed, PendingAnswer(place=self._place, roots=self._roots, request=request)


class PendingAnswer:
    """Waits for the answer to one request message, and opens one answer, once."""

    __slots__ = ("_lock", "_opened", "_place", "_request", "_roots")

    def __init__(self, *, place: Place, roots: Cache[AnswerRoot], request: RequestName) -> None:
        """Wait for the answer to `request`; made by `QueueSender.seal_request` alone."""
        self._place = place
        self._roots = roots
        self._request = request
        self._opened = False
        self._lock = threading.Lock()

    def open(self, sealed: bytes) -> bytearray:
        """Return the plaintext of the answer.

        A forgery is refused and changes nothing: the true answer may still come.

        Raises:
            FormatError: not a queue message.
            AuthenticationFailed: not the answer to this request, or its second answer; or the keys
                were erased.
        """
        _refuse_erased(self._place)
        header, end = parse_header(sealed)
        self._place.verify(header, Direction.ANSWER)
        root = _keys_of((header.salt, header.certificate_digest), self._roots)
        plaintext = open_message(root.cipher(self._request), header, sealed, end)
        with self._lock:
            if self._opened:
                raise AuthenticationFailed("queue message: this request was answered before")
            self._opened = True
        return plaintext


class QueueReceiver:
    """The worker's side: opens each request once, and seals its answer.

    "Once" holds for this process and among the last 16,384 messages of each of the last 4,096
    senders; the bounds and what follows from them stand in the reference page.
    """

    __slots__ = ("_answers", "_ciphers", "_lock", "_place", "_seen")

    def __init__(
        self, *, queue_key: Secret, model: str, epoch: int, certificate_digest: bytes
    ) -> None:
        """Receive under `queue_key`; the arguments are those of `QueueSender`.

        `certificate_digest` is of this worker's own certificate.
        """
        self._place = Place(
            queue_key=queue_key, model=model, epoch=epoch, certificate_digest=certificate_digest
        )
        self._ciphers = Cache(self._place.request_cipher)
        self._answers = Turns(lambda salt: self._place.answer_root(salt, certificate_digest))
        self._seen: OrderedDict[Peer, _Window] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Open nothing any more; what was opened before can still be answered.

        The queue key is erased. What is left answers this process's own requests and opens none.
        """
        if not self._place.erased:
            self._answers.take()  # so that its keys are there
        self._place.queue_key.wipe()
        self._ciphers.forget()

    def erase(self) -> None:
        """Erase all keys: nothing is opened or answered any more."""
        self._place.queue_key.wipe()
        self._ciphers.forget()
        self._answers.forget()

    def open_request(self, sealed: bytes) -> "OpenedRequest":
        """Return the request in `sealed`, which no later call opens again.

        Raises:
            FormatError: not a queue message.
            AuthenticationFailed: changed, of another model, epoch or direction, seen before, or
                older than the window; or the keys were erased.
        """
        _refuse_erased(self._place)
        header, end = parse_header(sealed)
        self._place.verify(header, Direction.REQUEST)
        peer = (header.salt, header.certificate_digest)
        plaintext = open_message(_keys_of(peer, self._ciphers), header, sealed, end)
        # Only now: what is not authentic must neither use up a counter nor push out a sender.
        self._admit(peer, header.counter)
        request = RequestName.of(header, sealed, end)
        return OpenedRequest(
            plaintext=plaintext,
            header=header,
            _seal_answer=lambda answer: self._seal_answer(request, answer),
        )

    def _admit(self, peer: Peer, counter: int) -> None:
        with self._lock:
            window = self._seen.get(peer)
            if window is None:
                window = self._seen[peer] = _Window()
                if len(self._seen) > MAX_SALTS:
                    self._seen.popitem(last=False)
            else:
                self._seen.move_to_end(peer)
            window.admit(counter)

    def _seal_answer(self, request: RequestName, plaintext: bytes | bytearray) -> bytes:
        try:
            turn, counter = self._answers.take()
        except LocalProtocolError as err:  # nothing to derive from
            raise AuthenticationFailed("queue message: its keys were erased") from err
        header = MessageHeader(
            version=0,
            deadline_ms=0,
            request_ids=(),
            direction=Direction.ANSWER,
            model=self._place.model,
            epoch=self._place.epoch,
            salt=turn.salt,
            certificate_digest=self._place.certificate_digest,
            counter=counter,
        )
        return seal_message(turn.keys.cipher(request), header, plaintext)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRequest:
    """A request that was authentic and had not been seen.

    Attributes:
        plaintext: in a buffer of its own, which the holder may wipe.
        header: as the sender stated it.
    """

    plaintext: bytearray = field(repr=False)
    header: MessageHeader
    _seal_answer: Callable[[bytes | bytearray], bytes] = field(repr=False)

    def answer(self, plaintext: bytes | bytearray) -> bytes:
        """Return `plaintext`, at most 1 GiB, sealed as an answer to this request alone.

        Each call seals under its own nonce; the front end accepts one answer.

        Raises:
            FormatError: the plaintext is too long.
            AuthenticationFailed: the keys were erased meanwhile.
        """
        return self._seal_answer(plaintext)


def _keys_of(peer: Peer, cache: Cache[K]) -> K:
    """Return the keys of `peer`, unless another thread has just erased what they come from."""
    try:
        return cache.get(peer)
    except LocalProtocolError as err:  # nothing to derive from
        raise AuthenticationFailed("queue message: its keys were erased") from err


def _refuse_erased(place: Place) -> None:
    if place.erased:
        raise AuthenticationFailed("queue message: its keys were erased")


class _Window:
    """Which counters of one sender were seen: all up to `_highest`, less the window's open ones.

    Bit i of `_bits` stands for counter `_highest - i` (the sliding window of RFC 4303, section
    3.4.3, in one integer).
    """

    __slots__ = ("_bits", "_highest")

    def __init__(self) -> None:
        self._highest = 0
        self._bits = 0

    def admit(self, counter: int) -> None:
        """Note `counter`, which must be new.

        Raises:
            AuthenticationFailed: seen before, or so old that this can no longer be known.
        """
        ahead = counter - self._highest
        if ahead > 0:
            kept = self._bits << ahead if ahead < REPLAY_WINDOW else 0
            self._bits = (kept | 1) & _WINDOW_MASK
            self._highest = counter
        elif -ahead >= REPLAY_WINDOW:
            raise AuthenticationFailed("queue message: too old to tell whether it was seen")
        elif self._bits >> -ahead & 1:
            raise AuthenticationFailed("queue message: seen before")
        else:
            self._bits |= 1 << -ahead
