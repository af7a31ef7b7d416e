"""Workers for engines to place: as `wardian worker` does, they have a lifeline, say that they serve,
and end when they are told to. What each does stands in a directory, one file a process."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from wardian.engines import WorkersSpec
from wardian.engines.engine import LIFELINE

SCRIPT = """
import json, os, select, signal, sys, time
notes, lifeline, mode = sys.argv[1:4]
note = open(os.path.join(notes, str(os.getpid())), "a", buffering=1)
if mode == "refused":
    print("error: the broker refused it", flush=True)
    note.write("refused\\n")
    sys.exit(3)
def end(*_):
    time.sleep(0.3)  # what it holds is answered
    note.write("answered\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note.write("ready\\n")
print(json.dumps({"event": "worker.ready"}), flush=True)
descriptor, _, silence = lifeline.partition(":")
while True:
    heard = select.select([int(descriptor)], [], [], float(silence or 3600))[0]
    if not heard or not os.read(int(descriptor), 4096):
        note.write("cut off\\n")
        sys.exit(0)
"""


@dataclass(frozen=True)
class PlacedWorkers:
    """What was placed, by what the processes wrote down."""

    notes: Path
    logs: Path

    @classmethod
    def under(cls, directory: Path) -> "PlacedWorkers":
        found = cls(notes=directory / "notes", logs=directory / "logs")
        for each in (found.notes, found.logs):
            each.mkdir(parents=True, exist_ok=True)
        return found

    def spec(
        self, *, replicas: int = 1, name: str = "worker-m", mode: str = "serve"
    ) -> WorkersSpec:
        return WorkersSpec(
            name=name,
            argv=(sys.executable, "-I", "-c", SCRIPT, str(self.notes), LIFELINE, mode),
            env={"PATH": os.environ["PATH"]},
            logs=self.logs,
            replicas=replicas,
        )

    def said(self) -> dict[int, list[str]]:
        """What each process wrote, by pid."""
        return {int(path.name): path.read_text().split("\n")[:-1] for path in self.notes.iterdir()}

    def living(self) -> set[int]:
        """Which of them run now."""
        return {pid for pid in self.said() if _runs(pid)}

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def until(self, condition, seconds: float = 60.0) -> None:
        late = time.monotonic() + seconds
        while not condition(self):
            assert time.monotonic() < late, self.said()
            time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
