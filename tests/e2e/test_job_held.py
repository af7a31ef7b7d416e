"""What a host brings to a job that is held, and puts in place of what the job works on.

Two of three hospitals have to approve. Nothing leaves by anything else, and nothing that a host
brings hinders those who did. In this process, at a broker on loopback (`job_room`).
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hospital_study import A, B, C, Study, approval, csv_of, outputs, records, status
from job_room import Job, JobRoom
from toy_jobs import MESH, NAMES

from wardian._internal import wire
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.errors import ConfigError, PolicyDenied, SealError, WardianError
from wardian.learning.shared.approvals import sign_approval

OUT = {f"aggregates.{A}.sealed", f"aggregates.{B}.sealed"}
STRANGER = SigningKey.from_secret(Secret(b"stranger".ljust(32)))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobRoom]:
    found = JobRoom(tmp_path_factory.mktemp("room"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def study(room: JobRoom) -> Study:
    found = room.study("held", given=False)
    output = {"approvals": {"needed": 2, "of": list(NAMES)}}
    for owner in NAMES:
        room.give(found, owner, rule={"output": output}, uses=1000)
    return found


@pytest.fixture
def job(room: JobRoom, study: Study, request: pytest.FixtureRequest) -> Job:
    found = room.job(study, study.counting(), name=f"job-{abs(hash(request.node.name))}")
    found.killed_at("job.held")
    return found


def counted(job: Job) -> int:
    """Return how many approvals the job counts now; it is held on."""
    given = job.killed_at("job.held")["given"]
    said = status(job.out)
    assert (outputs(job.out), said["state"]) == (set(), "held")
    assert [len(each["given"]) for each in said["approvals"]] == [given]
    return int(given)


class Host:
    """What it may bring beside approvals."""

    def __init__(self, job: Job) -> None:
        self.job, self.place = job, job.approvals

    def bring(self, name: str, content: bytes) -> None:
        (self.place / name).write_bytes(content)

    def of_a_stranger(self) -> None:
        export = bytes.fromhex(status(self.job.out)["export_digest"])
        self.bring("stranger", wire.encode(sign_approval(export, STRANGER, mesh=MESH)))

    def of_another_export(self) -> None:
        self.bring("c-other", approval(self.job.out, C, export="11" * 32))

    def of_another_mesh(self) -> None:
        self.bring("c-mesh", approval(self.job.out, C, mesh="clinics"))

    def of_the_same_party_twice(self) -> None:
        for number in range(3):
            self.bring(f"a-{number}", approval(self.job.out, A))

    def under_another_name(self) -> None:
        """The stranger's signature, said to be C's."""
        export = bytes.fromhex(status(self.job.out)["export_digest"])
        theirs = sign_approval(export, STRANGER, mesh=MESH)
        changed = wire.encode(theirs).replace(
            STRANGER.public.hex().encode(), self.job.room.mesh.owners[2].public.hex().encode()
        )
        self.bring("forged", changed)

    def garbage(self) -> None:
        whole = approval(self.job.out, C)
        for number, raw in enumerate(
            (b"", b"\0" * 100, whole[:-1], whole + b"x", b"[" * 4000, b"\xff\xfe", whole * 2)
        ):
            self.bring(f"garbage-{number}", raw)
        self.bring("long", whole + b" " * 5000)
        self.bring("huge", bytes(2**22))

    def thousands(self) -> None:
        for number in range(3000):
            self.bring(f"z{number}", b"x")

    def what_is_no_file(self) -> None:
        os.mkfifo(self.place / "0-pipe")
        (self.place / "0-loop").symlink_to(self.place / "0-loop")
        (self.place / "0-gone").symlink_to(self.place / "nowhere")
        (self.place / "0-endless").symlink_to("/dev/zero")
        (self.place / "0-directory").mkdir()
        (self.place / os.fsdecode(b"0-\xff")).write_bytes(b"x")

    def what_nobody_may_read(self) -> None:
        self.bring("0-mute", b"x")
        (self.place / "0-mute").chmod(0)


BROUGHT = [name for name in vars(Host) if not name.startswith("_") and name != "bring"]


def test_nothing_leaves_before_enough_approve(job: Job) -> None:
    assert counted(job) == 0
    (job.approvals / "a").write_bytes(approval(job.out, A))
    assert counted(job) == 1
    (job.approvals / "b").write_bytes(approval(job.out, B))
    job.run()
    assert outputs(job.out) == OUT


@pytest.mark.parametrize("what", BROUGHT)
def test_what_a_host_brings_is_no_approval_and_hinders_none(job: Job, what: str) -> None:
    (job.approvals / "a").write_bytes(approval(job.out, A))
    getattr(Host(job), what)()
    assert counted(job) == 1
    (job.approvals / "b").write_bytes(approval(job.out, B))
    job.run()
    assert outputs(job.out) == OUT


def test_no_directory_of_approvals_at_all(job: Job) -> None:
    job.approvals.rmdir()
    assert counted(job) == 0
    job.approvals.write_bytes(approval(job.out, A))
    assert counted(job) == 0
    job.approvals.unlink()
    job.approvals.mkdir()
    for who in (A, B):
        (job.approvals / who).write_bytes(approval(job.out, who))
    job.run()
    assert outputs(job.out) == OUT


def test_approvals_of_another_run_of_the_same_plan(room: JobRoom, study: Study, job: Job) -> None:
    other = room.job(study, study.counting(), name=f"{job.root.name}-other")
    other.killed_at("job.held")
    for who in NAMES:
        (job.approvals / who).write_bytes(approval(other.out, who))
    assert counted(job) == 0


def flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes((raw[-1] ^ 1,))


@pytest.mark.parametrize(
    "spoil",
    [lambda raw: b"", lambda raw: raw[:71], lambda raw: raw[:-1], flipped, lambda raw: raw + b"x"],
    ids=["empty", "short", "cut", "flipped", "longer"],
)
def test_a_held_state_that_was_changed(job: Job, spoil: Callable[[bytes], bytes]) -> None:
    """It says so and ends; without the file it trains again, as documented."""
    held = job.state / "held.sealed"
    whole = held.read_bytes()
    held.write_bytes(spoil(whole))
    code, why = job.refused()
    assert isinstance(why, SealError)
    assert code == 1
    assert outputs(job.out) == set()
    held.write_bytes(whole)
    assert counted(job) == 0


def test_a_directory_in_place_of_the_held_state(job: Job) -> None:
    (job.state / "held.sealed").unlink()
    (job.state / "held.sealed").mkdir()
    assert isinstance(job.refused()[1], SealError)


def test_a_held_state_of_another_job(room: JobRoom, study: Study, job: Job) -> None:
    other = room.job(study, study.counting(name="other"), name=f"{job.root.name}-other")
    other.killed_at("job.held")
    shutil.copy(other.state / "held.sealed", job.state / "held.sealed")
    code, why = job.refused()
    assert isinstance(why, SealError)
    assert (code, str(why)) == (1, "what is held here is of another job")


def test_a_held_state_of_other_code_or_another_machine(tmp_path: Path, job: Job) -> None:
    room = JobRoom(tmp_path)
    room.mesh.measurements["job"] = bytes(32)
    other = Job(room, tmp_path / "job", (job.root / "job.toml").read_bytes(), job.tables)
    shutil.copy(job.state / "held.sealed", other.state / "held.sealed")
    assert isinstance(other.refused()[1], SealError)
    room.close()


def test_another_plan_once_the_job_has_its_debit(room: JobRoom, study: Study) -> None:
    """The id is of that plan alone: other columns under the same noise are refused."""
    job = room.job(study, study.counting(), name="swapped")
    job.killed_at("job.granted")
    (job.root / "job.toml").write_bytes(study.counting(name="other"))
    before = room.uses(study)
    code, why = job.refused()
    assert isinstance(why, PolicyDenied)
    assert (code, why.rule, room.uses(study)) == (3, "job-again", before)


def test_another_plan_while_the_job_is_held(study: Study, job: Job) -> None:
    (job.root / "job.toml").write_bytes(study.counting(outputs={"aggregates": [A]}))
    for who in (A, B):
        (job.approvals / who).write_bytes(approval(job.out, who))
    code, why = job.refused()
    assert isinstance(why, SealError)
    assert (code, outputs(job.out)) == (1, set())


@pytest.mark.parametrize(
    ("raw", "said"), [(b"", "missing required field"), (b"\0[", "not valid TOML")]
)
def test_what_is_no_plan(room: JobRoom, study: Study, raw: bytes, said: str) -> None:
    job = room.job(study, study.counting(), name=f"plan-{len(raw)}")
    (job.root / "job.toml").write_bytes(raw)
    code, why = job.refused()
    assert isinstance(why, ConfigError)
    assert code == 2
    assert said in str(why)


class Tables:
    """What a host puts in the place of B's table, with all else as it is."""

    def __init__(self, study: Study, place: Path) -> None:
        self.study, self.path = study, place / "b.sealed"

    def of_another_owner(self) -> None:
        shutil.copy(self.study.paths[A], self.path)

    def missing(self) -> None:
        """Nothing is there."""

    def pipe(self) -> None:
        os.mkfifo(self.path)

    def clear(self) -> None:
        self.path.write_bytes(csv_of(self.study.columns[B]))

    def of_an_older_pin(self) -> None:
        """The same owner sealed it, under the same key and name, before."""
        self.study.seal(self.path, csv_of(records(seed=1)[B]), B)

    def cut(self) -> None:
        self.path.write_bytes(self.study.paths[B].read_bytes()[:-1])

    def changed(self) -> None:
        raw = bytearray(self.study.paths[B].read_bytes())
        raw[-40] ^= 1
        self.path.write_bytes(raw)

    def of_another_key(self) -> None:
        key, self.study.keys[B] = self.study.keys[B], Secret.random()
        self.study.seal(self.path, csv_of(self.study.columns[B]), B)
        self.study.keys[B] = key


