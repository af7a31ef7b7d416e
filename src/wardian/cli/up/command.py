"""`wardian up`: from a model in the clear to a mesh that serves it sealed, on one machine."""

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

import wardian
from wardian._internal.clock import unix_time
from wardian._internal.files import replace_file
from wardian._internal.log import configure
from wardian._internal.operator import EngineName, Operator
from wardian._internal.settings import parse
from wardian.broker.certificates import chain_pem
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.trust import UNPROTECTED
from wardian.broker.owners.client import provision
from wardian.broker.owners.goods import goods_of
from wardian.broker.owners.manifest_log import read_log
from wardian.broker.owners.session import Demands
from wardian.cli.engines.choice import demand_engine
from wardian.cli.processes import close_to_others
from wardian.cli.state import StateDir
from wardian.cli.up import owner as acts
from wardian.cli.up import selfcheck
from wardian.cli.up.example import Source
from wardian.cli.up.mesh import MeshProcesses
from wardian.cli.up.queue import Queue
from wardian.cli.up.screen import Screen
from wardian.cli.up.signals import first, on_signals
from wardian.cli.up.status_file import row_of, write_status
from wardian.cli.up.workers import Workers
from wardian.cli.up.zoo import start_zoo
from wardian.cli.zoo_place import keystore_troubles
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, JobFailed
from wardian.serving.client.credentials import load_api_key
from wardian.serving.client.sync import Client, connect
from wardian.tee.launch.launcher import counter_directory


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=Path(".wardian"),
    show_default=True,
    help="Where the mesh keeps its files.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of operator.toml's; 0: free.")
@click.option(
    "--queue",
    metavar="QUEUE",
    help="`embedded`, `redis` (starts one), or rediss://HOST:PORT; instead of operator.toml's.",
)
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    help="What places the workers; instead of operator.toml's.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Holds the API key of a tenant, for the self-check, where there are tenants.",
)
@click.option("--once", is_flag=True, help="Stop after the self-check.")
def up(
    *,
    directory: Path,
    state: Path,
    port: int | None,
    queue: str | None,
    engine: EngineName | None,
    api_key_file: Path | None,
    once: bool,
) -> None:
    """Serve the models of an example DIRECTORY, sealed, on this machine.

    Plays the owner (makes a key, seals the models, measures the code, signs the manifest) and the
    operator (starts broker, front end and workers) at once, checks the answers, prints a curl line
    and stays up until Ctrl-C. Without SGX the enclaves are SIMULATED, which every step says.

    \b
    wardian up examples/digits
    wardian up examples/digits --once --port 0
    wardian up examples/digits --queue redis
    wardian up examples/digits --engine flink
    """  # noqa: D301 (click reads the character \b, not a backslash)
    close_to_others()
    serve_directory(
        directory,
        state=state,
        port=port,
        queue=queue,
        engine=engine,
        api_key_file=api_key_file,
        once=once,
    )


def serve_directory(
    directory: Path,
    *,
    state: Path,
    port: int | None,
    queue: str | None,
    api_key_file: Path | None,
    once: bool,
    engine: EngineName | None = None,
) -> None:
    """Serve the models of `directory` until a signal ends it; see `up` for what each of it means.

    Raises:
        WardianError: it cannot be served; the text says why.
    """
    source = Source.read(directory)
    place = StateDir.open(state)
    with place.locked(), place.log("up").open("a") as sink:
        configure(role="up", stream=sink)
        api_key = None if api_key_file is None else load_api_key(api_key_file)
        run = _Up(source, place, port=port, queue=queue, engine=engine, once=once, api_key=api_key)
        asyncio.run(run.run())


