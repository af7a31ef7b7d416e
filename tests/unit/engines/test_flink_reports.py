import contextlib

import pytest

from wardian.engines import WorkerStatus
from wardian.engines.flink import reports
from wardian.engines.flink.job import SHOWN_ATTEMPTS, Tending, job_settings, read_spec, write_spec


@pytest.mark.parametrize("exit_status", [None, 0, 3, 255, -9, -64])
@pytest.mark.parametrize("state", ["waiting", "starting", "ready", "failed", "stopped"])
@pytest.mark.parametrize("pid", [None, 1, 2**22 - 1])
def test_a_report_comes_back(exit_status, state, pid) -> None:
    status = WorkerStatus(name="w-1", state=state, pid=pid, starts=4000, exit_status=exit_status)
    number = reports.encode(status, attempt=16000)
    assert 0 <= number < 2**62
    report = reports.decode(number)
    assert report == reports.Report(
        attempt=16000, state=state, pid=pid, starts=4000, exit_status=exit_status
    )
    assert reports.same_attempt(report, 16000)
    assert not reports.same_attempt(report, 16001)


@pytest.mark.parametrize("number", [-1, 5 << 58, 2**62, 2**64])
def test_what_no_task_says(number) -> None:
    assert reports.decode(number) is None


@pytest.mark.parametrize("reason", ["", "no", "1234567", "die Größe stimmt nicht: é", "x" * 301])
def test_a_reason_comes_back_cut(reason) -> None:
    words = reports.words(reason)
    assert len(words) <= reports.REASON_WORDS
    assert all(0 <= word < 2**56 for word in words)
    assert reports.text(words) == reason[:301]


def test_whatever_comes_is_printable_text() -> None:
    assert reports.text([2**63, -1, 0x0A0B0C]).isprintable()


class Group:
    def __init__(self) -> None:
        self.gauges = {}

    def add_group(self, name):
        assert name == "wardian"
        return self

    def gauge(self, name, value) -> None:
        self.gauges[name] = value


class Context:
    def __init__(self, attempt: int) -> None:
        self.attempt, self.group = attempt, Group()

    def get_index_of_this_subtask(self) -> int:
        return 1

    def get_attempt_number(self) -> int:
        return self.attempt

    def get_metrics_group(self) -> Group:
        return self.group


def until_failed(task: Tending) -> None:
    for _ in range(100):
        task.process_element(0, None)
        if task._status.state == "failed":
            return


def test_a_refused_worker_fails_its_task_twice_and_then_stays(tmp_path) -> None:
    from simulators.placed_workers import PlacedWorkers

    from wardian.engines.flink.job import WorkerFailed

    workers = PlacedWorkers.under(tmp_path)
    for attempt in range(SHOWN_ATTEMPTS + 1):
        task, context = Tending(write_spec(workers.spec(mode="refused"))), Context(attempt)
        task.open(context)
        said = "worker worker-m-2 ended with exit status 3: the broker refused it"
        expected = pytest.raises(WorkerFailed, match=said) if attempt < SHOWN_ATTEMPTS else None
        with expected or contextlib.nullcontext():
            until_failed(task)
        report = reports.decode(context.group.gauges["worker"]())
        assert (report.state, report.exit_status, report.attempt) == ("failed", 3, attempt)
        said = [context.group.gauges[f"reason{at}"]() for at in range(3)]
        assert reports.text(said) == "the broker refused it"
        task.close()


def test_a_spec_travels_as_it_is_and_holds_no_more(tmp_path) -> None:
    from simulators.placed_workers import PlacedWorkers

    spec = PlacedWorkers.under(tmp_path).spec(replicas=3)
    assert read_spec(write_spec(spec)) == spec


def test_the_job_says_what_it_needs() -> None:
    said = {"python": "/p", "jars": ["file:///j"], "savepoint": "file:///s"}
    settings = job_settings(said)
    assert settings["python.fn-execution.bundle.size"] == "1"
    assert settings["pipeline.jars"] == "file:///j"
    assert settings["execution.state-recovery.path"] == "file:///s"
    assert "pipeline.jars" not in job_settings(said | {"jars": [], "savepoint": None})
