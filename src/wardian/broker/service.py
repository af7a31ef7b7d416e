"""The broker on a socket: TLS 1.3, frames, limits; every decision is `authority`'s.

Anybody may connect. What an unknown peer can cost is bounded: the number of connections, in all and
of one peer, the bytes and seconds of each message, the lines in the audit log, and above all the
quotes, which are slow to make (TRUST T24). Who comes finds a place: where all are taken, the
longest-served connection that has presented nothing gives way.
"""

import asyncio
import contextlib
import hashlib
import logging
import secrets
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
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
from wardian.broker.counter_protocol import CounterHello
from wardian.broker.counters import CounterDesk
from wardian.broker.frames import (
    ATTESTATION_FRAME_BYTES,
    FIRST_FRAME_BYTES,
    FRAME_BYTES,
    FrameStream,
    server_context,
)
from wardian.broker.limits import Bucket, Place, Places, Ration, ServiceLimits, peer_of
from wardian.broker.manifest import VerifiedManifest, appraisal_policy
from wardian.broker.protocol import NONCE_BYTES, Request
from wardian.broker.provisioning import BrokerProvisioning, OwnerHello
from wardian.broker.refusal import Refusal, refusal_for
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
SETTLE_S: Final = 10.0
"""How often refusals without an audit line of their own are written down as one."""
_FIRST: Final = cast(
    "type[Request | OwnerHello | StatusRequest | CounterHello]",
    Request | OwnerHello | StatusRequest | CounterHello,
)


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
        self._counters = CounterDesk(
            store=store, authority=self._authority, clock=clock, ticks=ticks
        )
        most = self._limits
        now = ticks()
        self._quotes = Bucket(per_s=most.quotes_per_s, burst=most.quote_burst, now=now)
        self._statuses = Bucket(per_s=most.statuses_per_s, burst=most.status_burst, now=now)
        self._logs = Bucket(per_s=most.logs_per_s, burst=most.log_burst, now=now)
        self._lines = Ration(Bucket(per_s=most.lines_per_s, burst=most.line_burst, now=now))
        self._places = Places(most=most.connections, most_of_one=most.connections_per_peer)
        self._serving: dict[Place, asyncio.Task[None]] = {}
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
        self._spawn(self._settle())
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
        self._write_left_out(self._lines.close())
        self._store.close()

    async def __aenter__(self) -> Self:
        """Return the service; leaving the block closes it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the service."""
        await self.aclose()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._keep(asyncio.get_running_loop().create_task(work))

    def _keep(self, task: asyncio.Task[None]) -> None:
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

    async def _settle(self) -> None:
        """Write down, from time to time, how many refusals had no audit line of their own."""
        while True:
            await asyncio.sleep(SETTLE_S)
            self._write_left_out(self._lines.settle(self._ticks()))

    def _write_left_out(self, count: int) -> None:
        try:
            if count and self._store.usable:
                self._authority.refuse_unwritten(count)
        except Exception as err:  # noqa: BLE001 (nobody waits for this line; `in_doubt` tells)
            event(log, "broker.bug", level=logging.ERROR, error=type(err).__name__)
            if not self._store.usable:
                self.in_doubt.set()

    async def _accept(self, listening: socket.socket) -> None:
        """Give every connection a place, handshakes included; see `Places` for who gives way."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as err:  # out of descriptors, or the peer left already
                event(log, "broker.accept", level=logging.WARNING, error=type(err).__name__)
                await asyncio.sleep(0.1)
                continue
            place = Place(peer=peer_of(address[0]))
            leaving = self._places.enter(place)
            if leaving is place:
                connection.close()
            else:
                if leaving is not None:
                    self._serving[leaving].cancel()
                self._serving[place] = loop.create_task(self._serve(connection, place))
                self._keep(self._serving[place])
            await asyncio.sleep(0)  # others run too, and what was spawned begins before it can end

    async def _serve(self, connection: socket.socket, place: Place) -> None:
        """Serve one connection to its end; whatever happens there stays there."""
        try:
            async with asyncio.timeout(self._limits.connection_s):
                stream = await self._handshake(connection)
                try:
                    await self._answer(stream, place)
                except asyncio.CancelledError:  # it gives way, or its time is over
                    stream.abort()
                    raise
                finally:
                    await stream.close()
        except (OSError, TimeoutError) as err:
            event(log, "broker.connection", level=logging.DEBUG, error=type(err).__name__)
        except Exception as err:  # noqa: BLE001 (the outermost loop: a bug stays in its connection)
            event(log, "broker.bug", level=logging.ERROR, error=type(err).__name__)
        finally:
            self._places.leave(place)
            self._serving.pop(place, None)
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

    async def _answer(self, stream: FrameStream, place: Place) -> None:
        """Answer the first message, or say why not."""
        try:
            raw = await stream.receive(
                most=FIRST_FRAME_BYTES, timeout_s=self._limits.first_message_s
            )
            first = wire.decode(raw, _FIRST, what="first message")
            match first:
                case Request():
                    await self._release(stream, place, raw, first)
                case OwnerHello():
                    await self._provision(stream, place, raw, first)
                case StatusRequest():
                    self._spend(self._statuses, "status than it can give")
                    self._store.confirm()
                    await stream.send(wire.encode(self._authority.status(first)))
                case CounterHello():
                    await self._count(stream, raw, first)
        except Exception as err:  # noqa: BLE001 (a bug, too, is answered, without its text)
            place.firm = False
            refusal = refusal_for(err)
            self._log_refusal(refusal, err)
            with contextlib.suppress(TransportError):
                await stream.send(wire.encode(refusal))

    def _log_refusal(self, refusal: Refusal, err: Exception) -> None:
        """Log a refusal; beyond the bucket at a level that is written to no file."""
        bug = not isinstance(err, WardianError)
        told = logging.WARNING if self._logs.take(self._ticks()) else logging.DEBUG
        event(
            log,
            "broker.bug" if bug else "broker.refused",
            level=logging.ERROR if bug else told,
            code=refusal.code.value,
            rule=refusal.rule,
            error=type(err).__name__,
        )

    def _spend(self, bucket: Bucket, what: str) -> None:
        if not bucket.take(self._ticks()):
            raise QueueFull(f"the broker is asked for more {what}: ask later")

    async def _release(
        self, stream: FrameStream, place: Place, raw: bytes, request: Request
    ) -> None:
        """Carry out one release; a refusal is audited before it is told."""
        authority, role, models = self._authority, request.role, request.models
        manifest = authority.manifest
        try:
            refuse_impossible(manifest.manifest, role=role, models=models)
        except PolicyDenied as err:  # it cost no quote, hence is rationed by itself
            if self._lines.grants_line(self._ticks()):
                authority.refuse(err, role=role, models=models)
            raise
        self._spend(self._quotes, "evidence than it can make")
        try:
            response = await self._decide(stream, place, raw, request, manifest)
        except TransportError:
            raise  # the peer left, was slow or must ask again: nothing was decided
        except Exception as err:
            authority.refuse(err, role=role, models=models)
            raise
        await stream.send(response)

    async def _decide(
        self,
        stream: FrameStream,
        place: Place,
        raw: bytes,
        request: Request,
        manifest: VerifiedManifest,
    ) -> bytes:
        """Return message 4 of a release."""
        authority = self._authority
        session = BrokerSession(nonce=secrets.token_bytes(NONCE_BYTES), opened_at=self._ticks())
        report_data = session.begin(
            raw, request, manifest=manifest, ca_certificate=authority.ca.certificate
        )
        evidence = await self._elsewhere(lambda: self._attest(report_data))
        await stream.send(session.challenge(evidence))
        proof = session.receive(
            await stream.receive(most=ATTESTATION_FRAME_BYTES), now=self._ticks()
        )
        place.firm = True
        policy = appraisal_policy(manifest.manifest, request.role)
        result = await self._elsewhere(
            lambda: verify_evidence(
                proof.evidence, policy=policy, report_data=proof.report_data, now=self._clock()
            )
        )
        release = authority.release(proof, request=request, shown=manifest, result=result)
        return session.respond(release, sign=authority.ca.sign, now=self._ticks())

    async def _provision(
        self, stream: FrameStream, place: Place, raw: bytes, hello: OwnerHello
    ) -> None:
        """Carry out one owner's change; a refusal is audited before it is told."""
        if hello.owner not in {owner.lower() for owner in self._agreed.mesh.owners}:
            raise PolicyDenied("this is not an owner in wardian.toml", rule="owner-known")
        self._spend(self._quotes, "evidence than it can make")
        if self._owner_slots.locked():
            raise QueueFull("as many owners as may are speaking to the broker: come back later")
        async with self._owner_slots:
            try:
                receipt = await self._change(stream, place, raw, hello)
            except TransportError:
                raise
            except Exception as err:
                self._authority.refuse(err, role="owner")
                raise
        await stream.send(receipt)

    async def _change(
        self, stream: FrameStream, place: Place, raw: bytes, hello: OwnerHello
    ) -> bytes:
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
        place.firm = True  # the owner signed this session
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

    async def _count(self, stream: FrameStream, raw: bytes, hello: CounterHello) -> None:
        """Carry out one step of a workload's counter; a refusal is audited before it is told."""
        try:
            await self._counters.serve(stream, raw, hello)
        except (TransportError, QueueFull):
            raise
        except Exception as err:  # who asks may be anybody, hence rationed
            if self._store.usable and self._lines.grants_line(self._ticks()):
                self._authority.refuse(err, role="workload")
            raise

    async def _elsewhere(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, run in a thread: evidence takes milliseconds."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
