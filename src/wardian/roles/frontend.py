"""The front end's process: HTTPS to clients, sealed messages to workers."""

import asyncio
import logging
from collections.abc import Mapping

import numpy as np
import uvloop
from typing_extensions import TypedDict

from wardian._internal.agreed import Agreed
from wardian._internal.log import event
from wardian._internal.metrics import LARGE_MESSAGES, QUEUE_REFUSALS, SLAB_BYTES, Metrics
from wardian.broker.release.admission import Admission
from wardian.errors import AdmissionRefused, ConfigError, RequestError, WardianError
from wardian.roles import start
from wardian.roles.admission import Brokers
from wardian.roles.dispatching import (
    DispatchMember,
    Queue,
    demand_queue,
    lanes,
    open_queue,
    reach,
    senders,
    until_over,
)
from wardian.roles.host import HostSettings
from wardian.roles.membership import POLL_S, Membership
from wardian.roles.tenants import KnownTenants
from wardian.roles.traffic import TrafficFile, traffic_of
from wardian.serving.api.evidence_desk import Papers
from wardian.serving.api.json_tensors import parse_rows
from wardian.serving.api.routes import FindMore
from wardian.serving.dispatch import Dispatcher
from wardian.serving.frontend import Frontend
from wardian.serving.grpc.call import Served
from wardian.serving.http.reader import read_one
from wardian.serving.http.tls import TlsIdentity
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
    if not host.listen:
        raise ConfigError("host settings: a front end needs an address")
    demand_queue(host)
    brokers = Brokers(enclave, host, agreed, role=ROLE, models=tuple(agreed.models))
    admission, lease = await brokers.admitted()
    queue = open_queue(host, admission)
    dispatcher = Dispatcher(
        queue=queue,
        codecs=senders(admission),
        lanes=lanes(admission),
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
        **_more(agreed),
    )
    member = DispatchMember(
        admission,
        dispatcher=dispatcher,
        take_up=(
            lambda new: frontend.use(_identity(new), _papers(new)),
            reach(host, queue),
            *(() if known is None else (known.admitted,)),
        ),
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
    over = await until_over(membership)
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


class _More(TypedDict, total=False):
    """What another dialect adds to a front end."""

    more_routes: FindMore
    more_calls: Mapping[bytes, Served]


def _more(agreed: Agreed) -> _More:
    """Return the paths and calls of the other dialect that the owners agreed on, if any."""
    zoo, models = agreed.dialects.zoo, agreed.models
    if zoo is None or not zoo.enabled:
        return {}
    from wardian.serving.api.zoo.dialect import ZooRoutes  # noqa: PLC0415  where it is agreed on
    from wardian.serving.grpc.zoo_calls import ZooCalls  # noqa: PLC0415

    return {
        "more_routes": ZooRoutes(zoo, models=models).find,
        "more_calls": ZooCalls(zoo, models=models).methods,
    }


def _watch_queue(metrics: Metrics, queue: Queue) -> None:
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
