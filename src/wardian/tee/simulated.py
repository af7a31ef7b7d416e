"""The simulated TEE as its process sees it: questions over a socket to the launcher.

The launcher plays processor and host at once. A frame is a u32 length, big endian, and JSON; each
question gets one answer, in order.
"""

import socket
import stat
import struct
import threading
from os import fstat
from typing import TypeAlias, cast

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.log import Field
from wardian.attestation.evidence import REPORT_DATA_BYTES, Evidence
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, ConnectionLost, LocalProtocolError, SealError
from wardian.tee.backend import Enclave, SealTo

CHANNEL = 3
"""The file descriptor that `bootstrap` leaves the socket on."""

MAX_FRAME_BYTES = wire.MAX_MESSAGE_BYTES


class EvidenceQuestion(wire.Message, frozen=True, kw_only=True, tag="evidence"):
    """Evidence over 64 bytes of report data."""

    report_data: bytes


class SealingKeyQuestion(wire.Message, frozen=True, kw_only=True, tag="sealing-key"):
    """The key that belongs to this measurement, or to its signer and product id."""

    to: SealTo = SealTo.MEASUREMENT


class AgreedConfigQuestion(wire.Message, frozen=True, kw_only=True, tag="agreed-config"):
    """`wardian.toml`, the bytes that were measured."""


class HostSettingsQuestion(wire.Message, frozen=True, kw_only=True, tag="host-settings"):
    """What the host wants to set."""


class Announcement(wire.Message, frozen=True, kw_only=True, tag="announce"):
    """Something that the host may know."""

    event: str
    fields: dict[str, Field]


class ReadCounterQuestion(wire.Message, frozen=True, kw_only=True, tag="read-counter"):
    """The value of a monotonic counter."""

    name: str


class AdvanceCounterQuestion(wire.Message, frozen=True, kw_only=True, tag="advance-counter"):
    """A greater value for a monotonic counter."""

    name: str
    to: int


Question: TypeAlias = (
    EvidenceQuestion
    | SealingKeyQuestion
    | AgreedConfigQuestion
    | HostSettingsQuestion
    | Announcement
    | ReadCounterQuestion
    | AdvanceCounterQuestion
)


class Answer(wire.Message, frozen=True, kw_only=True, omit_defaults=True):
    """The launcher's answer: what the question is about, or `error`.

    Attributes:
        content: a key, a configuration, settings.
        evidence: for an `EvidenceQuestion`.
        number: a counter's value.
        error: why there is none of these.
    """

    content: bytes = b""
    evidence: Evidence | None = None
    number: int = 0
    error: str = ""


def parse_question(raw: bytes) -> Question:
    """Return the question in `raw`.

    Raises:
        FormatError: it is none.
    """
    return wire.decode(raw, cast("type[Question]", Question), what="a role's question")


def send_frame(channel: socket.socket, message: wire.Message) -> None:
    """Send `message` whole.

    Raises:
        OSError: the other side is gone.
        LocalProtocolError: it is longer than a frame may be.
    """
    raw = wire.encode(message)
    if len(raw) > MAX_FRAME_BYTES:
        raise LocalProtocolError(f"a frame of {len(raw)} bytes, at most {MAX_FRAME_BYTES}")
    channel.sendall(struct.pack(">I", len(raw)) + raw)


def receive_frame(channel: socket.socket) -> bytes | None:
    """Return the next frame, or None if the other side closed the socket between two frames.

    Raises:
        ConnectionLost: it closed the socket inside a frame, or announced one that is too long.
    """
    header = _receive(channel, 4)
    if header is None:
        return None
    length = int.from_bytes(header, "big")
    body = _receive(channel, length) if length <= MAX_FRAME_BYTES else None
    if body is None:
        raise ConnectionLost("the channel between launcher and role ended inside a frame")
    return body


def _receive(channel: socket.socket, size: int) -> bytes | None:
    """Return `size` bytes; None if the socket ends before the first of them."""
    content = bytearray()
    while len(content) < size:
        part = channel.recv(size - len(content))
        if not part and not content:
            return None
        if not part:
            raise ConnectionLost("the channel between launcher and role ended inside a frame")
        content += part
    return bytes(content)


class SimulatedEnclave(Enclave):
    """A process that `launcher.launch_simulated` started. Protects nothing: see `simulation`."""

    def __init__(self, channel: socket.socket | None = None) -> None:
        """Enter through `channel`, by default the socket that `bootstrap` left on `CHANNEL`.

        Raises:
            ConfigError: this process was not started by the launcher.
        """
        self._channel = channel or _inherited_channel()
        self._lock = threading.Lock()  # one question at a time: answers carry no number

    @property
    @override
    def name(self) -> str:
        return "simulated"

    @property
    @override
    def simulated(self) -> bool:
        return True

    @override
    def evidence(self, report_data: bytes) -> Evidence:
        if len(report_data) != REPORT_DATA_BYTES:
            raise LocalProtocolError(f"report data has {REPORT_DATA_BYTES} bytes")
        answer = self._ask(EvidenceQuestion(report_data=report_data))
        if answer.evidence is None:
            raise ConnectionLost("the launcher gave no evidence")
        return answer.evidence

    @override
    def sealing_key(self, to: SealTo = SealTo.MEASUREMENT) -> Secret:
        return Secret(self._ask(SealingKeyQuestion(to=to)).content)

    @override
    def agreed_config(self) -> bytes:
        return self._ask(AgreedConfigQuestion()).content

    @override
    def host_settings(self) -> bytes:
        return self._ask(HostSettingsQuestion()).content

    @override
    def announce(self, event: str, **fields: Field) -> None:
        self._ask(Announcement(event=event, fields=fields))

    @override
    def read_counter(self, name: str) -> int:
        return self._ask(ReadCounterQuestion(name=name)).number

    @override
    def advance_counter(self, name: str, to: int) -> None:
        self._ask(AdvanceCounterQuestion(name=name, to=to))

    def _ask(self, question: Question) -> Answer:
        """Return the launcher's answer.

        Raises:
            SealError: the launcher refused; only counters have a reason to.
            ConnectionLost: the launcher is gone.
        """
        try:
            with self._lock:
                send_frame(self._channel, question)
                raw = receive_frame(self._channel)
        except OSError as err:
            raise ConnectionLost("the launcher is gone") from err
        if raw is None:
            raise ConnectionLost("the launcher is gone")
        answer = wire.decode(raw, Answer, what="the launcher's answer")
        if answer.error:
            raise SealError(answer.error)
        return answer


def _inherited_channel() -> socket.socket:
    try:
        if not stat.S_ISSOCK(fstat(CHANNEL).st_mode):
            raise ConfigError(_NOT_LAUNCHED)
        return socket.socket(fileno=CHANNEL)
    except OSError as err:
        raise ConfigError(_NOT_LAUNCHED) from err


_NOT_LAUNCHED = (
    "this process was not started as a simulated enclave; use `wardian up`, or `wardian ROLE`"
)
