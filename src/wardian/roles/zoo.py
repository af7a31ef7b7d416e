"""The process that serves the clients of Analytics Zoo Cluster Serving: them to workers.

UNPROTECTED (TRUST T17): its clients put clear records into a Redis of the operator's and get clear
answers there, or ask over HTTPS under a certificate whose key the operator holds. From here to the
workers, and back, everything is sealed as a front end's is.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import uvloop

from wardian._internal.agreed import Agreed
from wardian._internal.log import event
from wardian._internal.metrics import Metrics
from wardian.broker.mesh.trust import UNPROTECTED
from wardian.errors import AdmissionRefused, ConfigError, JobFailed, RequestError, WardianError
from wardian.inference.spec import TensorSpec
from wardian.roles import start
from wardian.roles.admission import Brokers
from wardian.roles.dispatching import (
    DispatchMember,
    demand_queue,
    lanes,
    open_queue,
    reach,
    senders,
    until_over,
)
from wardian.roles.host import HostSettings
from wardian.roles.membership import POLL_S, Membership
from wardian.roles.zoo_streams import Stream, log_counts, open_streams, watch_streams, way_to_theirs
from wardian.serving.dispatch import Dispatcher
from wardian.serving.zoo.records import parse_record
from wardian.serving.zoo.results import encode_result
from wardian.serving.zoo.stream.inputs import model_inputs
from wardian.tee.backend import Enclave

if TYPE_CHECKING:
    from wardian.crypto.pkcs12 import Keystore
    from wardian.serving.keystore_front import KeystoreFront

log = logging.getLogger(__name__)

ROLE: Final = "zoo"
SAID: Final = (
    "UNPROTECTED: records and results lie in the clear in a Redis of the operator's; only what "
    "goes to the workers is sealed"
)
HTTPS_SAID: Final = (
    "UNPROTECTED: the operator holds the private key of this certificate, and can read and change "
    "what is said under it; only what goes to the workers is sealed"
)
KEY_SAID: Final = "the key of encrypted records is the same everywhere and known to everybody"
DRAIN_S: Final = 10.0
"""How long its end waits for what was read; the rest stays pending in their Redis."""


def main(enclave: Enclave) -> int:
    """Serve streams, and HTTPS, until a signal ends it; return the process's exit status."""
    return start.run(
        enclave,
        ROLE,
        lambda host, agreed: uvloop.run(_serve(enclave, host, agreed)),
        kind=Agreed,
        trials={"record": _try_record, "event loop": _try_loop},
    )


def _try_record(_: HostSettings) -> str:
    """Read one record, make a model's input of it, and write that as a result."""
    fields = {b"data": b'{"instances":[{"x":[1,2]}]}', b"serde": b"stream"}
    spec = TensorSpec(name="x", dtype="FP32", shape=(-1, 2))
    taken = model_inputs(parse_record(fields)[0], (spec,), renamed={})
    if not taken.alone or not np.array_equal(taken.inputs["x"], [[1, 2]]):
        raise JobFailed("self-test: a record of two numbers is not what was read")
    return f"a result of {len(encode_result([taken.inputs['x']]))} bytes"


def _try_loop(_: HostSettings) -> str:
    uvloop.run(asyncio.sleep(0))
    return "uvloop"


async def _serve(enclave: Enclave, host: HostSettings, agreed: Agreed) -> None:
    _refuse_mismatch(host, agreed)
    demand_queue(host)
    keystore = _say_what_it_is(host, agreed)
    brokers = Brokers(enclave, host, agreed, role=ROLE, models=_models(host, agreed))
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
    )
    served = _open(host, agreed, dispatcher, keystore=keystore)
    member = DispatchMember(admission, dispatcher=dispatcher, take_up=(reach(host, queue),))
    membership = Membership(brokers, admission=admission, lease=lease, member=member, poll_s=POLL_S)
    await queue.start()
    listening = await served.listen(host)
    start.settle()
    running = [asyncio.ensure_future(stream.run()) for stream in served.streams]
    running.append(asyncio.ensure_future(log_counts(served.streams)))
    said: dict[str, Any] = {"protection": UNPROTECTED, "streams": len(served.streams), **listening}
    enclave.announce("zoo.ready", **said)
    event(log, "zoo.ready", **said)
    over = await until_over(membership)
    await _end(dispatcher, served, over=over)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for stream in served.streams:
        stream.log_counts()
    dispatcher.erase()
    await queue.close()
    if over is not None:
        raise over


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """What clients are served by."""

    streams: list[Stream] = field(default_factory=list)
    front: "KeystoreFront | None" = None

    async def listen(self, host: HostSettings) -> dict[str, Any]:
        """Listen where `host` says; return where, for the announcement."""
        if self.front is None:
            return {}
        for where in host.listen:
            await self.front.start(*where)
        address, port = host.listen[0]
        return {"address": address, "port": port}

    async def drain(self, give_up: Callable[[], None]) -> None:
        """Answer what was accepted, within `DRAIN_S`; what waits longer over HTTPS is given up."""
        loop = asyncio.get_running_loop()
        late = loop.time() + DRAIN_S - 0.1  # timers may be a little early

        def if_late() -> None:
            if loop.time() >= late:  # else records of the streams may still get their answers
                give_up()

        waited = [stream.consumer.drain(DRAIN_S) for stream in self.streams]
        if self.front is not None:
            waited.append(self.front.stop(drain_s=DRAIN_S, give_up=if_late))
        await asyncio.gather(*waited)
        for stream in self.streams:
            stream.answering.close()


