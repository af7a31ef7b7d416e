"""The meshes that the capacity model is calibrated on and checked against, and their processes."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
from models import Graph
from processes import children, free_port, process, wait_for

BENCH = Path(__file__).parents[1]
DIGITS = BENCH.parent / "examples" / "digits"
HEAVY_BATCH = 2
MODELS = {"digits": ("image", (64,), 64), "heavy": ("x", (16, 8, 8), HEAVY_BATCH)}
"""Input, shape of a row and largest batch of each."""

WARDIAN = """\
[mesh]
name = "capacity"
owners = []

[models.digits]
media_type = "application/onnx"
engine = "onnxruntime"
threads = 1
max_batch = 64
max_model_bytes = 4194304
batch_across_tenants = true

[models.heavy]
media_type = "application/onnx"
engine = "onnxruntime"
threads = 1
max_batch = {heavy_batch}
max_model_bytes = 67108864
batch_across_tenants = true

[limits]
max_body_bytes = 16777216
max_waiting = 4096
deadline_ms = 10000
"""

EXAMPLE = """\
[models.digits]
file = "digits.onnx"
version = 1

[models.heavy]
file = "heavy.onnx"
version = 1

[self_check]
model = "digits"
data = "heldout.npz"
input = "image"
scale = 0.0625
answer = "label"
expected = "label"
"""

OPERATOR = """\
[worker]
replicas = {replicas}
"""


def write_heavy(path: Path) -> None:
    """Write a small convolutional network: some milliseconds a row, and no gain from batches."""
    graph = Graph()
    at, wide = "x", 16
    for width in (192,) * 8:
        at = graph.relu(graph.conv(at, wide, width, 3))
        wide = width
    flat = graph.node("Flatten", graph.node("GlobalAveragePool", at))
    graph.save(path, given=[16, 8, 8], output=graph.dense(flat, wide, 10), wide=10)


def write_example(folder: Path, *, replicas: int) -> None:
    """Write what `wardian up` starts: both models, so many workers of each."""
    folder.mkdir(parents=True)
    for name in ("digits.onnx", "heldout.npz"):
        shutil.copy(DIGITS / name, folder / name)
    write_heavy(folder / "heavy.onnx")
    (folder / "wardian.toml").write_text(WARDIAN.format(heavy_batch=HEAVY_BATCH))
    (folder / "example.toml").write_text(EXAMPLE)
    (folder / "operator.toml").write_text(OPERATOR.format(replicas=replicas))


@dataclass(frozen=True)
class Mesh:
    """A running mesh.

    Attributes:
        workers: of each model.
        url: of its front end.
        state: its state directory.
        supervisor: the process of `wardian up`.
        start_s: from its start to "serving".
    """

    workers: int
    url: str
    state: Path
    supervisor: int
    start_s: float

    def roles(self) -> dict[str, list[int]]:
        """Return the process numbers of the roles themselves, by name in `wardian status`."""
        status: dict[str, Any] = json.loads((self.state / "run" / "status.json").read_text())
        found = {}
        for each in status["processes"]:
            found[str(each["name"])] = [int(each["pid"]), *children(int(each["pid"]))]
        return found


@contextmanager
def mesh(folder: Path, *, workers: int) -> Iterator[Mesh]:
    """Run a mesh over Redis with so many workers of each model until the block ends."""
    example, state, port = folder / "example", folder / "state", free_port()
    write_example(example, replicas=workers)
    argv = [sys.executable, "-m", "wardian.cli", "up", str(example), "--state", str(state)]
    status = state / "run" / "status.json"
    began = time.monotonic()
    with process(*argv, "--queue", "redis", "--port", str(port), log=folder / "up.log") as started:
        wait_for(lambda: status.exists() and '"serving"' in status.read_text(), "the mesh")
        took = time.monotonic() - began
        yield Mesh(workers, f"https://localhost:{port}", state, started.pid, took)
