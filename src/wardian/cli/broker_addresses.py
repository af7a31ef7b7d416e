"""Where the brokers of a state directory listen, and where others find them."""

import contextlib
import socket
from pathlib import Path

from wardian._internal.operator import Operator
from wardian.cli.resolving import free_port, resolve, resolve_text
from wardian.cli.state import StateDir
from wardian.errors import ConfigError
from wardian.roles.host import Address


def broker_places(state: StateDir, operator: Operator) -> tuple[Address, ...]:
    """Return where the broker of this directory is to listen, and the other one if there is one.

    Two brokers of one directory have to find each other before either listens, so free ports are
    chosen here for both, once, and written down.
    """
    place = operator.broker
    (first,) = resolve(place.address, place.port)[:1]
    if place.peer is not None:
        return first, resolve_text(place.peer)
    if not place.standby:
        return (first if first[1] else _as_before(state, first[0]),)
    if not state.broker_pair.exists():
        ports = [place.port or free_port([first[0]]), place.standby_port or free_port([first[0]])]
        lines = "".join(f"{first[0]}:{port}\n" for port in ports)
        with contextlib.suppress(FileExistsError), state.broker_pair.open("x") as file:
            file.write(lines)
    first, second = _read_addresses(state.broker_pair)
    return first, second


def _as_before(state: StateDir, host: str) -> Address:
    """Return where the broker of this directory listened last, if it can again, else port 0.

    Processes that it admitted know that address, and renew there: a broker that is started anew
    elsewhere would be lost to them.
    """
    with contextlib.suppress(OSError, ValueError):
        before, _, written = state.broker_address.read_text().strip().rpartition(":")
        port = int(written)
        if before == host and 0 < port < 2**16:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host, port), family=family).close()
            return host, port
    return host, 0


def broker_addresses(state: StateDir, operator: Operator) -> tuple[Address, ...]:
    """Return where workloads find a broker: the active one is one of them."""
    if operator.broker.standby or operator.broker.peer:
        return broker_places(state, operator)
    return (broker_address(state, operator),)


def _read_addresses(path: Path) -> list[Address]:
    """Return the addresses that stand in `path`, one a line."""
    try:
        parts = [line.rpartition(":") for line in path.read_text().splitlines()]
        return [(host, int(port)) for host, _, port in parts]
    except (OSError, ValueError) as err:
        raise ConfigError(f"{path}: is damaged; remove it, then start the brokers") from err


def broker_address(state: StateDir, operator: Operator) -> Address:
    """Return where the one broker listens: as the operator says, or as the broker wrote."""
    if operator.broker.port:
        return resolve(operator.broker.address, operator.broker.port)[0]
    try:
        host, _, port = state.broker_address.read_text().strip().rpartition(":")
        return host, int(port)
    except (OSError, ValueError) as err:
        raise ConfigError(
            f"{state.broker_address}: no broker wrote its address here; start `wardian broker`, or "
            "give [broker] a port in operator.toml"
        ) from err
