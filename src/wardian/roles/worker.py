"""The worker's process: admitted by the broker, it opens one model in memory and serves it."""

import asyncio
import base64
import logging
import signal
from pathlib import Path

import numpy as np

from wardian._internal.log import event
from wardian._internal.settings import Agreed
from wardian.broker.admission import Admission
from wardian.broker.manifest import ModelLine
from wardian.crypto.message import QueueReceiver
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import open_bytes
from wardian.errors import ConfigError, JobFailed
from wardian.inference.model import Model, load_model
from wardian.roles import start
from wardian.roles.admission import admitted
from wardian.roles.host import HostSettings
from wardian.serving.queue.frames import Address
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.worker import SocketWorkerQueue
from wardian.serving.worker import Worker
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

ROLE = "worker"


def main(enclave: Enclave) -> int:
    """Serve one model until a signal ends it; return the exit status of the process."""
    return start.run(
        enclave,
        ROLE,
        lambda host, agreed: _serve(enclave, host, agreed),
        trials={"model": _try_model},
    )


def _try_model(_: HostSettings) -> str:
    """Run the smallest model that there is: what goes in comes out doubled."""
    model = load_model(_DOUBLE, media_type="application/onnx", engine="openvino", threads=1)
    (answer,) = model.infer({"x": np.array([[1, 2]], np.float32)}).values()
    model.close()
    if answer.tolist() != [[2, 4]]:
        raise JobFailed(f"self-test: the model doubles 1 and 2 to {answer.tolist()}")
    return model.engine


_DOUBLE = base64.b64decode(  # ONNX, operator set 13: y = x + x over float32 rows of 2
    "CAg6PwoOCgF4CgF4EgF5IgNBZGQSAWdaFAoBeBIPCg0IARIJCgMSAW4KAggCYhQKAXkSDwoNCAESCQoDEgFuCgIIAkIECgAQDQ=="
)


def _serve(enclave: Enclave, host: HostSettings, agreed: Agreed) -> None:
    name = host.model
    if name is None or name not in agreed.models:
        raise ConfigError("host settings: name a model of wardian.toml for this worker")
    if len(host.queues) != 1:
        raise ConfigError("host settings: a worker serves one queue")
    admission = asyncio.run(admitted(enclave, host, agreed, role=ROLE, models=(name,)))
    line = admission.manifest.manifest.lines(name)[-1]
    model = _open_model(host, agreed, admission, line)
    key, epoch = admission.queue_key(name)
    lane = Lane(model=name, version=line.version)
    worker = Worker(
        model=model,
        lane=lane,
        max_batch=agreed.models[name].max_batch,
        batch_across_tenants=agreed.models[name].batch_across_tenants,
        queue=SocketWorkerQueue(Address.parse(host.queues[0]), lane=lane),
        codec=QueueReceiver(
            queue_key=key,
            model=name,
            epoch=epoch,
            certificate_digest=admission.certificate_digest,
        ),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    enclave.announce("worker.ready", model=name, version=line.version, engine=model.engine)
    event(log, "worker.ready", model=name, version=line.version, engine=model.engine)
    worker.run()
    model.close()


def _open_model(host: HostSettings, agreed: Agreed, admission: Admission, line: ModelLine) -> Model:
    """Return the model of `line`, opened in memory from the sealed file that the line pins."""
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
    try:
        return load_model(
            content, media_type=line.media_type, engine=terms.engine, threads=terms.threads
        )
    finally:
        content[:] = bytes(len(content))
