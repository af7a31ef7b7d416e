"""The clear text, and what a worker does with sealed requests, both in this process.

The engine is that of a worker: ONNX Runtime, one thread. The sealed side is the worker of
`wardian.serving` itself, with the model from a sealed file: it opens a request, runs it, seals the
answer. What is around a worker (queue, front end, TLS) is in `served`.
"""

import io
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from nets import Floats

from wardian.crypto.message import PendingAnswer, QueueReceiver, QueueSender
from wardian.crypto.message_header import RequestHeader
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_stream import open_bytes, seal_stream
from wardian.crypto.secret import Secret
from wardian.inference.model import Model, load_model
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.seam import Delivered
from wardian.serving.tensors import Group, Pack, decode_pack, encode_pack
from wardian.serving.worker import Worker

MAX_BATCH = 64
ENGINE = {"media_type": "application/onnx", "engine": "onnxruntime"}
WHAT: dict[str, Any] = {"media_type": "application/onnx", "version": 1}
CALLS, LEAST_S = 8, 0.05
"""A figure of a round is of at least so many calls, that last so long together."""
SEALED_AHEAD = 500


class Took(NamedTuple):
    """What a call takes: the median of the seconds, and the mean of those of processors."""

    seconds: float
    cpu_s: float


def took(
    call: Callable[[], object], *, most: float = math.inf, elsewhere: Callable[[], float] = float
) -> Took:
    """Return what `call` takes.

    Args:
        call: is made over and over.
        most: times.
        elsewhere: processor seconds until now of other processes that have a part in it.
    """
    times: list[float] = []
    cpu, until = elsewhere() + time.process_time(), time.perf_counter() + LEAST_S
    while len(times) < CALLS or (len(times) < most and time.perf_counter() < until):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    spent = elsewhere() + time.process_time() - cpu
    return Took(statistics.median(times), spent / len(times))


class Clear:
    """A model that was never sealed."""

    def __init__(self, folder: Path, name: str) -> None:
        """Load NAME.onnx."""
        self._model: Model = load_model((folder / f"{name}.onnx").read_bytes(), threads=1, **ENGINE)
        self.engine = self._model.engine

    def scores(self, x: Floats) -> Floats:
        """Return the scores of `x`."""
        return self._model.infer({"x": x})["scores"]

    def took(self, x: Floats) -> Took:
        """Return what one inference of `x` takes."""
        return took(lambda: self._model.infer({"x": x}))


class Outbox:
    """A worker's queue that has nothing to take and keeps the last answer."""

    def __init__(self) -> None:
        """Empty."""
        self.last: list[Delivered] = []

    def take(self) -> list[Delivered] | None:
        """Return None: there is no more."""
        return None

    def answer(self, answers: list[Delivered]) -> None:
        """Keep `answers`."""
        self.last = answers

    def refused(self, message: int) -> None:
        """Fail: nothing here is refused."""
        raise SystemExit(f"the worker refused message {message}")

    def grant(self, credit: int) -> None:
        """Do nothing: nobody waits for room."""

    def stop(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Sealed:
    """A worker of a sealed model, and a front end's codec that seals to it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Seal NAME.onnx, open it in memory and hand it to a worker."""
        raw, key, file = (folder / f"{name}.onnx").read_bytes(), BrokerKey(_secret()), io.BytesIO()
        pin = seal_stream(
            io.BytesIO(raw), file, total_bytes=len(raw), recipients=[key], name=name, **WHAT
        )
        self.sealed_bytes = file.tell()
        file.seek(0)
        began = time.perf_counter()
        opened = open_bytes(file, identities=[key], pin=pin, name=name, max_bytes=2**24, **WHAT)
        self.open_s = time.perf_counter() - began
        queue_key = _secret()
        place: dict[str, Any] = {"model": name, "epoch": 1, "certificate_digest": bytes(32)}
        self._sender = QueueSender(queue_key=queue_key, **place)
        self._outbox = Outbox()
        self._worker = Worker(
            model=load_model(opened, threads=1, **ENGINE),
            lane=Lane(model=name, version=1),
            max_batch=MAX_BATCH,
            queue=self._outbox,
            codec=QueueReceiver(queue_key=Secret(queue_key.reveal()), **place),
            batch_across_tenants=True,
        )
        self._message = 0

    def _sealed(self, x: Floats) -> tuple[Delivered, PendingAnswer]:
        """Return a request as it lies in the queue, and what opens its answer."""
        self._message += 1
        header = RequestHeader(version=1, deadline_ms=2**62, request_ids=(self._message,))
        group = Group(ids=[self._message], rows=[len(x)], parts={"x": [x]})
        sealed, pending = self._sender.seal_request(
            encode_pack(Pack(groups=[group])), header=header
        )
        return Delivered(self._message, sealed), pending

    def ask(self, x: Floats) -> tuple[Floats, int]:
        """Return the scores of `x`, and the bytes of request and answer in the queue."""
        asked, pending = self._sealed(x)
        self._worker.serve([asked])
        (answered,) = self._outbox.last
        (group,) = decode_pack(pending.open(answered.sealed)).groups
        return group.parts["scores"][0], len(asked.sealed) + len(answered.sealed)

    def took(self, x: Floats) -> Took:
        """Return what opening one request of `x`, inferring and sealing the answer takes."""
        asked = [self._sealed(x)[0] for _ in range(SEALED_AHEAD)]  # each opens once alone
        return took(lambda: self._worker.serve([asked.pop()]), most=SEALED_AHEAD)


def _secret() -> Secret:
    return Secret(os.urandom(32))
