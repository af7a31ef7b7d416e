"""How fast a sealed model opens in memory, beside reading the same file in the clear.

Both files are in the page cache and both end in fresh memory, as a worker has it: there the first
touch of each page is what costs. `reused` opens and seals through buffers that are there already.
Interleaved, medians; each fresh opening is a process of its own, which also shows the peak.

    python bench/sealed_model.py [--mib 1024] [--rounds 5]
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from io import RawIOBase
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from serving import keep, setting
from typing_extensions import override

from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_header import Pin
from wardian.crypto.sealed_stream import open_bytes, open_stream, seal_stream
from wardian.crypto.secret import Secret

MIB = 1024**2
WHAT = {"media_type": "application/onnx", "name": "model", "version": 1}


class Sink(RawIOBase):
    """Takes bytes and keeps none."""

    @override
    def write(self, data: Any) -> int:
        """Take `data`."""
        return len(data)


def read_clear(clear: Path, _sealed: Path, _key: bytes, _pin: Pin) -> None:
    """Read the clear file into fresh memory."""
    memory = bytearray(clear.stat().st_size)
    with clear.open("rb", buffering=0) as source:
        view = memoryview(memory)
        done = 0
        while done < len(memory):
            done += source.readinto(view[done : done + 256 * 1024]) or 0


def open_sealed(_clear: Path, sealed: Path, key: bytes, pin: Pin) -> None:
    """Open the sealed file in fresh memory."""
    with sealed.open("rb") as source:
        open_bytes(
            source,
            identities=[BrokerKey(Secret(key))],
            pin=pin,
            max_bytes=2**40,
            **WHAT,  # type: ignore[arg-type]
        )


def _child(work: Callable[..., None], arguments: tuple[object, ...], pipe: Connection) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    work(*arguments)
    took = time.perf_counter() - began
    pipe.send((took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def in_a_process(work: Callable[..., None], *arguments: object) -> tuple[float, int]:
    """Return the seconds of `work` in a process of its own, and by how many KiB that grew."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    process = fork.Process(target=_child, args=(work, arguments, theirs))
    process.start()
    found: tuple[float, int] = ours.recv()
    process.join()
    return found


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run(mib: int, rounds: int) -> dict[str, Any]:
    """Return medians over `rounds`."""
    key = os.urandom(32)
    with tempfile.TemporaryDirectory() as directory:
        clear, sealed = Path(directory) / "clear", Path(directory) / "sealed"
        with clear.open("wb") as sink:
            for _ in range(mib):
                sink.write(os.urandom(MIB))

        def seal(target: Any) -> Pin:
            with clear.open("rb") as source:
                return seal_stream(
                    source, target, total_bytes=mib * MIB,
                    recipients=[BrokerKey(Secret(key))], **WHAT,  # type: ignore[arg-type]
                )  # fmt: skip

        with sealed.open("wb") as sink:
            pin = seal(sink)

        def through(target: Any) -> None:
            with sealed.open("rb") as source:
                open_stream(
                    source,
                    target,
                    identities=[BrokerKey(Secret(key))],
                    pin=pin,
                    **WHAT,  # type: ignore[arg-type]
                )

        arguments = (clear, sealed, key, pin)
        for work in (read_clear, open_sealed):  # warm
            in_a_process(work, *arguments)
        found: dict[str, list[float]] = {}
        peaks = []
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            found.setdefault("read clear", []).append(in_a_process(read_clear, *arguments)[0])
            took, grew = in_a_process(open_sealed, *arguments)
            found.setdefault("open sealed", []).append(took)
            peaks.append(grew / 1024)
            found.setdefault("open, reused", []).append(timed(lambda: through(Sink())))
            found.setdefault("seal, reused", []).append(timed(lambda: seal(Sink())))
    gb = mib * MIB / 1e9
    medians = {name: statistics.median(times) for name, times in found.items()}
    about = setting(rounds, 0)
    del about["seconds"]
    return {
        **about,
        "mib": mib,
        "gb_per_s": {name: gb / seconds for name, seconds in medians.items()},
        "of_clear": medians["read clear"] / medians["open sealed"],
        "peak_over_model": statistics.median(peaks) / mib,
    }


def main() -> None:
    """Measure, keep the figures and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    result = run(options.mib, options.rounds)
    keep("sealed_model", result)
    for name, speed in result["gb_per_s"].items():
        print(f"{name:<14} {speed:6.2f} GB/s")
    print(f"sealed over clear {result['of_clear']:.2f}, peak {result['peak_over_model']:.3f} x")


if __name__ == "__main__":
    main()
