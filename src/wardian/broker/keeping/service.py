"""A keeper on a socket: who asks proves a key, the keeper proves itself, then it counts.

Anybody may connect, and may have the keeper prove itself; that is how operators and owners look at
one. What strangers cost is bounded: connections, quotes (TRUST T24), and askers.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self

from wardian._internal import wire
from wardian._internal.clock import Monotonic, UnixTime
from wardian._internal.log import event
from wardian.attestation.evidence import Evidence
from wardian.broker.counting.protocol import CounterAnswer
from wardian.broker.doorway import Doorway, shake_hands
from wardian.broker.frames import FIRST_FRAME_BYTES, FrameStream
from wardian.broker.keeping.ledger import Ledger
from wardian.broker.keeping.messages import (
    KeeperChallenge,
    KeeperClaim,
    KeeperHello,
    KeeperProof,
    Step,
    claim_signed_bytes,
    keeper_report_data,
)
from wardian.broker.limits import Bucket, Place, ServiceLimits, SharedBucket
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.refusal import refusal_for
from wardian.broker.standby.identity import self_signed
from wardian.crypto.signing import verify_signature
from wardian.errors import QueueFull, TransportError, WardianError

log = logging.getLogger(__name__)

FIRST_S: Final = 5.0
"""For each of the first two messages of an asker."""
IDLE_S: Final = 600.0
"""How long a known asker may say nothing; a stranger gives way long before, see `Places`."""
KEEPALIVE_S: Final = 30
"""After which the kernel asks whether a silent peer is still there."""
STRANGER_S: Final = 30.0
FIRM_OF_ONE: Final = 4
"""Connections of one asker that do not give way: two brokers, and what was left of before."""
OWN_QUOTES_PER_S: Final = 1.0
OWN_QUOTE_BURST: Final = 20
"""Of one asker that counts here: it asks once a connection."""
QUOTES_PER_S: Final = 1.0
QUOTE_BURST: Final = 30
"""Of one address, whoever asks from there."""
ALL_QUOTES_PER_S: Final = 5.0
ALL_QUOTE_BURST: Final = 60


class KeeperService:
    """The keeper, listening. Use `start`, then `aclose`."""

    __slots__ = (
        "_all_quotes",
        "_attest",
        "_context",
        "_doorway",
        "_firm",
        "_ledger",
        "_limits",
        "_own_quotes",
        "_strangers",
        "_threads",
        "_ticks",
    )

    def __init__(
        self,
        ledger: Ledger,
        *,
        attest: Callable[[bytes], Evidence],
        clock: UnixTime,
        ticks: Monotonic,
        limits: ServiceLimits | None = None,
    ) -> None:
        """Keep numbers in `ledger`.

        Args:
            ledger: whose key names this keeper.
            attest: makes this process's evidence over 64 bytes; called in another thread.
            clock: Unix seconds, for the certificate's dates alone.
            ticks: seconds that never go back.
            limits: of connections.
        """
        self._ledger, self._attest, self._ticks = ledger, attest, ticks
        self._limits = limits or ServiceLimits()
        self._context = self_signed(ledger.key, name="Wardian keeper", now=clock())
        self._doorway = Doorway(self._limits, ticks=ticks, serve=self._serve)
        self._own_quotes: dict[bytes, Bucket] = {}
        self._firm: dict[Place, bytes] = {}  # by whom; who took a step last stands last
        self._all_quotes = SharedBucket(
            per_s=ALL_QUOTES_PER_S,
            burst=ALL_QUOTE_BURST,
            peer_per_s=QUOTES_PER_S,
            peer_burst=QUOTE_BURST,
            now=ticks(),
        )
        self._strangers = asyncio.Semaphore(1)  # one of their quotes is ahead of a known asker's
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
        """Serve one connection to its end; a refusal of any step ends it."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        stream = await shake_hands(connection, self._context)
        try:
            await self._converse(stream, place)
        except asyncio.CancelledError:
            stream.abort()
            raise
        except Exception as err:  # noqa: BLE001 (a bug, too, is answered, without its text)
            known = isinstance(err, WardianError)
            level = logging.DEBUG if known else logging.ERROR
            event(log, "keeper.refused", level=level, error=type(err).__name__)
            with contextlib.suppress(TransportError):
                await stream.send(wire.encode(refusal_for(err)))
        finally:
            self._firm.pop(place, None)
            await stream.close()

    async def _converse(self, stream: FrameStream, place: Place) -> None:
        asker = await self._prove(stream, place)
        while True:
            known = self._ledger.knows(asker)
            if known:
                self._hold(place, asker)
            raw = await stream.receive(
                most=FIRST_FRAME_BYTES, timeout_s=IDLE_S if known else STRANGER_S
            )
            if known:  # a stranger gives way, however much it reads
                place.since = self._ticks()
            step = wire.decode(raw, Step, what="keeper step")
            value = self._ledger.take(asker, step.counter, step.advance)
            await stream.send(wire.encode(CounterAnswer(value=value)))

    async def _prove(self, stream: FrameStream, place: Place) -> bytes:
        """Return who asks, proved, once this keeper has proved itself to them.

        Raises:
            FormatError, AuthenticationFailed: who asks is not who it says.
            QueueFull: the quotes are used up for now (retryable).
        """
        spki = self._ledger.key.spki
        raw = await stream.receive(most=FIRST_FRAME_BYTES, timeout_s=FIRST_S)
        hello = wire.decode(raw, KeeperHello, what="keeper hello")
        challenge = wire.encode(KeeperChallenge(nonce=secrets.token_bytes(NONCE_BYTES)))
        await stream.send(challenge)
        answer = await stream.receive(most=FIRST_FRAME_BYTES, timeout_s=FIRST_S)
        place.since = self._ticks()
        claim = wire.decode(answer, KeeperClaim, what="keeper claim")
        signed = claim_signed_bytes(keeper_spki=spki, hello=raw, challenge=challenge)
        verify_signature(hello.asker, claim.signature, signed)
        self._spend_quote(hello.asker, place.peer)
        if self._ledger.knows(hello.asker):
            self._hold(place, hello.asker)
        bound = keeper_report_data(keeper_spki=spki, hello=raw, challenge=challenge)
        loop = asyncio.get_running_loop()
        turn = contextlib.nullcontext() if place in self._firm else self._strangers
        async with turn:
            evidence = await loop.run_in_executor(self._threads, self._attest, bound)
        await stream.send(wire.encode(KeeperProof(evidence=evidence)))
        return hello.asker

    def _hold(self, place: Place, asker: bytes) -> None:
        """Let `place` not give way, and those that held theirs longest without a step do so.

        So neither an asker's connections that died without a word, nor askers who count here to
        hold places, keep others out: half of all places, and of each address's, always give way.
        """
        self._firm.pop(place, None)
        self._firm[place], place.firm = asker, True
        held, limits = list(self._firm), self._limits
        of_asker = [each for each in held if self._firm[each] == asker]
        of_peer = [each for each in held if each.peer == place.peer]
        for each in (
            *of_asker[:-FIRM_OF_ONE],
            *of_peer[: -(limits.connections_per_peer // 2)],
            *held[: -(limits.connections // 2)],
        ):
            each.firm = False
            self._firm.pop(each, None)

    def _spend_quote(self, asker: bytes, peer: str) -> None:
        """Take one quote: who counts here has some that no stranger uses up."""
        now = self._ticks()
        if self._ledger.knows(asker):
            own = self._own_quotes.setdefault(
                asker, Bucket(per_s=OWN_QUOTES_PER_S, burst=OWN_QUOTE_BURST, now=now)
            )
            granted = own.take(now)
        else:
            granted = self._all_quotes.take(peer, now)
        if not granted:
            raise QueueFull("the keeper is asked for more evidence than it can make: ask later")
