"""A broker and jobs as users start them: `wardian broker`, `wardian job run`, in processes.

The two roles are built once a session, and every test has tables of its own at the one broker.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from consortium_process import Process
from hospital_study import A, B, HospitalMesh, Study
from toy_mesh import digest

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian._internal.files import replace_file
from wardian.broker.owners.client import provision
from wardian.broker.owners.goods import goods_of
from wardian.cli.broker_addresses import broker_addresses
from wardian.cli.job.directory import JobDir
from wardian.cli.main import cli, exit_status
from wardian.cli.state import StateDir
from wardian.errors import WardianError
from wardian.tee.launch.simulation import open_platform
from wardian.tee.manifest.builder import Builder

PATIENCE_S = 90.0


class JobProcess(Process):
    """`wardian job run DIRECTORY`, and what it announces."""

    def said(self) -> list[dict[str, Any]]:
        whole, _, _ = self.text.rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if "time" not in line]

    def announced(self, event: str, *, after: int = 0) -> dict[str, Any]:
        """Return what it says, past the first `after` words of its log, once it has said it."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for line in self.said()[after:]:
                if line["event"] == event:
                    return line
            assert self.process.poll() is None, self.text[-2000:]
            time.sleep(0.01)
        raise AssertionError(f"no {event}: {self.text[-2000:]}")

    def ended(self) -> int:
        """Return the status that it ends with."""
        return self.process.wait(PATIENCE_S)


class TablesMesh:
    """The hospitals' mesh on this machine."""

    def __init__(self, place: Path) -> None:
        self.place, self.state = place, StateDir.open(place / "mesh")
        self.processes: list[Process] = []
        platform = open_platform(self.state.simulation)
        self.mesh = HospitalMesh(platform, {"worker": digest("worker")})
        self.state.agreed.write_bytes(self.mesh.agreed_toml)
        builder = Builder(self.state.enclave, deployment=self.mesh.agreed_toml)
        for role in ("broker", "job"):
            self.mesh.measurements[role] = builder.build(role).mr_enclave
        self.state.manifest.write_bytes(wire.encode(self.mesh.signed()))
        self.broker = Process(place / "broker.log", "broker", "--state", self.state.root)
        self.processes.append(self.broker)
        self.await_broker()
        signed = self.mesh.signed()
        asyncio.run(
            provision(
                self.address,
                owner=self.mesh.owners[0],
                demands=self.mesh.demands,
                manifest=signed,
                goods=goods_of(()),
                now=unix_time,
            )
        )

    @property
    def address(self) -> tuple[str, int]:
        ((host, port),) = broker_addresses(self.state, self.state.load_operator())
        return host, port

    def await_broker(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while not self.state.broker_address.exists():
            assert self.broker.process.poll() is None, self.broker.log.read_text()
            assert time.monotonic() < until, self.broker.log.read_text()
            time.sleep(0.02)

    def start_broker(self) -> None:
        """Start the broker that was killed, at the same port."""
        port = self.address[1]
        self.state.operator.write_text(f"[broker]\nport = {port}\n")
        self.state.broker_address.unlink()
        self.broker.start()
        self.await_broker()
        self.state.operator.unlink()  # jobs find it by what it wrote down

    @contextlib.contextmanager
    def by_way_of(self, port: int) -> Iterator[None]:
        """Let jobs find the broker at another port."""
        kept = self.state.broker_address.read_bytes()
        replace_file(self.state.broker_address, f"127.0.0.1:{port}\n".encode())
        try:
            yield
        finally:
            replace_file(self.state.broker_address, kept)

    def study(self, name: str, *owners: str, **more: Any) -> Study:
        """Return a study of tables that no job had yet; policies of `owners` are in force."""
        study = Study(self.place / "studies" / name, self.mesh, name=name, **more)
        for owner in owners:
            self.give(study, owner)
        return study

    def give(self, study: Study, owner: str, **changes: Any) -> Any:
        """Put a policy in force, and return what was counted until then."""
        with_key = not changes.get("revoked")
        policy = study.policy(owner, **changes)
        return asyncio.run(study.give(self.address, owner, policy, with_key=with_key))

    def counted(self, study: Study, owner: str, **same: Any) -> tuple[int, str]:
        """Return uses and epsilon so far; `same` is the policy that is in force."""
        held = self.give(study, owner, **same)
        return held.uses, held.epsilon

    def job(self, study: Study, plan: bytes | None = None, *, name: str = "job") -> JobDir:
        return JobDir.make(
            self.place / "jobs" / study.name / name,
            plan=plan or study.counting(),
            tables=study.by_place(A, B),
            mesh=self.state.root,
        )

    def run(self, job: JobDir) -> JobProcess:
        """Start the process of a job, or start it again."""
        found = JobProcess(job.root.with_suffix(".log"), "job", "run", job.root)
        self.processes.append(found)
        return found

    def end(self) -> None:
        for each in self.processes:
            if each.process.poll() is None:
                each.kill()


@dataclass(frozen=True)
class Said:
    """What a command said, and what it ended with."""

    status: int
    output: str
    error: str


def command(*words: object) -> Said:
    """Return what `wardian WORDS` says and ends with, in this process."""
    done = CliRunner().invoke(cli, list(map(str, words)))
    if isinstance(done.exception, WardianError):
        return Said(exit_status(done.exception), done.output, str(done.exception))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Said(done.exit_code, done.output, "")


def pids_of(process: Process) -> list[int]:
    """Return a launcher and all that it started."""
    from mesh import children_of

    found = [process.process.pid]
    for pid in found:
        found += children_of(pid)
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
