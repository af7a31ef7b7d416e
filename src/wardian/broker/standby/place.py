"""What a standby answers: the active's commits, and "not here" to everybody else."""

import asyncio
import contextlib
import logging
from typing import Final

from wardian._internal import wire
from wardian._internal.log import event
from wardian.broker.frames import FrameStream
from wardian.broker.refusal import Refusal, RefusalCode
from wardian.broker.standby.channel import TAG_BYTES, Direction, Receiver, Sender
from wardian.broker.standby.commits import BEAT, COMMIT
from wardian.broker.standby.messages import STANDBY_RULE, CommitsHello
from wardian.broker.state.contents import MAX_ENCODED_BYTES
from wardian.broker.state.replica import Replica
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError, PeerProtocolError, WardianError

log = logging.getLogger(__name__)

SILENCE_S: Final = 4.0
"""An active that is silent for so long is lost; it beats once a second."""
NOT_HERE: Final = Refusal(
    code=RefusalCode.UNAVAILABLE,
    rule=STANDBY_RULE,
    message="this broker stands by: ask the active one",
)


class Following:
    """One session in which a standby is kept up: until the active is lost."""

    __slots__ = ("_receiver", "_sender", "_session", "begun", "ended", "replica")

    def __init__(self, replica: Replica, *, session: bytes, session_key: Secret) -> None:
        """Bring `replica` up with the commits of `session`."""
        self.replica = replica
        self._session = session
        self._receiver = Receiver(session_key, Direction.COMMITS)
        self._sender = Sender(session_key, Direction.COMMITS_TAKEN)
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    def is_named(self, hello: CommitsHello) -> bool:
        """Return whether `hello` names this session, which nobody speaks in yet."""
        return hello.session == self._session and not self.begun.is_set()

    async def serve(self, stream: FrameStream) -> None:
        """Write every commit that comes over `stream`, and say so, until it ends.

        Raises:
            AuthenticationFailed: the peer is not the active of this session. It is still awaited.
            TransportError, FormatError, SealError: the active is lost, or broke the protocol.
        """
        content = await self._receive(stream)
        self.begun.set()
        try:
            while True:
                if content[:1] == COMMIT:
                    self.replica.apply(content[1:])
                elif content != BEAT:
                    raise PeerProtocolError("the active broker sent something else than commits")
                await stream.send(self._sender.frame(self.replica.mark))
                content = await self._receive(stream)
        finally:
            self.ended.set()

    async def _receive(self, stream: FrameStream) -> bytes:
        frame = await stream.receive(most=MAX_ENCODED_BYTES + TAG_BYTES + 1, timeout_s=SILENCE_S)
        return self._receiver.content(frame)


class StandbyPlace:
    """What a broker that is not active answers at its door."""

    __slots__ = ("following",)

    following: Following | None
    """The session in which commits are awaited, if there is one."""

    def __init__(self) -> None:
        """Await nothing yet."""
        self.following = None

    async def answer(self, stream: FrameStream, raw: bytes) -> None:
        """Take the active's commits; tell everybody else that this broker is not active."""
        following = self.following
        hello: CommitsHello | None = None
        with contextlib.suppress(FormatError):
            hello = wire.decode(raw, CommitsHello, what="commits hello")
        if hello is None or following is None or not following.is_named(hello):
            await stream.send(wire.encode(NOT_HERE))
            return
        try:
            await following.serve(stream)
        except AuthenticationFailed:
            raise
        except WardianError as err:
            event(log, "active.lost", level=logging.WARNING, error=type(err).__name__)
