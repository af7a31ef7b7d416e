"""`wardian broker queue-files`: what a Redis of the operator's own needs to carry the queue."""

from pathlib import Path

import click

from wardian.cli.audit.source import parse_address
from wardian.cli.broker_addresses import broker_address
from wardian.cli.redis.files import CONF, DEFAULT_MEMORY, OWNED, ServerPlace, fetch, write_files
from wardian.cli.state import StateDir
from wardian.errors import ConfigError


@click.command(name="queue-files")
@click.option("--broker", metavar="HOST:PORT", help="A running broker, the active one.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Instead: the state directory of one that runs on this machine.",
)
@click.option(
    "--name",
    "names",
    metavar="NAME",
    multiple=True,
    required=True,
    help="A DNS name or IP address by which roles know the server; again for more.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where the files are to stay: their settings name this directory.",
)
@click.option("--listen", multiple=True, metavar="ADDRESS", help="An IP address; again for more.")
@click.option("--port", type=click.IntRange(1, 65535), default=6380, show_default=True)
@click.option("--memory", default=DEFAULT_MEMORY, show_default=True, help="The most that it holds.")
@click.option("--renew", is_flag=True, help="Replace key and certificates, and nothing else.")
def queue_files(
    *,
    broker: str | None,
    state: Path | None,
    names: tuple[str, ...],
    out: Path,
    listen: tuple[str, ...],
    port: int,
    memory: str,
    renew: bool,
) -> None:
    """Write the files of a Redis server: settings, users, certificate, key.

    The key is made here and does not leave. The broker, which gives its certificate to whoever
    asks, makes the passwords of the roles; in the file stands their SHA-256. The certificate is
    valid for 400 days: run this again with --renew in time, then restart the server.

    \b
    wardian broker queue-files --broker broker.example:7000 --name redis.example --out /etc/redis/w
    redis-server /etc/redis/w/redis.conf
    """  # noqa: D301 (click reads the character \b, not a backslash)
    if (broker is None) == (state is None):
        raise ConfigError("say which broker: --broker HOST:PORT, or --state DIRECTORY")
    directory = out.resolve()
    _demand_room(directory, renew=renew)
    place = ServerPlace(listen=listen or ("127.0.0.1",), port=port, memory=memory)
    key, files = fetch(_address(broker, state), names=names)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in write_files(directory, key, files, place, certificates_alone=renew):
        click.echo(path)


def _demand_room(directory: Path, *, renew: bool) -> None:
    """Return if nothing that an operator may have changed would be overwritten.

    Raises:
        ConfigError: there are such files; or with `renew` there are none.
    """
    there = [name for name in OWNED if (directory / name).exists()]
    if there and not renew:
        raise ConfigError(
            f"{directory / there[0]}: is there already; --renew replaces key and certificates alone"
        )
    if renew and CONF not in there:
        raise ConfigError(f"{directory / CONF}: is not there; leave out --renew to write it")


def _address(broker: str | None, state: Path | None) -> tuple[str, int]:
    if broker is not None:
        return parse_address(broker)
    place = StateDir((state or Path()).resolve())
    return broker_address(place, place.load_operator())