BEFORE = ("of_another_owner", "missing", "pipe", "clear")
"""What shows without any key: it costs no use."""
INSIDE = ("of_an_older_pin", "cut", "changed", "of_another_key")


@pytest.mark.parametrize("what", [*BEFORE, *INSIDE])
def test_another_file_in_place_of_a_table(
    room: JobRoom, study: Study, tmp_path: Path, what: str
) -> None:
    getattr(Tables(study, tmp_path), what)()
    place = {f"{B}/{study.tables[B]}": tmp_path / "b.sealed"}
    job = room.job(study, study.counting(), name=what, **place)
    uses = room.uses(study)
    _, why = job.refused()
    assert f"{B}, table {study.tables[B]}" in str(why)
    cost = int(what in INSIDE)
    assert room.uses(study) == [uses[0] + cost, uses[1] + cost, uses[2]]
    assert (outputs(job.out), (job.state / "held.sealed").exists()) == (set(), False)
    job.tables |= study.by_place(B)
    job.killed_at("job.held")  # once the right file is there it goes on, by the same debit


def test_two_tables_changed_for_one_another(room: JobRoom, study: Study) -> None:
    paths = study.by_place(A, B)
    a, b = paths
    job = room.job(study, study.counting(), name="crossed", **{a: paths[b], b: paths[a]})
    uses = room.uses(study)
    _, why = job.refused()
    assert "the file is sealed as" in str(why)
    assert room.uses(study) == uses


