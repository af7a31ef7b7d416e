"""Asking a PCCS: one GET at a time, blocking, bounded in time and in bytes.

Whoever answers is not trusted with anything, so the certificate of its TLS is not looked at: what
comes back is the vendor's, signed, or it is refused. (A PCCS makes a certificate of its own when it
is installed, and inside an enclave there is no list of authorities to ask.) A service in between
can therefore see which model of platform is asked about, and withhold the answer; no more.

No redirect is followed, no proxy is taken from the environment, and no address comes out of an
answer: only what was configured is ever connected to.
"""

import io
import socket
import ssl
from collections.abc import Callable, Mapping
from http.client import NOT_FOUND, OK, HTTPConnection, HTTPException
from typing import IO, Final, Protocol, TypeAlias

from typing_extensions import Buffer, override

from wardian._internal.clock import Monotonic, monotonic
from wardian.attestation.collateral.pccs import Answer, Pccs, Question, build_collateral
from wardian.attestation.collateral.platform_model import PlatformModel
from wardian.errors import ConnectionLost, PeerProtocolError, Timeout

FETCH_TIMEOUT_S: Final = 10.0
"""For all questions about one model together."""
MAX_ANSWER_BYTES: Final = 128 * 1024
"""Of one answer with its headers; the largest real one, a revocation list, has 3 KiB."""
_MAX_ADDRESSES: Final = 4

Left: TypeAlias = Callable[[], float]
"""Returns the seconds that are left, more than none; raises TimeoutError after the deadline."""
Connect: TypeAlias = Callable[[Question, Left], socket.socket]
"""Opens a stream to where a question is asked."""


class Fetcher(Protocol):
    """Whoever can be asked for collateral."""

    def fetch(self, model: PlatformModel) -> bytes:
        """Return the collateral of `model` as JSON, unverified.

        Raises:
            TransportError: it cannot be had now.
            FormatError: what came back has another form.
        """


class PccsClient:
    """A PCCS, or Intel's own service, over HTTP. Blocks: use it in a thread.

    A name that the resolver is slow to find counts too, but the resolver cannot be interrupted;
    its own limits are those of the system.
    """

    def __init__(
        self,
        pccs: Pccs,
        *,
        timeout_s: float = FETCH_TIMEOUT_S,
        clock: Monotonic = monotonic,
        connect: Connect | None = None,
    ) -> None:
        """Ask `pccs`; give up on a model after `timeout_s` seconds altogether."""
        self._pccs = pccs
        self._timeout_s = timeout_s
        self._clock = clock
        self._connect = connect or connect_to

    def fetch(self, model: PlatformModel) -> bytes:
        """Return the collateral of `model` as JSON, unverified.

        Raises:
            Timeout: it took too long.
            ConnectionLost: there is no way to the service, or it went away.
            PeerProtocolError: it answered with another status than 200, or with too much.
            FormatError: an answer has another form than the API's.
        """
        deadline = self._clock() + self._timeout_s
        answers = {
            part: self._get(question, deadline)
            for part, question in self._pccs.questions(model).items()
        }
        return build_collateral(answers)

    def _get(self, question: Question, deadline: float) -> Answer:
        place = f"{question.host}:{question.port}"
        try:
            return _exchange(question, self._connect, lambda: self._left(deadline))
        except TimeoutError as err:
            raise Timeout(f"{place}: no answer within {self._timeout_s:g} seconds") from err
        except (HTTPException, ValueError) as err:  # the latter: lengths and names that are none
            raise PeerProtocolError(f"{place}: answered with something other than HTTP") from err
        except OSError as err:  # ssl.SSLError too
            raise ConnectionLost(f"{place}: {err.strerror or type(err).__name__}") from err

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise TimeoutError
        return left


def connect_to(question: Question, left: Left) -> socket.socket:
    """Return a stream to where `question` is asked.

    Raises:
        OSError: nobody answers there, or not in time.
    """
    found = socket.getaddrinfo(question.host, question.port, type=socket.SOCK_STREAM)
    failure = OSError("the name has no address")
    for *_, address in found[:_MAX_ADDRESSES]:
        try:
            channel = socket.create_connection((str(address[0]), question.port), timeout=left())
        except OSError as err:
            failure = err
        else:
            return _encrypted(channel, question.host) if question.secure else channel
    raise failure


def connect_resolved(addresses: Mapping[str, str]) -> Connect:
    """Return what connects to hosts whose addresses are known; it never asks a resolver.

    Args:
        addresses: IP addresses by host name; they may be lies, like every answer.
    """

    def connect(question: Question, left: Left) -> socket.socket:
        address = addresses.get(question.host)
        if address is None:
            raise OSError(f"nobody said where {question.host} is")
        channel = socket.create_connection((address, question.port), timeout=left())
        return _encrypted(channel, question.host) if question.secure else channel

    return connect


def _encrypted(channel: socket.socket, host: str) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # see the module: nothing that comes back is trusted
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        return context.wrap_socket(channel, server_hostname=host)
    except BaseException:
        channel.close()
        raise


def _exchange(question: Question, connect: Connect, left: Left) -> Answer:
    """Return the answer to one question, asked on a connection of its own."""
    channel = connect(question, left)
    try:
        connection = HTTPConnection(question.host, question.port)
        connection.sock = _Stream(channel, left)
        connection.request("GET", question.target, headers={"Connection": "close"})
        with connection.getresponse() as response:
            if response.status != OK:
                raise PeerProtocolError(_refused(question, response.status))
            # A number, because without one http.client reserves whatever the answer says it has.
            body = response.read(MAX_ANSWER_BYTES + 1)
            if response.length:
                raise PeerProtocolError(f"{question.host}: an answer is too long, or was cut off")
            return Answer(headers=tuple(response.getheaders()), body=body)
    finally:
        channel.close()


def _refused(question: Question, status: int) -> str:
    said = f"{question.host}:{question.port}: answered {status} to {question.target}"
    if status in range(300, 400):
        return f"{said}; redirects are not followed: configure the address that it is at"
    if status == NOT_FOUND:
        return f"{said}: no such collateral there, or no PCCS of API version 4"
    return said


class _Stream:
    """What `http.client` needs of a socket, with a deadline for all of it.

    A socket's own timeout starts anew with each byte, so that one byte a second would do for days.
    """

    def __init__(self, channel: socket.socket, left: Left) -> None:
        self._channel = channel
        self._left = left

    def sendall(self, content: bytes) -> None:
        """Send all of `content`."""
        self._channel.settimeout(self._left())
        self._channel.sendall(content)

    def makefile(self, _mode: str) -> IO[bytes]:
        """Return a buffered reader of what comes in."""
        return io.BufferedReader(_Reader(self._channel, self._left))

    def close(self) -> None:
        """Do nothing: whoever opened the channel closes it, after the reader is done."""


class _Reader(io.RawIOBase):
    """What comes in on a socket until the deadline, and no more than an answer may have."""

    def __init__(self, channel: socket.socket, left: Left) -> None:
        super().__init__()
        self._channel = channel
        self._left = left
        self._budget = MAX_ANSWER_BYTES

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        self._channel.settimeout(self._left())
        count = self._channel.recv_into(buffer)
        self._budget -= count
        if self._budget < 0:
            raise PeerProtocolError(f"an answer has more than {MAX_ANSWER_BYTES} bytes")
        return count
