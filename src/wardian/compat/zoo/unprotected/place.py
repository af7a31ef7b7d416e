"""Where the Redis of Cluster Serving's clients is, for a client in this process."""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wardian._internal.settings import read
from wardian.compat.zoo.their_place import read_password
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, ConnectionLost
from wardian.serving.zoo.stream.their_redis import refuse_open

MAX_CA_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisPlace:
    """Its address, and as whom to log in.

    Attributes:
        host: a name or an IP address.
        port: of TCP.
        tls: verifies chain and name of its certificate; None: without TLS.
        tls_name: the name in that certificate.
        username: ACL user; "": Redis' default one.
        password: returns the user's, read anew for each connection; None: there is none.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    tls_name: str = ""
    username: str = ""
    password: Callable[[], Secret] | None = field(default=None, repr=False)

    def addresses(self) -> list[tuple[str, int]]:
        """Return the IP addresses of `host`, each with the port.

        Raises:
            ConnectionLost: there is none now.
            ConfigError: one is open to everybody on a network.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as err:
            raise ConnectionLost(f"Redis: {self.host} does not resolve: {err}") from err
        hosts = list(dict.fromkeys(str(info[4][0]) for info in found))
        for host in hosts:
            refuse_open(
                host,
                tls=self.tls is not None,
                password=self.password is not None,
                setting=f"host={self.host!r}",
                instead="give ca_file= or password=",
            )
        return [(host, self.port) for host in hosts]


def find_redis(
    host: str | None,
    port: int | str | None,
    *,
    ca_file: Path | str | None,
    redis_name: str | None,
    password: Secret | Path | None,
    username: str,
) -> RedisPlace:
    """Return the place that a caller's settings name; nothing of it is reached yet.

    Args:
        host: a name or an IP address; by default this machine.
        port: a number, or its digits; by default 6379.
        ca_file: the CA of its certificate, PEM: with it, TLS 1.3, and no other CA is accepted.
        redis_name: the name in the certificate; by default `host`.
        password: it, or the file whose first line it is, for its user alone.
        username: whose; "": Redis' default user's.

    Raises:
        ConfigError: one of them is wrong, or goes with none of the others.
    """
    name = host or "localhost"
    if redis_name is not None and ca_file is None:
        raise ConfigError("redis_name: is for TLS: give ca_file=")
    if username and password is None:
        raise ConfigError("username: a user has a password: give password=")
    return RedisPlace(
        host=name,
        port=_port(port),
        tls=None if ca_file is None else _context(Path(ca_file)),
        tls_name=redis_name or name,
        username=username,
        password=_password(password),
    )


def _port(given: int | str | None) -> int:
    """Return the number that `given` is."""
    if given is None:
        return 6379
    digits = str(given)
    if isinstance(given, bool) or not digits.isascii() or not digits.isdecimal():
        raise ConfigError(f"port: expected a number, got {given!r}")
    if not 1 <= int(digits) <= 65535:
        raise ConfigError(f"port: expected 1 to 65535, got {digits}")
    return int(digits)


def _context(ca_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(
            cadata=read(ca_file, limit_bytes=MAX_CA_BYTES).decode("ascii")
        )
    except (ssl.SSLError, ValueError) as err:
        raise ConfigError(f"{ca_file}: not X.509 in PEM") from err
    return context


def _password(given: Secret | Path | None) -> Callable[[], Secret] | None:
    if given is None:
        return None
    if isinstance(given, Secret):
        return lambda: given
    if isinstance(given, Path):
        return lambda: read_password(given)
    raise ConfigError(
        "password: a Secret was expected, or the Path of the file that holds it: a text would "
        "stand in tracebacks"
    )
