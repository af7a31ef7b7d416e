"""Which witnesses have to have seen a log: the options of whoever demands it."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from wardian._internal.agreed import Agreed
from wardian._internal.settings import load
from wardian.broker.transparency.cosigning import HeadDemand
from wardian.cli.audit.source import existing
from wardian.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


def demand_options(command: F) -> F:
    """Give `command` the options that demand witnesses, and the argument `demand`."""

    @click.option(
        "--witnesses",
        type=existing,
        metavar="WARDIAN.TOML",
        help="Demand that witnesses named in this file have seen the log.",
    )
    @click.option("--head-threshold", type=click.IntRange(1, 16), help="How many of them.")
    @click.option("--max-lines", type=click.IntRange(0), help="At most so many lines ago.")
    @click.option("--max-age", type=click.IntRange(0), help="At most so many seconds ago.")
    @wraps(command)
    def with_demand(
        *args: object,
        witnesses: Path | None,
        head_threshold: int | None,
        max_lines: int | None,
        max_age: int | None,
        **options: object,
    ) -> object:
        bounds = (head_threshold, max_lines, max_age)
        return command(*args, demand=find_demand(witnesses, *bounds), **options)

    return with_demand  # type: ignore[return-value]


def find_demand(
    agreed: Path | None, threshold: int | None, max_lines: int | None, max_age_s: int | None
) -> HeadDemand | None:
    """Return what the options demand; what is left out is as `wardian.toml` says.

    Raises:
        ConfigError: bounds without witnesses, or more witnesses than there are.
    """
    if agreed is None:
        if (threshold, max_lines, max_age_s) != (None, None, None):
            raise ConfigError("name the witnesses too: --witnesses wardian.toml")
        return None
    mesh = load(agreed, Agreed).mesh
    return HeadDemand(
        witnesses=frozenset(mesh.witnesses),
        threshold=threshold or max(1, mesh.head_threshold),
        max_lines=mesh.head_max_lines if max_lines is None else max_lines,
        max_age_s=mesh.head_max_age_s if max_age_s is None else max_age_s,
    )
