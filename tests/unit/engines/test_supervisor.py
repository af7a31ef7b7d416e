"""The local engine keeps processes running, gives up where a restart cannot help, and stops clean."""

import asyncio
import dataclasses
import os
import signal
import sys
from pathlib import Path

import pytest

from wardian.engines import ProcessSpec, Supervisor
from wardian.engines.supervisor import ProcessStatus


class Watch:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.ended: list[ProcessStatus] = []
        self.failed: list[ProcessStatus] = []
        self.engine = Supervisor(
            on_line=lambda name, line: self.lines.append((name, line)),
            on_ended=self.ended.append,
            on_failed=self.failed.append,
        )

    async def until(self, condition, seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)


def spec(tmp_path: Path, code: str, *more: str) -> ProcessSpec:
    return ProcessSpec(
        name="child",
        argv=(sys.executable, "-I", "-c", code, *more),
        env={},
        log_path=tmp_path / "child.log",
    )


@pytest.fixture
def watch() -> Watch:
    return Watch()


async def test_a_killed_process_is_started_again(watch: Watch, tmp_path: Path) -> None:
    code = "import time; print('up', flush=True); time.sleep(60)"
    watch.engine.start(spec(tmp_path, code))
    await watch.until(lambda: len(watch.lines) == 1)
    (status,) = watch.engine.status()
    os.kill(status.pid, signal.SIGKILL)
    await watch.until(lambda: len(watch.lines) == 2)
    assert status.starts == 2
    assert watch.ended == [status]
    await watch.engine.stop()
    assert status.state == "stopped"
    assert (tmp_path / "child.log").read_text() == "up\nup\n"


@pytest.mark.parametrize("final", [2, 3])
async def test_a_refused_process_is_not_started_again(
    watch: Watch, tmp_path: Path, final: int
) -> None:
    watch.engine.start(spec(tmp_path, f"raise SystemExit({final})"))
    await watch.until(lambda: bool(watch.failed))
    assert watch.failed[0].exit_status == final
    assert watch.failed[0].starts == 1
    await watch.engine.stop()


async def test_a_process_sees_the_engine_die(watch: Watch, tmp_path: Path) -> None:
    code = "import os, sys; os.read(int(sys.argv[1]), 1); print('bye', flush=True); sys.exit(2)"
    watch.engine.start(spec(tmp_path, code, "{lifeline}"))
    await watch.until(lambda: watch.engine.status()[0].state == "running")
    # Only the engine holds the write end, so ending the engine's process would close it; here the
    # keeper is cancelled, which closes it the same way.
    (watched,) = watch.engine._watched.values()
    watched.task.cancel()
    await asyncio.wait_for(watched.process.wait(), 20)
    assert watched.process.returncode == 2


async def test_a_process_that_ignores_the_end_is_killed(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.engines.supervisor.STOP_GRACE_S", 0.2)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf', flush=True); time.sleep(60)"
    )
    watch.engine.start(spec(tmp_path, code))
    await watch.until(lambda: bool(watch.lines))
    process = next(iter(watch.engine._watched.values())).process
    await watch.engine.stop()
    assert await process.wait() == -signal.SIGKILL


async def test_ranks_end_in_their_order(watch: Watch, tmp_path: Path) -> None:
    code = (
        "import signal, sys, time, pathlib\n"
        "def end(*_):\n"
        "    with open(sys.argv[1], 'a') as log: log.write(sys.argv[2])\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(60)"
    )
    order = tmp_path / "order"
    for name, rank in (("c", 2), ("a", 0), ("b", 1)):
        watch.engine.start(
            dataclasses.replace(spec(tmp_path, code, str(order), name), name=name, stop_rank=rank)
        )
    await watch.until(lambda: len(watch.lines) == 3)
    await watch.engine.stop()
    assert order.read_text() == "abc"


async def test_a_full_disk_costs_lines_and_not_the_process(watch: Watch, tmp_path: Path) -> None:
    code = "import time; print('up', flush=True); time.sleep(60)"
    full = dataclasses.replace(spec(tmp_path, code), log_path=Path("/dev/full"))
    watch.engine.start(full)
    await watch.until(lambda: len(watch.lines) == 1)
    (status,) = watch.engine.status()
    os.kill(status.pid, signal.SIGKILL)
    await watch.until(lambda: len(watch.lines) == 2)
    await watch.engine.stop()


async def test_a_program_that_is_not_there_is_tried_again(watch: Watch, tmp_path: Path) -> None:
    watch.engine.start(dataclasses.replace(spec(tmp_path, ""), argv=(str(tmp_path / "nothing"),)))
    await watch.until(lambda: len(watch.ended) >= 2)
    assert watch.engine.status()[0].exit_status == 127
    await watch.engine.stop()
