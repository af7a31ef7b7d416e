"""MLCommons' load generator, in an environment of its own; see `mlperf.py`.

python mlperf_issue.py LOGS RATE SECONDS BOUND_MS SAMPLES: writes the number of each query to its
standard output, eight bytes, and reads those that are answered from its standard input.
"""

import itertools
import os
import sys
import threading
from typing import Any

import mlperf_loadgen as loadgen

NUMBER_BYTES = 8
END = b"\xff" * NUMBER_BYTES


def settings(rate: float, seconds: float, bound_ms: float) -> Any:
    """Return the server scenario at `rate`."""
    asked = loadgen.TestSettings()
    asked.scenario = loadgen.TestScenario.Server
    asked.mode = loadgen.TestMode.PerformanceOnly
    asked.server_target_qps = rate
    asked.server_target_latency_ns = int(bound_ms * 1e6)
    asked.server_target_latency_percentile = 0.99
    asked.min_duration_ms = int(seconds * 1000)
    asked.max_duration_ms = int(3 * seconds * 1000)
    asked.min_query_count = 100
    return asked


def main() -> None:
    """Run the scenario once."""
    folder, rate, seconds, bound_ms, samples = sys.argv[1:]
    pipe = os.dup(1)
    os.dup2(2, 1)  # the library prints, and must not do so into the pipe
    waiting: dict[int, int] = {}
    numbers = itertools.count()

    def issue(queries: list[Any]) -> None:
        for query in queries:
            number = next(numbers)
            waiting[number] = query.id
            os.write(pipe, number.to_bytes(NUMBER_BYTES, "little"))

    def complete() -> None:
        while (raw := sys.stdin.buffer.read(NUMBER_BYTES)) != END and raw:
            identity = waiting.pop(int.from_bytes(raw, "little"))
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(identity, 0, 0)])

    completing = threading.Thread(target=complete)
    completing.start()
    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(int(samples), int(samples), lambda _: None, lambda _: None)
    output = loadgen.LogOutputSettings()
    output.outdir = folder
    logs = loadgen.LogSettings()
    logs.log_output = output
    asked = settings(float(rate), float(seconds), float(bound_ms))
    loadgen.StartTestWithLogSettings(system, library, asked, logs)
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(system)
    os.write(pipe, END)  # and it comes back, so that no thread is left reading
    completing.join()


if __name__ == "__main__":
    main()
