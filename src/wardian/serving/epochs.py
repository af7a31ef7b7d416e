"""The worker's queue and request keys: of the epoch in force, and for a while of those before.

A message says of which epoch it is. One of a later epoch than this worker knows means that the
front end was told of it first: the broker is asked at once. Anybody can write such a number, so
asking is rationed: what comes of it for nothing makes the next question wait longer.

A message of an epoch that is over opens while requests of it may still be under way, and no longer.
"""

import threading
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from wardian._internal.clock import Monotonic, monotonic
from wardian.crypto.message import OpenedRequest, QueueReceiver
from wardian.crypto.message_header import epoch_of
from wardian.crypto.sealed_request import Buffer, ReceivedRequest, RequestOpener, epoch_of_sealed
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed
from wardian.serving.codec import WorkerCodec

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


class Questions:
    """When the broker may be asked because of a message. Pure: time is an argument."""

    __slots__ = ("_next_at", "_pause_s")

    def __init__(self) -> None:
        self._pause_s = FIRST_PAUSE_S
        self._next_at: float | None = None

    def allows(self, ticks: float) -> bool:
        """Return whether to ask now."""
        return self._next_at is None or ticks >= self._next_at

    def asked(self, ticks: float, *, in_vain: bool) -> None:
        """An answer came, or none did, at `ticks`: at most one question a second.

        In vain: the message was forged, or the broker cannot be reached. Then the pause doubles, up
        to half a minute, so that forgeries cost a worker next to nothing.
        """
        if not in_vain:
            self._pause_s = FIRST_PAUSE_S
        self._next_at = ticks + self._pause_s
        if in_vain:
            self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)


class EpochCodec(WorkerCodec):
    """Opens requests to the workers of one model. Safe to use from several threads."""

    def __init__(
        self,
        *,
        model: str,
        keep_s: float,
        ask: Callable[[], None],
        ticks: Monotonic = monotonic,
    ) -> None:
        """Open nothing before `take_up`.

        Args:
            model: name, as in `wardian.toml`.
            keep_s: for how long messages of an epoch open after the next one was taken up: as long
                as a request may take, and a front end to hear of the new one.
            ask: asks the broker what is in force and calls `take_up` if that is news; returns when
                that is done, or will not be done for now.
            ticks: seconds that never go back.
        """
        self._model, self._keep_s, self._ask, self._ticks = model, keep_s, ask, ticks
        self._lock = threading.Lock()
        self._receivers: dict[int, tuple[Secret, QueueReceiver]] = {}
        self._openers: dict[int, RequestOpener] = {}
        self._over_at: dict[int, float] = {}
        self._newest = -1
        self._closed = False
        self._questions = Questions()

    @property
    def epoch(self) -> int:
        """The newest epoch that was taken up; -1 before the first."""
        return self._newest

    def take_up(
        self,
        key: Secret,
        *,
        epoch: int,
        certificate_digest: bytes,
        opener: RequestOpener | None = None,
    ) -> None:
        """Open messages of `epoch` from now on.

        What was seen in an epoch is remembered: if its key came again, nothing changes, and the
        second copy is wiped. So is what comes after `close` or `erase`.

        Args:
            key: of the queue, 32 bytes, owned by this codec from now on.
            epoch: of the key.
            certificate_digest: SHA-256 of this process's certificate in DER, 32 bytes.
            opener: the request key of the same epoch, owned likewise; None: nothing that a client
                sealed in this epoch opens.
        """
        with self._lock:
            self._take_opener(epoch, opener)
            known = self._receivers.get(epoch)
            if self._closed or (known is not None and known[0] == key):
                key.wipe()
                return
            if known is not None:  # of a broker that was set back: one of two keys holds
                known[1].erase()
            self._drop_over()
            receiver = QueueReceiver(
                queue_key=key,
                model=self._model,
                epoch=epoch,
                certificate_digest=certificate_digest,
            )
            self._receivers[epoch] = (key, receiver)
            over_at = self._ticks() + self._keep_s
            for other in self._receivers:
                if other != epoch:
                    self._over_at.setdefault(other, over_at)
            self._newest = epoch
            self._over_at.pop(epoch, None)

    @override
    def open_request(self, sealed: bytes) -> OpenedRequest:
        epoch = epoch_of(sealed)
        receiver = self._find(epoch)
        if receiver is None and epoch > self._newest and self._questions.allows(self._ticks()):
            self._ask()
            receiver = self._find(epoch)
            self._questions.asked(self._ticks(), in_vain=receiver is None)
        if receiver is None:
            raise AuthenticationFailed("queue message: of an epoch whose key is not here")
        return receiver.open_request(sealed)

    def open_sealed(self, body: Buffer) -> ReceivedRequest:
        """Return the request in `body`, which its client sealed to this model's request key.

        Raises:
            FormatError: it is no sealed request.
            AuthenticationFailed: of an epoch whose key is not here; or see `RequestOpener.open`.
        """
        epoch = epoch_of_sealed(body)
        with self._lock:
            self._drop_over()
            opener = self._openers.get(epoch)
        if opener is None:
            raise AuthenticationFailed("sealed request: of an epoch whose key is not here")
        return opener.open(body)

    def close(self) -> None:
        """Open nothing any more; what was opened before can still be answered."""
        with self._lock:
            self._closed = True
            self._erase_openers()
            for _, receiver in self._receivers.values():
                receiver.close()

    def erase(self) -> None:
        """Erase all keys: nothing is opened or answered any more."""
        with self._lock:
            self._closed = True
            self._erase_openers()
            for _, receiver in self._receivers.values():
                receiver.erase()
            self._receivers.clear()
            self._over_at.clear()

    def erase_over(self) -> None:
        """Erase the keys of epochs that are over; called from time to time, without a message."""
        with self._lock:
            self._drop_over()

    def _find(self, epoch: int) -> QueueReceiver | None:
        """Return the receiver of `epoch`, once the keys of epochs that are over are erased."""
        with self._lock:
            self._drop_over()
            found = self._receivers.get(epoch)
        return None if found is None else found[1]

    def _take_opener(self, epoch: int, opener: RequestOpener | None) -> None:
        """Open with `opener` from now on, unless it is here already, or all is over."""
        if opener is None:
            return
        known = self._openers.get(epoch)
        if self._closed or (known is not None and known.same(opener)):
            opener.erase()
            return
        if known is not None:
            known.erase()
        self._openers[epoch] = opener

    def _erase_openers(self) -> None:
        for opener in self._openers.values():
            opener.erase()
        self._openers.clear()

    def _drop_over(self) -> None:
        if self._over_at:
            now = self._ticks()
            for over in [each for each, at in self._over_at.items() if now >= at]:
                del self._over_at[over]
                self._receivers.pop(over)[1].erase()
                opener = self._openers.pop(over, None)
                if opener is not None:
                    opener.erase()
