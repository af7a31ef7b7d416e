"""`wardian broker`, `frontend`, `zoo`, `worker`: one measured process each, in the foreground."""

import os
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from wardian._internal import log as logs
from wardian._internal import wire
from wardian._internal.files import replace_file
from wardian._internal.log import Field
from wardian.broker.mesh.trust import UNPROTECTED
from wardian.cli.host import (
    place_aggregator,
    place_broker,
    place_frontend,
    place_keeper,
    place_worker,
)
from wardian.cli.lazy import LazyGroup
from wardian.cli.placement import Placement
from wardian.cli.state import StateDir
from wardian.cli.traffic import TrafficWatch
from wardian.cli.zoo_place import place_zoo
from wardian.errors import ConfigError
from wardian.roles.host import HostSettings, JobPlace
from wardian.tee.launch.gramine import launch_gramine
from wardian.tee.launch.launcher import launch_simulated, print_announcement
from wardian.tee.launch.lifeline import Lifeline
from wardian.tee.launch.reach import Reach
from wardian.tee.manifest.candidates import spec_of


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every process has."""
    state = click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(".wardian"),
        show_default=True,
        help="The state directory.",
    )
    lifeline = click.option(
        "--lifeline",
        callback=lambda _context, _option, text: None if text is None else Lifeline.parse(text),
        metavar="DESCRIPTOR[:SECONDS]",
        hidden=True,
        help="A pipe that closes with the engine; if SECONDS are given, it is never silent longer.",
    )
    return state(lifeline(command))


def close_to_others() -> None:
    """Leave nothing for other users: no readable file, no core dump. This process holds keys."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(
    role: str,
    state: StateDir,
    placement: Placement,
    *,
    tee: str | None = None,
    lifeline: Lifeline | None = None,
) -> None:
    """Run `role` in `tee`, by default the one that the operator chose, and end with its status."""
    sys.exit(status_of(role, state, placement, tee=tee, lifeline=lifeline))


def status_of(
    role: str,
    state: StateDir,
    placement: Placement,
    *,
    tee: str | None = None,
    lifeline: Lifeline | None = None,
    told: Callable[[str, Mapping[str, Field]], None] = print_announcement,
) -> int:
    """Run `role` as `run` does, and return its exit status; in a simulation `told` is announced."""
    spec_of(role)
    operator = state.load_operator()
    kind = tee or operator.tee
    logs.configure(role=f"{role}-launcher", level=operator.log_level)
    close_to_others()
    watch = TrafficWatch(state) if role == "frontend" else None
    if kind != "simulated":
        if watch is not None:
            watch.start()
        return launch_gramine(
            role,
            tool={"gramine": "gramine-sgx"}.get(kind, kind),
            directory=state.enclave_of(role),
            run_directory=state.root / "run" / f"{role}-{os.getpid()}",
            host_settings=wire.encode(placement.inside()),
            files=placement.files,
            lifeline=lifeline,
        )

    def announce(event: str, fields: Mapping[str, Field]) -> None:
        if role == "broker" and event == "broker.listening":
            _note_address(state, placement, fields)
        if watch is not None and event == "frontend.ready":
            watch.start()  # not before: to fork beside a thread is to risk its locks
        told(event, fields)

    return launch_simulated(
        role,
        directory=state.enclave_of(role),
        state=state.machine,
        host_settings=wire.encode(placement.settings),
        reach=placement.reach,
        announce=announce,
        lifeline=lifeline,
    )


def _note_address(state: StateDir, placement: Placement, fields: Mapping[str, Field]) -> None:
    """Write down where the broker listens, if that is where it was told to.

    Other roles are let out to that port, so no role but the broker says it, and no other address.
    """
    ((host, wanted),) = placement.settings.listen
    port = fields.get("port")
    if fields.get("address") == host and isinstance(port, int) and wanted in (0, port):
        replace_file(state.broker_address, f"{host}:{port}\n".encode())


def place(role: str, state: StateDir, *, model: str | None, port: int | None) -> Placement:
    """Return where a process of `role` finds what it needs.

    Raises:
        ConfigError: a worker without a model, or no such role.
    """
    if role == "broker":
        return place_broker(state)
    if role == "frontend":
        return place_frontend(state, port=port)
    if role == "worker":
        if model is None:
            raise ConfigError("a worker serves one model: name it with --model")
        return place_worker(state, model=model)
    if role == "keeper":
        return place_keeper(state)
    if role == "aggregator":
        return place_aggregator(state)
    if role == "zoo":
        return place_zoo(state)
    if role == "job":
        raise ConfigError("a job is run by `wardian job run DIRECTORY`")
    raise ConfigError(
        f"no role is called {role!r}; there are aggregator, broker, frontend, keeper, worker, zoo"
    )


