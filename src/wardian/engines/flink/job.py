"""A job whose tasks each tend one worker. Runs in Flink's environment, and alone imports PyFlink.

`python -m wardian.engines.flink.job` submits it: what it is to run comes as JSON on standard input,
and the job's id goes to standard output. What flows through the job are ticks, numbers that mean
nothing: one tick is one beat of a `Tender`. So a checkpoint never waits for longer than a beat, and
nothing that Flink keeps or sends is more than a command line.
"""

import contextlib
import json
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from wardian.engines.engine import WorkersSpec
from wardian.engines.flink import reports
from wardian.engines.tending import Tender, ancestors, die_with, program_of

if TYPE_CHECKING:  # loaded in Flink's environment alone
    from pyflink.datastream import ProcessFunction
else:
    try:
        from pyflink.datastream import ProcessFunction
    except ImportError:
        ProcessFunction = object

BEAT_S: Final = 0.5
SHOWN_ATTEMPTS: Final = 2
"""So often a task fails with its worker, for Flink to try it elsewhere and to show why. From then
on it stays, and says that its worker failed: the job's other workers are not to end for it."""
CHECKPOINT_MS: Final = 10_000
_LAST_TICK: Final = 2**63 - 2
_JAVA: Final = "java"


class WorkerFailed(Exception):
    """A worker ended in a way that a restart cannot help: see the message."""


class Tending(ProcessFunction):
    """Tends the worker of one subtask."""

    def __init__(self, spec: str) -> None:
        """Keep what travels: the spec as JSON."""
        self._raw = spec

    def open(self, runtime_context: Any) -> None:
        """Get ready to start the worker, and to end with the TaskManager."""
        die_with(_task_manager())
        number = runtime_context.get_index_of_this_subtask() + 1
        self._attempt = runtime_context.get_attempt_number()
        self._turn = threading.Lock()
        self._tender: Tender | None = Tender(read_spec(self._raw), number=number)
        self._status = self._tender.status()
        group = runtime_context.get_metrics_group().add_group(reports.GROUP)
        group.gauge(reports.WORKER, self._report)
        self._group, self._words = group, [0] * reports.REASON_WORDS
        self._shown = 0

    def process_element(self, value: int, ctx: Any) -> None:  # noqa: ARG002 (a tick is a tick)
        """Tend the worker for one beat."""
        with self._turn:
            if self._tender is None:
                return
            self._status = self._tender.beat(BEAT_S)
        self._show(self._status.reason)
        if self._status.state == "failed" and self._attempt < SHOWN_ATTEMPTS:
            raise WorkerFailed(
                f"worker {self._status.name} ended with exit status {self._status.exit_status}: "
                f"{self._status.reason or 'it gave no reason'}"
            )

    def close(self) -> None:
        """End the worker, which answers what it holds."""
        with self._turn:
            tender, self._tender = self._tender, None
            if tender is not None:
                tender.stop()

    def _report(self) -> int:
        return reports.encode(self._status, attempt=self._attempt)

    def _show(self, reason: str) -> None:
        said = reports.words(reason)
        self._words[:] = said + [0] * (reports.REASON_WORDS - len(said))
        while self._shown < len(said):  # one gauge more for each seven bytes that were needed yet
            at = self._shown
            self._group.gauge(f"{reports.REASON}{at}", lambda at=at: self._words[at])
            self._shown += 1


def read_spec(raw: str) -> WorkersSpec:
    """Return what `write_spec` wrote."""
    return WorkersSpec.from_plain(json.loads(raw))


def write_spec(spec: WorkersSpec) -> str:
    """Return `spec` as JSON."""
    return json.dumps(spec.to_plain())


def submit(said: dict[str, Any]) -> str:
    """Submit the job that `said` describes; return its id, 32 hexadecimal digits.

    Args:
        said: `name` of the job; `spec`, see `write_spec`; `python` for its tasks; `jars` (URLs)
            that the cluster has not; `savepoint` from which it goes on, or None.
    """
    from pyflink.common import Configuration  # noqa: PLC0415 (in Flink's environment alone)
    from pyflink.datastream import StreamExecutionEnvironment  # noqa: PLC0415
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415

    flink = get_gateway().jvm.org.apache.flink
    settings = Configuration(
        j_configuration=flink.configuration.GlobalConfiguration.loadConfiguration()
    )
    for key, value in job_settings(said).items():
        settings.set_string(key, value)
    # PyFlink's own way makes a cluster inside this process, whatever the settings say.
    environment = StreamExecutionEnvironment(
        flink.streaming.api.environment.StreamExecutionEnvironment(settings._j_configuration)  # noqa: SLF001
    )
    environment.set_parallelism(read_spec(said["spec"]).replicas)
    from pyflink.common import Types, WatermarkStrategy  # noqa: PLC0415
    from pyflink.datastream.connectors.number_seq import NumberSequenceSource  # noqa: PLC0415

    ticks = environment.from_source(
        NumberSequenceSource(0, _LAST_TICK),
        WatermarkStrategy.no_watermarks(),
        "ticks",
        type_info=Types.LONG(),
    ).uid("ticks")
    ticks.process(Tending(said["spec"]), output_type=Types.LONG()).name("tending").uid("tending")
    client = environment.execute_async(said["name"])
    return str(client.get_job_id())


def job_settings(said: dict[str, Any]) -> dict[str, str]:
    """Return the settings that are of the job, wherever it runs."""
    settings = {
        "python.executable": said["python"],
        "python.client.executable": said["python"],
        "python.execution-mode": "process",
        "python.fn-execution.bundle.size": "1",
        "python.fn-execution.bundle.time": "1000",
        "python.metric.enabled": "true",
        "execution.checkpointing.interval": f"{CHECKPOINT_MS} ms",
        "execution.checkpointing.tolerable-failed-checkpoints": "1000000",
        "pipeline.operator-chaining.enabled": "true",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "1 s",
        "restart-strategy.exponential-delay.max-backoff": "10 s",
        "restart-strategy.exponential-delay.backoff-multiplier": "2.0",
        "restart-strategy.exponential-delay.reset-backoff-threshold": "30 s",
        "restart-strategy.exponential-delay.jitter-factor": "0.1",
    }
    if said["jars"]:
        settings["pipeline.jars"] = ";".join(said["jars"])
    if said.get("savepoint"):
        settings["execution.state-recovery.path"] = said["savepoint"]
    return settings


def _task_manager() -> list[int]:
    """Return the nearest process above that is a JVM: the TaskManager.

    Not the shell in between: Flink ends that first when it cancels, and the worker is then to
    answer what it holds.
    """
    return [pid for pid in ancestors() if program_of(pid) == _JAVA][:1]


def main() -> None:
    """Submit the job that standard input describes."""
    import wardian.engines.flink.job as importable  # noqa: PLC0415, PLW0406 (tasks import it so)

    job_id = importable.submit(json.load(sys.stdin))
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"job {job_id}\n")


if __name__ == "__main__":
    main()
