"""The worker's process: admitted by the broker, it opens one model in memory and serves it."""

import asyncio
import base64
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
from typing_extensions import override

from wardian._internal.agreed import Agreed
from wardian._internal.log import event
from wardian.broker.mesh.lines import ModelLine
from wardian.broker.release.admission import Admission
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import open_bytes
from wardian.crypto.sealed_request import RequestOpener, RequestPlace
from wardian.errors import (
    AdmissionRefused,
    ConfigError,
    JobFailed,
    TransportError,
    WardianError,
)
from wardian.inference.choice import Chosen, choose_model
from wardian.inference.model import load_model
from wardian.inference.steps.image_trial import decode_trials
from wardian.inference.steps.tokens_trial import split_trials
from wardian.roles import start
from wardian.roles.admission import Brokers
from wardian.roles.host import HostSettings
from wardian.roles.membership import Member, Membership
from wardian.roles.queue_access import redis_access
from wardian.roles.staying import Staying
from wardian.serving.epochs import EpochCodec
from wardian.serving.queue.frames import Address
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_worker import RedisWorkerQueue
from wardian.serving.queue.worker import SocketWorkerQueue
from wardian.serving.worker import Worker
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

ROLE = "worker"
HEARSAY_S = 30.0
"""Within which every front end has heard of an epoch that this worker took up."""


def main(enclave: Enclave) -> int:
    """Serve one model until a signal ends it; return the exit status of the process."""
    return start.run(
        enclave,
        ROLE,
        lambda host, agreed: _serve(enclave, host, agreed),
        kind=Agreed,
        trials={"model": _try_model, "image": _try_image, "tokens": _try_tokens},
    )


def _try_model(_: HostSettings) -> str:
    """Run the smallest model that there is, by each engine: what goes in comes out doubled."""
    engines = []
    for engine in ("openvino", "onnxruntime"):
        model = load_model(_DOUBLE, media_type="application/onnx", engine=engine, threads=1)
        (answer,) = model.infer({"x": np.array([[1, 2]], np.float32)}).values()
        model.close()
        if answer.tolist() != [[2, 4]]:
            raise JobFailed(f"self-test: {engine} doubles 1 and 2 to {answer.tolist()}")
        engines.append(model.engine)
    return ", ".join(engines)


def _try_image(_: HostSettings) -> str:
    """Decode the smallest PNG and JPEG that there are, as an image step does."""
    return decode_trials()


def _try_tokens(_: HostSettings) -> str:
    """Split a text as a tokens step does, by each kind of vocabulary."""
    return split_trials()


_DOUBLE = base64.b64decode(  # ONNX, operator set 13: y = x + x over float32 rows of 2
    "CAg6PwoOCgF4CgF4EgF5IgNBZGQSAWdaFAoBeBIPCg0IARIJCgMSAW4KAggCYhQKAXkSDwoNCAESCQoDEgFuCgIIAkIECgAQDQ=="
)


def _serve(enclave: Enclave, host: HostSettings, agreed: Agreed) -> None:
    name = host.model
    if name is None or name not in agreed.models:
        raise ConfigError("host settings: name a model of wardian.toml for this worker")
    if (len(host.queues), bool(host.redis)) not in {(1, False), (0, True)}:
        raise ConfigError("host settings: a worker serves one queue")
    brokers = Brokers(enclave, host, agreed, role=ROLE, models=(name,))
    admission, lease = asyncio.run(brokers.admitted())
    line = _line_to_serve(admission, name, version=host.version)
    chosen = _open_model(host, agreed, admission, line)
    model = chosen.model
    lane = Lane(model=name, version=line.version)
    keep_s = agreed.limits.deadline_ms / 1000 + HEARSAY_S
    staying = Staying()
    codec = EpochCodec(model=name, keep_s=keep_s, ask=staying.look_now)
    queue = _queue(host, admission, lane)
    member = _WorkerMember(line, codec, reach=_reach(host, queue))
    member.take_up(admission)

    async def pause(seconds: float) -> None:
        codec.erase_over()  # while no message comes, too
        await asyncio.sleep(seconds)

    membership = Membership(brokers, admission=admission, lease=lease, member=member, pause=pause)
    worker = Worker(
        model=model,
        lane=lane,
        max_batch=chosen.max_batch,
        batch_across_tenants=agreed.models[name].batch_across_tenants,
        queue=queue,
        codec=codec,
        sealed=codec,
    )

    def leave() -> None:
        codec.close()
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    start.settle()
    enclave.announce("worker.ready", model=name, version=line.version, engine=model.engine)
    event(log, "worker.ready", model=name, version=line.version, engine=model.engine)
    staying.start(membership, leave=leave)
    try:
        worker.run()
    finally:
        staying.stop()
        codec.erase()
        model.close()
    staying.raise_if_over()


