"""The server of Cluster Serving's HTTPS clients under an operator's certificate: UNPROTECTED.

It is no front end of the mesh: its key is not the enclave's, and it shows no evidence.
"""

import logging
from collections.abc import Callable
from typing import Final

from wardian._internal import metrics as names
from wardian._internal.agreed import Limits
from wardian._internal.log import event
from wardian._internal.metrics import Metrics
from wardian.serving.api.zoo.apart import ZooApi
from wardian.serving.api.zoo.dialect import ZooRoutes
from wardian.serving.dispatch_metrics import CountingDispatcher, watch_dispatcher
from wardian.serving.http.server import HttpServer
from wardian.serving.http.tls import TlsIdentity, server_context

log = logging.getLogger(__name__)

PROTOCOLS: Final = ("http/1.1",)


class KeystoreFront:
    """Serves clients until it is stopped. All methods run on the event loop's thread."""

    def __init__(
        self,
        *,
        dispatcher: CountingDispatcher,
        limits: Limits,
        identity: TlsIdentity,
        routes: ZooRoutes,
        metrics: Metrics,
    ) -> None:
        """Compose a server; nothing listens before `start`.

        Args:
            dispatcher: does the inferences; started and stopped by the caller.
            limits: of `wardian.toml`.
            identity: the operator's certificate chain and key.
            routes: the paths that there are beside `/metrics`.
            metrics: counts; the caller may watch more in it.

        Raises:
            FormatError: the chain does not parse or is of another key.
        """
        api = ZooApi(
            dispatcher=dispatcher,
            routes=routes,
            metrics=metrics,
            deadline_s=limits.deadline_ms / 1000,
        )
        self._server = HttpServer(
            handler=api.handle,
            limits=limits,
            count_refusal=lambda status: metrics.count(names.REFUSALS, str(status)),
        )
        metrics.watch(names.CONNECTIONS, lambda: {(): self._server.open_connections})
        metrics.watch(names.IN_FLIGHT, lambda: {(): api.in_flight})
        watch_dispatcher(metrics, dispatcher)
        context = server_context(identity, protocols=PROTOCOLS)
        self._server.use(context, tls_spki=identity.key.spki)

    async def start(self, address: str, port: int) -> tuple[tuple[str, int], ...]:
        """Listen, and return on which addresses and port; may be called again, for more.

        Args:
            address: an IP address.
            port: 0 takes a free one.

        Raises:
            ConfigError: the address or the port cannot be had; says what to do.
        """
        listening = await self._server.start(address, port)
        for host, bound in listening:
            event(log, "zoo.listening", host=host, port=bound)
        return listening

    async def stop(self, *, drain_s: float, give_up: Callable[[], None]) -> None:
        """Accept nothing more, answer what was accepted, and close.

        `give_up` is called after `drain_s`: what still waits then ends in a typed error.
        """
        await self._server.stop(drain_s=drain_s, give_up=give_up)
