"""What the operator's files tell a role, and what they let it reach.

Names are resolved here: a role resolves none, so it needs no name service, and the kernel refuses
it UDP. Whatever stands here may be a lie; a role finds things by it and trusts none of them.
"""

import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wardian._internal.settings import Operator
from wardian.cli.state import StateDir
from wardian.errors import ConfigError
from wardian.roles.host import Address, HostSettings
from wardian.tee.launch.reach import Reach

_PORTS = range(10_240, 32_768)
"""Where a free port is looked for: below those that the kernel gives to outgoing connections."""
_TRIES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one role's process finds what it needs.

    Attributes:
        settings: told to the role, unmeasured.
        reach: opened to it where the launcher confines it.
        files: by their names in the role's directory under Gramine, where they really lie.
    """

    settings: HostSettings
    reach: Reach
    files: dict[str, Path]

    def inside(self) -> HostSettings:
        """Return the settings as a process under Gramine reads them: paths in its directory.

        A self-test keeps nothing: its store lies in the enclave's own memory, at the root.

        Raises:
            ConfigError: something of it cannot leave an enclave: a Unix socket, a port that only
                the broker itself knows.
        """
        if any(not queue.startswith("tcp:") for queue in self.settings.queues):
            raise ConfigError(
                "operator.toml: under Gramine the queue has to be TCP: give [queue] a port"
            )
        if any(port == 0 for _, port in self.settings.listen):
            raise ConfigError("operator.toml: under Gramine give [broker] a port")
        places = {str(place): name for name, place in self.files.items()}
        store, sealed = self.settings.store, self.settings.sealed_models
        return msgspec.structs.replace(
            self.settings,
            store=store and f"{places.get(str(Path(store).parent), '')}/{Path(store).name}",
            sealed_models={key: places[path] for key, path in sealed.items() if path in places},
        )


def place_broker(state: StateDir) -> Placement:
    """Return the broker's settings."""
    operator = state.load_operator()
    (listen,) = resolve(operator.broker.address, operator.broker.port)[:1]
    return Placement(
        settings=HostSettings(
            log_level=operator.log_level, listen=(listen,), store=str(state.store)
        ),
        reach=Reach(write=(state.store.parent,), bind=(listen[1],)),
        files={"state": state.store.parent},
    )


def place_frontend(state: StateDir, *, port: int | None = None) -> Placement:
    """Return a front end's settings; `port` comes before the operator's, and 0 is a free one."""
    operator = state.load_operator()
    wanted = operator.frontend.port if port is None else port
    listen = resolve(operator.frontend.address, wanted)
    if wanted == 0:
        free = free_port([host for host, _ in listen])
        listen = tuple((host, free) for host, _ in listen)
    broker = broker_address(state, operator)
    queue, port = queue_address(state, operator)
    return Placement(
        settings=HostSettings(
            log_level=operator.log_level,
            listen=listen,
            names=operator.frontend.names,
            broker=broker,
            queues=(queue,),
        ),
        reach=Reach(
            sockets=() if port else (Path(queue).parent,),
            bind=(listen[0][1], *((port,) if port else ())),
            connect=(broker[1],),
        ),
        files={},
    )


def place_worker(state: StateDir, *, model: str) -> Placement:
    """Return the settings of a worker for `model`."""
    operator = state.load_operator()
    broker = broker_address(state, operator)
    queue, port = queue_address(state, operator)
    sealed: dict[int, Path] = {}
    for path in (state.root / "models").glob("*.sealed"):
        name, _, version = path.name.removesuffix(".sealed").rpartition("-")
        if name == model and version.isdecimal():
            sealed[int(version)] = path
    return Placement(
        settings=HostSettings(
            log_level=operator.log_level,
            broker=broker,
            queues=(queue,),
            model=model,
            sealed_models={f"{model}:{version}": str(path) for version, path in sealed.items()},
        ),
        reach=Reach(read=(state.root / "models",), connect=(broker[1], *((port,) if port else ()))),
        files={"model.sealed": sealed[max(sealed)]} if sealed else {},
    )


def broker_address(state: StateDir, operator: Operator) -> Address:
    """Return where the broker listens: as the operator says, or as the broker wrote."""
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


def queue_address(state: StateDir, operator: Operator) -> tuple[str, int]:
    """Return the queue's address, and its TCP port; 0 for a Unix socket."""
    if not operator.queue.port:
        return state.queue, 0
    host, port = resolve(operator.queue.address, operator.queue.port)[0]
    return f"tcp:{f'[{host}]' if ':' in host else host}:{port}", port


def resolve(name: str, port: int) -> tuple[Address, ...]:
    """Return the IP addresses of `name`, each with `port`.

    Raises:
        ConfigError: it has none.
    """
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as err:
        raise ConfigError(f"operator.toml: the address {name!r} does not resolve: {err}") from err
    return tuple((host, port) for host in dict.fromkeys(str(info[4][0]) for info in found))


def free_port(hosts: Iterable[str]) -> int:
    """Return a TCP port that is free on every one of `hosts` now.

    Raises:
        ConfigError: none was found.
    """
    for port in random.sample(_PORTS, _TRIES):
        try:
            for host in hosts:
                socket.create_server(
                    (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
                ).close()
        except OSError:
            continue
        return port
    raise ConfigError("no free port was found; name one with --port")
