"""How many workloads a broker attests and gives their keys each second, and where the time goes.

The broker runs in a process of its own, with its state on this disk and a file counter; workloads
are coroutines of this process, each with keys and evidence of its own. Evidence is complete SGX
evidence of a simulated platform, verified as hardware's is. The floor is what no broker can leave
out: the signatures of one release that are checked and made, timed alone in the broker's process.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "broker"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from simulators.keepers import (  # type: ignore[import-not-found]
    CODE,
    ToyKeeper,
    as_it_is,
    line_of,
)
from toy_mesh import (  # type: ignore[import-not-found]  # beside the tests, not installed
    MASTER_KEY,
    NOW,
    PLATFORM,
    ToyBroker,
    ToyMesh,
)

from wardian._internal.agreed import Counter, Keeper
from wardian._internal.counter import MonotonicCounter
from wardian.attestation.verifier import verify_quote
from wardian.broker.certificates import build_csr, parse_csr
from wardian.broker.keeping.own_counter import OwnCounter, asker_key
from wardian.broker.limits import ServiceLimits
from wardian.broker.release.client import obtain
from wardian.broker.service import BrokerService
from wardian.broker.state.store import Store
from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import TransportError
from wardian.tee.launch.file_counters import FileCounters

GENEROUS = ServiceLimits(
    connections=512,
    connections_per_peer=512,
    quotes_per_s=1e6,
    quote_burst=10**6,
)
"""One machine plays a thousand; what is measured is the broker, not what strangers may cost."""


Keepers = dict[str, tuple[Keeper, tuple[str, int]]]
"""By name: what `wardian.toml` says of one, and where it listens."""


def keep(name: str, directory: Path, pipe: Connection) -> None:
    """Run a keeper until the pipe says stop."""
    keeper = ToyKeeper(name, directory)
    pipe.send((line_of(keeper), ("127.0.0.1", keeper.port)))
    pipe.recv()
    keeper.stop()


def counter_in(directory: Path, keepers: Keepers) -> MonotonicCounter:
    """Return the counter of the broker's state: at `keepers`, or in a file."""
    if keepers:
        lines = tuple(line for line, _ in keepers.values())
        return OwnCounter(
            Counter(keepers=lines, measurements=(CODE.hex(),)),
            {name: address for name, (_, address) in keepers.items()},
            asker=asker_key(MASTER_KEY),
            complete=as_it_is,
            now=lambda: NOW,
        ).counter(b"broker")
    counters = FileCounters(directory / "counters")
    return MonotonicCounter(
        read=lambda: counters.read("store"), advance=lambda to: counters.advance("store", to)
    )


def serve(
    mesh: ToyMesh, directory: Path, pipe: Connection, limits: ServiceLimits, keepers: Keepers
) -> None:
    """Run a broker until the pipe says stop; answer each message on it with CPU seconds."""
    asyncio.run(_serve(mesh, directory, pipe, limits, keepers))


async def _serve(
    mesh: ToyMesh, directory: Path, pipe: Connection, limits: ServiceLimits, keepers: Keepers
) -> None:
    counter = counter_in(directory, keepers)
    service = BrokerService(
        store=Store(directory / "broker.db", master_key=MASTER_KEY, counter=counter),
        attest=mesh.attest("broker"),
        agreed_toml=mesh.agreed_toml,
        clock=lambda: NOW,
        limits=limits,
    )
    async with service:
        pipe.send((*await service.start("127.0.0.1", 0), floor(mesh)))
        while await asyncio.to_thread(pipe.recv) != "stop":
            usage = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send(usage.ru_utime + usage.ru_stime)


def floor(mesh: ToyMesh) -> dict[str, float]:
    """Return the seconds of each signature that a release cannot do without, alone, medians."""
    evidence = mesh.attest("worker")(bytes(64))
    csr, key, hpke = build_csr(TlsKey.generate()), TlsKey.generate(), HpkePrivateKey.generate()
    root = PLATFORM.root_der
    return {
        "evidence verified": _timed(
            lambda: verify_quote(evidence.quote, evidence.collateral, root=root, now=NOW)
        ),
        "request verified": _timed(lambda: parse_csr(csr)),
        "own evidence made": _timed(lambda: mesh.attest("broker")(bytes(64))),
        "two signatures": 2 * _timed(lambda: key.sign(b"message")),
        "HPKE": _timed(lambda: hpke_seal(hpke.public, bytes(2000), info=b"")),
    }


