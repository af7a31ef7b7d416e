"""The front end's process: HTTPS to clients, sealed messages to workers."""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import uvloop
from typing_extensions import override

from wardian._internal.agreed import Agreed
from wardian._internal.log import event
from wardian._internal.metrics import LARGE_MESSAGES, QUEUE_REFUSALS, SLAB_BYTES, Metrics
from wardian.broker.release.admission import Admission
from wardian.crypto.message import QueueSender
from wardian.errors import AdmissionRefused, ConfigError, RequestError, WardianError
from wardian.roles import start
from wardian.roles.admission import Brokers
from wardian.roles.host import HostSettings
from wardian.roles.membership import POLL_S, Member, Membership
from wardian.roles.queue_access import redis_access
from wardian.roles.tenants import KnownTenants
from wardian.roles.traffic import TrafficFile, traffic_of
from wardian.serving.api.evidence_desk import Papers
from wardian.serving.api.json_tensors import parse_rows
from wardian.serving.api.routes import FindMore
from wardian.serving.dispatch import Dispatcher
from wardian.serving.frontend import Frontend
from wardian.serving.http.reader import read_one
from wardian.serving.http.tls import TlsIdentity
from wardian.serving.queue.frames import Address
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_front import RedisFrontQueue
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

ROLE = "frontend"


def main(enclave: Enclave) -> int:
    """Serve clients until a signal ends it; return the exit status of the process."""
    return start.run(
        enclave,
        ROLE,
        lambda host, agreed: uvloop.run(_serve(enclave, host, agreed)),
        kind=Agreed,
        trials={"http": _try_http, "event loop": _try_loop, "metrics": _try_metrics},
    )


