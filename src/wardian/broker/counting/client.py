"""The workload's side of counters that the broker keeps: `MonotonicCounter`s over a connection.

A counter is asked from code that may wait, such as `tee.sealed_state`. So the calls block; whoever
runs an event loop makes them in another thread.
"""

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from wardian._internal import wire
from wardian._internal.clock import UnixTime
from wardian._internal.counter import MonotonicCounter
from wardian.broker.certificates import BROKER, verify_peer_certificate
from wardian.broker.counting.protocol import (
    Advance,
    CounterAnswer,
    CounterChallenge,
    CounterHello,
    CounterRequest,
    decode_value,
    keeper_id,
    request_signed_bytes,
)
from wardian.broker.counting.remote import RemoteCounter
from wardian.broker.frames import FRAME_BYTES, FrameStream, connect
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.refusal import decode_or_raise
from wardian.broker.release.admission import Admission
from wardian.errors import (
    CounterUnavailable,
    LocalProtocolError,
    PolicyDenied,
    SealError,
    TransportError,
)

T = TypeVar("T")

ANSWER_TIMEOUT_S: Final = 10.0
"""For a whole exchange: connection, handshake, four messages, and the broker's commit."""
_NOT_COUNTED: Final = frozenset({"counter-moved", "counter-range"})


class RemoteCounters:
    """The counters of this process's role and measurement at one broker."""

    __slots__ = ("_address", "_admission", "_certificate", "_now", "_timeout_s")

    def __init__(
        self,
        address: tuple[str, int],
        *,
        admission: Admission,
        now: UnixTime,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        """Count at the broker that admitted this process.

        Args:
            address: host and port, from the operator; a lie costs service and nothing else.
            admission: whose certificate says who we are, and whose CA the broker is known by. It
                ends with its certificate, or with its manifest: be admitted anew, then make
                another of these.
            now: the clock, Unix seconds.
            timeout_s: after which the broker counts as unreachable.
        """
        self._address, self._admission = address, admission
        self._now, self._timeout_s = now, timeout_s
        own = x509.load_pem_x509_certificates(admission.certificate_chain_pem)[0]
        self._certificate = own.public_bytes(Encoding.DER)

    @property
    def keeper_id(self) -> bytes:
        """The 32 bytes that name this broker as a keeper of counters."""
        return keeper_id(self._admission.mesh_ca_spki)

    def counter(self, name: str) -> MonotonicCounter:
        """Return the counter `name`, 1 to 64 of `a-z`, `0-9` and `-`, that is this state's alone.

        Its calls raise what `MonotonicCounter` says, and PolicyDenied where the broker refuses
        this process, FormatError, AuthenticationFailed or EvidenceStale where a certificate is not
        what it should be.
        """
        return RemoteCounter(self.ask, name).seam(self.keeper_id)

    def ask(self, name: str, advance: Advance | None) -> int:
        """Return where the counter `name` stands after `advance`, or as it is.

        Raises:
            CounterUnavailable: the broker cannot be asked now; whether it advanced is unknown.
            SealError: it was not advanced: the counter stands elsewhere.
            PolicyDenied, PeerProtocolError, FormatError, AuthenticationFailed, EvidenceStale: see
                `counter`.
        """
        try:
            return _wait_for(self._exchange(name, advance))
        except TransportError as err:
            if not err.retryable:
                raise
            raise CounterUnavailable(f"the counter {name} cannot be had now: {err}") from err
        except TimeoutError as err:
            raise CounterUnavailable(
                f"the counter {name} cannot be had now: no answer within {self._timeout_s:g} s"
            ) from err
        except PolicyDenied as err:
            if err.rule not in _NOT_COUNTED:
                raise
            raise SealError(f"the counter {name} was not advanced: {err}") from err

    async def _exchange(self, name: str, advance: Advance | None) -> int:
        async with asyncio.timeout(self._timeout_s):
            stream = await connect(self._address)
            try:
                return await self._speak(stream, name, advance)
            finally:
                await stream.close()

    async def _speak(self, stream: FrameStream, name: str, advance: Advance | None) -> int:
        """Carry out one exchange on `stream`, once it is known to end at our broker."""
        ca_spki = self._admission.mesh_ca_spki
        verify_peer_certificate(
            stream.peer_certificate(),
            issuer_spki=self._admission.issuer_spki,
            role=BROKER,
            manifest_digest=self._admission.manifest.digest,
            now=self._now(),
        )
        nonce = secrets.token_bytes(NONCE_BYTES)
        hello = wire.encode(CounterHello(certificate=self._certificate, nonce=nonce))
        await stream.send(hello)
        challenge = await stream.receive(most=FRAME_BYTES)
        decode_or_raise(challenge, CounterChallenge, what="counter challenge")
        signed = request_signed_bytes(
            ca_spki=ca_spki, hello=hello, challenge=challenge, counter=name, advance=advance
        )
        signature = self._admission.tls_key.sign(signed)
        request = CounterRequest(counter=name, advance=advance, signature=signature)
        await stream.send(wire.encode(request))
        raw = await stream.receive(most=FRAME_BYTES)
        return decode_value(decode_or_raise(raw, CounterAnswer, what="counter answer").value)


def _wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, run to its end in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise LocalProtocolError("a counter waits for its broker: ask it in a thread of its own")
