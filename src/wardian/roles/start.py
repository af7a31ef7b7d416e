"""What every role does first and last: read its settings, log, and end with a status."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from wardian._internal import log as logs
from wardian._internal import settings, wire
from wardian._internal.log import event
from wardian._internal.settings import Settings
from wardian.errors import (
    AttestationError,
    ConfigError,
    CryptoError,
    PolicyDenied,
    WardianError,
)
from wardian.roles import self_test
from wardian.roles.host import HostSettings
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

STATUS_FAILED, STATUS_SETTINGS, STATUS_REFUSED = 1, 2, 3
S = TypeVar("S", bound=Settings)
_OBJECTS_BETWEEN_LOOKS = 20_000
LOG_LEVELS = frozenset({"debug", "info", "warning", "error"})


def run(
    enclave: Enclave,
    role: str,
    body: Callable[[HostSettings, S], None],
    *,
    kind: type[S],
    trials: self_test.Trials,
) -> int:
    """Run `body` with this process's settings and return the exit status of the process.

    Args:
        enclave: the TEE that this process runs in.
        role: its name, for the log.
        body: the role; returns when it was told to stop.
        kind: what its measured settings are.
        trials: what the role tries instead when the host asks for a self-test.
    """
    own = logs.silence_others()
    logs.configure(role=role, stream=own)
    try:
        host = wire.decode(enclave.host_settings(), HostSettings, what="host settings")
        level = host.log_level if host.log_level in LOG_LEVELS else "info"
        logs.configure(role=role, level=level, stream=own)
        agreed = settings.parse(enclave.agreed_config(), kind, name="wardian.toml")
        event(log, "role.started", tee=enclave.name, simulated=enclave.simulated)
        if host.self_test:
            self_test.run(enclave, host, trials)
        else:
            body(host, agreed)
    except WardianError as err:
        with contextlib.suppress(WardianError):  # the launcher may be gone; the status says it
            enclave.announce("failed", reason=str(err)[:500], kind=type(err).__name__)
        event(
            log, "role.failed", level=logging.ERROR, kind=type(err).__name__, reason=str(err)[:500]
        )
        return exit_status(err)
    event(log, "role.stopped", modules=" ".join(loaded_modules()))
    return 0


def settle() -> None:
    """Take what was made so far out of the garbage collector's sight: nearly all of it stays.

    Looking through it stops a process for as long as hundreds of requests take, again and again.
    From here on it looks less often, too: what a request leaves behind goes without it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS)


def loaded_modules() -> list[str]:
    """Return the modules of Wardian that this process has loaded: what an auditor has to read."""
    return sorted(name for name in sys.modules if name.partition(".")[0] == "wardian")


def exit_status(err: WardianError) -> int:
    """Return 2 for wrong settings, 3 for a refusal (a restart helps neither), else 1."""
    if isinstance(err, ConfigError):
        return STATUS_SETTINGS
    final = isinstance(err, PolicyDenied | AttestationError | CryptoError) and not err.retryable
    return STATUS_REFUSED if final else STATUS_FAILED


async def until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` until it ends, or SIGTERM or SIGINT cancels it."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
