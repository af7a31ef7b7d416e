"""`cluster-serving-init`, `-start`, `-stop`, `-restart`, `-shutdown`, `cluster-serving-cli`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from wardian._internal.agreed import Agreed
from wardian._internal.settings import load
from wardian.cli.cluster_serving.background import Background
from wardian.cli.main import run
from wardian.cli.moving.options import Asked, moving_options
from wardian.cli.moving.run import ready_to_serve
from wardian.cli.state import StateDir
from wardian.errors import ConfigError

_TEMPLATE: Final = """\
# The settings of Cluster Serving, as `cluster-serving-start` and `wardian migrate` read them.
# A directory on this machine that holds one model: *.pb, *.xml with *.bin, or TorchScript *.pt.
modelPath:

# What clients call the model.
jobName: serving_stream

# topN(k), or empty: the model's outputs as they are.
postProcessing:

# The Redis of the stream. It has to be there; records in it lie in the clear.
redisUrl: localhost:6379

# Workers, and threads of each.
modelParallelism: 1
threadPerModel: 1
"""
_HELP: Final = {"help_option_names": ["-h", "--help"]}


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what start and restart take: what `wardian serve --zoo` does, with two old names."""
    path = click.Path(path_type=Path)
    config = click.option(
        "-c", "--config_path", "config", type=path, default=Path("config.yaml"), show_default=True
    )
    omp = click.option("-o", "--omp", type=click.IntRange(1, 256), help="Threads of an inference.")
    port = click.option("--port", type=click.IntRange(0, 65535), help="Of the front end; 0: free.")
    return config(omp(moving_options(dialects=True)(port(_state(command)))))


def _state(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--state", type=click.Path(path_type=Path), default=Path(".wardian"), show_default=True
    )(command)


@click.command(context_settings=_HELP)
def init() -> None:
    """Write a config.yaml to the working directory; one that is there stays."""
    try:
        descriptor = os.open("config.yaml", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError as err:
        raise ConfigError("config.yaml: is there already; it is never overwritten") from err
    with os.fdopen(descriptor, "w") as file:
        file.write(_TEMPLATE)
    click.echo("wrote config.yaml; set modelPath, then cluster-serving-start")


@click.command(context_settings=_HELP)
@_options
def start(*, asked: Asked, omp: int | None, port: int | None, state: Path) -> None:
    """Serve what a config.yaml says, to its clients as they are, in the background.

    What `wardian serve --zoo` does; it returns once it serves.
    """
    background = Background(StateDir.open(state))
    if background.pid is not None:
        raise ConfigError(f"--state {state}: runs already; cluster-serving-stop ends it")
    _start(background, asked, omp=omp, port=port, state=state)


def _start(
    background: Background, asked: Asked, *, omp: int | None, port: int | None, state: Path
) -> None:
    ready_to_serve(asked, StateDir.open(state), threads=omp)
    if background.pid is not None:
        background.stop()  # for a restart, once there is something to start
    options = () if port is None else ("--port", str(port))
    url = background.start(asked.wanted.out, *options)
    click.echo(f"serving at {url}; wardian status --state {state}")


@click.command(context_settings=_HELP)
@_state
def stop(*, state: Path) -> None:
    """End what cluster-serving-start started, as Ctrl-C would."""
    Background(_existing(state)).stop()
    click.echo("stopped")


@click.command(context_settings=_HELP)
@_options
def restart(*, asked: Asked, omp: int | None, port: int | None, state: Path) -> None:
    """Stop, where something runs, and start; what cannot be started leaves what runs."""
    _start(Background(StateDir.open(state)), asked, omp=omp, port=port, state=state)


@click.command(context_settings=_HELP)
@_state
def shutdown(*, state: Path) -> None:
    """Stop. A Redis that `wardian up` started ends with it; one of yours goes on."""
    Background(_existing(state)).stop()
    click.echo("stopped; a Redis of your own goes on: redis-cli shutdown")


@click.group(context_settings=_HELP)
def jobs() -> None:
    """Show what cluster-serving-start started, and end it by name."""


@jobs.command(name="list")
@_state
def list_(*, state: Path) -> None:
    """Print each model that is served, and where."""
    for name, url in _served(state).items():
        click.echo(f"{name} {url}")


@jobs.command(name="stop")
@click.argument("name", required=False)
@_state
def stop_(*, name: str | None, state: Path) -> None:
    """End the job NAME; it may be left out, as there is one."""
    served = _served(state)
    if name is not None and name not in served:
        raise ConfigError(f"{name}: no such job; cluster-serving-cli list shows them")
    if name is not None and len(served) > 1:
        raise ConfigError(
            f"{name}: is served together with {len(served) - 1} more, by one front end: "
            "cluster-serving-stop ends all of them"
        )
    Background(_existing(state)).stop()
    click.echo("stopped")


def _served(state: Path) -> dict[str, str]:
    """Return the models that are served from `state`, and where; empty: nothing runs.

    Raises:
        ConfigError: there is no such state directory.
    """
    place = _existing(state)
    background = Background(place)
    if background.pid is None:
        return {}
    return dict.fromkeys(load(place.agreed, Agreed).models, background.url or "starting")


def _existing(state: Path) -> StateDir:
    if not state.is_dir():
        raise ConfigError(f"--state {state}: no such directory; cluster-serving-start makes it")
    return StateDir.open(state)


def init_main() -> None:
    """`cluster-serving-init`."""
    run(init)


def start_main() -> None:
    """`cluster-serving-start`."""
    run(start)


def stop_main() -> None:
    """`cluster-serving-stop`."""
    run(stop)


def restart_main() -> None:
    """`cluster-serving-restart`."""
    run(restart)


def shutdown_main() -> None:
    """`cluster-serving-shutdown`."""
    run(shutdown)


def cli_main() -> None:
    """`cluster-serving-cli`."""
    run(jobs)
