"""The Redis of Cluster Serving's clients, asked from the command line.

Whether it answers; and for the secret and the salt of models that their server reads there.
"""

import asyncio
from functools import partial
from typing import Final

import click

from wardian.cli.resolving import resolve
from wardian.cli.zoo_place import read_ca
from wardian.compat.zoo.their_place import INSTEAD, TheirPlace, read_password
from wardian.crypto.secret import Secret
from wardian.crypto.zoo_keys import MAX_SALT_BYTES, ZooKeys
from wardian.errors import ConfigError, TransportError
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_connection import RedisConnection
from wardian.serving.queue.redis_wire import Refusal, command
from wardian.serving.zoo.stream.their_redis import TheirRedis, open_theirs, refuse_open

WAIT_S: Final = 60.0
"""How long somebody has to put the secret and the salt there."""
POLL_S: Final = 1.0
MAX_REPLY_BYTES: Final = 256 * 1024
_PASSING: Final = "redis-cli HSET model_secured secret ... salt ..."


def way_to(place: TheirPlace) -> TheirRedis:
    """Return the way to the Redis at `place`.

    Raises:
        ConfigError: its host has no address, or one that is open to everybody on a network; a file
            is missing, or open to other users.
    """
    host, port = resolve(place.address, place.port)[0]
    password = place.password_file
    refuse_open(
        host, tls=place.tls, password=password is not None, setting=place.said, instead=INSTEAD
    )
    return TheirRedis(
        address=Address(host=host, port=port),
        server_name=place.host if place.tls else None,
        ca_pem="" if place.ca_file is None else read_ca(place.ca_file),
        username=place.username,
        password=None if password is None else partial(read_password, password),
    )


def demand_answer(redis: TheirRedis, place: TheirPlace) -> None:
    """Return once the Redis answered.

    Raises:
        ConfigError: it does not, within some seconds; says what to do.
    """

    async def ask() -> None:
        (await open_theirs(redis, max_reply_bytes=MAX_REPLY_BYTES)).close()

    try:
        asyncio.run(ask())
    except (OSError, TransportError) as err:
        raise ConfigError(
            f"{place.said}: {place.url}: {_told(err)}: start that Redis or correct the address; "
            "--no-stream leaves the stream out"
        ) from err


def secured_keys(redis: TheirRedis, *, wait_s: float = WAIT_S, poll_s: float = POLL_S) -> ZooKeys:
    """Return the keys of the secret and the salt in the hash `model_secured`.

    Where they are not there yet, they are waited for, and a line says so.

    Raises:
        ConfigError: nobody puts them there within `wait_s`, or Redis cannot be asked.
    """
    try:
        secret, salt = asyncio.run(_fetch(redis, wait_s, poll_s))
    except (OSError, TransportError) as err:
        raise ConfigError(f"model_secured: {_where(redis)}: {_told(err)}") from err
    click.echo(
        "warning: secret and salt lie in that Redis in the clear, for whoever reads it: once the "
        "model is resealed, `redis-cli DEL model_secured`",
        err=True,
    )
    try:
        return ZooKeys(secret, salt)
    finally:
        secret.wipe()


async def _fetch(redis: TheirRedis, wait_s: float, poll_s: float) -> tuple[Secret, bytes]:
    loop = asyncio.get_running_loop()
    link, waits = await open_theirs(redis, max_reply_bytes=MAX_REPLY_BYTES), False
    late = loop.time() + wait_s
    try:
        while (found := await _look(link, redis)) is None:
            if loop.time() + poll_s > late:
                raise ConfigError(
                    f"model_secured: {_where(redis)} had no secret and salt within {wait_s:.0f} s: "
                    f"`{_PASSING}`, or give --secret-file and --salt-file"
                )
            if not waits:
                waits = True
                click.echo(f"waiting up to {wait_s:.0f} s for `{_PASSING}`", err=True)
            await asyncio.sleep(poll_s)
    finally:
        link.close()
    return found


async def _look(link: RedisConnection, redis: TheirRedis) -> tuple[Secret, bytes] | None:
    """Return the secret and the salt; None: one of them is not there yet.

    Raises:
        ConfigError: what is there is no hash, or this user may not read it, or it is too long.
    """
    reply = await link.call(command(b"HMGET", b"model_secured", b"secret", b"salt"))
    if isinstance(reply, Refusal):
        raise ConfigError(f"model_secured: {_where(redis)} refuses to give it ({reply.code})")
    secret, salt = reply if isinstance(reply, list) and len(reply) == 2 else (None, None)
    if not (isinstance(secret, bytes) and isinstance(salt, bytes) and secret and salt):
        return None
    if len(salt) > MAX_SALT_BYTES:
        raise ConfigError(f"the salt has {len(salt):,} bytes; at most {MAX_SALT_BYTES:,}")
    return Secret(secret), salt


def _where(redis: TheirRedis) -> str:
    return f"Redis at {redis.address.host}, port {redis.address.port},"


def _told(err: Exception) -> str:
    """Return why it does not answer."""
    if isinstance(err, OSError):
        return f"cannot be reached ({err.strerror or type(err).__name__})"
    return str(err)
