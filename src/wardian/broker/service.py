"""The broker on a socket: TLS 1.3, frames, limits; every decision is `authority`'s.

Anybody may connect. What an unknown peer can cost is bounded: the number of connections, the bytes
and seconds of each message, and above all the quotes, which are slow to make (TRUST T24).
"""

import asyncio
import contextlib
import hashlib
import logging
import secrets
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self, TypeVar, cast

from wardian._internal import wire
from wardian._internal.clock import Monotonic, UnixTime, monotonic
from wardian._internal.log import event
from wardian._internal.settings import Agreed, parse
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_evidence
from wardian.broker.authority import Authority
from wardian.broker.broker_session import BrokerSession
from wardian.broker.ca import LEAF_LIFE_S
from wardian.broker.frames import (
    ATTESTATION_FRAME_BYTES,
    FIRST_FRAME_BYTES,
    FRAME_BYTES,
    FrameStream,
    server_context,
)
from wardian.broker.manifest import appraisal_policy
from wardian.broker.protocol import NONCE_BYTES, Request
from wardian.broker.provisioning import BrokerProvisioning, OwnerHello
from wardian.broker.refusal import refusal_for
from wardian.broker.release import refuse_impossible
from wardian.broker.status import StatusRequest
from wardian.broker.store import Store
from wardian.crypto.tls_keys import load_identity
from wardian.errors import ConfigError, PolicyDenied, QueueFull, TransportError, WardianError

log = logging.getLogger(__name__)
T = TypeVar("T")

