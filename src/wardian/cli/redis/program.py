"""The program that is Redis, or Valkey, on this machine: found, and new enough."""

import re
import shutil
import subprocess
from typing import Final

from wardian.errors import ConfigError

PROGRAMS: Final = ("redis-server", "valkey-server")
OLDEST: Final = (6, 2)
"""XAUTOCLAIM and NOMKSTREAM came with 6.2; every Valkey has them."""
_VERSION: Final = re.compile(r"\bv=(\d{1,4})\.(\d{1,4})\.")
_ASK_S: Final = 10.0


def find_server() -> str:
    """Return the path of a server that can carry the queue.

    Raises:
        ConfigError: there is none, or it is too old; says what to install.
    """
    for name in PROGRAMS:
        path = shutil.which(name)
        if path is not None:
            demand_new_enough(path)
            return path
    raise ConfigError(
        f"neither {' nor '.join(PROGRAMS)} is installed: on Debian and Ubuntu run "
        "`apt install redis-server`, or name a Redis of your own with --queue rediss://HOST:PORT"
    )


def demand_new_enough(path: str) -> None:
    """Return if the server at `path` is of version 6.2 or newer.

    Raises:
        ConfigError: it is older, or does not say.
    """
    try:
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_ASK_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: does not say its version: {err}") from err
    found = _VERSION.search(told)
    if found is None:
        raise ConfigError(f"{path}: does not say its version")
    if (int(found[1]), int(found[2])) < OLDEST:
        raise ConfigError(
            f"{path}: is version {found[1]}.{found[2]}; the queue takes Redis 6.2 or Valkey"
        )
