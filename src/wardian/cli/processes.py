"""`wardian broker`, `frontend` and `worker`: one measured process each, in the foreground."""

import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from wardian._internal import wire
from wardian._internal.settings import Operator
from wardian.cli.state import StateDir, replace_file
from wardian.errors import ConfigError
from wardian.roles.host import Address, HostSettings
from wardian.tee.launch.launcher import launch_simulated, print_announcement


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
        "--lifeline", type=int, hidden=True, help="A descriptor that closes with the engine."
    )
    return state(lifeline(command))


def close_to_others() -> None:
    """Leave nothing for other users: no readable file, no core dump. This process holds keys."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _tie_to(lifeline: int | None) -> None:
    """End this process when the other end of `lifeline` closes."""
    if lifeline is None:
        return

    def watch() -> None:
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _broker_address(state: StateDir, operator: Operator) -> Address:
    """Return where the broker listens: as the operator says, or as the broker wrote."""
    if operator.broker.port:
        return operator.broker.address, operator.broker.port
    try:
        host, _, port = state.broker_address.read_text().strip().rpartition(":")
        return host, int(port)
    except (OSError, ValueError) as err:
        raise ConfigError(
            f"{state.broker_address}: no broker wrote its address here; start `wardian broker`, or "
            "give [broker] a port in operator.toml"
        ) from err


def _launch(role: str, state: StateDir, host: HostSettings, lifeline: int | None) -> None:
    """Run `role` in the TEE that the operator chose, and end with its status."""
    operator = state.load_operator()
    if operator.tee != "simulated":
        raise ConfigError(
            f"operator.toml: tee = {operator.tee!r}: start the role with Gramine itself; "
            "`wardian` launches simulated enclaves only"
        )

    def announce(event: str, fields: Any) -> None:
        if event == "broker.listening":
            address = f"{fields['address']}:{fields['port']}\n"
            replace_file(state.broker_address, address.encode())
        print_announcement(event, fields)

    close_to_others()
    _tie_to(lifeline)
    sys.exit(
        launch_simulated(role, state=state.root, host_settings=wire.encode(host), announce=announce)
    )


@click.command()
@options
def broker(*, state: Path, lifeline: int | None) -> None:
    """Run the key broker of the mesh in the state directory.

    It holds the mesh's certificate authority, releases keys on evidence alone, and keeps its state
    encrypted to its own measurement. Owners give it a signed manifest and their keys.
    """
    place = StateDir.open(state)
    operator = place.load_operator()
    host = HostSettings(
        log_level=operator.log_level,
        listen=(operator.broker.address, operator.broker.port),
        store=str(place.store),
    )
    _launch("broker", place, host, lifeline)


@click.command()
@options
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of operator.toml's.")
def frontend(*, state: Path, lifeline: int | None, port: int | None) -> None:
    """Run a front end: HTTPS to clients, sealed messages to workers.

    It gets its certificate and the queue keys from the broker, on evidence of what it is.
    """
    place = StateDir.open(state)
    operator = place.load_operator()
    host = HostSettings(
        log_level=operator.log_level,
        listen=(operator.frontend.address, operator.frontend.port if port is None else port),
        names=operator.frontend.names,
        broker=_broker_address(place, operator),
        queues=(place.queue,),
    )
    _launch("frontend", place, host, lifeline)


@click.command()
@options
@click.option("--model", required=True, help="A model of wardian.toml; its newest version is run.")
def worker(*, state: Path, lifeline: int | None, model: str) -> None:
    """Run a worker: it opens one sealed model in memory and answers requests.

    It gets the model's key from the broker, on evidence of what it is. Any number of workers may
    serve the same model.
    """
    place = StateDir.open(state)
    operator = place.load_operator()
    sealed = {}
    for path in (place.root / "models").glob("*.sealed"):
        name, _, version = path.name.removesuffix(".sealed").rpartition("-")
        sealed[f"{name}:{version}"] = str(path)
    host = HostSettings(
        log_level=operator.log_level,
        broker=_broker_address(place, operator),
        queues=(place.queue,),
        model=model,
        sealed_models=sealed,
    )
    _launch("worker", place, host, lifeline)
