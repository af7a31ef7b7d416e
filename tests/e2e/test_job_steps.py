"""A job that is killed before, within and after each of its steps, and goes on: one debit, one export.

The role runs in this process, at a broker on loopback, so that it is killed exactly there: also
while a file is written, of which half is left. SIGKILL to its processes: `test_job_processes`.
"""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hospital_study import (
    PRIVATE,
    A,
    B,
    C,
    Study,
    approval,
    csv_of,
    opened,
    outputs,
    records,
    status,
)
from job_room import Job, JobRoom, Killed
from toy_jobs import KEYS, NAMES
from toy_reseal import reseal

from wardian.errors import AuthenticationFailed
from wardian.learning.shared import keeping, outbox
from wardian.roles import job as role

EPSILON = Fraction(8)
"""So large that noise takes no join of forty rows for one that is too small."""
OUT = {f"aggregates.{A}.sealed", f"aggregates.{B}.sealed"}
"""Where a debit was made whose id nobody kept: another one has to be made (docs/adr/0039)."""


class Steps:
    """Counts the steps of a job, and kills it at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.fatal: int | None = None
        for module, called in ((keeping, "keep"), (outbox, "show")):
            monkeypatch.setattr(module, "replace_file", self._writing(called))
            monkeypatch.setattr(module, "sync_directory", self._calling("sync"))
        for name in ("obtain_tables", "tell_export"):
            monkeypatch.setattr(role, name, self._asking(name))
        monkeypatch.setattr(role, "run_job", self._calling("run_job", role.run_job))

    def step(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) - 1 == self.fatal:
            raise Killed

    def _calling(self, name: str, do: Callable[..., Any] = lambda _: None) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            self.step(f"{name} before")
            found = do(*args, **more)
            self.step(f"{name} after")
            return found

        return call

    def _asking(self, name: str) -> Any:
        send = getattr(role, name)

        async def ask(*args: Any, **more: Any) -> Any:
            self.step(f"{name} before")
            found = await send(*args, **more)
            self.step(f"{name} after")
            return found

        return ask

    def _writing(self, called: str) -> Any:
        write = keeping.replace_file

        def replace(path: Path, content: bytes, *, sync: bool = False) -> None:
            name = f"{called} {path.name}"
            self.step(f"{name} before")
            torn = path.with_name(f".{path.name}-torn")
            torn.write_bytes(content[: len(content) // 2])
            self.step(f"{name} within")
            torn.unlink()
            write(path, content, sync=sync)
            self.step(f"{name} after")

        return replace


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobRoom]:
    found = JobRoom(tmp_path_factory.mktemp("room"))
    yield found
    found.close()


def noisy(room: JobRoom, name: str, *, approvals: bool = True, **more: Any) -> tuple[Study, bytes]:
    """Return a study of which each run spends, and is approved by two."""
    study = room.study(name, given=False, **more)
    output = {
        "without_noise": None,
        "epsilon": float(EPSILON),
        "delta": 1e-6,
        "approvals": {"needed": 2, "of": list(NAMES)} if approvals else None,
    }
    for owner in NAMES:
        budget = {"epsilon": 64.0, "delta": 1e-4}
        room.give(study, owner, rule={"output": output}, budget=budget)
    return study, study.counting(privacy={"epsilon": float(EPSILON), "delta": 1e-7})


def approve(job: Job, *who: str) -> None:
    for name in who:
        (job.approvals / f"{name}.approval").write_bytes(approval(job.out, name))


def approving(job: Job) -> Callable[[str, dict[str, Any]], None]:
    """Return a host that brings two approvals as soon as they are asked for."""

    def at(event: str, _fields: dict[str, Any]) -> None:
        if event == "job.held":
            approve(job, A, C)

    return at


def read(job: Job, who: str = A) -> bytes | None:
    return opened(job.out, f"aggregates.{who}.sealed", PRIVATE[who])


@pytest.mark.slow
def test_killed_at_every_step(room: JobRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    study, plan = noisy(room, "whole")
    job = room.job(study, plan)
    job.run(approving(job))
    whole = steps.names
    assert {"obtain_tables after", "run_job before", "keep held.sealed within"} < set(whole)
    assert {"show report.json within", f"show aggregates.{B}.sealed before"} < set(whole)
    for at, name in enumerate(whole):
        study, plan = noisy(room, f"step-{at}")
        job = room.job(study, plan)
        steps.names, steps.fatal = [], at
        with pytest.raises(Killed):
            job.run(approving(job))
        assert steps.names == whole[: at + 1]
        steps.fatal = None
        held = status(job.out).get("export_digest") if (job.out / "status.json").exists() else None
        job.run(approving(job))
        said = status(job.out)
        assert (said["state"], outputs(job.out)) == ("exported", OUT), name
        assert held in {None, said["export_digest"]}, name
        assert read(job, A) == read(job, B) is not None, name
        spent = [room.record(study, owner).spent.epsilon for owner in NAMES]
        assert spent == [EPSILON, EPSILON, 0], name
        asked = (
            1 if "keep held.sealed after" in whole[: at + 1] or at < before_the_grant(whole) else 2
        )
        assert room.uses(study) == [asked, asked, 0], name


def test_t8_other_rows_under_one_pin_are_no_second_answer_of_one_debit(room: JobRoom) -> None:
    """An owner whose table it is has its key. Of many answers the mean has no noise."""
    long = {A: {**records()[A], "age": [f"{at / 7:.90f}" for at in range(48)]}}
    study, plan = noisy(room, "same-pin", approvals=False, columns=long, chunk_bytes=4096)
    job = room.job(study, plan)
    job.run()
    told, held = read(job), job.state / "held.sealed"
    held.unlink()
    job.run()  # nothing changed: it is the same answer, and costs no epsilon
    assert read(job) == told is not None
    rows = csv_of(study.columns[A])
    reseal(study.paths[A], rows.replace(b"0.142857", b"0.142858"), study.keys[A])
    held.unlink()
    job.run()
    assert read(job) not in {told, None}
    assert [room.record(study, owner).spent.epsilon for owner in (A, B)] == [2 * EPSILON] * 2
    reseal(study.paths[A], rows, study.keys[A])
    held.unlink()
    job.run()  # nor does what was there before come back with its debit of before
    assert [room.record(study, owner).spent.epsilon for owner in (A, B)] == [3 * EPSILON] * 2


SERVED_STEPS = (
    "keep held.sealed after",
    "tell_export before",
    "tell_export after",
    "show exported.json within",
    "show model.serving.sealed before",
)


def test_a_model_that_goes_to_be_served_is_one_model(
    room: JobRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key is made once: the broker is told the same model again, and one file is left."""
    steps = Steps(monkeypatch)
    worker = room.mesh.measurements["worker"].hex()
    study = room.study("served", given=False)
    for owner in NAMES:
        room.give(study, owner, rule={"output": {"serving": [worker]}})
    job = room.job(study, study.plan(outputs={"model": [A], "serving": [worker]}))
    job.run()
    whole, models = steps.names, [(job.out / "model.serving.sealed").read_bytes()]
    assert set(SERVED_STEPS) <= set(whole)
    for name in SERVED_STEPS:
        job = room.job(study, study.plan(outputs={"model": [A], "serving": [worker]}), name=name)
        steps.names, steps.fatal = [], whole.index(name)
        with pytest.raises(Killed):
            job.run()
        export = (
            json.loads((job.out / "report.json").read_text())["export_digest"]
            if (job.out / "report.json").exists()
            else None
        )
        steps.fatal = None
        job.run()
        assert export in {None, status(job.out)["export_digest"]}
        assert outputs(job.out) == {f"model.{A}.sealed", "model.serving.sealed"}
        models.append((job.out / "model.serving.sealed").read_bytes())
        told = json.loads((job.out / "exported.json").read_text())["statement"]
        assert told["export"] == status(job.out)["export_digest"]
        pins = {
            each["to"]: each["pin"]
            for each in json.loads((job.out / "report.json").read_text())["outputs"]
        }
        assert told["served"]["pin"] == pins["serving"]
    assert len(set(models)) == len(models)
    assert room.uses(study) == [len(models), len(models), 0]


