"""A connection to the Redis of Cluster Serving's clients: theirs, not the queue's.

It is the one place where a role of Wardian speaks to anybody without TLS: the records are in the
clear there whatever the way to them, so that what TLS and the password keep out are strangers on
the network, not the operator (TRUST T17).
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, ConnectionLost, PeerProtocolError
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_connection import SILENCE_S, RedisConnection
from wardian.serving.queue.redis_wire import Refusal, command

CONNECT_S: Final = 2 * SILENCE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class TheirRedis:
    """Where it is, and as whom to log in.

    Attributes:
        address: IP address and port.
        server_name: that its certificate must carry; None: without TLS.
        ca_pem: the CA of that certificate; no other is accepted.
        username: ACL user; "": Redis' default one.
        password: returns the user's, read anew for each connection; None: there is none.
    """

    address: Address
    server_name: str | None = None
    ca_pem: str = ""
    username: str = ""
    password: Callable[[], Secret] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse the ways that are open to everybody on a network.

        Raises:
            ConfigError: says what to write instead.
        """
        if self.server_name is not None and not self.ca_pem:
            raise ConfigError("operator.toml: [zoo] ca_file: rediss:// needs its server's CA")
        refuse_open(
            self.address.host,
            tls=self.server_name is not None,
            password=self.password is not None,
        )
        if self.username and self.password is None:
            raise ConfigError("operator.toml: [zoo] username: a user has a password_file")

    def tls(self) -> ssl.SSLContext | None:
        """Return the context of a client that verifies chain and name; None: without TLS.

        Raises:
            ConfigError: the CA's certificate does not parse.
        """
        if self.server_name is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # Redis 6 on an old OpenSSL has no more
        try:
            context.load_verify_locations(cadata=self.ca_pem)
        except (ssl.SSLError, ValueError) as err:
            raise ConfigError("operator.toml: [zoo] ca_file: not X.509 in PEM") from err
        return context


def refuse_open(
    host: str,
    *,
    tls: bool,
    password: bool,
    setting: str = "operator.toml: [zoo] redis",
    instead: str = "give a password_file, or write rediss://",
) -> None:
    """Return unless anybody on a network could read and write what is said to the Redis at `host`.

    Args:
        host: its IP address.
        tls: whether TLS leads there.
        password: whether it has one.
        setting: where `host` stands, for the message.
        instead: what to do, for the message.

    Raises:
        ConfigError: it is open.
    """
    if not (tls or password or ipaddress.ip_address(host).is_loopback):
        raise ConfigError(
            f"{setting}: without TLS and without a password only on loopback; {instead}"
        )


async def open_theirs(redis: TheirRedis, *, max_reply_bytes: int) -> RedisConnection:
    """Return a connection that is logged in.

    Raises:
        OSError: it cannot be had; a `ssl.SSLError` where TLS failed.
        TransportError: nobody answers, or the server does not let this role in.
        ConfigError: the password's file, or the CA's, cannot be used.
    """
    loop, context = asyncio.get_running_loop(), redis.tls()
    connecting = loop.create_connection(
        lambda: RedisConnection(max_reply_bytes=max_reply_bytes),
        redis.address.host,
        redis.address.port,
        ssl=context,
        server_hostname=redis.server_name,
        ssl_handshake_timeout=None if context is None else SILENCE_S,
    )
    try:
        async with asyncio.timeout(CONNECT_S):  # wait_for may lose a cancellation (3.11)
            _, link = await connecting
    except TimeoutError as err:
        raise ConnectionLost("Redis: does not answer") from err
    try:
        await _log_in(link, redis)
    except BaseException:
        link.close()
        raise
    return link


async def _log_in(link: RedisConnection, redis: TheirRedis) -> None:
    if redis.password is not None:
        user = (redis.username.encode(),) if redis.username else ()
        asked = command(b"AUTH", *user, redis.password().reveal())
    else:
        asked = command(b"PING")
    reply = await link.call(asked)
    if isinstance(reply, Refusal):
        raise PeerProtocolError(f"Redis: does not let this role in ({reply.code})")
