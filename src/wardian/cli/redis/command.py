"""`wardian redis`: a Redis of this machine that carries the queue, in the foreground."""

import json
import logging
import sys
from pathlib import Path

import click

from wardian._internal import log as logs
from wardian._internal.log import event
from wardian._internal.wire import printable
from wardian.cli.broker_addresses import broker_address
from wardian.cli.processes import close_to_others, options
from wardian.cli.redis.files import AUTHORITY, CONF, ServerPlace, fetch, write_files
from wardian.cli.redis.program import find_server
from wardian.cli.redis.server import READY, Server
from wardian.cli.redis_address import parse_redis
from wardian.cli.resolving import resolve
from wardian.cli.state import StateDir
from wardian.errors import ConfigError, TransportError
from wardian.tee.launch.lifeline import Lifeline

log = logging.getLogger(__name__)


@click.command()
@options
@click.option("--queue", metavar="rediss://HOST:PORT", help="Instead of operator.toml's.")
def redis(*, state: Path, lifeline: Lifeline | None, queue: str | None) -> None:
    """Run the Redis that carries the queue: `redis-server`, or `valkey-server`, of this machine.

    It listens where operator.toml says that the queue is. Its certificate and its users come from
    the broker of the state directory, at every start; where no broker answers, those of before are
    used. It keeps nothing on a disk: what it held when it ends, front ends send again.
    """
    directory = StateDir.open(state)
    operator = directory.load_operator()
    logs.configure(role="redis", level=operator.log_level)
    close_to_others()
    program = find_server()
    host, port = _own_address(queue or operator.queue.redis)
    place = ServerPlace(listen=tuple(ip for ip, _ in resolve(host, port)), port=port)
    names = tuple(dict.fromkeys((operator.queue.redis_name or host, host, *place.listen)))
    _renew(directory, place, names)
    sys.exit(_run(program, directory.redis / CONF, port=port, lifeline=lifeline))


def _own_address(text: str | None) -> tuple[str, int]:
    """Return host and port of the one server that is to be run here.

    Raises:
        ConfigError: there is none, or it is not one.
    """
    if text is None:
        raise ConfigError(
            "operator.toml: [queue] redis: say where it is to listen, rediss://localhost:6380"
        )
    address = parse_redis(text)
    if address.sentinel is not None or len(address.servers) != 1:
        raise ConfigError("`wardian redis` runs one server: a cluster, and Sentinels, are your own")
    return address.servers[0]


def _renew(state: StateDir, place: ServerPlace, names: tuple[str, ...]) -> None:
    """Write the files anew; where no broker answers, those of before are good enough.

    Raises:
        TransportError: no broker answers, and there are none.
    """
    try:
        broker = broker_address(state, state.load_operator())
        key, files = fetch(broker, names=names)
    except (TransportError, ConfigError) as err:
        if not (state.redis / CONF).exists() or not (state.redis / AUTHORITY).exists():
            raise
        event(log, "redis.files-kept", level=logging.WARNING, reason=str(err)[:200])
        return
    write_files(state.redis, key, files, place)


def _run(program: str, conf: Path, *, port: int, lifeline: Lifeline | None) -> int:
    """Run the server; say on standard output when it is ready, or why it never was."""
    last = ""

    def told(line: str) -> None:
        nonlocal last
        if READY in line:
            click.echo(json.dumps({"event": "redis.ready", "port": port}))
        if line.strip():
            last = line
        click.echo(printable(line), err=True)

    status = Server(program, conf, told=told, lifeline=lifeline).run()
    if status and last:
        click.echo(f"error: {printable(last)[:300]}", err=True)
    return 1 if status in {2, 3} else status
