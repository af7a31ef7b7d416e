"""Time as an argument.

A deadline is advice inside an enclave: the host owns the clock. Nothing here is a security
boundary.
"""

import time
from collections.abc import Callable
from typing import TypeAlias

UnixTime: TypeAlias = Callable[[], int]
"""Returns whole seconds since 1970-01-01 UTC."""

Monotonic: TypeAlias = Callable[[], float]
"""Returns seconds that never go backwards; only differences mean something."""


def unix_time() -> int:
    """Return the host's wall clock in whole seconds since 1970-01-01 UTC."""
    return int(time.time())


monotonic: Monotonic = time.monotonic
