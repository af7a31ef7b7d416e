"""A broker's connection to one keeper: the exchange of `messages`, from the asker's end.

It blocks, as the broker's own commits do: nothing may be decided until a step is counted, so there
is nothing else to do meanwhile.
"""

import contextlib
import secrets
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final

import msgspec

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import spki_of
from wardian.broker.counting.protocol import Advance, CounterAnswer, decode_value
from wardian.broker.frames import ATTESTATION_FRAME_BYTES, FIRST_FRAME_BYTES, HEADER
from wardian.broker.keeping.messages import (
    KeeperChallenge,
    KeeperClaim,
    KeeperHello,
    KeeperProof,
    Step,
    claim_signed_bytes,
    keeper_report_data,
)
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.refusal import decode_or_raise
from wardian.crypto.signing import SigningKey
from wardian.errors import ConnectionLost, PeerProtocolError, Timeout

DIAL_S: Final = 2.0
"""For the connection, and again for its TLS handshake."""
PROOF_S: Final = 5.0
"""For the keeper's evidence, which takes a quoting enclave."""
ANSWER_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a keeper showed of itself. The evidence is not verified.

    Attributes:
        spki: the key that it has proved to hold, DER SubjectPublicKeyInfo.
        evidence: untrusted.
        report_data: the 64 bytes that the evidence has to bind.
    """

    spki: bytes
    evidence: Evidence
    report_data: bytes


class KeeperLink:
    """A connection to whoever listens at an address. Used by one thread at a time."""

    __slots__ = ("_address", "_connection", "spki")

    spki: bytes
    """The key of the connection, DER: who holds it is who answers."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Connect to `address`, an IP address and a port.

        Raises:
            ConnectionLost: nobody listens there, or not with TLS 1.3.
            FormatError: its certificate does not parse.
        """
        self._address = address
        self._connection = self._dial()
        try:
            self.spki = spki_of(self._connection.getpeercert(binary_form=True) or b"")
        except BaseException:
            self.close()
            raise

    def introduce(self, asker: SigningKey) -> Shown:
        """Say who asks, and return what the keeper shows of itself. Once.

        Raises:
            PeerProtocolError, PolicyDenied, TransportError: it refuses, or speaks otherwise.
        """
        hello = KeeperHello(asker=asker.public, nonce=secrets.token_bytes(NONCE_BYTES))
        challenge = self._exchange(hello, timeout_s=ANSWER_S)
        decode_or_raise(challenge, KeeperChallenge, what="keeper challenge")
        raw = wire.encode(hello)
        signed = claim_signed_bytes(keeper_spki=self.spki, hello=raw, challenge=challenge)
        answer = self._exchange(
            KeeperClaim(signature=asker.sign(signed)),
            timeout_s=PROOF_S,
            most=ATTESTATION_FRAME_BYTES,
        )
        return Shown(
            spki=self.spki,
            evidence=decode_or_raise(answer, KeeperProof, what="keeper proof").evidence,
            report_data=keeper_report_data(keeper_spki=self.spki, hello=raw, challenge=challenge),
        )

    def take(self, counter: str, advance: Advance | None) -> int:
        """Return where `counter` stands after `advance`, or as it is.

        Raises:
            PeerProtocolError, PolicyDenied, TransportError: it refuses, or speaks otherwise.
        """
        raw = self._exchange(Step(counter=counter, advance=advance), timeout_s=ANSWER_S)
        return decode_value(decode_or_raise(raw, CounterAnswer, what="counter answer").value)

    def close(self) -> None:
        """Close the connection at once."""
        self._connection.close()

    def _dial(self) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # its key says who it is
        context.verify_mode = ssl.CERT_NONE
        with contextlib.ExitStack() as undo:
            try:
                plain = undo.enter_context(socket.create_connection(self._address, timeout=DIAL_S))
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = undo.enter_context(context.wrap_socket(plain))
            except OSError as err:
                host, port = self._address
                raise ConnectionLost(
                    f"no keeper answers at {host} port {port}: {err.strerror or err}"
                ) from err
            undo.pop_all()
            return connection

    def _exchange(
        self, message: msgspec.Struct, *, timeout_s: float, most: int = FIRST_FRAME_BYTES
    ) -> bytes:
        """Send `message` and return the next frame."""
        raw = wire.encode(message)
        deadline = time.monotonic() + timeout_s
        try:
            self._until(deadline).sendall(HEADER.pack(len(raw)) + raw)
            (length,) = HEADER.unpack(self._read(HEADER.size, deadline))
            if not 1 <= length <= most:
                raise PeerProtocolError(f"a frame of {length} bytes; 1 to {most} are accepted")
            return self._read(length, deadline)
        except TimeoutError as err:
            raise Timeout(f"no answer within {timeout_s:g} s") from err
        except OSError as err:  # ssl.SSLError is one
            raise ConnectionLost("the keeper closed the connection") from err

    def _read(self, size: int, deadline: float) -> bytes:
        content = bytearray()
        while len(content) < size:
            part = self._until(deadline).recv(size - len(content))
            if not part:
                raise ConnectionLost("the keeper closed the connection")
            content += part
        return bytes(content)

    def _until(self, deadline: float) -> ssl.SSLSocket:
        """Return the connection, with what is left of the time as its timeout."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection
