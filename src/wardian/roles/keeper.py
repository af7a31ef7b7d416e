"""A keeper's process: numbers that only grow, for brokers whose hosts must not set them back."""

import asyncio
from pathlib import Path
from typing import Final

from wardian._internal.agreed import KeeperTerms
from wardian._internal.clock import monotonic, unix_time
from wardian.broker.counting.protocol import Advance, encode_value
from wardian.broker.keeping.ledger import Ledger
from wardian.broker.keeping.service import KeeperService
from wardian.errors import ConfigError, JobFailed
from wardian.roles import start
from wardian.roles.enclave_sealing import EnclaveSealing
from wardian.roles.host import HostSettings
from wardian.tee.backend import Enclave

ROLE: Final = "keeper"


def main(enclave: Enclave) -> int:
    """Keep counters until a signal ends it; return the exit status of the process."""

    def serve(host: HostSettings, _: KeeperTerms) -> None:
        asyncio.run(start.until_signalled(_serve(enclave, host)))

    trials = {"ledger": lambda host: _try_ledger(enclave, host)}
    return start.run(enclave, ROLE, serve, kind=KeeperTerms, trials=trials)


def _try_ledger(enclave: Enclave, host: HostSettings) -> str:
    """Count in a directory that is for this alone, and find the number again."""
    if host.store is None:
        raise ConfigError("host settings: a keeper needs a place for its state")
    place = Path(host.store)
    place.mkdir(exist_ok=True)
    step = Advance(at=encode_value(0), to=encode_value(1))
    sealing = EnclaveSealing(enclave, trial=True)
    try:
        Ledger(place, sealing=sealing, ticks=monotonic).take(bytes(32), "trial", step)
        again = Ledger(place, sealing=sealing, ticks=monotonic)
        if again.take(bytes(32), "trial", None) != step.to:
            raise JobFailed("self-test: the ledger does not give back what was counted")
        return "a number that was kept"
    finally:
        for file in place.iterdir():
            file.unlink()


async def _serve(enclave: Enclave, host: HostSettings) -> None:
    if len(host.listen) != 1 or host.store is None:
        raise ConfigError("host settings: a keeper needs an address and a place for its state")
    ledger = Ledger(Path(host.store), sealing=EnclaveSealing(enclave), ticks=monotonic)
    service = KeeperService(ledger, attest=enclave.evidence, clock=unix_time, ticks=monotonic)
    async with service:
        address, port = await service.start(*host.listen[0])
        enclave.announce("keeper.listening", address=address, port=port)
        await asyncio.Event().wait()
