"""Where the role `zoo` finds the Redis of Cluster Serving's clients, and its workers."""

import hashlib
import os
import re
import socket
from pathlib import Path
from typing import Final

from wardian._internal.operator import ZooPlace
from wardian._internal.settings import read
from wardian.cli.host import Placement, broker_addresses
from wardian.cli.queue_place import EMBEDDED, ZOO, find_queue
from wardian.cli.resolving import resolve
from wardian.cli.state import StateDir
from wardian.errors import ConfigError
from wardian.roles.host import HostSettings, ZooRedisPlace
from wardian.serving.zoo.their_redis import refuse_open
from wardian.tee.launch.reach import Reach

MAX_CA_BYTES: Final = 64 * 1024
_URL: Final = re.compile(
    r"\Aredis(?P<tls>s?)://(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:,]+)):(?P<port>[0-9]{1,5})\Z"
)


def place_zoo(
    state: StateDir, *, queue: str | None = None, consumer: str | None = None
) -> Placement:
    """Return the settings of the role `zoo`; what is given here comes before operator.toml.

    Args:
        state: the state directory.
        queue: where its queue to the workers is; see `find_queue`. An embedded one is its own.
        consumer: the name of this process among those of its role.

    Raises:
        ConfigError: an address is none, or is open to everybody on a network; a file is missing.
    """
    operator = state.load_operator()
    brokers = broker_addresses(state, operator)
    here = ZOO if (queue or operator.queue.redis or EMBEDDED) == EMBEDDED else queue
    way = find_queue(state, operator, here)
    place = find_redis(state, operator.zoo, consumer=consumer)
    password = None if place.password_file is None else Path(place.password_file)
    return Placement(
        settings=HostSettings(
            log_level=operator.log_level, brokers=brokers, zoo=place, **way.settings
        ),
        reach=Reach(
            read=() if password is None else (password.parent,),
            sockets=way.sockets,
            bind=way.tcp,
            connect=(*(port for _, port in brokers), *way.redis, place.address[1]),
        ),
        files={} if password is None else {"zoo-password": password},
    )


def find_redis(state: StateDir, place: ZooPlace, *, consumer: str | None) -> ZooRedisPlace:
    """Return where the Redis of `[zoo]` is.

    Raises:
        ConfigError: see `place_zoo`.
    """
    found = _URL.match(place.redis)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise ConfigError(
            f"operator.toml: [zoo] redis {place.redis!r}: redis://HOST:PORT or rediss://HOST:PORT "
            "was expected; user and password have keys of their own"
        )
    host = found["six"] or found["host"]
    address = resolve(host, int(found["port"]))[0]
    tls = bool(found["tls"])
    if not tls and (place.ca_file or place.redis_name):
        raise ConfigError("operator.toml: [zoo] ca_file and redis_name are for rediss:// alone")
    if tls and place.ca_file is None:
        raise ConfigError("operator.toml: [zoo] ca_file: rediss:// needs the CA of its certificate")
    if place.username and place.password_file is None:
        raise ConfigError("operator.toml: [zoo] username: a user has a password_file")
    refuse_open(address[0], tls=tls, password=place.password_file is not None)
    return ZooRedisPlace(
        address=address,
        tls_name=(place.redis_name or host) if tls else None,
        ca_pem="" if place.ca_file is None else _ca(state.root / place.ca_file),
        username=place.username,
        password_file=_password_file(state, place),
        consumer=consumer or place.consumer or _own_name(state),
    )


def _ca(path: Path) -> str:
    try:
        return read(path, limit_bytes=MAX_CA_BYTES).decode("ascii")
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not a certificate in PEM") from err


def _password_file(state: StateDir, place: ZooPlace) -> str | None:
    """Return where the password lies, in a directory that the role may read whole.

    Raises:
        ConfigError: there is no such file; others' files would be open with it; or other users may
            read it.
    """
    if place.password_file is None:
        return None
    path = (state.root / place.password_file).resolve()
    if state.root.resolve().is_relative_to(path.parent):
        raise ConfigError(
            f"{state.operator}: [zoo] password_file: it lies in a directory of its own, which the "
            "role may read whole"
        )
    if not path.is_file():
        raise ConfigError(f"{state.operator}: [zoo] password_file: no file {path}")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: open to other users; run chmod 600 on it")
    return str(path)


def _own_name(state: StateDir) -> str:
    """Return a name that is this state directory's, on this machine, whenever it starts."""
    place = f"{socket.gethostname()}\n".encode() + os.fsencode(state.root.resolve())
    return f"wardian-{hashlib.sha256(place).hexdigest()[:12]}"