def _open(
    host: HostSettings, agreed: Agreed, dispatcher: Dispatcher, *, keystore: "Keystore | None"
) -> _Served:
    """Return the streams and the server that were agreed on and have a place."""
    redis, https = agreed.dialects.zoo_redis, agreed.dialects.keystore
    streams = []
    if redis is not None and host.zoo is not None:
        theirs = way_to_theirs(host.zoo)
        streams = open_streams(redis, dispatcher, agreed=agreed, theirs=theirs, place=host.zoo)
    if https is None or host.zoo_https is None or keystore is None:
        return _Served(streams=streams)
    from wardian.roles.zoo_https import open_front  # noqa: PLC0415  where it is agreed on

    metrics = Metrics()
    watch_streams(metrics, streams)
    front = open_front(
        keystore, host.zoo_https, https, agreed=agreed, dispatcher=dispatcher, metrics=metrics
    )
    return _Served(streams=streams, front=front)


def _refuse_mismatch(host: HostSettings, agreed: Agreed) -> None:
    """Return if the operator gives a place to what the owner agreed to, and to nothing else.

    Raises:
        ConfigError: says what is missing.
    """
    dialects = agreed.dialects
    if not dialects.unprotected:
        raise ConfigError(
            "wardian.toml: there is no [dialects.zoo_redis], and no `keystore` in [dialects.zoo]: "
            "the owner did not agree to anything in the clear"
        )
    if dialects.zoo_redis is not None and host.zoo is None:
        raise ConfigError("host settings: no Redis of Cluster Serving's clients")
    if (host.zoo_https is not None) != bool(host.listen):
        raise ConfigError("host settings: a keystore has an address to listen at, and no other has")
    if dialects.keystore is None and host.zoo_https is not None:
        raise ConfigError("wardian.toml: [dialects.zoo] has no `keystore`: nothing listens")
    if dialects.zoo_redis is None and host.zoo_https is None:
        raise ConfigError("host settings: no keystore and no address to listen at")


def _say_what_it_is(host: HostSettings, agreed: Agreed) -> "Keystore | None":
    """Log what is UNPROTECTED here, and return the keystore, if there is one.

    What cannot be used is found here, before a broker is asked.

    Raises:
        ConfigError: a CA is none, a keystore cannot be used.
    """
    redis = agreed.dialects.zoo_redis
    if redis is not None and host.zoo is not None:
        way_to_theirs(host.zoo).tls()
        event(log, "zoo.unprotected", level=logging.WARNING, said=SAID)
        for name, job in redis.jobs.items():
            if job.record_encrypted:
                event(
                    log, "zoo.record_encrypted", level=logging.WARNING, stream=name, said=KEY_SAID
                )
    if host.zoo_https is None:
        return None
    from wardian.roles.zoo_keystore import load_keystore  # noqa: PLC0415  where it is agreed on

    event(log, "zoo.unprotected", level=logging.WARNING, said=HTTPS_SAID)
    return load_keystore(host.zoo_https)


def _models(host: HostSettings, agreed: Agreed) -> tuple[str, ...]:
    """Return what this process may have to reach: the models of its streams, over HTTPS all."""
    redis = agreed.dialects.zoo_redis
    if host.zoo_https is not None or redis is None:
        return tuple(sorted(agreed.models))
    return tuple(sorted({job.model for job in redis.jobs.values()}))


async def _end(dispatcher: Dispatcher, served: _Served, *, over: WardianError | None) -> None:
    """Answer what was accepted, if this process still may."""
    if over is not None:
        event(log, "zoo.leaving", level=logging.WARNING, kind=type(over).__name__)
        dispatcher.refuse(_not_served)
        if not isinstance(over, AdmissionRefused):
            dispatcher.erase()  # nobody renewed the lease: nothing may be opened any more
    await served.drain(dispatcher.close)


def _not_served() -> WardianError:
    return RequestError("this role is not a part of the mesh any more", status=503)