@pytest.mark.parametrize("train", [{"l2": -1.0}, {"max_iterations": 0}, {"largest": 0.0}])
def test_a_parameter_that_no_trainer_takes_costs_no_use(
    room: JobRoom, train: dict[str, Any]
) -> None:
    """Owners who bound nothing would have paid for it."""
    study = room.study(f"parameters-{next(iter(train)).replace('_', '-')}", given=False)
    free = {
        "logistic-regression": {name: {"min": -9} for name in ("l2", "max_iterations", "largest")}
    }
    for owner in NAMES:
        room.give(study, owner, rule={"algorithms": free})
    plan = study.plan(train={"algorithm": "logistic-regression", "parameters": train})
    code, why = room.job(study, plan).refused()
    assert isinstance(why, ConfigError)
    assert code == 2
    assert f"parameter `{next(iter(train))}` is between" in str(why)
    assert room.uses(study) == [0, 0, 0]


def test_the_id_of_a_debit_that_the_host_made_up(room: JobRoom, study: Study) -> None:
    job = room.job(study, study.counting(), name="made-up")
    job.killed_at("job.granted")
    uses, kept = room.uses(study), job.state / "job"
    kept.write_text(kept.read_text()[:32] + "ab" * 16 + "\n")  # of this job's salt
    code, why = job.refused()
    assert isinstance(why, WardianError)
    assert (code, getattr(why, "rule", ""), room.uses(study)) == (3, "job-again", uses)
    kept.write_text("ab" * 32 + "\n")  # of no salt of this job: as if it were lost
    job.killed_at("job.granted")
    (job.state / "job").write_bytes(b"\xff" * 10)  # no id at all: as if it were lost
    job.killed_at("job.held")
    assert room.uses(study)[0] == uses[0] + 2
