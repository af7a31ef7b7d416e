"""A job's directory at its operator, and what `wardian job status` makes of what lies there."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_jobs import KEYS, NAMES, TABLES, job_table, toml

from wardian.cli.job.directory import JobDir
from wardian.cli.main import cli
from wardian.cli.state import StateDir
from wardian.errors import ConfigError, JobFailed

A, B, C = NAMES
PLAN = toml(job_table())


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    found = {f"{owner}/{TABLES[owner]}": tmp_path / f"{owner}.sealed" for owner in (A, B)}
    for path in found.values():
        path.write_bytes(b"sealed")
    return found


@pytest.fixture
def job(tmp_path: Path, tables: dict[str, Path]) -> JobDir:
    return JobDir.make(tmp_path / "job", plan=PLAN, tables=tables, mesh=tmp_path / "mesh")


def test_a_new_directory_is_its_user_s_alone_and_links_to_tables(
    job: JobDir, tables: dict[str, Path]
) -> None:
    assert job.root.stat().st_mode & 0o777 == 0o700
    assert (job.root / "job.toml").read_bytes() == PLAN
    for name, path in tables.items():
        assert (job.root / "tables" / f"{name}.sealed").resolve() == path
    assert {path.name for path in job.root.iterdir()} == {
        *("job.toml", "mesh", "tables", "approvals", "state", "out")
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({f"{B}/{TABLES[B]}": None}, f"where does the sealed table {B}/{TABLES[B]} lie"),
        ({f"{C}/visits": Path(__file__)}, f"--table: {C}/visits is not in the plan"),
        ({f"{A}/{TABLES[A]}": Path("/nowhere")}, "/nowhere is no file"),
        ({f"{A}/{TABLES[A]}": Path("/")}, "/ is no file"),
    ],
)
def test_wrong_tables_make_no_directory(
    tmp_path: Path, tables: dict[str, Path], changes: dict[str, Path | None], said: str
) -> None:
    given = {name: path for name, path in {**tables, **changes}.items() if path}
    with pytest.raises(ConfigError, match=said):
        JobDir.make(tmp_path / "job", plan=PLAN, tables=given, mesh=tmp_path)
    assert not (tmp_path / "job").exists()


def test_what_is_no_plan_makes_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        JobDir.make(tmp_path / "job", plan=b"x", tables={}, mesh=tmp_path)
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (("a/t=x", "a/t=y"), "--table a/t: is named twice"),
        (("a=x",), "OWNER/TABLE=FILE was expected"),
        (("a/b/c=x",), "OWNER/TABLE=FILE was expected"),
        (("a/b=",), "OWNER/TABLE=FILE was expected"),
        ((), "where does the sealed table"),
    ],
)
def test_what_submit_is_told_of_tables(tmp_path: Path, tables: tuple[str, ...], said: str) -> None:
    (tmp_path / "job.toml").write_bytes(PLAN)
    options = [part for each in tables for part in ("--table", each)]
    place = tmp_path / "new"
    done = CliRunner().invoke(
        cli,
        [
            *("job", "submit", str(tmp_path / "job.toml"), *options),
            *("--state", str(tmp_path), "-d", str(place)),
        ],
    )
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
    assert not place.exists()


def test_every_job_has_a_directory_of_its_own(job: JobDir, tables: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        JobDir.make(job.root, plan=PLAN, tables=tables, mesh=job.root)
    assert (job.root / "job.toml").read_bytes() == PLAN


def test_a_directory_that_others_read_or_that_holds_no_job(job: JobDir, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no job was submitted there"):
        JobDir.open(tmp_path)
    job.root.chmod(0o755)
    with pytest.raises(ConfigError):
        JobDir.open(job.root)


def test_one_process_holds_a_job_and_those_who_look_hold_it_for_none(job: JobDir) -> None:
    assert not job.running
    with job.locked():
        assert job.running
        with pytest.raises(ConfigError, match="this job runs already"), job.locked():
            raise AssertionError
    with job.locked():
        pass
    assert not job.running


def test_links_that_lead_in_a_circle(job: JobDir, tables: dict[str, Path], tmp_path: Path) -> None:
    state = StateDir.open(tmp_path / "mesh")
    state.broker_address.write_text("127.0.0.1:7443\n")
    state.agreed.touch()
    assert set(tables.values()) < set(job.placement().reach.files)
    for path in tables.values():
        path.unlink()
        path.symlink_to(path)
    if sys.version_info < (3, 13):  # later ones resolve it, and the launcher cannot open it
        with pytest.raises(ConfigError, match="links lead in a circle"):
            job.placement()


def test_what_is_no_state_directory_is_named_as_the_mesh_and_stays_as_it_is(
    job: JobDir, tmp_path: Path
) -> None:
    private = tmp_path / "mesh"
    private.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="its mesh's state directory is not on this machine"):
        _ = job.mesh
    assert list(private.iterdir()) == []


def status(job: JobDir) -> tuple[str, str]:
    """Return what the command says, and why it fails, if it does."""
    done = CliRunner().invoke(cli, ["job", "status", str(job.root)])
    if isinstance(done.exception, JobFailed):
        return done.output, str(done.exception)
    assert done.exception is None, done.exception
    return done.output, ""


def say(job: JobDir, **fields: Any) -> None:
    said = {"format": "x", "job": "readmission-2026", "plan_digest": "00" * 32, **fields}
    (job.out / "status.json").write_text(json.dumps(said))


GOES_ON = "nothing runs it: `wardian job run"


def test_before_it_said_anything(job: JobDir) -> None:
    said, why = status(job)
    assert said == "readmission-2026\n"
    assert why.startswith(GOES_ON)
    with job.locked():
        assert status(job) == ("readmission-2026: begins\n", "")


def test_how_it_ended(job: JobDir) -> None:
    say(job, state="asking")
    job.ended.write_text(json.dumps({"exit_status": 3, "reason": "an owner refuses"}))
    said, why = status(job)
    assert said == "readmission-2026: asks the broker for its tables\n"
    assert why == "an owner refuses"
    job.ended.write_text(json.dumps({"exit_status": 137, "reason": None}))
    assert f"ended with status 137; see {job.log}" in status(job)[1]


def test_who_approved_is_told_by_name(job: JobDir) -> None:
    keys = [KEYS[name].public.hex() for name in NAMES]
    approvals = [{"needed": 2, "of": [*keys, "ab" * 32], "given": [keys[0], "ab" * 32]}]
    say(job, state="held", approvals=approvals, export_digest="cd" * 32, job_id="ef" * 32)
    said, why = status(job)
    assert f"approvals   2 of 2 ({A}, {'ab' * 32}), asked are {A}, {B}, {C}, {'ab' * 32}" in said
    assert "cd" * 32 in said
    assert why.startswith(GOES_ON)


def test_what_is_out(job: JobDir) -> None:
    say(job, state="exported", outputs=["model.hospital-a.sealed"])
    said, why = status(job)
    assert f"out         {job.out / 'model.hospital-a.sealed'}" in said
    assert why == ""


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(b"\xff" * 50),
    "deep": lambda path: path.write_bytes(b'{"x":' + b"[" * 200_000),
    "other types": lambda path: path.write_text('{"format": 1, "exit_status": "x"}'),
    "long": lambda path: path.write_bytes(b" " * (1024**2 + 1)),
    "directory": os.mkdir,
    "pipe": os.mkfifo,
    "loop": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_says_nothing_is_as_if_it_were_not_there(job: JobDir, what: str) -> None:
    for path in (job.out / "status.json", job.ended):
        HOSTILE[what](path)
    said, why = status(job)
    assert said == "readmission-2026\n"
    assert why.startswith(GOES_ON)


def test_what_a_terminal_would_obey_is_not_printed(job: JobDir) -> None:
    say(job, state="\x1b[2J", outputs=["\x1b]0;x\x07"], job_id="\x1b[31m")
    assert "\x1b" not in status(job)[0]
