"""The client of `bigdl-serving` 2.4.0, as it is, for `zoo_redis.py`; runs in its own environment.

    python zoo_client.py versions
    python zoo_client.py payloads PORT FOLDER
    python zoo_client.py compare PORT FOLDER PREFIX COUNT
    python zoo_client.py loop PORT FOLDER PREFIX COUNT predict|busy|alone

`FOLDER` has `records.npy`, (n, 16) float32, and `expected.npy`, (n, 10), what the model says to
them; the record of number i is row i % n. Prints one JSON line.
"""

import contextlib
import importlib.metadata
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from bigdl.serving.client import InputQueue, OutputQueue

COLUMN = "x"
STREAM, ALONE = "serving_stream", "alone"
RESULTS = "cluster-serving_"
Queues = tuple[InputQueue, OutputQueue]
LONGEST_S = 30.0
"""What has no answer by then is lost, and the run is void."""


class Given:
    """The records, and what is to come of them."""

    def __init__(self, folder: Path) -> None:
        """Read them."""
        self.records = np.load(folder / "records.npy")
        self.expected = np.load(folder / "expected.npy")

    def record(self, number: int) -> "np.ndarray[Any, Any]":
        """Return the record of this number."""
        row: np.ndarray[Any, Any] = self.records[number % len(self.records)]
        return row

    def is_right(self, number: int, found: object) -> bool:
        """Return whether `found` is what the model says to the record of this number."""
        wanted = self.expected[number % len(self.expected)]
        return (
            isinstance(found, np.ndarray)
            and found.shape == wanted.shape
            and bool(np.allclose(found, wanted, rtol=1e-3, atol=1e-5))
        )


def make_queues(port: object, stream: str) -> Queues:
    """Return the client's two queues of one stream."""
    where = {"host": "127.0.0.1", "port": str(port), "name": stream}
    return InputQueue(**where), OutputQueue(**where)


def versions() -> dict[str, str]:
    """Return what the client is made of."""
    names = ("bigdl-serving", "redis", "pyarrow", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def write_payloads(asked: InputQueue, given: Given, folder: Path) -> dict[str, int]:
    """Write what `enqueue` would put into `data` of each record, a line each."""
    lines = [asked.data_to_b64(**{COLUMN: row}) for row in given.records]
    (folder / "payloads.txt").write_text("\n".join(lines))
    return {"records": len(lines), "bytes": len(lines[0])}


def compare(answers: OutputQueue, given: Given, prefix: str, count: int) -> dict[str, int]:
    """Say how many results of `count` records are right; the client reads and deletes each."""
    right = 0
    for number in range(count):
        right += given.is_right(number, answers.query_and_delete(f"{prefix}{number}"))
    return {"right": right}


def ask(
    asked: InputQueue, answers: OutputQueue, record: Any, uri: str, *, busy: bool
) -> tuple[float, Any]:
    """Return how long it took from `enqueue` to the result, and that.

    Busy: `query`, which is one HGETALL, without pause. Else as `InputQueue.predict` polls: by
    `query_and_delete`, after 1 ms, 2 ms more, 3 ms more, ... (`predict` itself fails with NumPy
    1.25 and later, whoever serves it).
    """
    poll = answers.query if busy else answers.query_and_delete
    pause_s, began = 0.001, time.perf_counter()
    asked.enqueue(uri, **{COLUMN: record})
    while isinstance(found := poll(uri), str) and found == "[]":
        if not busy:
            time.sleep(pause_s)
            pause_s += 0.001
        if time.perf_counter() - began > LONGEST_S:
            break
    return time.perf_counter() - began, found


def closed_loop(
    queues: Queues, given: Given, prefix: str, count: int, *, polling: str
) -> dict[str, float]:
    """Return percentiles of `count` requests, one at a time, after a tenth more as a warm-up.

    Alone: each goes to a stream that nobody reads, and its result lies there before it is asked,
    so that what is measured is this client and Redis.
    """
    db, warm, wrong, took = queues[1].db, count // 10, 0, []
    measured = make_queues(db.connection_pool.connection_kwargs["port"], ALONE)
    for number in range(warm + count):
        uri, record = f"{prefix}{number}", given.record(number)
        if polling == "alone":
            ask(*queues, record, uri, busy=True)
            db.rename(f"{RESULTS}{STREAM}:{uri}", f"{RESULTS}{ALONE}:{uri}")
            seconds, found = ask(*measured, record, uri, busy=True)
        else:
            seconds, found = ask(*queues, record, uri, busy=polling == "busy")
        wrong += not given.is_right(number, found)
        db.delete(f"{RESULTS}{STREAM}:{uri}", f"{RESULTS}{ALONE}:{uri}")
        if number >= warm:
            took.append(1000 * seconds)
    db.delete(ALONE)
    p50, p95, p99 = np.percentile(took, (50, 95, 99))
    return {"p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99), "wrong": wrong}


def run(command: str, port: str, folder: Path, *rest: str) -> dict[str, Any]:
    """Do one thing, and return what is to be printed."""
    given, queues = Given(folder), make_queues(port, STREAM)
    if command == "payloads":
        return write_payloads(queues[0], given, folder)
    prefix, count = rest[0], int(rest[1])
    if command == "compare":
        return compare(queues[1], given, prefix, count)
    return closed_loop(queues, given, prefix, count, polling=rest[2])


def main() -> None:
    """Print one JSON line, and nothing of what the client prints itself."""
    command, *rest = sys.argv[1:]
    with contextlib.redirect_stdout(io.StringIO()):
        said = (
            versions() if command == "versions" else run(command, rest[0], Path(rest[1]), *rest[2:])
        )
    print(json.dumps(said))


if __name__ == "__main__":
    main()
