"""The coordinator on a socket: parties prove who they are, it proves what it is, then they attend.

Anybody may connect; what strangers cost is bounded (`broker.doorway`), and no quote is made for who
has not proved to be a party.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, Self

from wardian._internal import wire
from wardian._internal.clock import Monotonic, UnixTime
from wardian._internal.log import event
from wardian.attestation.evidence import Evidence
from wardian.broker.doorway import Doorway, shake_hands
from wardian.broker.frames import FIRST_FRAME_BYTES, FrameStream
from wardian.broker.limits import Bucket, Place, ServiceLimits
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.refusal import refusal_for
from wardian.broker.standby.identity import self_signed
from wardian.crypto.signing import verify_signature
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import FormatError, PolicyDenied, QueueFull, TransportError, WardianError
from wardian.learning.coordinator.attendant import Attendant
from wardian.learning.messages import (
    HEADER_BYTES,
    Challenge,
    Claim,
    Here,
    PartyHello,
    Proof,
    claim_signed_bytes,
    coordinator_report_data,
    from_party,
)

log = logging.getLogger(__name__)

FIRST_S: Final = 5.0
"""For each of the first messages of who connects."""
QUOTES_PER_S: Final = 1.0
QUOTE_BURST: Final = 20
"""Of one party: it is asked for once a connection."""


class Attendance(Protocol):
    """What becomes of a party that has proved itself."""

    def admit(self, party: str, here: Here, stream: FrameStream) -> Attendant:
        """Return who speaks with it.

        Raises:
            QueueFull: it attends already (retryable).
            PolicyDenied: it knows another run than this, or more of it.
        """

    async def arrived(self, attendant: Attendant) -> None:
        """It attends from now on."""

    def left(self, attendant: Attendant) -> None:
        """Its connection has ended."""


class CoordinatorService:
    """The coordinator, listening. Use `start`, then `aclose`."""

    def __init__(
        self,
        keys: Mapping[str, bytes],
        *,
        attendance: Attendance,
        attest: Callable[[bytes], Evidence],
        clock: UnixTime,
        ticks: Monotonic,
        limits: ServiceLimits,
    ) -> None:
        """Let in parties by their public `keys`.

        Args:
            keys: of every party of the consortium, by name.
            attendance: what becomes of them.
            attest: makes this process's evidence over 64 bytes; called in another thread.
            clock: Unix seconds, for the certificate's dates alone.
            ticks: seconds that never go back.
            limits: of connections.
        """
        self._keys, self._attendance = dict(keys), attendance
        self._attest, self._ticks = attest, ticks
        self._key = TlsKey.generate()
        self._context = self_signed(self._key, name="Wardian aggregator", now=clock())
        self._doorway = Doorway(limits, ticks=ticks, serve=self._serve)
        self._quotes = {
            party: Bucket(per_s=QUOTES_PER_S, burst=QUOTE_BURST, now=ticks()) for party in keys
        }
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evidence")

    async def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen, and return the address and port that it became.

        Raises:
            ConfigError: it cannot listen there.
        """
        return await self._doorway.open(address, port)

    async def aclose(self) -> None:
        """Stop: no new connection, open ones are cut."""
        await self._doorway.aclose()
        self._threads.shutdown(wait=True)

    async def __aenter__(self) -> Self:
        """Return the service; leaving the block closes it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the service."""
        await self.aclose()

    async def _serve(self, connection: socket.socket, place: Place) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = await shake_hands(connection, self._context)
        try:
            await self._attend(stream, place)
        except asyncio.CancelledError:
            stream.abort()
            raise
        except TransportError:
            pass
        except Exception as err:  # noqa: BLE001 (a bug, too, is answered, without its text)
            known = isinstance(err, WardianError)
            event(
                log,
                "party.cut",
                level=logging.WARNING if known else logging.ERROR,
                error=type(err).__name__,
                rule=err.rule if isinstance(err, PolicyDenied) else "",
            )
            with contextlib.suppress(TransportError):
                await stream.send(wire.encode(refusal_for(err)), timeout_s=FIRST_S)
        finally:
            await stream.close()

    async def _attend(self, stream: FrameStream, place: Place) -> None:
        party = await self._prove(stream)
        place.firm = True
        said = from_party(await stream.receive(most=HEADER_BYTES, timeout_s=FIRST_S))
        if not isinstance(said, Here):
            raise FormatError("learning message: not its turn")
        attendant = self._attendance.admit(party, said, stream)
        try:
            await both(self._attendance.arrived(attendant), attendant.converse())
        finally:
            self._attendance.left(attendant)

    async def _prove(self, stream: FrameStream) -> str:
        """Return which party it is, proved, once this coordinator has proved itself to it.

        Raises:
            FormatError, AuthenticationFailed: it is not who it says.
            PolicyDenied: the consortium does not know it.
            QueueFull: it asks for more evidence than it may for now (retryable).
        """
        raw = await stream.receive(most=FIRST_FRAME_BYTES, timeout_s=FIRST_S)
        hello = wire.decode(raw, PartyHello, what="party hello")
        challenge = wire.encode(Challenge(nonce=secrets.token_bytes(NONCE_BYTES)))
        await stream.send(challenge, timeout_s=FIRST_S)
        answer = await stream.receive(most=FIRST_FRAME_BYTES, timeout_s=FIRST_S)
        claim = wire.decode(answer, Claim, what="party claim")
        key = self._keys.get(hello.party)
        if key is None:
            raise PolicyDenied("the consortium has no such party", rule="party")
        spki = self._key.spki
        verify_signature(
            key, claim.signature, claim_signed_bytes(spki=spki, hello=raw, challenge=challenge)
        )
        if not self._quotes[hello.party].take(self._ticks()):
            raise QueueFull("the coordinator is asked for more evidence than it makes: ask later")
        bound = coordinator_report_data(spki=spki, hello=raw, challenge=challenge)
        loop = asyncio.get_running_loop()
        evidence = await loop.run_in_executor(self._threads, self._attest, bound)
        await stream.send(wire.encode(Proof(evidence=evidence)), timeout_s=FIRST_S)
        return hello.party


async def both(*works: Awaitable[None]) -> None:
    """Do both until one fails; the other is then cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