def before_the_grant(whole: list[str]) -> int:
    return whole.index("obtain_tables after")


def test_the_same_debit_gives_the_same_noise(room: JobRoom) -> None:
    """What a host gets of killing a job until it likes the noise: the same numbers."""
    study, plan = noisy(room, "noise", approvals=False)
    job = room.job(study, plan)
    job.run()
    first, export = read(job), status(job.out)["export_digest"]
    for use in (2, 3):
        (job.state / "held.sealed").unlink()
        job.run()
        assert read(job) == first
        assert status(job.out)["export_digest"] != export  # sealed anew
        assert room.uses(study) == [use, use, 0]
        assert room.record(study, A).spent.epsilon == EPSILON
    again = room.job(study, plan, name="again")
    again.run()
    assert read(again) != first
    assert room.record(study, A).spent.epsilon == 2 * EPSILON


def test_a_job_that_is_out_goes_on_to_the_same_export(room: JobRoom) -> None:
    study, plan = noisy(room, "twice")
    job = room.job(study, plan)
    job.run(approving(job))
    before = {path.name: path.read_bytes() for path in job.out.glob("*.sealed")}
    for path in job.out.iterdir():
        path.unlink()
    job.run()
    assert {path.name: path.read_bytes() for path in job.out.glob("*.sealed")} == before
    assert room.uses(study) == [1, 1, 0]


