"""`wardian job submit` and `wardian job run`: one job, from its plan to what comes out."""

import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.files import replace_file
from wardian._internal.log import Field
from wardian._internal.settings import read
from wardian.broker.jobs.plan import load_plan
from wardian.cli import processes
from wardian.cli.engines.command_line import passed_on
from wardian.cli.job.directory import JobDir
from wardian.cli.main import exit_status
from wardian.cli.mesh.files import existing
from wardian.errors import ConfigError, WardianError
from wardian.tee.launch.launcher import print_announcement
from wardian.tee.launch.lifeline import Lifeline

ROLE = "job"
POLL_S = 0.05
directory_argument = click.argument(
    "directory", type=click.Path(path_type=Path, file_okay=False, exists=True)
)


@click.command()
@click.argument("plan", type=existing)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="OWNER/TABLE=FILE",
    help="Where a sealed table of the plan lies.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(".wardian"),
    show_default=True,
    help="The state directory of the mesh.",
)
@click.option(
    "-d",
    "--directory",
    type=click.Path(path_type=Path),
    help="A new directory for the job; default: jobs/NAME in the state directory.",
)
@click.option("--wait", is_flag=True, help="Run it in the foreground.")
def submit(
    *, plan: Path, tables: tuple[str, ...], state: Path, directory: Path | None, wait: bool
) -> None:
    """Run the job in PLAN over sealed tables, in an enclave that their owners' policies name.

    Its keys come from the broker, if every owner allows exactly this plan. What comes out is sealed
    to its recipients. If the machine stops, `wardian job run DIRECTORY` goes on.

    \b
    wardian job submit job.toml --table hospital-a/records=records.sealed \\
        --table hospital-b/claims=claims.sealed
    """  # noqa: D301 (click reads the character \b, not a backslash)
    raw = read(plan)
    name = _name_of(raw, plan)
    place = directory or state / "jobs" / name
    made = JobDir.make(place, plan=raw, tables=_by_place(tables), mesh=state)
    click.echo(f"{made.root}: submitted")
    if wait:
        sys.exit(status_of(made))
    _start(made)
    click.echo(f"wardian job status {place}")


@click.command()
@directory_argument
@click.option(
    "--lifeline",
    callback=lambda _context, _option, text: None if text is None else Lifeline.parse(text),
    hidden=True,
)
def run(*, directory: Path, lifeline: Lifeline | None) -> None:
    """Run the submitted job in DIRECTORY in the foreground, or go on with it.

    It is safe to stop at any moment. A job that had its tables asks for them by the id of that
    release: owners' budgets are not spent again, since its noise is the same.
    """
    sys.exit(status_of(JobDir.open(directory), lifeline=lifeline))


def status_of(job: JobDir, *, lifeline: Lifeline | None = None) -> int:
    """Run `job` here; return the exit status, and write down how it ended if that is not 0."""
    with job.locked():
        reason: list[str] = []

        def told(event: str, fields: Mapping[str, Field]) -> None:
            if event == "failed":
                reason[:] = [str(fields.get("reason"))]
            print_announcement(event, fields)

        job.ended.unlink(missing_ok=True)
        try:
            placement = job.placement()
            status = processes.status_of(ROLE, job.mesh, placement, lifeline=lifeline, told=told)
        except WardianError as err:  # it did not even begin
            _write_ended(job, exit_status(err), str(err))
            raise
        if status:
            _write_ended(job, status, reason[0] if reason else None)
        return status


def _write_ended(job: JobDir, status: int, reason: str | None) -> None:
    said = {"exit_status": status, "reason": reason}
    replace_file(job.ended, wire.encode(said) + b"\n")


def _start(job: JobDir) -> None:
    """Start `wardian job run` in a session of its own, and return once it has begun."""
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            (sys.executable, "-P", "-m", "wardian.cli", "job", "run", str(job.root)),
            env=passed_on(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not job.running and process.poll() is None:
        time.sleep(POLL_S)


def _name_of(raw: bytes, path: Path) -> str:
    return load_plan(raw, name=str(path)).name


def _by_place(tables: Iterable[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in map(_table, tables):
        if name in found:
            raise ConfigError(f"--table {name}: is named twice")
        found[name] = path
    return found


def _table(text: str) -> tuple[str, Path]:
    found = re.fullmatch(r"([^/=]+/[^/=]+)=(.+)", text)
    if found is None:
        raise ConfigError(f"--table {text}: OWNER/TABLE=FILE was expected")
    return found[1], Path(found[2])
