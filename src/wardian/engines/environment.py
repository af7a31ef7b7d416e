"""Where an engine is installed: in an environment of its own, since its pins are not Wardian's."""

import os
import sys
from pathlib import Path

from wardian.errors import ConfigError


def default_python(engine: str) -> Path:
    """Return where the environment's interpreter is by default: below Wardian's own environment.

    `make flink` and `make ray` put it there.
    """
    return Path(sys.prefix) / "engines" / engine / "bin" / "python"


def find_python(engine: str, named: str | None = None) -> Path:
    """Return the interpreter of the environment in which `wardian[ENGINE]` is installed.

    Args:
        engine: `flink` or `ray`.
        named: where it is; None: where it is by default.

    Raises:
        ConfigError: it is not there; says how to install it.
    """
    python = default_python(engine) if named is None else Path(named)
    if not python.is_absolute() or not os.access(python, os.X_OK):
        raise ConfigError(
            f"engine {engine!r}: no Python at {python}: install it with `make {engine}`, or by "
            f"`pip install 'wardian[{engine}]'` in an environment of its own, which "
            f"[{engine}] python in operator.toml names by an absolute path"
        )
    return python
