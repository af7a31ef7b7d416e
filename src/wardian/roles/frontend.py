"""The front end's process: HTTPS to clients, sealed messages to workers."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np
import uvloop

from wardian._internal.log import event
from wardian._internal.metrics import Metrics
from wardian._internal.settings import Agreed
from wardian.broker.admission import Admission
from wardian.crypto.message import QueueSender
from wardian.errors import ConfigError, WardianError
from wardian.roles import start
from wardian.roles.admission import admitted
from wardian.roles.host import HostSettings
from wardian.serving.api.json_tensors import parse_rows
from wardian.serving.dispatch import Dispatcher
from wardian.serving.frontend import Frontend
from wardian.serving.http.messages import HttpRequest
from wardian.serving.http.reader import RequestReader
from wardian.serving.http.tls import TlsIdentity
from wardian.serving.queue.frames import Address
from wardian.serving.queue.front import SocketFrontQueue
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

ROLE = "frontend"
RENEWAL_S = 8 * 3600
"""A third of a certificate's life."""


def main(enclave: Enclave) -> int:
    """Serve clients until a signal ends it; return the exit status of the process."""
    return start.run(
        enclave,
        ROLE,
        lambda host, agreed: uvloop.run(_serve(enclave, host, agreed)),
        trials={"http": _try_http, "event loop": _try_loop, "metrics": _try_metrics},
    )


def _try_http(_: HostSettings) -> str:
    """Read one request and its tensor."""
    found: list[HttpRequest] = []

    def take(request: HttpRequest, _: bool) -> bool:  # noqa: FBT001 (the reader's signature)
        found.append(request)
        return True

    reader = RequestReader(
        max_body_bytes=1024,
        tls_spki=b"",
        connection=0,
        deliver=take,
        acquire=lambda _: True,
        send_continue=lambda: None,
    )
    reader.feed(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n[[1.5, 2.5]]")
    reader.close()
    rows = parse_rows(found[0].body, dtype=np.dtype(np.float32), rank=2, name="x")
    return f"a request with {rows.size} numbers"


def _try_loop(_: HostSettings) -> str:
    uvloop.run(asyncio.sleep(0))
    return "uvloop"


def _try_metrics(_: HostSettings) -> str:
    return f"{len(Metrics().render())} bytes"


async def _serve(enclave: Enclave, host: HostSettings, agreed: Agreed) -> None:
    if not host.listen or len(host.queues) != 1:
        raise ConfigError("host settings: a front end needs an address and one queue")
    models = tuple(agreed.models)
    admit = partial(admitted, enclave, host, agreed, role=ROLE, models=models)
    admission = await admit()
    codecs = {}
    for name in models:
        key, epoch = admission.queue_key(name)
        codecs[name] = QueueSender(
            queue_key=key,
            model=name,
            epoch=epoch,
            certificate_digest=admission.certificate_digest,
        )
    queue = SocketFrontQueue(Address.parse(host.queues[0]))
    dispatcher = Dispatcher(
        queue=queue,
        codecs=codecs,
        max_waiting=agreed.limits.max_waiting,
        batch_across_tenants=frozenset(
            name for name, terms in agreed.models.items() if terms.batch_across_tenants
        ),
    )
    frontend = Frontend(
        dispatcher=dispatcher,
        limits=agreed.limits,
        identity=TlsIdentity(chain_pem=admission.certificate_chain_pem, key=admission.tls_key),
        attest=enclave.evidence,
        manifest=admission.manifest,
        mesh_ca=admission.mesh_ca,
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await queue.start()
    for where in host.listen:
        await frontend.start(*where)
    address, port = host.listen[0]
    enclave.announce("frontend.ready", address=address, port=port)
    event(log, "frontend.ready", port=port)
    renewal = asyncio.create_task(
        _renew(admit, admission=admission, frontend=frontend, stopped=stopped)
    )
    await stopped.wait()
    renewal.cancel()
    await frontend.stop(give_up=dispatcher.close)
    dispatcher.close()
    await queue.close()


async def _renew(
    admit: Callable[[], Awaitable[Admission]],
    *,
    admission: Admission,
    frontend: Frontend,
    stopped: asyncio.Event,
) -> None:
    """Get a fresh certificate well before the old one ends, again and again.

    Under a new manifest the queue keys are new as well: then this process ends, answers what it
    accepted, and its engine starts it anew.
    """
    while True:
        await asyncio.sleep(RENEWAL_S)
        try:
            fresh = await admit()
            if fresh.manifest.digest != admission.manifest.digest:
                event(log, "manifest.changed", version=fresh.manifest.manifest.version)
                stopped.set()
                return
            frontend.use(TlsIdentity(chain_pem=fresh.certificate_chain_pem, key=fresh.tls_key))
        except (WardianError, OSError) as err:  # most of the certificate's life is left: later
            event(log, "renewal.failed", level=logging.WARNING, kind=type(err).__name__)
