"""From Cluster Serving's files to a directory that can be served, or the reasons why not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from wardian.cli.moving.options import Asked
from wardian.cli.moving.report import print_report
from wardian.cli.moving.resealing import Resealing
from wardian.cli.state import StateDir
from wardian.cli.their_redis import demand_answer, way_to
from wardian.compat.zoo.migration.carry_over import Migrated, migrate
from wardian.compat.zoo.their_place import TheirPlace
from wardian.errors import ConfigError


def take_over(asked: Asked, *, visit: Callable[[TheirPlace], None] | None = None) -> Migrated:
    """Return what came of the files; see `carry_over.migrate`."""
    resealing = Resealing(asked)
    try:
        return migrate(asked.wanted, seal=resealing.seal, visit=visit)
    finally:
        resealing.wipe()


def ready_to_serve(asked: Asked, state: StateDir, *, threads: int | None = None) -> Migrated:
    """Return a directory for `wardian up`, made or found; print what does not simply work.

    Raises:
        ConfigError: a file cannot be read as what it is, the Redis of the stream does not answer,
            or the directory was made of something else.
        SystemExit: a model is missing; what is printed says which, and why.
    """
    wanted = replace(asked.wanted, reuse=True, threads=threads)
    _demand_apart(state, wanted.redis_password, "--redis-password-file")
    _demand_apart(state, wanted.keystore_password, "--keystore-password-file")
    done = take_over(replace(asked, wanted=wanted), visit=_visit)
    print_report(done, whole=False)
    if done.report.missing:
        raise SystemExit(1)
    if done.reused:
        click.echo(f"{wanted.out} was made of the same and is used again; --force makes it anew")
    return done


def _visit(place: TheirPlace) -> None:
    demand_answer(way_to(place), place)


def _demand_apart(state: StateDir, file: Path | None, option: str) -> None:
    """Return if the directory of `file`, which the role `zoo` may read, is not that of everything.

    Raises:
        ConfigError: the state directory is in it.
    """
    if file is not None and state.root.is_relative_to(file.resolve().parent):
        raise ConfigError(
            f"{option} {file}: it lies in a directory of its own, which the role may read whole"
        )
