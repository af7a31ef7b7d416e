"""Which broker an owner speaks to, and with which of its files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from wardian._internal.agreed import Agreed
from wardian.cli.audit.source import parse_address
from wardian.cli.mesh.files import read_agreed
from wardian.cli.state import StateDir
from wardian.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnersPlace:
    """A broker's address and an owner's copies of what it must agree with.

    Attributes:
        address: host and port of the broker.
        agreed_toml: `wardian.toml`, exact bytes.
        agreed: the same, read.
        state: the state directory of this machine, if it is one of `wardian up`.
    """

    address: tuple[str, int]
    agreed_toml: bytes
    agreed: Agreed
    state: StateDir | None

    def own(self, given: Path | None, name: str) -> Path:
        """Return the file `given`, or that of the state directory's attribute `name`.

        Raises:
            ConfigError: neither is there.
        """
        if given is not None:
            return given
        if self.state is None:
            raise ConfigError(f"--{name.removeprefix('owner_')}: name the file")
        found: Path = getattr(self.state, name)
        return found


def place_options(command: F) -> F:
    """Give `command` the options that say which broker it is about."""
    for option in (
        click.option("--broker", metavar="HOST:PORT", help="The broker."),
        click.option(
            "--state",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="Instead: a state directory of `wardian up`, with all that an owner has.",
        ),
    ):
        command = option(command)
    return command


def find_place(broker: str | None, state: Path | None, *, agreed: Path | None) -> OwnersPlace:
    """Return the broker that the options name, with `wardian.toml`.

    Args:
        broker: HOST:PORT.
        state: a state directory; the broker's own address there, unless `broker` names one.
        agreed: `wardian.toml`; the state directory's unless it is given.

    Raises:
        ConfigError: no broker, or no `wardian.toml`, is named or there.
    """
    directory = StateDir(state.resolve()) if state else None
    path = directory.agreed if agreed is None and directory else agreed
    if path is None:
        raise ConfigError("--agreed: name the mesh's wardian.toml, or a state directory (--state)")
    raw, settings = read_agreed(path)
    return OwnersPlace(
        address=_address(broker, directory), agreed_toml=raw, agreed=settings, state=directory
    )


def _address(broker: str | None, state: StateDir | None) -> tuple[str, int]:
    if broker is not None:
        return parse_address(broker)
    if state is None:
        raise ConfigError("name the broker with --broker HOST:PORT, or a state directory (--state)")
    try:
        return parse_address(state.broker_address.read_text().strip())
    except OSError as err:
        raise ConfigError(
            f"{state.broker_address}: no broker wrote its address here; name it with --broker"
        ) from err
