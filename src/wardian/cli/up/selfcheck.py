"""The self-check of `wardian up`: every held-out input, over HTTPS, by the client that verifies."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.cli.progress import progress
from wardian.cli.up.example import SelfCheck
from wardian.errors import ConfigError
from wardian.serving.client.sync import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What the self-check found; latencies in milliseconds, one request at a time."""

    answered: int
    correct: int
    p50_ms: float
    p99_ms: float

    @property
    def accuracy(self) -> float:
        """The share of answers that equal the expectation."""
        return self.correct / self.answered


def load_rows(directory: Path, check: SelfCheck) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the inputs, scaled, and the expected answers of an example's held-out data."""
    path = directory / check.data
    try:
        with np.load(path, allow_pickle=False) as data:
            rows, expected = data[check.input], data[check.expected]
    except (OSError, ValueError, KeyError) as err:
        raise ConfigError(f"{path}: no arrays {check.input!r} and {check.expected!r}") from err
    rows, expected = rows[: check.limit], expected[: check.limit]
    if len(rows) == 0 or len(rows) != len(expected):
        raise ConfigError(f"{path}: inputs and expected answers differ in number, or are none")
    return (rows * np.float32(check.scale)).astype(np.float32), expected


def run(client: Client, check: SelfCheck, directory: Path) -> CheckResult:
    """Return how the mesh answered every row of the held-out data, one request a row."""
    rows, expected = load_rows(directory, check)
    latencies: list[float] = []
    correct = 0
    with progress("  self-check", len(rows)) as advance:
        for row, wanted in zip(rows, expected, strict=True):
            began = time.perf_counter()
            answer = client.infer(check.model, {check.input: row[np.newaxis]})
            latencies.append(1e3 * (time.perf_counter() - began))
            correct += int(answer[check.answer][0] == wanted)
            advance(1)
    p50, p99 = np.percentile(latencies, [50, 99])
    return CheckResult(answered=len(rows), correct=correct, p50_ms=float(p50), p99_ms=float(p99))
