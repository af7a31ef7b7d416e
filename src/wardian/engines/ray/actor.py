"""What Ray runs beside each worker. Imported by name in Ray's environment, never sent there."""

import os
from dataclasses import asdict
from typing import Any, Final

from wardian.engines.engine import WorkersSpec
from wardian.engines.tending import Tender, die_with

BEAT_S: Final = 0.5


class WorkerActor:
    """Tends one worker, as long as `beat` is called. It dies with its node's raylet."""

    def __init__(self, spec: dict[str, Any], number: int) -> None:
        """Tend worker `number` of `spec`, a `WorkersSpec` as `to_plain` returns it."""
        die_with([os.getppid()])
        workers = WorkersSpec.from_plain(spec)
        workers.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tender = Tender(workers, number=number)

    def beat(self) -> dict[str, Any]:
        """Return, half a second later, its `WorkerStatus` by fields, and which process this is."""
        return {**asdict(self._tender.beat(BEAT_S)), "actor": os.getpid()}

    def stop(self) -> None:
        """End the worker: it answers what it holds."""
        self._tender.stop()
