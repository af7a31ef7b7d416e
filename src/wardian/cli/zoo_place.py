"""Where the role `zoo` finds what it serves: their Redis, its keystore, its workers."""

import hashlib
import os
import re
import socket
from pathlib import Path
from typing import Final

from wardian._internal.agreed import Agreed, Dialects
from wardian._internal.clock import unix_time
from wardian._internal.operator import ZooPlace
from wardian._internal.settings import load, read
from wardian.cli.broker_addresses import broker_addresses
from wardian.cli.placement import Placement
from wardian.cli.queue_place import EMBEDDED, ZOO, find_queue
from wardian.cli.resolving import free_port, resolve
from wardian.cli.state import StateDir
from wardian.crypto.pkcs12_frame import MAX_BYTES
from wardian.errors import ConfigError
from wardian.roles.host import Address, HostSettings, ZooHttpsPlace, ZooRedisPlace
from wardian.serving.zoo.stream.their_redis import refuse_open
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
    dialects = load(state.agreed, Agreed).dialects if state.agreed.exists() else None
    brokers = broker_addresses(state, operator)
    here = ZOO if (queue or operator.queue.redis or EMBEDDED) == EMBEDDED else queue
    way = find_queue(state, operator, here)
    redis = None
    if dialects is None or dialects.zoo_redis is not None:
        redis = find_redis(state, operator.zoo, consumer=consumer)
    https = None if dialects is None else find_https(state, operator.zoo, dialects)
    listen = () if https is None else find_listen(operator.zoo)
    files = _files(redis, https)
    return Placement(
        settings=HostSettings(
            log_level=operator.log_level,
            listen=listen,
            brokers=brokers,
            zoo=redis,
            zoo_https=https,
            **way.settings,
        ),
        reach=Reach(
            read=tuple(dict.fromkeys(path.parent for path in files.values())),
            sockets=way.sockets,
            bind=(*way.tcp, *(port for _, port in listen[:1])),
            connect=(
                *(port for _, port in brokers),
                *way.redis,
                *(() if redis is None else (redis.address[1],)),
            ),
        ),
        files=files,
    )


def _files(redis: ZooRedisPlace | None, https: ZooHttpsPlace | None) -> dict[str, Path]:
    """Return the operator's files that the role reads, by their names under Gramine."""
    named = {
        "zoo-password": None if redis is None else redis.password_file,
        "zoo-keystore": None if https is None else https.keystore,
        "zoo-keystore-password": None if https is None else https.password_file,
    }
    return {name: Path(path) for name, path in named.items() if path is not None}


def find_https(state: StateDir, place: ZooPlace, dialects: Dialects) -> ZooHttpsPlace | None:
    """Return the keystore under which `[zoo]` serves HTTPS; None: wardian.toml has no such thing.

    Raises:
        ConfigError: one of owner and operator says nothing of it; a file is missing, too large, or
            open to other users.
    """
    if dialects.keystore is None:
        if place.listen is not None:
            raise ConfigError(
                f"{state.operator}: [zoo] listen: wardian.toml has no `keystore = true` in "
                "[dialects.zoo], so nothing may listen there"
            )
        return None
    missing = [
        name
        for name in ("listen", "keystore", "keystore_password_file")
        if getattr(place, name) is None
    ]
    if missing:
        raise ConfigError(
            f"{state.operator}: [zoo] {', '.join(missing)}: required, as wardian.toml has "
            "`keystore = true` in [dialects.zoo]"
        )
    keystore = _own_file(state, "keystore", place.keystore)
    password = _own_file(state, "keystore_password_file", place.keystore_password_file)
    return ZooHttpsPlace(
        keystore=str(keystore),
        password_file=str(password),
        tokens_per_second=place.tokens_per_second,
        token_wait_ms=place.token_wait_ms,
    )


def keystore_troubles(state: StateDir, place: ZooPlace, dialects: Dialects) -> list[str]:
    """Return what is to be said of the keystore, where there is one, before anything starts.

    Raises:
        ConfigError: it, or another setting of HTTPS, cannot be used; says what to do.
    """
    found = find_https(state, place, dialects)
    if found is None:
        return []
    from wardian.roles.zoo_keystore import load_keystore, time_trouble  # noqa: PLC0415  if at all

    find_listen(place)
    trouble = time_trouble(load_keystore(found), now=unix_time())
    return [] if trouble is None else [trouble]


def find_listen(place: ZooPlace) -> tuple[Address, ...]:
    """Return where `[zoo]` listens for HTTPS; port 0 becomes a free one.

    Raises:
        ConfigError: it is no address, or does not resolve.
    """
    host, _, port = (place.listen or "").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or int(port) > 65535:
        raise ConfigError(f"operator.toml: [zoo] listen {place.listen!r}: HOST:PORT was expected")
    found = resolve(host, int(port))
    if int(port):
        return found
    free = free_port([each for each, _ in found])
    return tuple((each, free) for each, _ in found)


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
    password = _own_file(state, "password_file", place.password_file)
    return ZooRedisPlace(
        address=address,
        tls_name=(place.redis_name or host) if tls else None,
        ca_pem="" if place.ca_file is None else read_ca(state.root / place.ca_file),
        username=place.username,
        password_file=None if password is None else str(password),
        consumer=consumer or place.consumer or _own_name(state),
    )


def read_ca(path: Path) -> str:
    """Return the certificates in the file `path`, PEM.

    Raises:
        ConfigError: it cannot be read, or is no text.
    """
    try:
        return read(path, limit_bytes=MAX_CA_BYTES).decode("ascii")
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not a certificate in PEM") from err


def _own_file(state: StateDir, key: str, named: str | None) -> Path | None:
    """Return the file that `key` of `[zoo]` names, in a directory that the role may read whole.

    Raises:
        ConfigError: there is no such file; others' files would be open with it; other users may
            read it; or it is larger than any such file.
    """
    if named is None:
        return None
    path = (state.root / named).resolve()
    if state.root.resolve().is_relative_to(path.parent):
        raise ConfigError(
            f"{state.operator}: [zoo] {key}: it lies in a directory of its own, which the "
            "role may read whole"
        )
    if not path.is_file():
        raise ConfigError(f"{state.operator}: [zoo] {key}: no file {path}")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: open to other users; run chmod 600 on it")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes")
    return path


def _own_name(state: StateDir) -> str:
    """Return a name that is this state directory's, on this machine, whenever it starts."""
    place = f"{socket.gethostname()}\n".encode() + os.fsencode(state.root.resolve())
    return f"wardian-{hashlib.sha256(place).hexdigest()[:12]}"
