"""The front end as one thing: HTTPS server, API, evidence desk and metrics over a dispatcher."""

import logging
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

from wardian._internal import metrics as names
from wardian._internal.agreed import Limits
from wardian._internal.log import event
from wardian._internal.metrics import DurationCounts, Labels, Metrics
from wardian.attestation.evidence import Evidence
from wardian.serving.api.evidence_desk import EvidenceDesk, Papers
from wardian.serving.api.routes import Api, FindMore
from wardian.serving.api.service import Dispatching
from wardian.serving.api.tenant_api import TenantApi
from wardian.serving.dispatch import Counters
from wardian.serving.grpc.call import Served
from wardian.serving.grpc.service import GrpcService
from wardian.serving.http.http2.connection import Http2Connection
from wardian.serving.http.server import HttpServer
from wardian.serving.http.tls import TlsIdentity, server_context
from wardian.serving.queue.lease import Lane
from wardian.serving.tenants.roster import Roster

log = logging.getLogger(__name__)

DRAIN_S: Final = 10.0
"""How long `stop` waits for what was accepted."""
PROTOCOLS: Final = ("h2", "http/1.1")
"""What is spoken on the one port, by ALPN names; a client that knows both gets the first."""
MAX_KEYS: Final = 1024
"""Server keys whose connections are served; each renewal of the certificate makes one."""


class CountingDispatcher(Dispatching, Protocol):
    """What a front end needs of `dispatch.Dispatcher`."""

    counters: Counters

    def waiting(self) -> dict[Lane, int]:
        """Return how many requests wait for a worker, by version of a model."""

    def delays(self) -> dict[Lane, float]:
        """Return for how many seconds requests waited for a worker lately, at most."""


