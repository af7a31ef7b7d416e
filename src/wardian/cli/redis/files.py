"""The files of a Redis that carries the queue: its settings, users, certificate and key."""

import asyncio
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardian._internal.files import replace_file
from wardian.broker.certificates import chain_pem
from wardian.broker.infrastructure.client import fetch_queue_files
from wardian.broker.infrastructure.messages import QueueFiles
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import ConfigError

CONF: Final = "redis.conf"
USERS: Final = "users.acl"
AUTHORITY: Final = "ca.pem"
CERTIFICATE: Final = "server.pem"
KEY: Final = "server.key"
OWNED: Final = (CONF, USERS)
"""What an operator may change, so that it is written once and never over."""

DEFAULT_MEMORY: Final = "1gb"
_MEMORY: Final = re.compile(r"\A[1-9][0-9]{0,5}(mb|gb)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlace:
    """Where a Redis is to listen, and how much it may hold.

    Attributes:
        listen: IP addresses.
        port: for TLS; there is no other.
        memory: `NUMBERmb` or `NUMBERgb`. Beyond it Redis refuses, and removes nothing.
    """

    listen: tuple[str, ...]
    port: int
    memory: str = DEFAULT_MEMORY

    def __post_init__(self) -> None:
        """Refuse what would be another line of the file than it seems.

        Raises:
            ConfigError: an address is none, or the memory is no such number.
        """
        for each in self.listen:
            try:
                ipaddress.ip_address(each)
            except ValueError as err:
                raise ConfigError(f"{each!r} is no IP address to listen at") from err
        if _MEMORY.match(self.memory) is None:
            raise ConfigError(f"memory {self.memory!r}: NUMBERmb or NUMBERgb was expected")


def redis_conf(place: ServerPlace, directory: Path) -> str:
    """Return the settings of a server with its files in `directory`: Redis 6.2 and newer read it.

    Raises:
        ConfigError: the directory's name has characters that the file cannot hold.
    """
    return f"""\
# A Redis that carries Wardian's queue. Written by `wardian`; the how-to "Run with Redis" explains.
# TLS 1.3 alone, in both directions: a client without a certificate of the CA is not heard.
port 0
bind {" ".join(place.listen)}
tls-port {place.port}
tls-cert-file {_quoted(directory / CERTIFICATE)}
tls-key-file {_quoted(directory / KEY)}
tls-ca-cert-file {_quoted(directory / AUTHORITY)}
tls-auth-clients yes
tls-protocols "TLSv1.3"
tls-session-caching no
aclfile {_quoted(directory / USERS)}
# What was queued when it ends is sealed anew by the front ends: nothing is kept on a disk.
save ""
appendonly no
dir {_quoted(directory)}
# When this is full it says so, and clients are told to come back. It never drops what waits.
maxmemory {place.memory}
maxmemory-policy noeviction
daemonize no
logfile ""
databases 1
"""


def fetch(broker: tuple[str, int], *, names: tuple[str, ...]) -> tuple[TlsKey, QueueFiles]:
    """Return a fresh key, and what the broker gives for it; see `fetch_queue_files`."""
    key = TlsKey.generate()
    return key, asyncio.run(fetch_queue_files(broker, key=key, names=names))


def write_files(
    directory: Path,
    key: TlsKey,
    files: QueueFiles,
    place: ServerPlace,
    *,
    certificates_alone: bool = False,
) -> tuple[Path, ...]:
    """Write all files, each for this user alone; return which.

    Args:
        directory: is there, and absolute.
        key: of the certificate.
        files: from the broker.
        place: where the server listens.
        certificates_alone: leave settings and users as they are: an operator may have changed them.

    Raises:
        ConfigError: see `redis_conf`.
    """
    contents = {
        AUTHORITY: chain_pem((files.infrastructure_ca,)),
        CERTIFICATE: chain_pem((files.certificate,)),
        KEY: key.private_pem().reveal(),
    }
    if not certificates_alone:
        contents |= {
            USERS: files.users_acl.encode(),
            CONF: redis_conf(place, directory).encode(),
        }
    for name, content in contents.items():
        replace_file(directory / name, content)
    return tuple(directory / name for name in contents)


def _quoted(path: Path) -> str:
    """Return `path` as one word of the file (its quotes know backslashes)."""
    text = str(path)
    if not text.isprintable():
        raise ConfigError(f"{text!r}: cannot stand in a settings file of Redis; name another")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
