"""The process that serves the clients of Analytics Zoo Cluster Serving: their Redis to workers.

UNPROTECTED (TRUST T17): its clients put clear records into a Redis of the operator's and get clear
answers there. From here to the workers, and back, everything is sealed as a front end's is.
"""

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import uvloop

from wardian._internal.agreed import Agreed
from wardian._internal.log import event
from wardian._internal.settings import read
from wardian._internal.zoo_redis import ZooJob, ZooRedisTerms
from wardian.broker.mesh.trust import UNPROTECTED
from wardian.crypto.secret import Secret
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
from wardian.roles.host import HostSettings, ZooRedisPlace
from wardian.roles.membership import POLL_S, Membership
from wardian.serving.dispatch import Dispatcher
from wardian.serving.queue.frames import Address
from wardian.serving.zoo.answering import Answering
from wardian.serving.zoo.consumer import MOST_BYTES, JobConsumer
from wardian.serving.zoo.counts import Counts
from wardian.serving.zoo.inputs import model_inputs
from wardian.serving.zoo.records import parse_record
from wardian.serving.zoo.results import encode_result
from wardian.serving.zoo.their_redis import TheirRedis
from wardian.serving.zoo.window import MOST, Window
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

ROLE: Final = "zoo"
SAID: Final = (
    "UNPROTECTED: records and results lie in the clear in a Redis of the operator's; only what "
    "goes to the workers is sealed"
)
KEY_SAID: Final = "the key of encrypted records is the same everywhere and known to everybody"
DRAIN_S: Final = 10.0
"""How long its end waits for what was read; the rest stays pending in their Redis."""
COUNT_S: Final = 10.0
"""How often counts are logged, where they changed."""
MAX_PASSWORD_BYTES: Final = 1024


def main(enclave: Enclave) -> int:
    """Serve streams until a signal ends it; return the exit status of the process."""
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
    terms = agreed.dialects.zoo_redis
    if terms is None:
        raise ConfigError(
            "wardian.toml: there is no [dialects.zoo_redis]: the owner did not agree to records "
            "in the clear"
        )
    if host.zoo is None:
        raise ConfigError("host settings: no Redis of Cluster Serving's clients")
    demand_queue(host)
    theirs = _theirs(host.zoo)
    theirs.tls()  # a wrong CA is found now
    event(log, "zoo.unprotected", level=logging.WARNING, said=SAID)
    for name, job in terms.jobs.items():
        if job.record_encrypted:
            event(log, "zoo.record_encrypted", level=logging.WARNING, stream=name, said=KEY_SAID)
    models = tuple(sorted({job.model for job in terms.jobs.values()}))
    brokers = Brokers(enclave, host, agreed, role=ROLE, models=models)
    admission, lease = await brokers.admitted()
    queue = open_queue(host, admission)
    dispatcher = Dispatcher(
        queue=queue,
        codecs=senders(admission),
        lanes=lanes(admission),
        max_waiting=agreed.limits.max_waiting,
    )
    streams = _streams(terms, dispatcher, agreed=agreed, theirs=theirs, place=host.zoo)
    member = DispatchMember(admission, dispatcher=dispatcher, take_up=(reach(host, queue),))
    membership = Membership(brokers, admission=admission, lease=lease, member=member, poll_s=POLL_S)
    await queue.start()
    start.settle()
    running = [asyncio.ensure_future(stream.run()) for stream in streams]
    running.append(asyncio.ensure_future(_log_counts(streams)))
    enclave.announce("zoo.ready", protection=UNPROTECTED, streams=len(streams))
    event(log, "zoo.ready", protection=UNPROTECTED, streams=len(streams))
    over = await until_over(membership)
    await _end(dispatcher, streams, over=over)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    _log_all(streams)
    dispatcher.erase()
    await queue.close()
    if over is not None:
        raise over


async def _end(
    dispatcher: Dispatcher, streams: list["Stream"], *, over: WardianError | None
) -> None:
    """Answer what was read, if this process still may, within `DRAIN_S`."""
    if over is not None:
        event(log, "zoo.leaving", level=logging.WARNING, kind=type(over).__name__)
        dispatcher.refuse(_not_served)
        if not isinstance(over, AdmissionRefused):
            dispatcher.erase()  # nobody renewed the lease: nothing may be opened any more
    await asyncio.gather(*(stream.consumer.drain(DRAIN_S) for stream in streams))
    for stream in streams:
        stream.answering.close()


class Stream:
    """One stream of their Redis, with all that serves it."""

    def __init__(
        self,
        name: str,
        job: ZooJob,
        dispatcher: Dispatcher,
        *,
        theirs: TheirRedis,
        agreed: Agreed,
        consumer: str,
        share: int,
    ) -> None:
        """Serve the stream `name` by `job` once run; it may use one of `share` parts of memory."""
        limits = agreed.limits
        deadline_s = limits.deadline_ms / 1000
        self.name, self.counts = name, Counts()
        window = Window(most=max(1, min(MOST, limits.max_waiting // share)), pause_s=deadline_s)
        self.answering = Answering(
            dispatcher,
            job,
            deadline_s=deadline_s,
            max_bytes=limits.max_body_bytes,
            window=window,
            counts=self.counts,
        )
        self.consumer = JobConsumer(
            job=name.encode(),
            consumer=consumer.encode(),
            redis=theirs,
            answering=self.answering,
            window=window,
            counts=self.counts,
            deadline_s=deadline_s,
            ttl_s=job.result_ttl_s,
            max_bytes=limits.max_body_bytes,
            most_bytes=MOST_BYTES // share,
        )
        self.run = self.consumer.run
        self._logged = self.counts.fields()

    def log_counts(self) -> None:
        """Log how records ended, if that changed."""
        fields = self.counts.fields()
        if fields != self._logged:
            self._logged = fields
            event(log, "zoo.counts", stream=self.name, held=self.consumer.held, **fields)


def _streams(
    terms: ZooRedisTerms,
    dispatcher: Dispatcher,
    *,
    agreed: Agreed,
    theirs: TheirRedis,
    place: ZooRedisPlace,
) -> list[Stream]:
    return [
        Stream(
            name,
            job,
            dispatcher,
            theirs=theirs,
            agreed=agreed,
            consumer=place.consumer,
            share=len(terms.jobs),
        )
        for name, job in sorted(terms.jobs.items())
    ]


async def _log_counts(streams: list[Stream]) -> None:
    while True:
        await asyncio.sleep(COUNT_S)
        _log_all(streams)


def _log_all(streams: list[Stream]) -> None:
    for stream in streams:
        stream.log_counts()


def _theirs(place: ZooRedisPlace) -> TheirRedis:
    """Return the way to their Redis.

    Raises:
        ConfigError: it is open to everybody on a network.
    """
    address, port = place.address
    file = place.password_file
    return TheirRedis(
        address=Address(host=address, port=port),
        server_name=place.tls_name,
        ca_pem=place.ca_pem,
        username=place.username,
        password=None if file is None else partial(_password, Path(file)),
    )


def _password(path: Path) -> Secret:
    """Return the password in the file `path`, its first line."""
    text = read(path, limit_bytes=MAX_PASSWORD_BYTES).split(b"\n", 1)[0].strip()
    if not text:
        raise ConfigError("operator.toml: [zoo] password_file: is empty")
    return Secret(text)


def _not_served() -> WardianError:
    return RequestError("this role is not a part of the mesh any more", status=503)
