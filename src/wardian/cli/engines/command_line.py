"""The command line of a worker, which is the same wherever it runs."""

import os
import sys
from typing import Final

from wardian.cli.state import StateDir
from wardian.engines import WorkersSpec
from wardian.engines.engine import LIFELINE

PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""What launchers see of this environment. Roles see none of it: theirs is in their manifest."""


def passed_on() -> dict[str, str]:
    """Return the environment of a launcher."""
    return {key: os.environ[key] for key in PASSED_ON if key in os.environ}


def command_line(state: StateDir, *command: str) -> tuple[str, ...]:
    """Return the words that run `wardian COMMAND` on `state`, with a lifeline."""
    # -P: what lies in the working directory, a hostile example perhaps, is never imported.
    argv = (sys.executable, "-P", "-m", "wardian.cli", *command)
    return (*argv, "--state", str(state.root), "--lifeline", LIFELINE)


def workers_of(
    state: StateDir, model: str, *, replicas: int, queue: tuple[str, ...] = ()
) -> WorkersSpec:
    """Return the workers of `model`.

    Args:
        state: the state directory, at the same path wherever they run.
        model: NAME or NAME:VERSION.
        replicas: how many.
        queue: options that say where the queue is.
    """
    return WorkersSpec(
        name=f"worker-{model.replace(':', '-')}",
        argv=command_line(state, "worker", "--model", model, *queue),
        env=passed_on(),
        logs=state.root / "logs",
        replicas=replicas,
    )