def test_the_whole_state_is_lost_while_it_is_held(room: JobRoom) -> None:
    """As documented: another debit; and approvals of what was lost fit nothing."""
    study, plan = noisy(room, "lost")
    job = room.job(study, plan)
    job.killed_at("job.held")
    approve(job, A, C)
    export = status(job.out)["export_digest"]
    for path in job.state.iterdir():
        path.unlink()
    assert job.killed_at("job.held")["given"] == 0
    assert status(job.out)["export_digest"] != export
    assert outputs(job.out) == set()
    assert room.record(study, A).spent.epsilon == 2 * EPSILON
    job.run(approving(job))
    assert outputs(job.out) == OUT


@pytest.mark.parametrize("kept", ["nothing", "job"])
def test_rolled_back_after_it_was_out(room: JobRoom, kept: str) -> None:
    study, plan = noisy(room, f"back-{kept}")
    job = room.job(study, plan)
    job.killed_at("job.granted")
    older = shutil.copytree(job.state, job.root / "older")
    job.run(approving(job))
    first = read(job)
    shutil.rmtree(job.state)
    shutil.copytree(older, job.state) if kept == "job" else job.state.mkdir()
    assert job.killed_at("job.held")["given"] == 0
    job.run(approving(job))
    if kept == "job":
        assert read(job) == first
    debits = 1 if kept == "job" else 2
    assert room.record(study, A).spent.epsilon == debits * EPSILON


def test_an_older_held_state_holds_the_same_files(room: JobRoom) -> None:
    """Of two runs of one plan, whose states a host swaps: each exports what that one held."""
    study, plan = noisy(room, "swapped")
    jobs = [room.job(study, plan, name=name) for name in ("one", "two")]
    for job in jobs:
        job.killed_at("job.held")
    exports = [status(job.out)["export_digest"] for job in jobs]
    shutil.copy(jobs[0].state / "held.sealed", jobs[1].state / "held.sealed")
    assert jobs[1].killed_at("job.held")["export"] == exports[0]
    approve(jobs[1], A, C)
    jobs[1].run()
    assert outputs(jobs[1].out) == OUT
    assert room.record(study, A).spent.epsilon == 2 * EPSILON


def test_a_broker_that_is_away_for_a_while_is_asked_again(tmp_path: Path) -> None:
    room = JobRoom(tmp_path)
    study = room.study()
    job = room.job(study, study.counting())
    room.stop()
    back = threading.Timer(0.5, room.start)
    back.start()
    job.run()
    back.join()
    assert room.uses(study) == [1, 1, 0]
    room.close()


