"""`wardian keeper`: run one, in the foreground."""

from pathlib import Path

import click

from wardian._internal.files import replace_file
from wardian.cli import processes
from wardian.cli.host import place_keeper
from wardian.cli.lazy import LazyGroup
from wardian.cli.state import StateDir
from wardian.tee.launch.lifeline import Lifeline
from wardian.tee.manifest.builder import Builder

DEFAULT_TERMS = b'service = "keeper"\n'


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    commands_by_name={"show": ("wardian.cli.keeper.show", "show")},
)
@processes.options
@click.pass_context
def keeper(context: click.Context, *, state: Path, lifeline: Lifeline | None) -> None:
    """Keep counters for key brokers, whose hosts cannot set them back then.

    Three or more of these, on machines of their own, say which state of a broker is the newest.
    Each keeps its numbers in the state directory, sealed to its measurement, and knows no mesh.
    `wardian keeper show` prints what the owners put into wardian.toml.
    """
    if context.invoked_subcommand is not None:
        return
    directory = StateDir.open(state)
    if directory.load_operator().tee == "simulated":
        _build(directory)
    with directory.locked():  # two of one directory would answer each other's askers
        processes.run("keeper", directory, place_keeper(directory), lifeline=lifeline)


def _build(state: StateDir) -> None:
    """Write the keeper's manifest; on hardware its owners built and signed it."""
    if not state.keeper_toml.exists():
        replace_file(state.keeper_toml, DEFAULT_TERMS)
    processes.close_to_others()
    Builder(state.enclave_of("keeper"), deployment=state.keeper_toml.read_bytes()).build("keeper")
