"""A front end over a real dispatcher, and workers of a tiny decoder on its loop."""

import asyncio
from typing import Any

from simulators.data_plane import LANE, MemoryQueue, MemoryWorker, Pipe, ToyModel, sender
from simulators.front_end import FrontEnd
from simulators.tiny_decoder import ONNX, decoder

from wardian._internal.steps import GenerateTerms
from wardian.inference.choice import choose_model
from wardian.inference.generate.generator import Generator
from wardian.serving.dispatch import Dispatcher
from wardian.serving.frontend import Frontend
from wardian.serving.queue.lease import Lane

TINY = Lane("tiny", 1)
NEXT = Lane("tiny", 2)


def tiny(**terms: Any) -> Generator:
    """The model that the workers run; nothing ends its answers but their length."""
    made = choose_model(
        decoder(), media_type=ONNX, engine="onnxruntime",
        generate=GenerateTerms(**{"end": (), **terms}),
    ).model  # fmt: skip
    assert isinstance(made, Generator)
    return made


class GeneratingFrontEnd(FrontEnd):
    """Serves "tiny", which generates, and "digits", which does not."""

    def __init__(self, *, max_waiting: int = 64, terms: dict | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.max_waiting, self.terms = max_waiting, terms or {}
        self.parts: list[Lane] = []
        self.delay_s = 0.0

    def _compose(self) -> Frontend:
        self.queue = MemoryQueue()
        self.dispatcher = Dispatcher(
            queue=self.queue,
            codecs={"tiny": sender(model="tiny"), "digits": sender()},
            lanes=frozenset({TINY, NEXT, LANE}),
            max_waiting=self.max_waiting,
        )
        self.workers: list[tuple[MemoryWorker, asyncio.Task[None]]] = []
        frontend = super()._compose()
        self.hire(TINY)
        self.hire(LANE)
        return frontend

    def hire(self, lane: Lane = TINY) -> None:
        end = self.queue.connect(lane, credit=1)
        model = ToyModel() if lane == LANE else tiny(**self.terms)
        pipe = Pipe(end, model)
        self.workers.append((end, self.loop.create_task(self._serve(pipe, lane))))

    async def _serve(self, pipe: Pipe, lane: Lane) -> None:
        while True:
            delivered = await pipe.end.take()
            if delivered is None:
                return
            if delivered[0].message and lane != LANE:
                self.parts.append(lane)
                await asyncio.sleep(self.delay_s)
            pipe.worker.serve(delivered)
            answers, pipe.answers = pipe.answers, []
            await pipe.end.answer(answers)

    def kill(self, at: int = 0) -> None:
        """End a worker as a crash does: what it holds comes back to the dispatcher."""
        end, task = self.workers.pop(at)
        task.cancel()
        end.vanish()

    def stop(self, drain_s: float = 0.2) -> None:
        if self.thread.is_alive():
            for _, task in getattr(self, "workers", ()):
                self.loop.call_soon_threadsafe(task.cancel)
        super().stop(drain_s)
