"""Where the Redis of Cluster Serving's clients is, as `redisUrl` says it: `HOST:PORT`."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardian._internal.files import read_private
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError
from wardian.serving.zoo.stream.their_redis import refuse_open

DEFAULT: Final = "localhost:6379"
"""Where the original looks for it."""
WITHHELD: Final = "@"
"""Stands for an address with a user or a password in it, which is not kept."""
MAX_PASSWORD_BYTES: Final = 1024
INSTEAD: Final = "give --redis-password-file, or let it speak TLS and give --redis-ca-file"
"""What to do about a Redis that is open to a network."""
_ADDRESS: Final = re.compile(
    r"\A(?:redis(?P<tls>s?)://)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253}))"
    r":(?P<port>[0-9]{1,5})/?\Z"
)
_HERE: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TheirPlace:
    """Their Redis, and how it is reached.

    Attributes:
        host: a name or an IP address.
        port: 1 to 65535.
        tls: whether it is spoken to by TLS.
        ca_file: the CA of its certificate, PEM; None without TLS.
        username: ACL user; "": Redis' default one.
        password_file: whose first line is the password; None: there is none.
        said: what named it, for messages.
    """

    host: str
    port: int
    tls: bool = False
    ca_file: Path | None = None
    username: str = ""
    password_file: Path | None = None
    said: str

    @property
    def address(self) -> str:
        """The host to ask: of this machine the address that Redis listens at by default."""
        return _HERE if self.host.lower() == "localhost" else self.host

    @property
    def url(self) -> str:
        """As operator.toml has it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"redis{'s' if self.tls else ''}://{host}:{self.port}"

    def is_at(self, host: str | None, port: int | None) -> bool:
        """Return whether `host` and `port`, None: the original's defaults, name the same."""
        other = TheirPlace(host=host or "localhost", port=port or 6379, said="")
        return (self.address.lower(), self.port) == (other.address.lower(), other.port)


def read_password(path: Path) -> Secret:
    """Return the first line of `path`, a file of this user alone.

    Raises:
        ConfigError: it cannot be read, or others can read it; or the line is empty.
    """
    text = read_private(path, limit_bytes=MAX_PASSWORD_BYTES).split(b"\n", 1)[0].strip()
    if not text:
        raise ConfigError(f"{path}: its first line, which is the password, is empty")
    return Secret(text)


def names_user(text: str) -> bool:
    """Return whether a user, or a password, may stand in the address `text`."""
    return "@" in text


def their_place(
    text: str,
    *,
    said: str,
    tls: bool | None = None,
    ca_file: Path | None = None,
    username: str = "",
    password_file: Path | None = None,
) -> TheirPlace:
    """Return the place that `text` names.

    Args:
        text: `HOST:PORT`, with or without `redis://` or `rediss://` before it.
        said: what it is the value of, for messages.
        tls: whether it is spoken to by TLS; None: as `text` says.
        ca_file: the CA of its certificate.
        username: ACL user.
        password_file: whose first line is the password.

    Raises:
        ConfigError: it names none, or could not be asked that way. Never says what stands there.
    """
    if names_user(text):
        raise ConfigError(
            f"{said}: a user or a password is no part of it: put the password on the first line of "
            "a file of yours alone, and give --redis-password-file and --redis-user"
        )
    found = _ADDRESS.match(text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise ConfigError(f"{said}: HOST:PORT was expected")
    wanted = bool(found["tls"]) if tls is None else tls
    if wanted and ca_file is None:
        raise ConfigError(f"{said}: TLS needs the CA of its certificate, in PEM: --redis-ca-file")
    if ca_file is not None and not wanted:
        raise ConfigError(f"--redis-ca-file: {said} is spoken to without TLS")
    if username and password_file is None:
        raise ConfigError("--redis-user: a user has a --redis-password-file")
    place = TheirPlace(
        host=found["six"] or found["host"],
        port=int(found["port"]),
        tls=wanted,
        ca_file=ca_file,
        username=username,
        password_file=password_file,
        said=said,
    )
    if _is_ip(place.address):  # a name is asked for later
        refuse_open(
            place.address,
            tls=wanted,
            password=password_file is not None,
            setting=said,
            instead=INSTEAD,
        )
    return place


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
