"""What every role does first: read its settings, start logging, be admitted to the mesh."""

import asyncio
import logging
from collections.abc import Callable

from wardian._internal import log as logs
from wardian._internal import settings, wire
from wardian._internal.clock import unix_time
from wardian._internal.log import event
from wardian._internal.settings import Agreed
from wardian.broker.admission import Admission
from wardian.broker.client import obtain
from wardian.errors import (
    AttestationError,
    ConfigError,
    CryptoError,
    PolicyDenied,
    TransportError,
    WardianError,
)
from wardian.roles.host import HostSettings
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

STATUS_FAILED, STATUS_SETTINGS, STATUS_REFUSED = 1, 2, 3
ADMISSION_PAUSE_S, ADMISSION_PATIENCE_S = 0.2, 60.0
LOG_LEVELS = frozenset({"debug", "info", "warning", "error"})


def run(enclave: Enclave, role: str, body: Callable[[HostSettings, Agreed], None]) -> int:
    """Run `body` with this process's settings and return the exit status of the process.

    Args:
        enclave: the TEE that this process runs in.
        role: its name, for the log.
        body: the role; returns when it was told to stop.
    """
    try:
        host = wire.decode(enclave.host_settings(), HostSettings, what="host settings")
        level = host.log_level if host.log_level in LOG_LEVELS else "info"
        logs.configure(role=role, level=level)
        agreed = settings.parse(enclave.agreed_config(), Agreed, name="wardian.toml")
        event(log, "role.started", tee=enclave.name, simulated=enclave.simulated)
        body(host, agreed)
    except WardianError as err:
        enclave.announce("failed", reason=str(err)[:500], kind=type(err).__name__)
        event(
            log, "role.failed", level=logging.ERROR, kind=type(err).__name__, reason=str(err)[:500]
        )
        return exit_status(err)
    event(log, "role.stopped")
    return 0


def exit_status(err: WardianError) -> int:
    """Return 2 for wrong settings, 3 for a refusal (a restart helps neither), else 1."""
    if isinstance(err, ConfigError):
        return STATUS_SETTINGS
    final = isinstance(err, PolicyDenied | AttestationError | CryptoError) and not err.retryable
    return STATUS_REFUSED if final else STATUS_FAILED


async def admitted(
    enclave: Enclave, host: HostSettings, agreed: Agreed, *, role: str, models: tuple[str, ...]
) -> Admission:
    """Return this process's certificate and secrets, given on evidence of what it is.

    A broker that is not there yet, or has no manifest yet, is asked again for a minute.

    Raises:
        PolicyDenied, AttestationError, CryptoError: the broker refuses us, or we the broker.
        TransportError: no broker answered in time.
    """
    if host.broker is None:
        raise ConfigError("host settings: no broker address")
    loop = asyncio.get_running_loop()
    patience = loop.time() + ADMISSION_PATIENCE_S
    while True:
        try:
            admission = await obtain(
                host.broker,
                role=role,
                models=models,
                agreed=agreed,
                attest=enclave.evidence,
                tee=enclave.name,
                names=host.names,
                now=unix_time,
            )
        except TransportError as err:
            if not err.retryable or loop.time() > patience:
                raise
            event(log, "broker.awaited", level=logging.DEBUG, reason=type(err).__name__)
            await asyncio.sleep(ADMISSION_PAUSE_S)
        else:
            event(
                log,
                "role.admitted",
                manifest_version=admission.manifest.manifest.version,
                simulated=enclave.simulated,
            )
            return admission
