"""One stream of an HTTP/2 connection: one request and its answer, each under flow control.

A `Stream` is the answering side's end: whoever serves the request (`Receiver`) is told what comes
and writes what goes. It lives until both sides have ended or either has reset it; the work that it
caused lives until the receiver says so (`Stream.rest`), and counts against the limit of streams
as long, whether or not its client is still there: to open and reset costs a client a stream.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from wardian.serving.http.http2 import frames
from wardian.serving.http.http2.fields import Head, response_block
from wardian.serving.http.http2.frames import ErrorCode, Violation
from wardian.serving.http.messages import Buffer, HttpResponse
from wardian.serving.http.sharing import ARRIVING, KEPT, STALLED

WINDOW_BYTES: Final = 1024 * 1024
"""What a client may send on one stream before we have taken it."""


class Receiver(Protocol):
    """Serves one stream. Nothing here raises; all calls come on the loop's thread."""

    def data(self, part: bytes) -> None:
        """Take part of the body: account for it (`Stream.acquire`), and let more come."""

    def end(self) -> None:
        """The request is whole."""

    def late(self, waited_s: float) -> None:
        """The request has not gone on for `waited_s`, or its deadline passed: end it if so."""

    def leave(self) -> None:
        """The connection is about to end: begin nothing new."""

    def taken(self) -> None:
        """All that was written so far has gone out; more may follow."""

    def gone(self) -> None:
        """The client has reset the stream or left: nothing that is written goes anywhere."""


class Carrier(Protocol):
    """What a stream needs of its connection."""

    max_send_frame: int
    tls_spki: bytes
    number: int
    peer: str

    @property
    def now(self) -> float:
        """Monotonic seconds, as precise as the sweep."""

    def emit(self, data: bytes) -> None:
        """Send a frame that is under no flow control."""

    def enqueue(self, stream: "Stream") -> None:
        """Send what `stream` has pending, as the windows allow."""

    def closed(self, stream: "Stream") -> None:
        """`stream` has ended on both sides, or was reset."""

    def rested(self, stream: "Stream") -> None:
        """Nothing works for `stream` any more."""

    def take(self, size: int, headers: Mapping[bytes, bytes]) -> bool:
        """Account for `size` bytes of a request with `headers`; False if there is no room."""

    def give(self, size: int) -> None:
        """Account for `size` bytes no more."""

    def count_refusal(self, status: int) -> None:
        """Count an answer that no handler gave."""

    def retire(self) -> None:
        """Take no further streams, and end after those that are open."""


