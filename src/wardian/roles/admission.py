"""How front ends and workers get into the mesh: on evidence, from a broker that they verify."""

import asyncio
import logging

from wardian._internal.clock import unix_time
from wardian._internal.log import event
from wardian._internal.settings import Agreed
from wardian.broker.admission import Admission
from wardian.broker.client import obtain
from wardian.errors import ConfigError, TransportError
from wardian.roles.host import HostSettings
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

PAUSE_S, PATIENCE_S = 0.2, 60.0


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
    patience = loop.time() + PATIENCE_S
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
            await asyncio.sleep(PAUSE_S)
        else:
            event(
                log,
                "role.admitted",
                manifest_version=admission.manifest.manifest.version,
                simulated=enclave.simulated,
            )
            return admission
