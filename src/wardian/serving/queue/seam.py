"""The seam between front ends and workers: sealed messages out, sealed answers back.

A queue is the enemy's ground (DESIGN I3): it carries opaque bytes, and whatever it does with them
is caught by those who hold the queue key. It promises only order in bookkeeping: a message is with
at most one worker, and the front end hears when that worker is gone.

`front` and `worker` are the two ends of the embedded one, `redis_front` and `redis_worker` of the
one over Redis. Both directions of a front end's queue run on its event loop; a worker has nothing
else to do and blocks.
"""

from typing import NamedTuple, Protocol

from wardian.serving.queue.lease import Lane

__all__ = ["Delivered", "FrontQueue", "FrontSink", "Lane", "WorkerQueue"]


class FrontSink(Protocol):
    """What a queue tells the front end, on the event loop and never from within a call to it."""

    def challenge(self, worker: int, lane: Lane) -> bytes:
        """A worker says that it serves `lane`; returns the sealed message it must answer.

        Raises:
            WardianError: no such model here; the queue lets go of the worker.
        """

    def admit(self, worker: int, sealed: bytes) -> None:
        """The worker's answer to its last challenge.

        Raises:
            CryptoError: it is not an answer to that. Of a worker that was admitted before it may
                be the answer to an earlier one, and the true one still comes.
            WardianError: it is not what a worker of that lane answers; the queue lets go of it.
        """

    def gone(self, worker: int) -> None:
        """A worker that was challenged left, or its connection did."""

    def answered(self, message: int, sealed: bytes) -> None:
        """An answer for a message arrived.

        Raises:
            WardianError: it is not the worker's answer to that message, which stays open.
        """

    def lost(self, messages: list[int]) -> None:
        """The worker that held `messages` is gone; they are with nobody now.

        A single one is what the worker died of, if it died of anything. A 0 among them stands for
        what it held beside them, or for a loss that no worker had a part in.
        """

    def room_opened(self, lane: Lane) -> None:
        """A worker of `lane` would take a message now."""


class FrontQueue(Protocol):
    """A queue as a front end sees it."""

    def attach(self, sink: FrontSink) -> None:
        """Tell `sink` from now on; called once, before the queue starts."""

    def room(self, lane: Lane, *, most: int | None = None) -> int:
        """Return how many workers would be handed a message at once if it were sent now.

        `most`: those that hold as many as that do not count, whatever their credit.
        """

    def crew(self, lane: Lane) -> int:
        """Return how many workers serve `lane`."""

    def idle(self, lane: Lane) -> bool:
        """Return whether a worker of `lane` has nothing to do, as far as this front end knows."""

    def send(self, message: int, sealed: bytes, *, lane: Lane, alone: bool) -> None:
        """Pass `sealed` to a worker of `lane`, now or when one has room.

        Args:
            message: a number from 1 to 2**63 - 1 that was never used before.
            sealed: opaque.
            lane: which workers can answer it.
            alone: only to a worker that holds nothing else, and gets nothing else meanwhile.
        """

    def forget(self, message: int, *, lane: Lane) -> None:
        """Nobody waits for `message` any more."""

    def rechallenge(self) -> None:
        """Ask every admitted worker again (`FrontSink.challenge`).

        Until it answers it gets nothing; what it holds it goes on holding. Who cannot be asked any
        more is let go of.
        """

    def stalled(self, worker: int) -> bool:
        """Return whether `worker` gets nothing because of messages that nobody waits for.

        It may be busy with them, or they did not reach it and it will never answer.
        """


class Delivered(NamedTuple):
    """A message as a worker gets it, or an answer as it gives it."""

    message: int
    sealed: bytes


class WorkerQueue(Protocol):
    """A queue as a worker sees it; blocking, for one thread."""

    def take(self) -> list[Delivered] | None:
        """Return the messages that are here, at least one; wait for it. None after `stop`."""

    def answer(self, answers: list[Delivered]) -> None:
        """Pass on sealed answers to messages of the last `take`, in one write.

        Dropped without a word if the front end is gone: it has given the messages up by then.
        """

    def grant(self, credit: int) -> None:
        """Let front ends have `credit` messages with this worker at a time, from now on."""

    def refused(self, message: int) -> None:
        """`message` of the last `take` did not open, so there is no answer to it.

        Unless its number is answered soon (this was a forgery or a copy, and the true message
        comes), the front end is made to believe that it is lost.
        """

    def stop(self) -> None:
        """Take nothing new; `take` returns None once what was handed out is answered.

        May be called from another thread or a signal handler.
        """

    def close(self) -> None:
        """Let go of everything."""
