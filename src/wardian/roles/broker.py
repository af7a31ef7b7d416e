"""The broker's process: keys and certificates for whoever proves what it is."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from wardian._internal.agreed import Agreed
from wardian._internal.clock import monotonic, unix_time
from wardian._internal.counter import MonotonicCounter
from wardian._internal.log import event
from wardian.attestation.collateral.pccs_source import open_source
from wardian.attestation.collateral.source import CollateralSource
from wardian.broker.recovery.backup import restore_files
from wardian.broker.service import BrokerService
from wardian.broker.standby.course import Course
from wardian.broker.standby.follower import Home
from wardian.broker.standby.handover import handed_to
from wardian.broker.standby.standbys import Standbys
from wardian.broker.standby.watch import watch
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store
from wardian.errors import ConfigError, SealError
from wardian.roles import start
from wardian.roles.broker_counter import Counting
from wardian.roles.broker_home import BrokerHome, when_counted
from wardian.roles.host import Address, HostSettings
from wardian.roles.kbs import Answering, listening, try_protocol
from wardian.roles.recovering import keep_recoverable, opens, until_recovered
from wardian.roles.standing_by import StandingBy
from wardian.roles.succeeding import stay_retired, succeed
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

ROLE = "broker"


def main(enclave: Enclave) -> int:
    """Serve until a signal ends it; return the exit status of the process."""
    return start.run(
        enclave,
        ROLE,
        lambda host, agreed: asyncio.run(start.until_signalled(_serve(enclave, host, agreed))),
        kind=Agreed,
        trials={"store": _try_store, "kbs": try_protocol},
    )


def _try_store(host: HostSettings) -> str:
    """Commit to a store of its own beside the real one's place, and read it back."""
    if host.store is None:
        raise ConfigError("host settings: a broker needs a place for its state")
    path, counted = Path(host.store).with_name("self-test.db"), [0]
    counter = MonotonicCounter(read=lambda: counted[-1], advance=counted.append)
    key = MasterKey.random()
    try:
        with contextlib.closing(Store(path, master_key=key, counter=counter)) as store:
            entry = AuditEntry(event="start", outcome="granted")
            store.commit({("trial", "key"): b"value"}, audit=[entry], now=unix_time())
        with contextlib.closing(Store(path, master_key=key, counter=counter)) as store:
            if store.get("trial", "key") != b"value":
                raise SealError("self-test: the store does not give back what was committed")
            return f"{store.generation} generations"
    finally:
        path.unlink(missing_ok=True)


async def _serve(enclave: Enclave, host: HostSettings, agreed: Agreed) -> None:
    """Be the mesh's broker, or its standby until the other one is gone."""
    if len(host.listen) != 1 or host.store is None:
        raise ConfigError("host settings: a broker needs an address and a place for its state")
    collateral = open_source(host.collateral, addresses=host.collateral_hosts)
    counting = Counting(enclave, agreed.counter, host.keepers, collateral=collateral)
    home = BrokerHome(enclave, Path(host.store), counting=counting)
    async with listening(enclave, host) as answering:
        await _Broker(enclave, host, agreed, home, collateral, answering).run()


@dataclass(frozen=True, slots=True)
class _Broker:
    """One process, from its settings to its end."""

    enclave: Enclave
    host: HostSettings
    agreed: Agreed
    home: BrokerHome
    collateral: CollateralSource
    answering: Answering

    async def run(self) -> NoReturn:
        """Decide with the state at home, as soon as this broker is the active one.

        Raises:
            SealError: the state is in doubt. A restart reads what is on disk, and what the counter
                says of it.
        """
        host, home = self.host, self.home
        if host.backup is not None and not home.has_state:
            restore_files(Path(host.backup), home.path)
        if host.recover and not await when_counted(partial(opens, home)):
            await until_recovered(self.enclave, home, self.agreed, host.listen[0])
        if host.take_over is not None:
            await succeed(home, self._follower(), host.take_over)
        if host.peer is None:
            await self._decide(await when_counted(home.open), None)
        standbys = Standbys(host.peer)
        try:
            await self._decide(await self._until_active(host.peer, standbys), standbys)
        finally:
            standbys.close()

    async def _until_active(self, peer: Address, standbys: Standbys) -> Store:
        """Return the state once this broker may decide with it; follow the other one until then."""
        host = self.host
        standing = StandingBy(
            self.enclave,
            self._follower(),
            peer=peer,
            course=Course(patience_s=host.takeover_s, first=not host.standby, now=monotonic()),
            open_state=partial(self.home.open, replicas=standbys),
        )
        return await standing.until_active(host.listen[0])

    def _follower(self) -> Home:
        """Return what this broker is to one whose state it copies."""
        enclave, home = self.enclave, self.home
        return Home(
            path=home.path,
            agreed=self.agreed,
            attest=enclave.evidence,
            tee=enclave.name,
            now=unix_time,
            load_key=home.load_key,
            keep_key=home.keep_key,
        )

    async def _decide(self, store: Store, standbys: Standbys | None) -> NoReturn:
        """Decide with `store`, which was opened as the newest, until that is in doubt."""
        enclave, host = self.enclave, self.host
        if handed_to(store) is not None:
            await stay_retired(enclave, store, self.agreed, host.listen[0])
        with contextlib.ExitStack() as undo:
            undo.callback(store.close)
            service = BrokerService(
                store=store,
                attest=enclave.evidence,
                agreed_toml=enclave.agreed_config(),
                clock=unix_time,
                collateral=self.collateral,
            )
            undo.pop_all()  # from here on the service closes it
        async with service:
            address, port = await service.start(*host.listen[0])
            enclave.announce("broker.listening", address=address, port=port)
            event(log, "broker.listening", port=port)
            async with self.answering(service):
                await _until_in_doubt(service, self.home, standbys)
        raise SealError("the broker's state could not be made durable: it releases nothing more")


async def _until_in_doubt(
    service: BrokerService, home: BrokerHome, standbys: Standbys | None
) -> None:
    """Return when the state can no longer be decided with; keep its copies and its owners' part."""
    ends: list[asyncio.Task[Any]] = [
        asyncio.ensure_future(service.in_doubt.wait()),
        asyncio.ensure_future(keep_recoverable(service.authority, home)),
    ]
    if standbys is not None:
        ends.append(asyncio.ensure_future(watch(standbys, service.authority)))
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in done:
            if (error := end.exception()) is not None:
                event(log, "broker.ends", level=logging.ERROR, error=type(error).__name__)
    finally:
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
