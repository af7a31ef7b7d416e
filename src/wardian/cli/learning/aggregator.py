"""`wardian aggregator`: the coordinator of a federated run, in the foreground."""

from pathlib import Path

import click

from wardian._internal import settings
from wardian._internal.consortium import Consortium
from wardian._internal.files import replace_file
from wardian.cli import processes
from wardian.cli.host import place_aggregator
from wardian.cli.state import StateDir
from wardian.errors import ConfigError
from wardian.learning.planned import verify_plan
from wardian.tee.launch.lifeline import Lifeline
from wardian.tee.launch.simulation import open_platform
from wardian.tee.manifest.builder import Builder

ROLE = "aggregator"


@click.command()
@processes.options
@click.option(
    "--consortium",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What the parties agreed to; needed once, and kept in the state directory.",
)
def aggregator(*, state: Path, lifeline: Lifeline | None, consortium: Path | None) -> None:
    """Coordinate the run that a consortium agreed to, in an enclave.

    consortium.toml is part of what the enclave measures: parties verify it before they send
    anything. The run's state is sealed after every round; start the command again to go on. In a
    simulation `party-policy.toml` in the state directory is what parties demand of it.
    """
    directory = StateDir.open(state)
    _adopt(directory, consortium)
    if directory.load_operator().tee == "simulated":
        _build(directory)
    with directory.locked():  # two of one directory would be two runs of one consortium
        directory.aggregator.mkdir(mode=0o700, exist_ok=True)
        processes.run(ROLE, directory, place_aggregator(directory), lifeline=lifeline)


def _adopt(state: StateDir, given: Path | None) -> None:
    """Keep what the parties agreed to in the state directory.

    Raises:
        ConfigError: there is none, it is wrong, or another one is there already.
    """
    place = state.consortium_toml
    if given is None:
        if not place.exists():
            raise ConfigError("say what the parties agreed to: --consortium FILE")
        return
    raw = settings.read(given)
    verify_plan(settings.parse(raw, Consortium, name=str(given)))
    if place.exists() and place.read_bytes() != raw:
        raise ConfigError(
            f"{place}: another consortium has its run here; give --state another directory"
        )
    replace_file(place, raw)


def _build(state: StateDir) -> None:
    """Write the manifest, and what parties demand; on hardware the parties built and signed it."""
    processes.close_to_others()
    built = Builder(state.enclave_of(ROLE), deployment=state.consortium_toml.read_bytes()).build(
        ROLE
    )
    root = open_platform(state.simulation).root_sha256
    text = f"""\
# What `wardian party` demands of the aggregator. Written by `wardian aggregator` in the parties'
# place; a party elsewhere builds the aggregator itself and compares the measurement.

# SIMULATED: this root is no hardware's. Who accepts it trusts the machine's administrator.
simulation_root_sha256 = "{root.hex()}"
measurements = ["{built.mr_enclave.hex()}"]
"""
    replace_file(state.root / "party-policy.toml", text.encode())