def _try_http(_: HostSettings) -> str:
    """Read one request and its tensor."""
    request = read_one(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n[[1.5, 2.5]]")
    rows = parse_rows(request.body, dtype=np.dtype(np.float32), rank=2, name="x")
    return f"a request with {rows.size} numbers"


def _try_loop(_: HostSettings) -> str:
    uvloop.run(asyncio.sleep(0))
    return "uvloop"


def _try_metrics(_: HostSettings) -> str:
    return f"{len(Metrics().render())} bytes"


async def _serve(enclave: Enclave, host: HostSettings, agreed: Agreed) -> None:
    if not host.listen or (len(host.queues), bool(host.redis)) not in {(1, False), (0, True)}:
        raise ConfigError("host settings: a front end needs an address and one queue")
    brokers = Brokers(enclave, host, agreed, role=ROLE, models=tuple(agreed.models))
    admission, lease = await brokers.admitted()
    queue = _queue(host, admission)
    dispatcher = Dispatcher(
        queue=queue,
        codecs=_senders(admission),
        lanes=_lanes(admission),
        max_waiting=agreed.limits.max_waiting,
        batch_across_tenants=frozenset(
            name for name, terms in agreed.models.items() if terms.batch_across_tenants
        ),
        traffic=traffic_of(host.traffic),
    )
    known = KnownTenants.of(host, agreed, admission)
    frontend = Frontend(
        dispatcher=dispatcher,
        limits=agreed.limits,
        identity=_identity(admission),
        attest=enclave.evidence,
        papers=_papers(admission),
        roster=None if known is None else known.roster,
        more_routes=_more_routes(agreed),
    )
    member = _FrontendMember(
        admission,
        dispatcher=dispatcher,
        frontend=frontend,
        reach=_reach(host, queue),
        admitted=None if known is None else known.admitted,
    )
    membership = Membership(brokers, admission=admission, lease=lease, member=member, poll_s=POLL_S)
    _watch_queue(frontend.metrics, queue)
    await queue.start()
    for where in host.listen:
        await frontend.start(*where)
    address, port = host.listen[0]
    start.settle()
    enclave.announce("frontend.ready", address=address, port=port)
    event(log, "frontend.ready", port=port)
    traffic = TrafficFile(host.traffic_file, divide=dispatcher.divide)
    following = asyncio.gather(_follow(known, frontend), traffic.follow())
    over = await _until_over(membership)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    if over is not None:
        event(log, "frontend.leaving", level=logging.WARNING, kind=type(over).__name__)
        dispatcher.refuse(_not_served)
        if not isinstance(over, AdmissionRefused):
            dispatcher.erase()  # nobody renewed the lease: nothing may be opened any more
    await frontend.stop(give_up=dispatcher.close)
    dispatcher.erase()
    await queue.close()
    if over is not None:
        raise over


def _more_routes(agreed: Agreed) -> FindMore | None:
    """Return what finds the routes of the other dialect that the owners agreed on, if any."""
    zoo = agreed.dialects.zoo
    if zoo is None or not zoo.enabled:
        return None
    from wardian.serving.api.zoo.dialect import ZooRoutes  # noqa: PLC0415  where it is agreed on

    return ZooRoutes(zoo, models=agreed.models).find


def _watch_queue(metrics: Metrics, queue: SocketFrontQueue | RedisFrontQueue) -> None:
    """Show what the queue counts."""
    if isinstance(queue, RedisFrontQueue):
        refusals = queue.refusals
        metrics.watch(QUEUE_REFUSALS, lambda: {(why,): count for why, count in refusals.items()})
        return
    slabs = queue.slabs
    metrics.watch(SLAB_BYTES, lambda: {(): slabs.used_bytes()})
    metrics.watch(
        LARGE_MESSAGES,
        lambda: {("slab",): slabs.counts.carried, ("socket",): slabs.counts.by_socket},
    )


async def _follow(known: KnownTenants | None, frontend: Frontend) -> None:
    """Take up each new tenants list, where there are any."""
    if known is not None:
        await known.file.follow(frontend.use_tenants)


async def _until_over(membership: Membership) -> WardianError | None:
    """Return when a signal ends this process, or why it is not of the mesh any more."""
    staying = asyncio.ensure_future(membership.run())
    stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop() -> None:
        if not stopped.done():
            stopped.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    both: set[asyncio.Future[Any]] = {staying, stopped}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if staying.done():
        return staying.result()
    staying.cancel()
    await asyncio.gather(staying, return_exceptions=True)
    return None


class _FrontendMember(Member):
    """Takes up what the broker gives while requests go on."""

    def __init__(
        self,
        admission: Admission,
        *,
        dispatcher: Dispatcher,
        frontend: Frontend,
        reach: Callable[[Admission], None],
        admitted: Callable[[Admission], None] | None = None,
    ) -> None:
        """Serve under `admission`, which all have taken up already.

        Args:
            admission: the first one.
            dispatcher: seals under its queue keys.
            frontend: shows its certificate.
            reach: takes up what it says of the queue.
            admitted: is told of each further one; None: nobody is.
        """
        self._admission = admission
        self._dispatcher, self._frontend = dispatcher, frontend
        self._reach, self._admitted = reach, admitted

    @override
    def noticed(self) -> None:
        self._dispatcher.hold()

    @override
    def adopt(self, admission: Admission) -> WardianError | None:
        """Swap certificate, evidence and queue keys; no event comes between them."""
        was, self._admission = self._admission, admission
        moved = admission.manifest.digest != was.manifest.digest
        self._frontend.use(_identity(admission), _papers(admission))
        self._reach(admission)
        if self._admitted is not None:
            self._admitted(admission)
        if moved or not _same_keys(admission, was):
            self._dispatcher.use(_senders(admission), lanes=_lanes(admission), moved=moved)
            event(log, "epoch.taken-up", epoch=admission.epoch, manifest_changed=moved)
        else:
            self._admission = replace(admission, secrets=was.secrets)
            admission.wipe()
            self._dispatcher.go_on()
        return None


def _queue(host: HostSettings, admission: Admission) -> SocketFrontQueue | RedisFrontQueue:
    """Return the queue that the host names."""
    if host.redis:
        return RedisFrontQueue(redis_access(host, admission))
    return SocketFrontQueue(Address.parse(host.queues[0]))


def _reach(
    host: HostSettings, queue: SocketFrontQueue | RedisFrontQueue
) -> Callable[[Admission], None]:
    """Return what lets `queue` take up another admission: its certificate, where it is a Redis."""

    def take_up(admission: Admission) -> None:
        if isinstance(queue, RedisFrontQueue):
            queue.use(redis_access(host, admission))

    return take_up


def _senders(admission: Admission) -> dict[str, QueueSender]:
    """Return what seals for the workers of each model."""
    senders = {}
    for name in admission.models:
        key, epoch = admission.queue_key(name)
        senders[name] = QueueSender(
            queue_key=key,
            model=name,
            epoch=epoch,
            certificate_digest=admission.certificate_digest,
        )
    return senders


def _same_keys(one: Admission, other: Admission) -> bool:
    """Return whether two admissions are of the same epoch, with the same keys."""
    return set(one.models) == set(other.models) and all(
        one.queue_key(name) == other.queue_key(name) for name in one.models
    )


def _lanes(admission: Admission) -> frozenset[Lane]:
    """Return the versions of the manifest."""
    lines = admission.manifest.manifest.models
    return frozenset(Lane(model=line.name, version=line.version) for line in lines)


def _identity(admission: Admission) -> TlsIdentity:
    return TlsIdentity(chain_pem=admission.certificate_chain_pem, key=admission.tls_key)


def _papers(admission: Admission) -> Papers:
    return Papers(
        manifest=admission.manifest,
        mesh_ca=admission.mesh_ca,
        issuing_ca=admission.issuing_ca,
        witnessed=admission.witnessed,
        request_keys={key.model: key for key in admission.request_keys},
    )


def _not_served() -> WardianError:
    return RequestError(
        "this front end is not a part of the mesh any more: try again shortly", status=503
    )