def test_a_broker_that_dies_after_its_commit_has_made_a_debit_that_nobody_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wardian.broker.tables.broker_session import BrokerJobSession
    from wardian.errors import Timeout

    room = JobRoom(tmp_path)
    study = room.study()
    dying = [True]
    respond = BrokerJobSession.respond

    def once(self: Any, *args: Any, **more: Any) -> bytes:
        if dying.pop():
            dying.append(False)
            raise Timeout("dead")
        dying.append(False)
        return respond(self, *args, **more)

    monkeypatch.setattr(BrokerJobSession, "respond", once)
    job = room.job(study, study.counting())
    job.run()
    assert room.uses(study) == [2, 2, 0]
    assert outputs(job.out) == OUT
    room.close()


@pytest.mark.parametrize("earlier", [True, False])
def test_a_held_job_tells_a_broker_that_was_put_back_nothing(tmp_path: Path, earlier: bool) -> None:
    """The way on, as `docs/how-to/recover-a-broker.md` says: what is held is given up."""
    room, backup = JobRoom(tmp_path), tmp_path / "backup"
    study, plan = noisy(room, "recovered")
    if earlier:
        room.job(study, plan, name="earlier").killed_at("job.granted")
    room.stop()
    backup.mkdir()
    for path in tmp_path.glob("broker.db*"):
        shutil.copy(path, backup)
    counted = room.counter.value
    room.start()
    job = room.job(study, plan)
    job.killed_at("job.held")
    approve(job, A, C)
    first = status(job.out)["export_digest"]
    room.stop()
    for path in tmp_path.glob("broker.db*"):
        path.unlink()
    for path in backup.iterdir():
        shutil.copy(path, tmp_path)
    room.counter.value = counted
    room.start()
    _, why = job.refused()
    assert isinstance(why, AuthenticationFailed)
    assert outputs(job.out) == set()
    (job.state / "held.sealed").unlink()
    if not earlier:  # the backup is from before the broker made its first id
        _, why = job.refused()
        assert getattr(why, "rule", None) == "job-again"
        (job.state / "job").unlink()
    assert job.killed_at("job.held")["given"] == 0
    job.run(approving(job))
    assert status(job.out)["export_digest"] != first
    assert outputs(job.out) == OUT
    room.close()


def test_other_approvers_after_the_broker_was_told(
    room: JobRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever approved by the time it is out stands in the log, beside those of before."""
    Steps(monkeypatch)
    study, plan = noisy(room, "others")
    job = room.job(study, plan)
    job.killed_at("job.held")
    approve(job, A, C)
    monkeypatch.setattr(Steps, "step", _kill_after("tell_export after"))
    with pytest.raises(Killed):
        job.run()
    monkeypatch.undo()
    (job.approvals / f"{C}.approval").unlink()
    approve(job, B)
    job.run()
    assert outputs(job.out) == OUT
    told = json.loads((job.out / "exported.json").read_text())["statement"]
    assert told["approvers"] == sorted(KEYS[name].public.hex() for name in (A, B))


def _kill_after(fatal: str) -> Callable[[Steps, str], None]:
    def step(_self: Steps, name: str) -> None:
        if name == fatal:
            raise Killed

    return step


def test_a_clone_of_a_job_has_the_same_result(room: JobRoom) -> None:
    """Each is sealed for itself and approved for itself; the noise is of the one debit."""
    study, plan = noisy(room, "clone")
    jobs = [room.job(study, plan, name=name) for name in ("one", "two")]
    jobs[0].killed_at("job.granted")
    for name in ("job", "salt.sealed"):
        shutil.copy(jobs[0].state / name, jobs[1].state / name)
    for job in jobs:
        job.run(approving(job))
    assert read(jobs[0]) == read(jobs[1]) is not None
    exports = {status(job.out)["export_digest"] for job in jobs}
    assert len(exports) == 2
    assert room.record(study, A).spent.epsilon == EPSILON
    assert room.uses(study) == [3, 3, 0]