HANDSHAKE_TIMEOUT_S: Final = 5.0
MAX_OWNERS: Final = 8
"""Who says to be an owner may send up to 4 MiB before proving it; so many at once."""
_FIRST: Final = cast(
    "type[Request | OwnerHello | StatusRequest]", Request | OwnerHello | StatusRequest
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """What strangers may cost.

    Attributes:
        connections: served at once; more wait in the listening socket's backlog.
        connection_s: the longest that one connection lives, seconds.
        quotes_per_s: quotes that strangers may cause, on average.
        quote_burst: quotes that they may cause at once.
    """

    connections: int = 64
    connection_s: float = 60.0
    quotes_per_s: float = 20.0
    quote_burst: int = 64


class QuoteBudget:
    """A bucket of quotes that refills slowly. Pure: time is an argument."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, *, per_s: float, burst: int, now: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at = float(burst), now

    def take(self, now: float) -> None:
        """Take one quote out of the bucket.

        Raises:
            QueueFull: it is empty; the peer may come back.
        """
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            raise QueueFull("the broker is asked for more evidence than it can make: ask later")
        self._left -= 1


class BrokerService:
    """The key broker, listening. Use `start`, then `aclose`."""

    def __init__(
        self,
        *,
        store: Store,
        attest: Callable[[bytes], Evidence],
        agreed_toml: bytes,
        clock: UnixTime,
        limits: ServiceLimits | None = None,
        ticks: Monotonic = monotonic,
    ) -> None:
        """Take up the broker's state; see `Authority` for what can be wrong with it.

        Args:
            store: opened; the service closes it.
            attest: makes this process's evidence over 64 bytes; called in another thread.
            agreed_toml: the measured `wardian.toml`, its exact bytes.
            clock: Unix seconds.
            limits: what strangers may cost.
            ticks: seconds that never go back, for the life of sessions.
        """
        self.in_doubt = asyncio.Event()
        """Set when a commit failed half way: this process releases nothing more; start another."""
        self._limits = limits or ServiceLimits()
        self._store, self._attest = store, attest
        self._agreed = parse(agreed_toml, Agreed, name="wardian.toml")
        self._agreed_digest = hashlib.sha256(agreed_toml).digest()
        self._clock, self._ticks = clock, ticks
        self._authority = Authority(store=store, attest=attest, agreed=self._agreed, clock=clock)
        self._budget = QuoteBudget(
            per_s=self._limits.quotes_per_s, burst=self._limits.quote_burst, now=ticks()
        )
        self._slots = asyncio.Semaphore(self._limits.connections)
        self._owner_slots = asyncio.Semaphore(MAX_OWNERS)
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="evidence")
        self._context = server_context()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: socket.socket | None = None

    @property
    def authority(self) -> Authority:
        """What this broker decides with."""
        return self._authority

    async def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen, and return the address and port that it became.

        Args:
            address: a host name or IP address of this machine.
            port: 0 takes a free one.

        Raises:
            ConfigError: it cannot listen there.
        """
        self._load_identity()
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM)
            family, _, _, _, where = found[0]
            self._listening = socket.create_server(where[:2], family=family, backlog=128)
        except OSError as err:
            raise ConfigError(
                f"the broker cannot listen at {address} port {port}: {err.strerror or err}"
            ) from err
        self._listening.setblocking(False)  # noqa: FBT003 (the signature is Python's)
        self._spawn(self._accept(self._listening))
        self._spawn(self._renew_identity())
        host, bound = self._listening.getsockname()[:2]
        event(
            log, "broker.listening", address=host, port=bound, simulated=self._authority.simulated
        )
        return host, bound

    async def aclose(self) -> None:
        """Stop: no new connection, open ones are cut, the state is closed."""
        if self._listening is not None:
            self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=True)
        self._store.close()

    async def __aenter__(self) -> Self:
        """Return the service; leaving the block closes it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the service."""
        await self.aclose()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _load_identity(self) -> None:
        """Put a fresh key and certificate in place; connections to come are served with it."""
        key, chain = self._authority.own_identity()
        load_identity(self._context, chain, key)

    async def _renew_identity(self) -> None:
        while True:
            await asyncio.sleep(LEAF_LIFE_S / 2)
            self._load_identity()

    async def _accept(self, listening: socket.socket) -> None:
        """Serve connections, at most `limits.connections` at once, handshakes included."""
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as err:  # out of descriptors, or the peer left already
                self._slots.release()
                event(log, "broker.accept", level=logging.WARNING, error=type(err).__name__)
                await asyncio.sleep(0.1)
                continue
            except BaseException:
                self._slots.release()
                raise
            self._spawn(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        """Serve one connection to its end; whatever happens there stays there."""
        try:
            async with asyncio.timeout(self._limits.connection_s):
                stream = await self._handshake(connection)
                try:
                    await self._answer(stream)
                finally:
                    await stream.close()
        except (OSError, TimeoutError) as err:
            event(log, "broker.connection", level=logging.DEBUG, error=type(err).__name__)
        except Exception as err:  # noqa: BLE001 (the outermost loop: a bug stays in its connection)
            event(log, "broker.bug", level=logging.ERROR, error=type(err).__name__)
        finally:
            self._slots.release()
            if not self._store.usable:
                self.in_doubt.set()

    async def _handshake(self, connection: socket.socket) -> FrameStream:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
        )
        return FrameStream(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def _answer(self, stream: FrameStream) -> None:
        """Answer the first message, or say why not."""
        try:
            raw = await stream.receive(most=FIRST_FRAME_BYTES)
            first = wire.decode(raw, _FIRST, what="first message")
            match first:
                case Request():
                    await self._release(stream, raw, first)
                case OwnerHello():
                    await self._provision(stream, raw, first)
                case StatusRequest():
                    await stream.send(wire.encode(self._authority.status(first)))
        except WardianError as err:
            refusal = refusal_for(err)
            event(
                log,
                "broker.refused",
                level=logging.WARNING,
                code=refusal.code.value,
                rule=refusal.rule,
                error=type(err).__name__,
            )
            with contextlib.suppress(TransportError):
                await stream.send(wire.encode(refusal))

    async def _release(self, stream: FrameStream, raw: bytes, request: Request) -> None:
        """Carry out one release; a refusal is audited before it is told."""
        self._budget.take(self._ticks())
        try:
            response = await self._decide(stream, raw, request)
        except TransportError:
            raise  # the peer left, was slow or must ask again: nothing was decided
        except WardianError as err:
            self._authority.refuse(err, role=request.role, models=request.models)
            raise
        await stream.send(response)

    async def _decide(self, stream: FrameStream, raw: bytes, request: Request) -> bytes:
        """Return message 4 of a release."""
        authority = self._authority
        manifest = authority.manifest
        refuse_impossible(manifest.manifest, role=request.role, models=request.models)
        session = BrokerSession(nonce=secrets.token_bytes(NONCE_BYTES), opened_at=self._ticks())
        report_data = session.begin(
            raw, request, manifest=manifest, ca_certificate=authority.ca.certificate
        )
        evidence = await self._elsewhere(lambda: self._attest(report_data))
        await stream.send(session.challenge(evidence))
        proof = session.receive(
            await stream.receive(most=ATTESTATION_FRAME_BYTES), now=self._ticks()
        )
        policy = appraisal_policy(manifest.manifest, request.role)
        result = await self._elsewhere(
            lambda: verify_evidence(
                proof.evidence, policy=policy, report_data=proof.report_data, now=self._clock()
            )
        )
        release = authority.release(proof, request=request, shown=manifest, result=result)
        return session.respond(release, sign=authority.ca.sign, now=self._ticks())

    async def _provision(self, stream: FrameStream, raw: bytes, hello: OwnerHello) -> None:
        """Carry out one owner's change; a refusal is audited before it is told."""
        if hello.owner not in {owner.lower() for owner in self._agreed.mesh.owners}:
            raise PolicyDenied("this is not an owner in wardian.toml", rule="owner-known")
        self._budget.take(self._ticks())
        if self._owner_slots.locked():
            raise QueueFull("as many owners as may are speaking to the broker: come back later")
        async with self._owner_slots:
            try:
                receipt = await self._change(stream, raw, hello)
            except TransportError:
                raise
            except WardianError as err:
                self._authority.refuse(err, role="owner")
                raise
        await stream.send(receipt)

    async def _change(self, stream: FrameStream, raw: bytes, hello: OwnerHello) -> bytes:
        """Return the signed receipt of a change that is in force."""
        authority = self._authority
        session = BrokerProvisioning(raw, hello, nonce=secrets.token_bytes(NONCE_BYTES))
        report_data = session.report_data(
            ca_spki=authority.ca.spki, agreed_digest=self._agreed_digest
        )
        evidence = await self._elsewhere(lambda: self._attest(report_data))
        await stream.send(
            session.challenge(
                evidence,
                mesh_ca=authority.ca.certificate,
                agreed_digest=self._agreed_digest,
                manifest_version=authority.manifest_version,
            )
        )
        provision = session.receive(await stream.receive(most=FRAME_BYTES))
        offered = authority.verify_offer(provision.signed_manifest)
        # A manifest under which no workload would accept this broker must not come into force:
        # wrong measurement, or simulation and hardware mixed (TRUST T11).
        policy = appraisal_policy(offered.manifest, "broker")
        await self._elsewhere(
            lambda: verify_evidence(
                evidence, policy=policy, report_data=report_data, now=self._clock()
            )
        )
        receipt = authority.provision(provision, offered=offered)
        self._load_identity()  # the certificate names the manifest
        return session.receipt(receipt, sign=authority.ca.sign)

    async def _elsewhere(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, run in a thread: evidence takes milliseconds."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
