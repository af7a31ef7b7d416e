"""Stand-ins for the two ends of the data plane, and small real models.

`MemoryQueue` implements the production protocol of a front end's queue; the contract suite runs
against it and against the socket.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from wardian.crypto.message import QueueReceiver, QueueSender
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, JobFailed, WardianError
from wardian.inference.model import FREE, Tensors, TensorSpec
from wardian.serving.dispatch import Dispatcher, Outcome
from wardian.serving.queue.lease import Lane, LeaseTable
from wardian.serving.queue.seam import Delivered, FrontQueue, FrontSink
from wardian.serving.worker import Worker

LANE = Lane("digits", 1)
LANES = frozenset({LANE, Lane("digits", 2)})
KEY = Secret(b"k" * 32)
EPOCH = 1


def sender(*, model: str = "digits", key: Secret = KEY, epoch: int = EPOCH) -> QueueSender:
    return QueueSender(queue_key=key, model=model, epoch=epoch, certificate_digest=b"f" * 32)


def receiver(*, model: str = "digits", key: Secret = KEY, epoch: int = EPOCH) -> QueueReceiver:
    return QueueReceiver(queue_key=key, model=model, epoch=epoch, certificate_digest=b"w" * 32)


def onnx_digits() -> bytes:
    """Return Gemm, Relu, Gemm, Softmax, ArgMax: image [N,64] to probabilities [N,10], label [N]."""
    rng = np.random.default_rng(7)
    weights = {
        "W1": rng.normal(size=(64, 32)).astype(np.float32) / 8,
        "B1": rng.normal(size=32).astype(np.float32),
        "W2": rng.normal(size=(32, 10)).astype(np.float32) / 6,
        "B2": rng.normal(size=10).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["image", "W1", "B1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "W2", "B2"], ["c"]),
        helper.make_node("Softmax", ["c"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["c"], ["label"], axis=1, keepdims=0),
    ]
    return onnx_model(
        nodes,
        inputs=[("image", TensorProto.FLOAT, ["N", 64])],
        outputs=[
            ("probabilities", TensorProto.FLOAT, ["N", 10]),
            ("label", TensorProto.INT64, ["N"]),
        ],
        weights=weights,
    )


def onnx_model(nodes, *, inputs, outputs, weights=None) -> bytes:
    """Return the bytes of an ONNX model of `nodes`; tensors are (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(*spec) for spec in inputs],
        [helper.make_tensor_value_info(*spec) for spec in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


class ToyModel:
    """A model that is quick to reason about: doubles = 2 * image, sum = row sums.

    `on_infer` sees each batch first and may raise.
    """

    engine = "toy 1"
    inputs = (TensorSpec(name="image", dtype="FP32", shape=(FREE, 4)),)
    outputs = (
        TensorSpec(name="doubles", dtype="FP32", shape=(FREE, 4)),
        TensorSpec(name="sum", dtype="FP32", shape=(FREE,)),
    )
    batchable = True

    def __init__(self, on_infer: Callable[[np.ndarray], None] = lambda _: None) -> None:
        self.batches: list[int] = []
        self.on_infer = on_infer

    def infer(self, inputs: Tensors) -> Tensors:
        image = inputs["image"]
        self.on_infer(image)
        self.batches.append(len(image))
        return {"doubles": image * 2, "sum": image.sum(axis=1, dtype=np.float32)}

    def close(self) -> None:
        pass


def image(value: float, rows: int = 1) -> Tensors:
    return {"image": np.full((rows, 4), value, np.float32)}


def is_answer(outcome: Outcome, value: float, rows: int = 1) -> bool:
    """Return whether `outcome` is what `ToyModel` answers to `image(value, rows)`."""
    return (
        outcome.error is None
        and outcome.outputs is not None
        and np.array_equal(outcome.outputs["doubles"], np.full((rows, 4), 2 * value, np.float32))
        and np.array_equal(outcome.outputs["sum"], np.full(rows, 4 * value, np.float32))
    )


def fails_on(value: float) -> Callable[[np.ndarray], None]:
    def on_infer(batch: np.ndarray) -> None:
        if (batch == value).any():
            raise JobFailed("poison")

    return on_infer


class Collector:
    """Submits requests and keeps how each ended; a second outcome is an error."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.outcomes: dict[object, Outcome] = {}
        self.expected = 0
        self._changed = asyncio.Event()

    def submit(self, name: object, inputs: Tensors, *, deadline_s: float = 60, **options) -> None:
        def done(outcome: Outcome) -> None:
            assert name not in self.outcomes, "a request ended twice"
            assert (outcome.outputs is None) != (outcome.error is None)
            self.outcomes[name] = outcome
            self._changed.set()

        settings = {"model": "digits", "version": None, "outputs": None} | options
        self._dispatcher.submit(inputs=inputs, deadline_s=deadline_s, done=done, **settings)
        self.expected += 1

    async def all_done(self) -> dict[object, Outcome]:
        while len(self.outcomes) < self.expected:
            self._changed.clear()
            await self._changed.wait()
        return self.outcomes

    def errors(self) -> set[type[WardianError]]:
        return {type(outcome.error) for outcome in self.outcomes.values() if outcome.error}


class MemoryWorker:
    """One worker's end of a `MemoryQueue`."""

    def __init__(self, queue: "MemoryQueue", number: int, lane: Lane, credit: int) -> None:
        self.queue, self.number, self.lane, self.credit = queue, number, lane, credit
        self.inbox: asyncio.Queue[Delivered | None] = asyncio.Queue()
        self.admitted = False
        self.proving = False
        self.present = True

    async def take(self) -> list[Delivered] | None:
        first = await self.inbox.get()
        messages = [first]
        while first is not None and not self.inbox.empty():
            messages.append(self.inbox.get_nowait())
        return None if messages[-1] is None else messages

    async def answer(self, answers: list[Delivered]) -> None:
        for message, sealed in answers:
            self.queue.receive(self, message, sealed)

    def grant(self, credit: int) -> None:
        if self.credit:
            self.credit = credit
            self.queue.deliver(self.queue.table.set_credit(self.number, credit))
            if self.queue.room(self.lane):
                self.queue.sink.room_opened(self.lane)

    def stop(self) -> None:
        self.credit = 0
        self.queue.deliver(self.queue.table.set_credit(self.number, 0))
        self.queue.let_go_if_done(self)

    def vanish(self) -> None:
        if self.present:
            self.present = False
            lost = self.queue.table.leave(self.number)
            self.queue.sink.gone(self.number)
            if lost:
                self.queue.sink.lost(lost)


class MemoryQueue(FrontQueue):
    """A queue in this process: the leases of the real one, and no wire."""

    def __init__(self) -> None:
        self.table = LeaseTable()
        self.workers: dict[int, MemoryWorker] = {}
        self.waiting: dict[int, bytes] = {}
        self.sent: list[Delivered] = []
        self.sink: FrontSink
        self._numbers = itertools.count(1)

    def attach(self, sink: FrontSink) -> None:
        self.sink = sink

    def connect(self, lane: Lane = LANE, credit: int = 2) -> MemoryWorker:
        worker = MemoryWorker(self, next(self._numbers), lane, credit)
        self.workers[worker.number] = worker
        worker.inbox.put_nowait(Delivered(0, self.sink.challenge(worker.number, lane)))
        return worker

    def room(self, lane: Lane, *, most: int | None = None) -> int:
        return self.table.room(lane, most=most)

    def crew(self, lane: Lane) -> int:
        return self.table.crew(lane)

    def idle(self, lane: Lane) -> bool:
        return self.table.idle(lane)

    def send(self, message: int, sealed: bytes, *, lane: Lane, alone: bool) -> None:
        self.waiting[message] = sealed
        self.sent.append(Delivered(message, sealed))
        self.deliver(self.table.offer(message, lane=lane, alone=alone))

    def forget(self, message: int, *, lane: Lane) -> None:
        self.waiting.pop(message, None)
        self.deliver(self.table.forget(message, lane=lane))

    def stalled(self, worker: int) -> bool:
        return self.table.stalled(worker)

    def rechallenge(self) -> None:
        for worker in [each for each in self.workers.values() if each.present]:
            try:
                question = self.sink.challenge(worker.number, worker.lane)
            except WardianError:
                worker.vanish()
                continue
            worker.proving = True
            self.deliver(self.table.set_credit(worker.number, 0))
            worker.inbox.put_nowait(Delivered(0, question))

    def deliver(self, deliveries) -> None:
        for worker, message in deliveries:
            self.workers[worker].inbox.put_nowait(Delivered(message, self.waiting.pop(message)))

    def receive(self, worker: MemoryWorker, message: int, sealed: bytes) -> None:
        try:
            if not worker.admitted:
                self.sink.admit(worker.number, sealed)
                worker.admitted = True
                join = self.table.join(worker.number, lane=worker.lane, credit=worker.credit)
                self.deliver(join)
            elif message == 0 and worker.proving:
                self.sink.admit(worker.number, sealed)
                worker.proving = False
                self.deliver(self.table.set_credit(worker.number, worker.credit))
            elif self.table.holds(worker.number, message):
                self.sink.answered(message, sealed)
                self.deliver(self.table.answered(worker.number, message))
                self.let_go_if_done(worker)
        except WardianError:
            return
        if self.room(worker.lane):
            self.sink.room_opened(worker.lane)

    def let_go_if_done(self, worker: MemoryWorker) -> None:
        if not worker.credit and not self.table.held(worker.number):
            worker.inbox.put_nowait(None)
            worker.vanish()


class Pipe:
    """A `Worker` at the end of a `MemoryWorker`, run step by step on the test's loop."""

    def __init__(self, end: MemoryWorker, model=None, *, max_batch: int = 64, **options) -> None:
        self.end = end
        self.model = model or ToyModel()
        self.answers: list[Delivered] = []
        self.worker = Worker(
            model=self.model,
            lane=end.lane,
            max_batch=max_batch,
            queue=self,  # the test takes
            codec=options.pop("codec", None) or receiver(model=end.lane.model),
            **options,
        )

    def answer(self, answers: list[Delivered]) -> None:
        self.answers += answers

    def refused(self, message: int) -> None:
        pass

    def grant(self, credit: int) -> None:
        self.end.grant(credit)

    async def step(self) -> None:
        """Serve what is in the inbox, waiting for something to be there."""
        self.worker.serve(await self.end.take())
        answers, self.answers = self.answers, []
        await self.end.answer(answers)

    async def serve(self) -> None:
        while True:
            await self.step()

    @contextmanager
    def serving(self) -> Iterator[None]:
        task = asyncio.get_running_loop().create_task(self.serve())
        try:
            yield
        finally:
            task.cancel()


class RecordingSink:
    """A front end that writes down what its queue tells it."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.losses: list[list[int]] = []
        self.admitted: set[int] = set()
        self.left: set[int] = set()
        self.rooms: list[Lane] = []
        self.refuses = False
        self._changed = asyncio.Event()

    def challenge(self, worker: int, lane: Lane) -> bytes:
        if lane.model != "digits" or self.refuses:
            raise AuthenticationFailed("unknown model")
        return b"who are you?"

    def admit(self, worker: int, sealed: bytes) -> None:
        if sealed != b"one of us":
            raise AuthenticationFailed("a stranger")
        self.admitted.add(worker)
        self._changed.set()

    def gone(self, worker: int) -> None:
        self.left.add(worker)
        self._changed.set()

    def answered(self, message: int, sealed: bytes) -> None:
        if sealed.startswith(b"forged"):
            raise AuthenticationFailed("forged")
        self.answers.append((message, sealed))
        self._changed.set()

    def lost(self, messages: list[int]) -> None:
        self.losses.append(messages)
        self._changed.set()

    def room_opened(self, lane: Lane) -> None:
        self.rooms.append(lane)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