class Frontend:
    """Serves clients until it is stopped. All methods run on the event loop's thread."""

    def __init__(
        self,
        *,
        dispatcher: CountingDispatcher,
        limits: Limits,
        identity: TlsIdentity,
        attest: Callable[[bytes], Evidence],
        papers: Papers,
        metrics: Metrics | None = None,
        roster: Roster | None = None,
        more_routes: FindMore | None = None,
        more_calls: Mapping[bytes, Served] | None = None,
    ) -> None:
        """Compose a front end; nothing listens before `start`.

        Args:
            dispatcher: does the inferences; started and stopped by the caller.
            limits: of `wardian.toml`.
            identity: certificate chain and key of the TLS server.
            attest: returns evidence over 64 bytes of report data; may block.
            papers: what is shown beside evidence, of the same admission as `identity`.
            metrics: counts; the caller may watch more in it.
            roster: who is served; None: whoever connects. The caller tells of changes by
                `use_tenants`.
            more_routes: finds those of another dialect.
            more_calls: methods of gRPC of another dialect, by their paths.
        """
        self.metrics = metrics or Metrics()
        self._dispatcher = dispatcher
        self._desk = EvidenceDesk(attest=attest, papers=papers)
        self._papers = papers
        self._keys: dict[bytes, None] = {}  # server keys of this manifest, the oldest first
        self._roster, self._identity = roster, identity
        self._api = self._make_api(limits, more_routes)
        calls = GrpcService(self._api.service, limits, more=more_calls)
        self._server = HttpServer(
            handler=self._api.handle,
            limits=limits,
            gate=self._api.gate if isinstance(self._api, TenantApi) else None,
            whose=self._api.whose if isinstance(self._api, TenantApi) else None,
            count_refusal=lambda status: self.metrics.count(names.REFUSALS, str(status)),
            speakers={"h2": partial(Http2Connection, accept=calls.accept)},
        )
        self.metrics.watch(names.CONNECTIONS, lambda: {(): self._server.open_connections})
        self.metrics.watch(names.IN_FLIGHT, lambda: {(): self._api.in_flight})
        self.metrics.watch(names.MODEL_READY, self._ready_models)
        self.metrics.watch(names.QUEUE_WAITING, lambda: _labelled(dispatcher.waiting()))
        self.metrics.watch(names.QUEUE_DELAY, lambda: _labelled(dispatcher.delays()))
        self.metrics.watch(names.INFERENCES, self._outcomes)
        self.metrics.watch_durations(names.INFERENCE_SECONDS, self._durations)
        self.metrics.watch(names.PACKS, lambda: {(): dispatcher.counters.packs})
        self.metrics.watch(names.REDELIVERIES, lambda: {(): dispatcher.counters.redelivered})
        self.use(identity, papers)

    def _make_api(self, limits: Limits, more_routes: FindMore | None) -> Api:
        """Return the API: for whoever connects, or for those of the roster."""
        deadline_s, serves = limits.deadline_ms / 1000, self._keys.__contains__
        if self._roster is None:
            return Api(
                dispatcher=self._dispatcher,
                desk=self._desk,
                metrics=self.metrics,
                deadline_s=deadline_s,
                serves=serves,
                more_routes=more_routes,
            )
        api = TenantApi(
            dispatcher=self._dispatcher,
            desk=self._desk,
            metrics=self.metrics,
            deadline_s=deadline_s,
            serves=serves,
            roster=self._roster,
            max_open=limits.max_waiting,
            more_routes=more_routes,
        )
        roster = self._roster
        self.metrics.watch(names.TENANT_INFERENCES, api.known.outcomes)
        self.metrics.watch(names.CALLER_REFUSALS, api.known.failures)
        self.metrics.watch(names.TENANTS_LEFT, lambda: {(): roster.left_s})
        return api

    def use_tenants(self) -> None:
        """Accept the client certificates of the roster's list on every new connection."""
        self._server.use(self._context(), tls_spki=self._identity.key.spki)

    def _context(self) -> ssl.SSLContext:
        clients = () if self._roster is None else self._roster.certificates
        return server_context(self._identity, protocols=PROTOCOLS, clients=clients)

    def use(self, identity: TlsIdentity, papers: Papers) -> None:
        """Be `identity` on every new connection from now on.

        Under the same manifest open connections keep the identity that they have, and evidence is
        about the key of the connection that asks for it. Under another manifest they end: their
        clients accepted the mesh as it was (TRUST T2). What they ask before that is not done, and
        they are told to connect again.

        Raises:
            FormatError: the chain does not parse or is of another key.
        """
        self._identity = identity
        context, spki = self._context(), identity.key.spki
        if papers.manifest.digest != self._papers.manifest.digest:
            self._keys.clear()
        self._keys[spki] = None
        while len(self._keys) > MAX_KEYS:
            del self._keys[next(iter(self._keys))]
        self._papers = papers
        self._desk.use(papers)
        self._server.use(context, tls_spki=spki)
        self._server.retire(self._keys)

    async def start(self, address: str, port: int) -> tuple[tuple[str, int], ...]:
        """Listen, and return on which addresses and port; may be called again, for more.

        Args:
            address: a host name (every address that it has) or an IP address.
            port: 0 takes a free one.

        Raises:
            ConfigError: the address or the port cannot be had; says what to do.
        """
        listening = await self._server.start(address, port)
        for host, bound in listening:
            event(log, "frontend.listening", host=host, port=bound)
        return listening

    async def stop(
        self, *, drain_s: float = DRAIN_S, give_up: Callable[[], None] | None = None
    ) -> None:
        """Accept nothing more, answer what was accepted, and close.

        `give_up`, usually `Dispatcher.close`, is called after `drain_s`: what still waits then
        ends in a typed error, which is sent before the connections close.
        """
        await self._server.stop(drain_s=drain_s, give_up=give_up)
        self._desk.close()
        event(log, "frontend.stopped")

    def _ready_models(self) -> dict[Labels, float]:
        return {(info.name,): float(info.ready) for info in self._dispatcher.catalog().values()}

    def _outcomes(self) -> dict[Labels, float]:
        return {
            (*_labels(lane), outcome): count
            for lane, counts in self._dispatcher.counters.lanes.items()
            for outcome, count in counts.outcomes.items()
        }

    def _durations(self) -> dict[Labels, DurationCounts]:
        lanes = self._dispatcher.counters.lanes
        return {_labels(lane): counts.seconds for lane, counts in lanes.items()}


def _labels(lane: Lane) -> Labels:
    return (lane.model, str(lane.version))


def _labelled(values: Mapping[Lane, float]) -> dict[Labels, float]:
    return {_labels(lane): value for lane, value in values.items()}
