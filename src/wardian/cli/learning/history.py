"""The history of a run, a line in JSON for each round."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from wardian._internal import wire
from wardian.errors import ConfigError
from wardian.learning.messages import RoundLine

HISTORY: Final = "history.jsonl"
"""In the directory of a party, or of a simulation."""
V = TypeVar("V")


def encode_line(line: RoundLine) -> bytes:
    """Return `line` as it stands in the file; JSON has no word for what is no finite number."""
    finite = msgspec.structs.replace(
        line, metrics=_finite(line.metrics), evaluation=_finite(line.evaluation)
    )
    return wire.encode(finite) + b"\n"


def _finite(measured: Mapping[str, V]) -> dict[str, V]:
    def is_finite(value: Any) -> bool:
        return all(map(math.isfinite, value if isinstance(value, list) else [value]))

    return {name: value for name, value in measured.items() if is_finite(value)}


def read_history(path: Path) -> list[RoundLine]:
    """Return the rounds in the file `path`, the last word on each, in order.

    Raises:
        ConfigError: there is no such file, it is empty, or is none.
    """
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}: no run was taken part in here") from err
    found: dict[int, RoundLine] = {}
    for each in raw.splitlines():
        line = wire.decode(each, RoundLine, what=f"{path.name}: a round")
        found[line.round] = line
    if not found:
        raise ConfigError(f"{path}: no round is done yet")
    return [found[number] for number in sorted(found)]
