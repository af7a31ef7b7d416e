"""The active's connection to one standby, over which every commit goes before it is counted.

It blocks. A commit is made between two steps of the broker's one thread, and nothing may be decided
until it is both on the standby's disk and counted; so there is nothing else to do meanwhile. It
costs what the broker's own write costs, a sync of the standby's disk, and a round trip; a standby
that takes longer than `ANSWER_S` is given up, so that is the longest that the broker ever waits.
"""

import contextlib
import hashlib
import socket
import ssl
import time
from typing import Final

from wardian._internal import wire
from wardian.broker.frames import HEADER
from wardian.broker.standby.channel import TAG_BYTES, Direction, Receiver, Sender
from wardian.broker.standby.messages import CommitsHello
from wardian.broker.state.contents import Commit, encode_commit
from wardian.crypto.secret import Secret
from wardian.errors import ConnectionLost, PeerProtocolError, Timeout

ANSWER_S: Final = 1.0
DIAL_S: Final = 5.0
MARK_BYTES: Final = 32
BEAT: Final = b"\x00"
COMMIT: Final = b"\x01"
"""The first byte of what the active sends: that it lives, or that a commit follows."""


class CommitsLink:
    """A standby that is kept up. Used by one thread at a time."""

    __slots__ = ("_answer_s", "_receiver", "_sender", "_socket")

    def __init__(
        self, connection: ssl.SSLSocket, *, session_key: Secret, answer_s: float = ANSWER_S
    ) -> None:
        """Speak over `connection`, on which the session was named already."""
        self._socket = connection
        self._answer_s = answer_s
        self._sender = Sender(session_key, Direction.COMMITS)
        self._receiver = Receiver(session_key, Direction.COMMITS_TAKEN)

    def beat(self) -> bytes:
        """Return which copy the standby has, its mark, 32 bytes.

        Raises:
            TransportError: it did not say so in time.
            AuthenticationFailed: somebody else spoke.
        """
        return self._exchange(BEAT)

    def ship(self, commit: Commit) -> None:
        """Return once `commit` is on the standby's disk.

        Raises:
            TransportError: it did not say so in time, or has something else there.
            AuthenticationFailed: somebody else spoke.
        """
        mark = self._exchange(COMMIT + encode_commit(commit))
        if mark != hashlib.sha256(commit.root).digest():
            raise PeerProtocolError("the standby has another copy than it was sent")

    def close(self) -> None:
        """Close the connection at once."""
        self._socket.close()

    def _exchange(self, content: bytes) -> bytes:
        frame = self._sender.frame(content)
        deadline = time.monotonic() + self._answer_s
        try:
            self._write(HEADER.pack(len(frame)) + frame, deadline)
            (length,) = HEADER.unpack(self._read(HEADER.size, deadline))
            if length != TAG_BYTES + MARK_BYTES:
                raise PeerProtocolError("the standby answered in another form")
            return self._receiver.content(self._read(length, deadline))
        except TimeoutError as err:
            raise Timeout(f"the standby did not answer within {self._answer_s:g} s") from err
        except OSError as err:  # ssl.SSLError is one
            raise ConnectionLost("the standby closed the connection") from err

    def _write(self, raw: bytes, deadline: float) -> None:
        """Send all of `raw`. `SSLSocket.sendall` grants its timeout to each record of 16 KiB."""
        rest = memoryview(raw)
        while rest:
            self._until(deadline)
            rest = rest[self._socket.send(rest) :]

    def _read(self, size: int, deadline: float) -> bytes:
        content = bytearray()
        while len(content) < size:
            self._until(deadline)
            part = self._socket.recv(size - len(content))
            if not part:
                raise ConnectionLost("the standby closed the connection")
            content += part
        return bytes(content)

    def _until(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)


def dial(
    address: tuple[str, int], *, session: bytes, session_key: Secret, answer_s: float = ANSWER_S
) -> CommitsLink:
    """Return a connection to the standby at `address` for the commits of `session`.

    Its certificate is not verified: every frame is under a key that only the attested standby has.

    Raises:
        ConnectionLost: nobody listens there, or not with TLS 1.3.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    hello = wire.encode(CommitsHello(session=session))
    with contextlib.ExitStack() as undo:
        try:
            plain = undo.enter_context(socket.create_connection(address, timeout=DIAL_S))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = undo.enter_context(context.wrap_socket(plain))
            connection.sendall(HEADER.pack(len(hello)) + hello)
        except OSError as err:
            raise ConnectionLost(
                f"the standby does not listen at {address[0]} port {address[1]}: "
                f"{err.strerror or err}"
            ) from err
        undo.pop_all()
    return CommitsLink(connection, session_key=session_key, answer_s=answer_s)
