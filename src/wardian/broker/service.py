"""The broker on a socket: TLS 1.3, frames, limits; what is decided is decided at the desks.

Anybody may connect. What an unknown peer can cost is bounded: the number of connections, in all and
of one peer, the bytes and seconds of each message, the lines in the audit log, and above all the
quotes, which are slow to make (TRUST T24). Who comes finds a place: where all are taken, the
longest-served connection that has presented nothing gives way.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from typing import Any, Final, Self

import msgspec

from wardian._internal import wire
from wardian._internal.clock import Monotonic, UnixTime, monotonic
from wardian._internal.log import event
from wardian.attestation.collateral.source import CollateralSource
from wardian.attestation.evidence import Evidence
from wardian.broker.audit_log.desks import ProofDesk, WitnessDesk
from wardian.broker.authority import Authority
from wardian.broker.counting.counters import CounterDesk
from wardian.broker.counting.protocol import CounterHello
from wardian.broker.desk import Desk, Office
from wardian.broker.doorway import Doorway, shake_hands
from wardian.broker.epochs import EpochAge
from wardian.broker.exports.desk import ExportDesk
from wardian.broker.exports.protocol import ExportRequest
from wardian.broker.frames import FIRST_FRAME_BYTES, FrameStream, server_context
from wardian.broker.infrastructure.desk import QueueFilesDesk
from wardian.broker.infrastructure.messages import QueueFilesRequest
from wardian.broker.lease import Lease, Moment, Standing
from wardian.broker.limits import Bucket, Place, ServiceLimits
from wardian.broker.owners.desk import OwnerDesk
from wardian.broker.owners.log_desk import ManifestLogDesk
from wardian.broker.owners.manifest_log import ManifestLogRequest
from wardian.broker.owners.protocol import OwnerHello
from wardian.broker.recovery.backup import BackupRequest
from wardian.broker.recovery.backup_desk import BackupDesk
from wardian.broker.recovery.desk import RecoveryDesk
from wardian.broker.recovery.protocol import RecoveryHello
from wardian.broker.refusal import Refusal, refusal_for
from wardian.broker.release.desk import ReleaseDesk
from wardian.broker.release.in_force import ForceRequest
from wardian.broker.release.in_force_desk import ForceDesk
from wardian.broker.release.protocol import Request
from wardian.broker.standby.desk import StandbyDesk
from wardian.broker.standby.messages import StandbyHello
from wardian.broker.state.store import Store
from wardian.broker.status import StatusRequest
from wardian.broker.status_desk import StatusDesk
from wardian.broker.tables.desk import JobDesk
from wardian.broker.tables.protocol import JobRequest
from wardian.broker.transparency.proofs import ProofRequest
from wardian.broker.transparency.witnessing import WitnessHello
from wardian.crypto.tls_keys import load_identity
from wardian.errors import (
    CounterUnavailable,
    SealError,
    Timeout,
    TransportError,
    WardianError,
)

log = logging.getLogger(__name__)

COLLATERAL_S: Final = 3600.0
"""How often collateral that is used is looked after."""
SETTLE_S: Final = 10.0
"""How often refusals without an audit line of their own are written down as one, and the age of the
epoch is looked at."""

DESKS: Final[Mapping[type[msgspec.Struct], Callable[[Office], Desk[Any]]]] = {
    ForceRequest: ForceDesk,
    Request: ReleaseDesk,
    JobRequest: JobDesk,
    ExportRequest: ExportDesk,
    OwnerHello: OwnerDesk,
    ManifestLogRequest: ManifestLogDesk,
    StatusRequest: StatusDesk,
    CounterHello: CounterDesk,
    ProofRequest: ProofDesk,
    WitnessHello: WitnessDesk,
    StandbyHello: StandbyDesk,
    BackupRequest: BackupDesk,
    QueueFilesRequest: QueueFilesDesk,
    RecoveryHello: RecoveryDesk,
}
"""Which desk serves a connection, by its first message."""
_FIRST: Final = reduce(or_, DESKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """Who the broker is on connections that are accepted now."""

    context: ssl.SSLContext
    manifest_digest: bytes
    issuer: bytes
    lease: Lease


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
        collateral: CollateralSource | None = None,
    ) -> None:
        """Take up the broker's state; see `Authority` for what can be wrong with it.

        Args:
            store: opened; the service closes it.
            attest: makes this process's evidence over 64 bytes; called in another thread.
            agreed_toml: the measured `wardian.toml`, its exact bytes.
            clock: Unix seconds.
            limits: what strangers may cost.
            ticks: seconds that never go back, for the life of sessions.
            collateral: completes evidence that brings none; by default none is to be had.
        """
        self.in_doubt = asyncio.Event()
        """Set when a commit failed half way: this process releases nothing more; start another."""
        self._limits = limits or ServiceLimits()
        self._store, self._ticks = store, ticks
        self._authority = Authority(
            store=store, attest=attest, agreed_toml=agreed_toml, clock=clock
        )
        self._office = Office(
            authority=self._authority,
            attest=attest,
            ticks=ticks,
            limits=self._limits,
            collateral=collateral,
        )
        self._desks = {kind: desk(self._office) for kind, desk in DESKS.items()}
        most = self._limits
        self._logs = Bucket(per_s=most.logs_per_s, burst=most.log_burst, now=ticks())
        self._doorway = Doorway(most, ticks=ticks, serve=self._serve, served=self._served)
        self._identity = self._new_identity()
        self._epoch_age = EpochAge(life_s=self._authority.epoch_s)
        self._chores: set[asyncio.Task[None]] = set()

    @property
    def authority(self) -> Authority:
        """What this broker decides with."""
        return self._authority

    @property
    def office(self) -> Office:
        """The means of its desks, for those that listen elsewhere."""
        return self._office

    async def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen, and return the address and port that it became.

        Args:
            address: a host name or IP address of this machine.
            port: 0 takes a free one.

        Raises:
            ConfigError: it cannot listen there.
        """
        host, bound = await self._doorway.open(address, port)
        for chore in (self._settle(), self._refresh_collateral()):
            self._chores.add(asyncio.get_running_loop().create_task(chore))
        event(
            log, "broker.listening", address=host, port=bound, simulated=self._authority.simulated
        )
        return host, bound

    async def aclose(self) -> None:
        """Stop: no new connection, open ones are cut, the state is closed."""
        await self._doorway.aclose()
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self._office.close()
        count = self._office.lines.close()
        self._unasked(partial(self._write_left_out, count))
        self._store.close()

    async def __aenter__(self) -> Self:
        """Return the service; leaving the block closes it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the service."""
        await self.aclose()

    def _moment(self) -> Moment:
        return Moment(ticks=self._ticks(), now=self._authority.clock())

    def _new_identity(self) -> _Identity:
        """Return a fresh key and certificate for the manifest in force."""
        authority, at = self._authority, self._moment()
        context = server_context()
        key, chain = authority.own_identity()
        load_identity(context, chain, key)
        lease = Lease.begin(
            at, life_s=authority.lease_s, ends_at=at.now + authority.lease_s, chance=0
        )
        return _Identity(
            context=context,
            manifest_digest=authority.manifest_digest,
            issuer=authority.issuer.certificate,
            lease=lease,
        )

    def _current_identity(self) -> _Identity:
        """Return the identity for a connection that comes now: of this manifest, in its time."""
        fresh = self._identity.lease.standing(self._moment()) is Standing.FRESH
        if not fresh or self._overtaken(self._identity):
            self._identity = self._new_identity()
        return self._identity

    def _overtaken(self, identity: _Identity) -> bool:
        """Return whether another manifest, or its CA, came into force since."""
        authority = self._authority
        was = (identity.manifest_digest, identity.issuer)
        return was != (authority.manifest_digest, authority.issuer.certificate)

    def _refuse_overtaken(self, identity: _Identity) -> None:
        """Send a peer away that was shown the certificate of before: it has to come again.

        It compares the certificate with what it is told is in force, and would take the difference
        for an attack.
        """
        if self._overtaken(identity):
            raise Timeout("the mesh manifest changed meanwhile: ask again")

    async def _settle(self) -> None:
        """Do, from time to time, what nobody asks for."""
        while True:
            await asyncio.sleep(SETTLE_S)
            count = self._office.lines.settle(self._ticks())
            self._unasked(partial(self._write_left_out, count))
            self._unasked(self._turn_old_epoch)

    async def _refresh_collateral(self) -> None:
        """Keep the vendor's statements fresh while no evidence comes, too."""
        while True:
            await asyncio.sleep(COLLATERAL_S)
            await self._office.refresh_collateral()

    def _write_left_out(self, count: int) -> None:
        """Write down how many refusals had no audit line of their own."""
        if not count or not self._store.usable:
            return
        try:
            self._authority.refuse_unwritten(count)
        except SealError:
            self._office.lines.put_back(count)
            raise

    def _turn_old_epoch(self) -> None:
        """Turn the epoch if it has lived as long as `wardian.toml` lets it."""
        authority, at = self._authority, self._moment()
        began = authority.epoch_began
        if self._store.usable and self._epoch_age.over(
            authority.epoch, began=began, ticks=at.ticks, now=at.now
        ):
            authority.turn_epoch(rule="age")

    def _unasked(self, work: Callable[[], None]) -> None:
        """Do `work`, for which nobody waits: what goes wrong is logged, and `in_doubt` tells."""
        try:
            work()
        except Exception as err:  # noqa: BLE001 (the next round tries again)
            if isinstance(err, CounterUnavailable):
                event(log, "broker.counter-awaited", level=logging.WARNING, reason=str(err)[:200])
            else:
                event(log, "broker.bug", level=logging.ERROR, error=type(err).__name__)
            if not self._store.usable:
                self.in_doubt.set()

    async def _serve(self, connection: socket.socket, place: Place) -> None:
        """Serve one connection to its end."""
        async with asyncio.timeout(self._limits.connection_s):
            identity = self._current_identity()
            stream = await shake_hands(connection, identity.context)
            place.since = self._ticks()
            try:
                await self._answer(stream, place, identity)
            except asyncio.CancelledError:  # it gives way, or its time is over
                stream.abort()
                raise
            finally:
                await stream.close()

    def _served(self) -> None:
        if not self._store.usable:
            self.in_doubt.set()

    async def _answer(self, stream: FrameStream, place: Place, identity: _Identity) -> None:
        """Answer the first message, or say why not."""
        try:
            raw = await stream.receive(
                most=FIRST_FRAME_BYTES, timeout_s=self._limits.first_message_s
            )
            first = wire.decode(raw, _FIRST, what="first message")
            place.since = self._ticks()
            self._refuse_overtaken(identity)
            await self._desks[type(first)].serve(stream, place, raw, first)
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
