"""Where the queue's Redis is, as an operator writes it: `rediss://HOST:PORT`, and its two kin.

    rediss://HOST:PORT                          one server
    rediss://HOST:PORT,HOST:PORT                servers of a Redis Cluster
    rediss+sentinel://HOST:PORT,HOST:PORT/NAME  Sentinels, which know where the master NAME is

There is no form without TLS, and none with a user or password: those come from the broker.
"""

import re
from dataclasses import dataclass
from typing import Final

from wardian.errors import ConfigError

MOST_SERVERS: Final = 16

_URL: Final = re.compile(
    r"\Arediss(?P<sentinel>\+sentinel)?://(?P<servers>[^/\s?#@]+)(?:/(?P<master>[A-Za-z0-9._-]{1,64}))?\Z"
)
_SERVER: Final = re.compile(
    r"\A(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:,]+)):(?P<port>[0-9]{1,5})\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where to look.

    Attributes:
        servers: host and port of each: of Redis, or of Sentinels.
        sentinel: the name of the master that Sentinels are asked for; None: they are Redis.
    """

    servers: tuple[tuple[str, int], ...]
    sentinel: str | None = None


def parse_redis(text: str) -> RedisAddress:
    """Return the address that `text` says.

    Raises:
        ConfigError: it says none, or one without TLS, or has a password in it; says what to write.
    """
    if text.startswith("redis://"):
        raise ConfigError(f"queue {text!r}: without TLS nothing goes to Redis; write rediss://")
    if "@" in text:
        raise ConfigError("queue: no user and no password stands in its address: the broker says")
    found = _URL.match(text)
    if found is None:
        raise ConfigError(f"queue {text!r}: rediss://HOST:PORT was expected")
    servers = tuple(_server(each) for each in found["servers"].split(","))
    if len(servers) > MOST_SERVERS:
        raise ConfigError(f"queue: more than {MOST_SERVERS} servers")
    if (found["sentinel"] is None) is not (found["master"] is None):
        raise ConfigError(
            f"queue {text!r}: a master has a name where Sentinels are asked, and only there: "
            "rediss+sentinel://HOST:PORT/NAME"
        )
    return RedisAddress(servers=servers, sentinel=found["master"])


def _server(text: str) -> tuple[str, int]:
    """Return host and port; an IPv6 address stands in brackets."""
    found = _SERVER.match(text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise ConfigError(f"queue: {text!r} is not HOST:PORT")
    return found["six"] or found["host"], int(found["port"])
