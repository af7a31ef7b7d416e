"""`wardian job status`: how far a job is, by what its enclave and its process said last."""

from pathlib import Path
from typing import Any

import click
import msgspec

from wardian._internal import wire
from wardian._internal.settings import read
from wardian.cli.job.directory import JobDir
from wardian.cli.job.run import directory_argument
from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.learning.shared.outbox import STATUS


class _Approvals(msgspec.Struct, frozen=True, kw_only=True):
    needed: int
    of: list[str]
    given: list[str]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the job said of itself last."""

    format: str
    job: str
    plan_digest: str
    state: str
    simulated: bool = False
    job_id: str | None = None
    export_digest: str | None = None
    approvals: list[_Approvals] = []
    outputs: list[str] = []


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How its process ended, where it did not do its work."""

    exit_status: int
    reason: str | None


_WORDS = {
    "asking": "asks the broker for its tables",
    "running": "runs",
    "held": "has run; what came out is held until it is approved",
    "exported": "is done",
}


@click.command()
@directory_argument
@click.option("--json", "as_json", is_flag=True)
def status(*, directory: Path, as_json: bool) -> None:
    """Say how far the job in DIRECTORY is, who has to approve, and what came out.

    Ends with status 1 if it failed, or was stopped before it was done.
    """
    job = JobDir.open(directory)
    said, ended, running = _read(job.out / STATUS, Said), _read(job.ended, Ended), job.running
    if as_json:
        click.echo(wire.encode({"said": said, "ended": ended, "running": running}))
    else:
        for line in _lines(job, said, ended, running=running):
            click.echo(wire.printable(line))
    done = said is not None and said.state == "exported"
    if not done and not running:
        raise JobFailed(_failure(job, ended))


def _lines(job: JobDir, said: Said | None, ended: Ended | None, *, running: bool) -> list[str]:
    names = {party.key: name for name, party in job.plan.parties.items()}
    if said is None:
        return [f"{job.plan.name}: begins" if running and ended is None else job.plan.name]
    lines = [f"{said.job}: {_WORDS.get(said.state, said.state)}"]
    if said.simulated:
        lines.append("platform    SIMULATED: no hardware protects anything")
    if said.job_id:
        lines.append(f"job id      {said.job_id}")
    if said.export_digest:
        lines.append(f"export      {said.export_digest}")
    for each in said.approvals:
        given = ", ".join(names.get(key, key) for key in each.given) or "nobody"
        of = ", ".join(names.get(key, key) for key in each.of)
        lines.append(f"approvals   {len(each.given)} of {each.needed} ({given}), asked are {of}")
    if said.state == "exported":
        lines += [f"out         {job.out / name}" for name in said.outputs]
    return lines


def _failure(job: JobDir, ended: Ended | None) -> str:
    if ended is None:
        return f"nothing runs it: `wardian job run {job.root}` goes on"
    return ended.reason or f"its process ended with status {ended.exit_status}; see {job.log}"


def _read(path: Path, kind: Any) -> Any:
    """Return what the file says; None if there is none, or it says nothing that can be read."""
    try:
        return wire.decode(read(path), kind, what=path.name)
    except (ConfigError, FormatError):
        return None
