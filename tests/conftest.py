"""What every test may use. `WARDIAN_REQUIRE_ALL=1` (CI) turns a skip for a missing tool into a failure."""

import logging
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
QUOTES = REPOSITORY.parent / "shared" / "data" / "quotes"


@pytest.fixture(autouse=True)
def what_a_process_says() -> Iterator[None]:
    """Put back what a role that a test runs in this process does to it: see `log.silence_others`."""
    ours = logging.getLogger("wardian")
    before = ours.level, sys.excepthook, threading.excepthook, sys.unraisablehook
    raising, showing = logging.raiseExceptions, warnings.showwarning
    outputs = os.dup(1), os.dup(2)
    yield
    for number, output in enumerate(outputs, start=1):
        os.dup2(output, number)
        os.close(output)
    ours.setLevel(before[0])
    sys.excepthook, threading.excepthook, sys.unraisablehook = before[1:]
    logging.raiseExceptions, warnings.showwarning = raising, showing


@pytest.fixture(scope="session")
def need_program() -> Callable[[str], str]:
    """Return a function that gives a program's path, or skips (fails in CI) where it is missing."""

    def need(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            reason = f"{name} is not installed"
            if os.environ.get("WARDIAN_REQUIRE_ALL"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return need


@pytest.fixture(scope="session")
def need_flink(need_program: Callable[[str], str]) -> None:
    """Skip (fail in CI) where Java or Flink's environment is missing."""
    from simulators.flink_cluster import flink_python

    need_program("java")
    if not os.access(flink_python(), os.X_OK):
        reason = "Flink's environment is not there: make flink, or WARDIAN_FLINK_PYTHON"
        if os.environ.get("WARDIAN_REQUIRE_ALL"):
            pytest.fail(reason)
        pytest.skip(reason)