class _Up:
    """One run of the command."""

    def __init__(
        self,
        source: Source,
        place: StateDir,
        *,
        port: int | None,
        queue: str | None,
        engine: EngineName | None,
        once: bool,
        api_key: Secret | None,
    ) -> None:
        self._api_key, self._engine = api_key, engine
        self._source, self._place, self._port, self._once = source, place, port, once
        self._queue = Queue(queue)
        self._screen = Screen()
        self._url = ""

    async def run(self) -> None:
        """Start everything, check it, and stay up."""
        screen, place = self._screen, self._place
        began = time.monotonic()
        operator = parse(self._source.operator_raw, Operator, name="operator.toml")
        if operator.tee != "simulated":
            raise ConfigError("operator.toml: `wardian up` launches simulated enclaves only")
        if self._engine is not None:
            operator = msgspec.structs.replace(operator, engine=self._engine)
        replace_file(place.operator, self._source.operator_raw)
        self._queue.demand_possible(place, operator)
        demand_engine(operator)
        screen.title(f"Wardian {wardian.__version__}, {place.root}")
        screen.warn(
            "without SGX hardware the enclaves are SIMULATED: they protect from nobody here"
        )
        prepared = acts.prepare(self._source, place, screen)
        self._retire_foreign_store(prepared.measurements["broker"])
        for trouble in keystore_troubles(place, operator.zoo, prepared.agreed.dialects):
            screen.warn(trouble)
        processes = MeshProcesses(place, operator, screen)
        workers = Workers(place, operator, processes, screen)
        stop = on_signals()
        try:
            serving = asyncio.ensure_future(self._start(processes, workers, operator, prepared))
            await first(serving, stop)
            if stop.done():
                return
            screen.step("mesh", "serving", f"{self._url}  after {time.monotonic() - began:.1f} s")
            checking = asyncio.ensure_future(asyncio.to_thread(self._check, processes))
            await first(checking, processes.failed, stop)
            if self._once or stop.done():
                return
            self._invite()
            await self._stay(processes, workers, stop)
        finally:
            write_status(place, "stopping")
            await processes.stop(below="worker")  # what was accepted is answered first
            await workers.stop()
            await processes.stop()
            write_status(place, "stopped")
            screen.lines("Stopped.")

    def _retire_foreign_store(self, measurement: bytes) -> None:
        """Put a store aside that was sealed by another broker's code: no other can read it.

        An owner whose secrets are only there would migrate them; here each run seals anew.
        """
        mark = self._place.root / "broker.measurement"
        known = mark.read_text().strip() if mark.exists() else ""
        if known and known != measurement.hex():
            place = self._place
            counted = counter_directory(place.machine, "broker", bytes.fromhex(known))
            for directory in (place.store.parent, place.second_store.parent, counted):
                for path in directory.glob("*"):
                    path.unlink()
            self._screen.warn("the broker's code changed: it begins with a new, empty state")
        replace_file(mark, f"{measurement.hex()}\n".encode())

    async def _start(
        self,
        processes: MeshProcesses,
        workers: Workers,
        operator: Operator,
        prepared: acts.Prepared,
    ) -> None:
        """Start broker, front end and workers; return when they serve."""
        place, screen = self._place, self._screen
        for written in (place.broker_address, place.broker_pair):
            written.unlink(missing_ok=True)
        processes.start("broker", "broker")
        listening = await processes.until("broker", "broker.listening")
        address = (listening["address"], listening["port"])
        history = await read_log(address, mesh=prepared.agreed.mesh)
        manifest = acts.sign_mesh(
            place, prepared, after=history[-1].manifest if history else None, screen=screen
        )
        provisioned = await provision(
            address,
            owner=prepared.owner,
            demands=Demands(
                agreed_toml=prepared.agreed_toml,
                policy=appraisal_policy(manifest.manifest, "broker"),
            ),
            manifest=manifest.signed,
            goods=goods_of(prepared.keys),
            now=unix_time,
        )
        claims = provisioned.broker.claims
        screen.attested("broker", claims.measurement.hex(), simulated=claims.simulated)
        for key in prepared.keys:
            screen.step(
                "key", "handed over", f"key {key.key_id.hex()[:16]}… to the attested broker"
            )
        replace_file(place.mesh_ca, chain_pem((provisioned.mesh_ca,)))
        if operator.broker.standby:
            processes.start("broker-2", "broker", "--standby")
            await processes.until("broker-2", "broker.standing-by")
            screen.step("broker-2", "stands by", "it copies every step before it counts")
        await self._queue.start(processes, screen)
        port = () if self._port is None else ("--port", str(self._port))
        processes.start("frontend", "frontend", *port, *self._queue.options)
        waiting = [processes.until("frontend", "frontend.ready")]
        waiting += start_zoo(
            processes, operator, prepared.agreed, queue=self._queue.options, screen=screen
        )
        serving = workers.start(tuple(prepared.agreed.models), queue=self._queue.options)
        ready, _ = await asyncio.gather(asyncio.gather(*waiting), serving)
        for each in ready:
            if each["event"] == "zoo.ready" and isinstance(each.get("port"), int):
                screen.step("zoo", "serving", f"HTTPS on port {each['port']}, {UNPROTECTED}")
        self._url = f"https://localhost:{ready[0]['port']}"

    def _check(self, processes: MeshProcesses) -> None:
        """Answer the held-out data over HTTPS with the client that verifies; say how it went."""
        check = self._source.example.self_check
        policy = self._place.client_policy
        with connect(self._url, policy=policy, api_key=self._api_key) as client:
            self._await_ready(client, processes)
            if check is None:
                return
            found = selfcheck.run(client, check, self._source.directory)
        self._screen.step(
            "check",
            "passed" if found.correct else "failed",
            f"{found.answered} answers, accuracy {found.accuracy:.4f}, "
            f"p50 {found.p50_ms:.2f} ms, p99 {found.p99_ms:.2f} ms",
        )
        if not found.correct:
            raise JobFailed("self-check: not one answer is right")

    @staticmethod
    def _await_ready(client: Client, processes: MeshProcesses) -> None:
        """Return once every model has a worker that the front end admitted."""
        for _ in range(500):
            if client.ready():
                return
            time.sleep(0.02)
        why = f": {processes.queue_trouble}" if processes.queue_trouble else ""
        raise JobFailed(f"the models did not become ready within 10 s{why}")

    def _invite(self) -> None:
        """Print what to try, and leave the request that it sends in the state directory."""
        check = self._source.example.self_check
        curl = f"  curl --cacert {_short(self._place.mesh_ca)} {self._url}"
        if check is None:
            line = f"{curl}/v2/models/{next(iter(self._source.example.models))}"
        else:
            rows, expected = selfcheck.load_rows(self._source.directory, check)
            request = self._place.root / "request.json"
            replace_file(request, json.dumps({"instances": [rows[0].tolist()]}).encode())
            line = f"{curl}/v1/models/{check.model}:predict -d @{_short(request)}"
            line += f"   # expects {expected[0]}"
        self._screen.lines("", "Try it:", line, "", "Ctrl-C stops it.")
        sys.stdout.flush()

    async def _stay(
        self, processes: MeshProcesses, workers: Workers, stop: "asyncio.Future[None]"
    ) -> None:
        """Stay up until a signal, keeping the status file true and as many workers as are asked."""
        while not stop.done():
            elsewhere = await workers.look()
            rows = (*map(row_of, processes.status()), *map(row_of, elsewhere))
            write_status(self._place, "serving", url=self._url, processes=rows)
            waited: list[asyncio.Future[Any]] = [stop, processes.failed]
            await asyncio.wait(waited, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            if processes.failed.done():
                raise processes.failed.result()


def _short(path: Path) -> str:
    """Return `path` relative to the working directory where it lies below it."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