class Stream:
    """One stream, open at least on our side until it is `dead`.

    Attributes:
        id: its number.
        head: the request without its body.
        deadline: when the sweep calls `late`, or None.
        since: when the request last went on, or an answer last got bytes away.
        send_window: what the client takes now; may be negative (section 6.9.2).
        receive_window: what the client may send now.
        remote_ended: the request is whole.
        dead: nothing more can be sent.
        working: what the request caused is not over.
    """

    __slots__ = (
        "_held", "_pending", "_received", "_trailers", "_unacknowledged", "_unsent", "carrier",
        "dead", "deadline", "ending", "head", "id", "receive_window", "receiver", "remote_ended",
        "send_window", "since", "working",
    )  # fmt: skip

    def __init__(self, carrier: Carrier, number: int, head: Head, *, send_window: int) -> None:
        """Open stream `number` of `carrier`."""
        self.carrier, self.id, self.head = carrier, number, head
        self.receiver: Receiver | None = None
        self.since = carrier.now
        self.deadline: float | None = None
        self.send_window, self.receive_window = send_window, WINDOW_BYTES
        self.remote_ended = self.dead = self.working = self.ending = False
        self._received = self._held = self._unsent = self._unacknowledged = 0
        self._pending: deque[memoryview] = deque()
        self._trailers = b""

    # -- the request ------------------------------------------------------------------------------

    def receive(self, part: bytes, *, size: int) -> bool:
        """Count `part` of the body, `size` bytes with its padding; False if it breaks the length.

        Raises:
            Violation: more than the window allows.
        """
        self.receive_window -= size
        if self.receive_window < 0:
            raise Violation(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
        self._received += len(part)
        if size > len(part):
            self.consumed(size - len(part))
        length = self.head.length
        return length is None or self._received <= length

    @property
    def whole(self) -> bool:
        """Whether the body is as long as its `content-length` says."""
        return self.head.length in (None, self._received)

    def consumed(self, size: int) -> None:
        """Let the client send `size` bytes more."""
        self._unacknowledged += size
        if self._unacknowledged * 2 >= WINDOW_BYTES and not self.remote_ended and not self.dead:
            self.receive_window += self._unacknowledged
            self.carrier.emit(frames.window_update(self.id, self._unacknowledged))
            self._unacknowledged = 0

    def acquire(self, size: int) -> bool:
        """Account for `size` bytes of the request; False if there is no room for them."""
        self._held += size
        return self.carrier.take(size, self.head.headers)

    def release(self, size: int | None = None) -> None:
        """Account for `size` bytes no more, or for none at all."""
        size = self._held if size is None else size
        self._held -= size
        self.carrier.give(size)

    def work(self) -> None:
        """What the request asks for is being done from now on."""
        self.working = True

    def rest(self) -> None:
        """It is done, or will not be."""
        self.working = False
        self.carrier.rested(self)

    # -- the answer -------------------------------------------------------------------------------

    def respond(self, response: HttpResponse) -> None:
        """Send a whole answer; no body if the request was HEAD."""
        if self.dead:
            return
        length = sum(map(len, response.body))
        empty = not length or self.head.method == b"HEAD"
        self.start(response_block(response, length), end=empty)
        if not empty:
            self.write(response.body)
            self.finish()

    def start(self, block: bytes, *, end: bool = False) -> None:
        """Send the answer's field block, and nothing after it if that is its `end`."""
        if self.dead:
            return
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        self.carrier.emit(frames.frame(frames.HEADERS, flags, self.id, block))
        if end:
            self.carrier.emit(self._ended())

    def write(self, parts: Sequence[Buffer]) -> None:
        """Send `parts` of the answer's body; not before `start`."""
        if not self.dead:
            self._pending.extend(memoryview(part).cast("B") for part in parts if len(part))

    def finish(self, trailers: bytes = b"") -> None:
        """End the answer once everything before it is sent, with `trailers` if there are any."""
        if not self.dead:
            self._trailers, self.ending = trailers, True
            self.carrier.enqueue(self)

    def flush(self) -> None:
        """Send what was written so far."""
        if not self.dead:
            self.carrier.enqueue(self)

    # -- the connection's side --------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._pending) or self.ending

    @property
    def holds(self) -> bool:
        """Whether memory is held for an answer that the client has yet to take."""
        return self._unsent > 0

    def held(self) -> tuple[int, int]:
        """Return how many bytes are held for it, and what they are: see `sharing.Claim`."""
        size = self._held + self._unsent
        if self._unsent:
            return size, STALLED
        return size, KEPT if self.working or self.remote_ended else ARRIVING

    def next_frame(self, most: int) -> tuple[int, tuple[Buffer, ...]]:
        """Return how many bytes of DATA the next frame has, and the frame in parts.

        No more than `most` bytes; no parts at all if nothing can go out now.
        """
        if not self._pending:
            return 0, self._last_frame() if self.ending else ()
        most = min(most, self.send_window, self.carrier.max_send_frame)
        if most <= 0:
            return 0, ()
        piece = self._pending[0]
        if len(piece) > most:
            self._pending[0], piece = piece[most:], piece[:most]
        else:
            self._pending.popleft()
        size = len(piece)
        self.send_window -= size
        self.since = self.carrier.now
        if self._unsent:
            self._unsent -= size
            self.carrier.give(size)
        if not self._pending and not self.ending and self.receiver is not None:
            self.receiver.taken()
        last = self.ending and not self._pending
        ends = last and not self._trailers
        head = frames.frame_head(size, frames.DATA, frames.END_STREAM if ends else 0, self.id)
        if ends:
            return size, (head, piece, self._ended())
        return size, (head, piece, *self._last_frame()) if last else (head, piece)

    def hold(self) -> None:
        """Account for what is pending: the client does not take it at once."""
        more = sum(map(len, self._pending)) - self._unsent
        if more:
            if not self._unsent:
                self.since = self.carrier.now
            self._unsent += more
            self.carrier.take(more, self.head.headers)

    def die(self) -> None:
        """Forget what is pending; nothing more is sent."""
        self.dead = True
        self.ending = False
        self._pending.clear()
        if self._unsent:
            self.carrier.give(self._unsent)
            self._unsent = 0
        self.carrier.closed(self)

    def _last_frame(self) -> tuple[bytes, ...]:
        trailers, self._trailers = self._trailers, b""
        kind, flags = (
            (frames.HEADERS, frames.END_STREAM | frames.END_HEADERS)
            if trailers
            else (frames.DATA, frames.END_STREAM)
        )
        return frames.frame(kind, flags, self.id, trailers), self._ended()

    def _ended(self) -> bytes:
        """End our side, and return the frame that follows its last one.

        What the client still sends is not wanted, and it is told so (section 8.1).
        """
        wanted = self.remote_ended
        self.die()
        return b"" if wanted else frames.rst_stream(self.id, ErrorCode.NO_ERROR)