class _WorkerMember(Member):
    """Takes up what the broker gives, as long as that is still for this worker's model."""

    def __init__(
        self, line: ModelLine, codec: EpochCodec, *, reach: Callable[[Admission], None]
    ) -> None:
        """Serve the version that `line` names; `reach` takes up what is said of the queue."""
        self._line, self._codec, self._reach = line, codec, reach

    @override
    def noticed(self) -> None:
        """Nothing: messages of the epoch of before are still on their way."""

    @override
    def left_alone(self) -> None:
        """Nothing: it never stopped."""

    @override
    def adopt(self, admission: Admission) -> WardianError | None:
        """Open messages of the new epoch; or say why this worker has no place in it.

        Where the manifest has another version for this very code, starting anew helps. Of the line
        that it was given by, measurements and terms may change: its owner's word over this file.
        """
        mine, measurement = self._line, admission.identity.measurement.hex()
        lines = admission.manifest.manifest.lines(mine.name)
        given = [line for line in lines if measurement in line.measurements]
        if any(_same_file(line, mine) for line in given):
            self.take_up(admission)
            return None
        admission.wipe()
        if given:
            return TransportError(
                f"the manifest has {mine.said} no more, but another version: start anew"
            )
        return AdmissionRefused(
            f"the owner does not give {mine.said} to this worker any more", rule="line-withdrawn"
        )

    def take_up(self, admission: Admission) -> None:
        """Open messages of the epoch of `admission`."""
        model, manifest = self._line.name, admission.manifest
        key, epoch = admission.queue_key(model)
        request_key, _ = admission.request_key(model)
        place = RequestPlace(
            mesh=manifest.manifest.mesh,
            model=model,
            manifest_digest=manifest.digest,
            epoch=epoch,
        )
        self._codec.take_up(
            key,
            epoch=epoch,
            certificate_digest=admission.certificate_digest,
            opener=RequestOpener(request_key, place=place),
        )
        self._reach(admission)


def _same_file(one: ModelLine, other: ModelLine) -> bool:
    """Return whether both are one owner's word over one sealed file, as one version.

    A line of somebody else's, or with another key's id, over the file that this worker has open is
    one by which the broker never gave it.
    """
    first, second = (
        (each.owner, each.version, each.pin, each.key_id, each.media_type, each.total_bytes)
        for each in (one, other)
    )
    return first == second


def _queue(
    host: HostSettings, admission: Admission, lane: Lane
) -> SocketWorkerQueue | RedisWorkerQueue:
    """Return the queue that the host names."""
    if host.redis:
        return RedisWorkerQueue(redis_access(host, admission), lane=lane)
    return SocketWorkerQueue(Address.parse(host.queues[0]), lane=lane)


def _reach(
    host: HostSettings, queue: SocketWorkerQueue | RedisWorkerQueue
) -> Callable[[Admission], None]:
    """Return what lets `queue` take up another admission: its certificate, where it is a Redis."""

    def take_up(admission: Admission) -> None:
        if isinstance(queue, RedisWorkerQueue):
            queue.use(redis_access(host, admission))

    return take_up


def _line_to_serve(admission: Admission, name: str, *, version: int | None) -> ModelLine:
    """Return the line of the newest version of model `name` that was released, or of `version`.

    The manifest may have newer ones: their owners give them to other code, or not now.

    Raises:
        AdmissionRefused: no such key was released (rule `key-not-released`).
    """
    released = {each.version for each in admission.secrets if each.kind == "model"}
    lines = admission.manifest.manifest.lines(name)
    given = [line for line in lines if line.version in released & {version or line.version}]
    if not given:
        which = "any version" if version is None else f"version {version}"
        raise AdmissionRefused(
            f"the broker released no key of {which} of model {name} to this worker",
            rule="key-not-released",
        )
    return given[-1]


def _open_model(
    host: HostSettings, agreed: Agreed, admission: Admission, line: ModelLine
) -> Chosen:
    """Return the model of `line`, opened in memory from the sealed file that the line pins, warm.

    The model keys of `admission` are erased, whatever comes of it: nothing else needs them.
    """
    terms = agreed.models[line.name]
    place = f"{line.name}:{line.version}"
    path = host.sealed_models.get(place)
    if path is None:
        raise ConfigError(f"host settings: no sealed file for model {place}")
    identity = BrokerKey(admission.model_key(line.name, line.version))
    try:
        with Path(path).open("rb") as source:
            content = open_bytes(
                source,
                identities=[identity],
                pin=line.pin,
                media_type=line.media_type,
                name=line.name,
                version=line.version,
                max_bytes=terms.max_model_bytes,
            )
    except OSError as err:
        raise ConfigError(f"sealed model {path}: {err.strerror}") from err
    finally:
        for each in admission.secrets:
            if each.kind == "model":
                each.key.wipe()
    try:
        return choose_model(
            content,
            media_type=line.media_type,
            engine=terms.engine,
            threads=terms.threads,
            precision=terms.precision,
            max_batch=terms.max_batch,
            pre=terms.pre,
            post=terms.post,
            generate=terms.generate,
        )
    finally:
        content[:] = bytes(len(content))
