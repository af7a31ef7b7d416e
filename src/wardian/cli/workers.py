"""`wardian workers`: the workers of a mesh on the operator's engine, in the foreground."""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import get_args

import click
import msgspec

from wardian._internal import log as logs
from wardian._internal.agreed import Agreed
from wardian._internal.operator import EngineName, Operator
from wardian._internal.settings import load
from wardian.cli.engines.choice import demand_engine
from wardian.cli.processes import close_to_others, options, queue_option
from wardian.cli.state import StateDir
from wardian.cli.up.mesh import MeshProcesses
from wardian.cli.up.screen import Screen
from wardian.cli.up.signals import first, on_signals
from wardian.cli.up.workers import Workers
from wardian.errors import ConfigError
from wardian.tee.launch.lifeline import Lifeline

LOOK_S = 1.0


@click.command()
@options
@queue_option
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    help="What places them; instead of operator.toml's.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME[:VERSION]",
    help="Whose workers, again for more; by default those of every model of wardian.toml.",
)
def workers(
    *,
    state: Path,
    lifeline: Lifeline | None,
    queue: str | None,
    engine: EngineName | None,
    models: tuple[str, ...],
) -> None:
    """Run the workers of a mesh by an engine: processes here, a job of Flink, actors of Ray.

    As many of each model as operator.toml says, also when that changes. Broker and front ends are
    started by themselves. Ends, and its workers with it, on Ctrl-C.

    \b
    wardian workers
    wardian workers --engine flink --model digits
    """  # noqa: D301 (click reads the character \b, not a backslash)
    place = StateDir.open(state)
    operator = place.load_operator()
    if engine is not None:
        operator = msgspec.structs.replace(operator, engine=engine)
    logs.configure(role="workers", level=operator.log_level)
    close_to_others()
    demand_engine(operator)
    agreed = load(place.agreed, Agreed)
    for model in models:
        if model.partition(":")[0] not in agreed.models:
            raise ConfigError(f"--model {model}: {place.agreed} has no such model")
    named = models or tuple(agreed.models)
    queued = () if queue is None else ("--queue", queue)
    asyncio.run(_run(place, operator, named, queue=queued, lifeline=lifeline))


async def _run(
    state: StateDir,
    operator: Operator,
    models: tuple[str, ...],
    *,
    queue: tuple[str, ...],
    lifeline: Lifeline | None,
) -> None:
    """Keep the workers running until a signal comes or the lifeline is over."""
    screen = Screen()
    processes = MeshProcesses(state, operator, screen)
    placed = Workers(state, operator, processes, screen)
    stop = on_signals()
    try:
        await first(asyncio.ensure_future(placed.start(models, queue=queue)), stop)
        if not stop.done():
            screen.step("workers", "serving", f"{', '.join(models)} by {operator.engine}")
        while not stop.done() and not (lifeline is not None and lifeline.over()):
            await placed.look()
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            waited: list[asyncio.Future[object]] = [stop, processes.failed]  # type: ignore[list-item]
            await asyncio.wait(waited, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if processes.failed.done():
                raise processes.failed.result()
    finally:
        await placed.stop()
        await processes.stop()
