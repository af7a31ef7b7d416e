"""The status file of a mesh on one machine: written by `wardian up`, read by `wardian status`."""

import contextlib

import msgspec

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian._internal.files import replace_file
from wardian.cli.state import StateDir
from wardian.engines import ProcessStatus, WorkerStatus


class ProcessRow(msgspec.Struct, frozen=True):
    """One process; `pid` is that of its launcher, on the machine that is its `place`."""

    name: str
    state: str
    pid: int | None
    starts: int
    exit_status: int | None
    place: str = ""


class MeshStatus(msgspec.Struct, frozen=True):
    """What `wardian up` knew last."""

    at: int
    state: str
    url: str = ""
    tee: str = ""
    processes: tuple[ProcessRow, ...] = ()


def row_of(process: ProcessStatus | WorkerStatus) -> ProcessRow:
    """Return the row of `process`."""
    return ProcessRow(
        name=process.name,
        state=process.state,
        pid=process.pid,
        starts=process.starts,
        exit_status=process.exit_status,
        place=process.place if isinstance(process, WorkerStatus) else "",
    )


def write_status(
    place: StateDir, state: str, *, url: str = "", processes: tuple[ProcessRow, ...] = ()
) -> None:
    """Leave the status in its file; a full disk costs the file its newest state, no more."""
    tee = "SIMULATED" if processes else ""
    status = MeshStatus(at=unix_time(), state=state, url=url, tee=tee, processes=processes)
    with contextlib.suppress(OSError):
        replace_file(place.status, wire.encode(status))
