"""The broker's process: keys and certificates for whoever proves what it is."""

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path

from wardian._internal.clock import unix_time
from wardian._internal.counter import CounterKeeper, MonotonicCounter, tell_keeper
from wardian._internal.log import event
from wardian.broker.audit import AuditEntry
from wardian.broker.service import BrokerService
from wardian.broker.store import Store
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, SealError
from wardian.roles import start
from wardian.roles.host import HostSettings
from wardian.tee.backend import Enclave
from wardian.tee.sealing import seal_state, unseal_state

log = logging.getLogger(__name__)

ROLE = "broker"
MASTER_KEY_LABEL = "wardian broker master key v1"
COUNTER = "store"


def main(enclave: Enclave) -> int:
    """Serve until a signal ends it; return the exit status of the process."""
    return start.run(
        enclave,
        ROLE,
        lambda host, _: asyncio.run(_serve(enclave, host)),
        trials={"store": _try_store},
    )


def _try_store(host: HostSettings) -> str:
    """Commit to a store of its own beside the real one's place, and read it back."""
    if host.store is None:
        raise ConfigError("host settings: a broker needs a place for its state")
    path, counted = Path(host.store).with_name("self-test.db"), [0]
    counter = MonotonicCounter(read=lambda: counted[-1], advance=counted.append)
    key = Secret.random()
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


async def _serve(enclave: Enclave, host: HostSettings) -> None:
    if len(host.listen) != 1 or host.store is None:
        raise ConfigError("host settings: a broker needs an address and a place for its state")
    path = Path(host.store)
    counter = MonotonicCounter(
        read=lambda: enclave.read_counter(COUNTER),
        advance=lambda to: enclave.advance_counter(COUNTER, to),
        kept_by=CounterKeeper.HOST,
    )
    store = Store(
        path, master_key=_master_key(enclave, path.with_suffix(".master")), counter=counter
    )
    tell_keeper(log, counter, state="the broker's state")
    service = BrokerService(
        store=store,
        attest=enclave.evidence,
        agreed_toml=enclave.agreed_config(),
        clock=unix_time,
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    address, port = await service.start(*host.listen[0])
    enclave.announce("broker.listening", address=address, port=port)
    event(log, "broker.listening", port=port)
    waits = [asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(service.in_doubt.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    in_doubt = service.in_doubt.is_set()
    await service.aclose()
    if in_doubt:  # a restart reads what is on disk, and what the counter says of it
        raise SealError("the broker's state could not be made durable: it releases nothing more")


def _master_key(enclave: Enclave, path: Path) -> Secret:
    """Return the key of the broker's store, made at the first start and sealed to this code.

    Its version never changes: a host that removes the file, or puts another one back, makes the
    store unreadable and gains nothing.
    """
    if path.exists():
        return Secret(unseal_state(enclave, path.read_bytes(), label=MASTER_KEY_LABEL, version=1))
    key = Secret.random()
    sealed = seal_state(enclave, key.reveal(), label=MASTER_KEY_LABEL, version=1)
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("wb") as file:
            file.write(sealed)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}; the broker keeps its state there") from err
    return key