def _timed(work: Callable[[], object], *, rounds: int = 41) -> float:
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


async def ask(mesh: ToyMesh, address: tuple[str, int], *, patience_s: float) -> tuple[str, float]:
    """Return the certificate's digest and the seconds that one workload waited for it."""
    began, pause = time.perf_counter(), 0.05
    while True:
        try:
            admission = await obtain(
                address,
                role="worker",
                models=("digits",),
                agreed=mesh.agreed,
                attest=mesh.attest("worker"),
                tee="simulated",
                now=lambda: NOW,
            )
        except TransportError:
            if time.perf_counter() - began > patience_s:
                raise
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 1.7)
        else:
            return admission.certificate_digest.hex(), time.perf_counter() - began


async def crowd(
    mesh: ToyMesh, address: tuple[str, int], *, workloads: int, at_once: int
) -> list[tuple[str, float]]:
    """Let `workloads` ask, `at_once` at a time."""
    slots = asyncio.Semaphore(at_once)

    async def one() -> tuple[str, float]:
        async with slots:
            return await ask(mesh, address, patience_s=300.0)

    return await asyncio.gather(*(one() for _ in range(workloads)))


def state_size(directory: Path) -> int:
    """Return how large the broker's state is on disk, the journal of what is under way included."""
    return sum(file.stat().st_size for file in directory.glob("broker.db*"))


def main() -> None:
    """Print releases a second, and what a release costs beside its floor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", type=int, default=400)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--default-limits", action="store_true")
    parser.add_argument("--keepers", type=int, default=0, help="who keeps the counter; 0: a file")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    mesh = ToyMesh()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        with closing(ToyBroker(mesh, directory / "broker.db")) as broker:
            value = broker.counter.value
        fork = multiprocessing.get_context("fork")
        keepers, pipes = {}, []
        for number in range(args.keepers):
            ours, theirs = fork.Pipe()
            fork.Process(target=keep, args=(f"k{number}", directory, theirs)).start()
            keepers[f"k{number}"] = ours.recv()
            pipes.append(ours)
        counter = counter_in(directory, keepers)
        counter.read()
        counter.advance(value)
        here, there = fork.Pipe()
        limits = ServiceLimits() if args.default_limits else GENEROUS
        process = fork.Process(target=serve, args=(mesh, directory, there, limits, keepers))
        process.start()
        host, port, least = here.recv()
        asyncio.run(crowd(mesh, (host, port), workloads=20, at_once=4))  # warm
        here.send("cpu")
        state_bytes = -state_size(directory)
        cpu, began = here.recv(), time.perf_counter()
        found = asyncio.run(
            crowd(mesh, (host, port), workloads=args.workloads, at_once=args.at_once)
        )
        took = time.perf_counter() - began
        here.send("cpu")
        cpu = (here.recv() - cpu) / args.workloads
        here.send("stop")
        process.join()
        state_bytes += state_size(directory)
        for pipe in pipes:
            pipe.send("stop")
    waited = sorted(seconds for _, seconds in found)
    total = sum(least.values())
    result = {
        "workloads": args.workloads,
        "keepers": args.keepers,
        "admitted": len({digest for digest, _ in found}),
        "per_s": args.workloads / took,
        "wait_s": {"p50": waited[len(waited) // 2], "max": waited[-1]},
        "broker_cpu_ms": 1e3 * cpu,
        "state_bytes": state_bytes / args.workloads,
        "wall_ms": 1e3 * took / args.workloads,
        "floor_ms": {name: 1e3 * seconds for name, seconds in least.items()},
        "cpu_over_floor": cpu / total,
    }
    print(json.dumps(result, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
