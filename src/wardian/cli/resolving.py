"""Names and ports of this machine, for roles that resolve none and are told every port."""

import random
import socket
from collections.abc import Iterable
from typing import Final

from wardian.errors import ConfigError
from wardian.roles.host import Address

_PORTS: Final = range(10_240, 32_768)
"""Where a free port is looked for: below those that the kernel gives to outgoing connections."""
_TRIES: Final = 64


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


def resolve_text(text: str) -> Address:
    """Return the IP address and port of HOST:PORT.

    Raises:
        ConfigError: it is none, or does not resolve.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(f"{text!r}: HOST:PORT was expected")
    return resolve(host.strip("[]"), int(port))[0]


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
