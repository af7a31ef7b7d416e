"""How requests that name no version are divided: what the operator says now, taken up live.

The front end reads no file of the operator's state: its launcher looks at `operator.toml`, and puts
what holds in a file of its own (`cli.traffic`). Whatever that says can cost service, no more: see
`operator.ModelPlace`.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec

from wardian._internal import wire
from wardian._internal.log import event
from wardian._internal.operator import MAX_SHARES, Version, Weight
from wardian._internal.settings import Name, read
from wardian.errors import WardianError
from wardian.serving.catalog import Traffic

log = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""How often the file is looked at."""
Split: TypeAlias = dict[Name, Annotated[dict[Version, Weight], msgspec.Meta(max_length=MAX_SHARES)]]


class TrafficTold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: by model, the weights of its versions."""

    traffic: Annotated[Split, msgspec.Meta(max_length=256)]


def traffic_of(told: Mapping[str, Mapping[str, int]]) -> Traffic:
    """Return what the operator said as the catalog takes it."""
    return {
        name: {int(version): weight for version, weight in weights.items()}
        for name, weights in told.items()
    }


class TrafficFile:
    """Tells what a file says, whenever it says something else."""

    def __init__(self, path: str | None, *, divide: Callable[[Traffic], None]) -> None:
        """Look at `path`, and give `divide` what it says; None: nothing changes."""
        self._path = None if path is None else Path(path)
        self._divide = divide
        self._seen: tuple[int, ...] = ()

    def look(self) -> None:
        """Take the file up if it changed. What is refused is logged, and what was stays."""
        if self._path is None:
            return
        try:
            found = os.stat(self._path)  # noqa: PTH116 (one call, many times)
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            told = wire.decode(read(self._path), TrafficTold, what="split of traffic")
        except FileNotFoundError:
            return  # nothing changed since the start
        except (OSError, WardianError) as err:
            event(log, "traffic.refused", level=logging.ERROR, reason=str(err)[:200])
            return
        self._divide(traffic_of(told.traffic))
        event(log, "traffic.in-force", models=len(told.traffic))

    async def follow(self, *, poll_s: float = POLL_S) -> None:
        """Look every `poll_s`, without end."""
        while True:
            self.look()
            await asyncio.sleep(poll_s)