def place_self_test(role: str, state: StateDir) -> Placement:
    """Return the settings of a `role` that only tries what it needs."""
    operator = state.load_operator()
    store, written = state.store, {"broker": (state.store.parent,)}.get(role, ())
    if role in {"keeper", "aggregator", "job"}:
        store = state.root / "run" / f"{role}-self-test"
        store.mkdir(mode=0o700, exist_ok=True)
        written = (store,)
    job = None
    if role == "job":
        job = JobPlace(plan="", tables={}, store=str(store), out=str(store), approvals=str(store))
    return Placement(
        settings=HostSettings(
            log_level=operator.log_level,
            store=str(store),
            job=job,
            self_test=True,
        ),
        reach=Reach(write=written),
        files={},
    )


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    commands_by_name={
        "backup": ("wardian.cli.broker_backup", "backup"),
        "restore": ("wardian.cli.broker_backup", "restore"),
        "queue-files": ("wardian.cli.broker_queue_files", "queue_files"),
    },
)
@options
@click.option("--standby", is_flag=True, help="Be the second one: the other is active first.")
@click.option("--recover", is_flag=True, help="Wait for the owners if the state does not open.")
@click.option(
    "--take-over", metavar="HOST:PORT", help="Take the mesh over from the older code there."
)
@click.pass_context
def broker(
    context: click.Context,
    *,
    state: Path,
    lifeline: Lifeline | None,
    standby: bool,
    recover: bool,
    take_over: str | None,
) -> None:
    """Run the key broker of the mesh in the state directory.

    It holds the mesh's certificate authority, releases keys on evidence alone, and keeps its state
    encrypted to its own measurement. Owners give it a signed manifest and their keys.

    Where operator.toml names a second broker, two run alike: one is active, the other copies every
    step of it and takes over.
    """
    if context.invoked_subcommand is not None:
        return
    directory = StateDir.open(state)
    placement = place_broker(directory, second=standby, recover=recover, take_over=take_over)
    run("broker", directory, placement, lifeline=lifeline)


def queue_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option that says where the queue is."""
    return click.option(
        "--queue",
        metavar="rediss://HOST:PORT",
        help="Instead of operator.toml's; `embedded`: no Redis; `zoo`: that of `wardian zoo`.",
    )(command)


@click.command()
@options
@queue_option
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of operator.toml's.")
def frontend(
    *, state: Path, lifeline: Lifeline | None, port: int | None, queue: str | None
) -> None:
    """Run a front end: HTTPS to clients, sealed messages to workers.

    It gets its certificate and the queue keys from the broker, on evidence of what it is.
    """
    directory = StateDir.open(state)
    placement = place_frontend(directory, port=port, queue=queue)
    run("frontend", directory, placement, lifeline=lifeline)


@click.command()
@options
@queue_option
@click.option(
    "--model",
    required=True,
    metavar="NAME[:VERSION]",
    help="A model of wardian.toml; by default the newest version whose key the broker gives.",
)
def worker(*, state: Path, lifeline: Lifeline | None, model: str, queue: str | None) -> None:
    """Run a worker: it opens one sealed model in memory and answers requests.

    It gets the model's key from the broker, on evidence of what it is. Any number of workers may
    serve the same model.
    """
    directory = StateDir.open(state)
    placement = place_worker(directory, model=model, queue=queue)
    run("worker", directory, placement, lifeline=lifeline)


@click.command()
@options
@queue_option
@click.option("--consumer", metavar="NAME", help="Of this process in its streams, each its own.")
def zoo(*, state: Path, lifeline: Lifeline | None, queue: str | None, consumer: str | None) -> None:
    """Serve the clients of Analytics Zoo Cluster Serving. UNPROTECTED: their data is clear.

    It reads the streams of [dialects.zoo_redis] in wardian.toml from the Redis of [zoo] in
    operator.toml, has them answered by workers, and writes results as those clients expect them.
    Where [dialects.zoo] has `keystore = true`, it serves HTTPS under the certificate and key of
    [zoo]. Whoever runs that Redis, or has that key, reads all of it; from here to the workers it is
    sealed.
    """
    directory = StateDir.open(state)
    placement = place_zoo(directory, queue=queue, consumer=consumer)
    for clear, what in (
        (placement.settings.zoo, "records and results lie in the clear in a Redis"),
        (placement.settings.zoo_https, "the key of the HTTPS certificate is the operator's"),
    ):
        if clear is not None:
            click.secho(f"{UNPROTECTED}: {what}", fg="yellow", bold=True, err=True)
    run("zoo", directory, placement, lifeline=lifeline)
