"""The aggregator's process: the coordinator of a federated run, for the parties of a consortium."""

from pathlib import Path
from typing import Final

import uvloop

from wardian._internal.clock import monotonic, unix_time
from wardian._internal.consortium import Consortium
from wardian._internal.log import Field
from wardian.broker.limits import ServiceLimits
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, JobFailed
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.courses import course_of
from wardian.learning.coordinator.keeping import RunKeeper, Standing
from wardian.learning.coordinator.run import Run
from wardian.learning.coordinator.service import CoordinatorService
from wardian.learning.coordinator.stages.trial import try_columns
from wardian.learning.records import RecordDict
from wardian.roles import start
from wardian.roles.enclave_sealing import EnclaveSealing
from wardian.roles.host import HostSettings
from wardian.tee.backend import Enclave

ROLE: Final = "aggregator"
SPARE_CONNECTIONS: Final = 32
"""Beside one for each party: those that come again before the old one is known to be gone, and
strangers."""


def main(enclave: Enclave) -> int:
    """Coordinate one run until it is over; return the exit status of the process."""

    def serve(host: HostSettings, plan: Consortium) -> None:
        uvloop.run(start.until_signalled(_serve(enclave, host, plan)))

    trials = {
        "keeping": lambda host: _try_keeping(enclave, host),
        "columns": lambda _: try_columns(),
    }
    return start.run(enclave, ROLE, serve, kind=Consortium, trials=trials)


def _try_keeping(enclave: Enclave, host: HostSettings) -> str:
    """Keep a standing in a directory that is for this alone, and find it again."""
    place, sealing = _store(host), EnclaveSealing(enclave, trial=True)
    try:
        keeper = RunKeeper(place, sealing=sealing)
        keeper.save(
            Standing(
                run=bytes(32), secret=Secret.random(32), round=1, head=bytes(32),
                model=ArrayRecord(), strategy=RecordDict(), history=(),
            )
        )  # fmt: skip
        found = RunKeeper(place, sealing=sealing).load()
        if found is None or found.round != 1:
            raise JobFailed("self-test: the run's state does not come back")
        return "a run that was kept"
    finally:
        for file in place.iterdir():
            file.unlink()


def _store(host: HostSettings) -> Path:
    if host.store is None:
        raise ConfigError("host settings: an aggregator needs a place for its state")
    return Path(host.store)


async def _serve(enclave: Enclave, host: HostSettings, plan: Consortium) -> None:
    if len(host.listen) != 1:
        raise ConfigError("host settings: an aggregator needs an address")
    store = _store(host)

    def tell(said: dict[str, object]) -> None:
        """Tell the host what it sees anyway: who comes and goes, and how far the run is."""
        known: dict[str, Field] = {
            name: value
            for name, value in said.items()
            if name in {"party", "parties", "round", "bytes", "attempt"}
            and isinstance(value, str | int)
        }
        enclave.announce(str(said["event"]), **known)

    run = Run(
        plan,
        keeper=RunKeeper(store, sealing=EnclaveSealing(enclave)),
        spill=store,
        ticks=monotonic,
        tell=tell,
    )
    course = course_of(run)
    most = len(plan.parties) + SPARE_CONNECTIONS
    service = CoordinatorService(
        {name: bytes.fromhex(party.key) for name, party in plan.parties.items()},
        attendance=run.attending,
        attest=enclave.evidence,
        clock=unix_time,
        ticks=monotonic,
        limits=ServiceLimits(connections=most, connections_per_peer=most),
    )
    async with service:
        address, port = await service.start(*host.listen[0])
        enclave.announce("aggregator.listening", address=address, port=port)
        await course.run()
