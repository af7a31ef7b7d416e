"""Where a role's queue is: in the front end itself, or in a Redis."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wardian._internal.operator import Operator, QueuePlace
from wardian.cli.redis_address import parse_redis
from wardian.cli.resolving import resolve
from wardian.cli.state import StateDir
from wardian.errors import ConfigError

EMBEDDED: Final = "embedded"
"""What stands for no Redis, before what the operator says."""
ZOO: Final = "zoo"
"""What stands for the embedded queue of `wardian zoo`, which has workers of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueWay:
    """How a role finds its queue.

    Attributes:
        settings: fields of `HostSettings`.
        sockets: the directory of the Unix socket of the embedded one.
        tcp: the port of the embedded one, where it has one: a front end listens, a worker calls.
        redis: ports at which Redis, or a Sentinel, is called.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    sockets: tuple[Path, ...] = ()
    tcp: tuple[int, ...] = ()
    redis: tuple[int, ...] = ()


def find_queue(state: StateDir, operator: Operator, chosen: str | None = None) -> QueueWay:
    """Return where the queue is.

    Args:
        state: the state directory.
        operator: its settings.
        chosen: instead of what they say, `EMBEDDED`, `ZOO` or an address as `parse_redis` takes it.

    Raises:
        ConfigError: an address is none, or does not resolve; or nobody says at which ports the
            servers are that Sentinels name.
    """
    place = operator.queue
    redis = place.redis if chosen is None else chosen
    if redis is not None and redis not in {EMBEDDED, ZOO}:
        return _redis(place, redis)
    wanted = operator.zoo.queue_port if redis == ZOO else place.port
    if not wanted:
        path = Path(state.queue)
        path = path.with_name("zoo.sock") if redis == ZOO else path
        return QueueWay(settings={"queues": (str(path),)}, sockets=(path.parent,))
    host, port = resolve(place.address, wanted)[0]
    address = f"tcp:{f'[{host}]' if ':' in host else host}:{port}"
    return QueueWay(settings={"queues": (address,)}, tcp=(port,))


def _redis(place: QueuePlace, text: str) -> QueueWay:
    address = parse_redis(text)
    if address.sentinel is not None and not place.redis_ports:
        raise ConfigError(
            "operator.toml: [queue] redis_ports: say at which ports the servers listen that "
            "Sentinels name; a role reaches no other"
        )
    servers = tuple(resolve(host, port)[0] for host, port in address.servers)
    ports = {*(port for _, port in servers), *place.redis_ports}
    name = place.redis_name or address.servers[0][0]
    return QueueWay(
        settings={"redis": servers, "redis_name": name, "sentinel": address.sentinel},
        redis=tuple(sorted(ports)),
    )
