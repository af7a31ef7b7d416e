"""Jobs of shared learning in this process, at a broker on loopback: as the role runs them.

Here a job is stopped between any two of its steps, and a decision is asked for in milliseconds. The
enclave is a toy; all that it does is evidence, a sealing key and words to its host.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hospital_study import KEYS, HospitalMesh, Study
from simulators.broker_enclave import BrokerEnclave, Machine
from toy_mesh import MASTER_KEY, Counter, digest
from typing_extensions import override

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.broker.jobs.policy import table_place
from wardian.broker.limits import ServiceLimits
from wardian.broker.owners.client import provision
from wardian.broker.owners.goods import goods_of
from wardian.broker.service import BrokerService
from wardian.broker.state.audit import AuditEntry, verify_chain
from wardian.broker.state.store import Store
from wardian.broker.tables.kept import TableRecord, Tables
from wardian.errors import WardianError
from wardian.roles.host import HostSettings, JobPlace
from wardian.roles.job import _Job
from wardian.roles.start import exit_status
from wardian.tee.launch.simulation import generate_platform

T = TypeVar("T")
PATIENT = ServiceLimits(
    visit_burst=10**6,
    quote_burst=10**6,
    peer_quote_burst=10**5,
    line_burst=10**6,
    judged_burst=10**6,
)
"""Here one process is every owner and every job."""


class Killed(BaseException):
    """The job's process was killed."""


class JobEnclave(BrokerEnclave):
    """The enclave of one job. Its host may do something at every word, and kill it there."""

    def __init__(self, mesh: HospitalMesh, host: HostSettings) -> None:
        super().__init__(mesh, Machine(mesh.platform), measurement=mesh.measurements["job"])
        self.host = host
        self.at: Callable[[str, dict[str, Any]], None] = lambda _event, _fields: None
        """What the host does as it is told something."""

    @override
    def host_settings(self) -> bytes:
        return wire.encode(self.host)

    @override
    def announce(self, event: str, **fields: Any) -> None:
        super().announce(event, **fields)
        self.at(event, fields)


class Job:
    """One job's directory, and its process, again and again."""

    def __init__(self, room: "JobRoom", root: Path, plan: bytes, tables: dict[str, Path]) -> None:
        self.room, self.root, self.tables = room, root, tables
        for name in ("state", "out", "approvals"):
            (root / name).mkdir(parents=True)
        (root / "job.toml").write_bytes(plan)
        self.said: list[str] = []

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def approvals(self) -> Path:
        return self.root / "approvals"

    def run(self, at: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        """Run it as its role does, or go on with it."""
        place = JobPlace(
            plan=str(self.root / "job.toml"),
            tables={name: str(path) for name, path in self.tables.items()},
            store=str(self.state),
            out=str(self.out),
            approvals=str(self.approvals),
        )
        enclave = JobEnclave(self.room.mesh, HostSettings(brokers=(self.room.address,), job=place))
        if at is not None:
            enclave.at = at
        try:
            _Job(enclave, enclave.host, self.room.mesh.agreed).run()
        finally:
            self.said += [event for event, _ in enclave.announced]

    def killed_at(self, event: str) -> dict[str, Any]:
        """Run it until it announces `event`, and kill it there; return what it said."""
        found: list[dict[str, Any]] = []

        def kill(said: str, fields: dict[str, Any]) -> None:
            if said == event:
                found.append(fields)
                raise Killed

        try:
            self.run(kill)
        except Killed:
            return found[0]
        raise AssertionError(f"it never said {event}")

    def refused(self) -> tuple[int, WardianError]:
        """Run it; return the exit status that its process ends with, and why."""
        try:
            self.run()
        except WardianError as err:
            return exit_status(err), err
        raise AssertionError("it was not refused")


class JobRoom:
    """A mesh, its broker in a thread, and jobs."""

    def __init__(self, place: Path, **measurements: bytes) -> None:
        self.place = place
        self.mesh = HospitalMesh(
            generate_platform(),
            {role: digest(role) for role in ("broker", "worker", "job")} | measurements,
        )
        self.counter, self.address = Counter(), ("127.0.0.1", 0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()
        self.provision()

    def start(self) -> None:
        """Start a broker on the state that there is; at the same port as before."""
        self.address = self.wait(self._begin(self.address[1]))

    async def _begin(self, port: int) -> tuple[str, int]:
        store = Store(self.place / "broker.db", master_key=MASTER_KEY, counter=self.counter.seam)
        self.service = BrokerService(
            store=store,
            attest=self.mesh.attest("broker"),
            agreed_toml=self.mesh.agreed_toml,
            clock=unix_time,
            limits=PATIENT,
        )
        await self.service.__aenter__()
        return await self.service.start("127.0.0.1", port)

    def stop(self) -> None:
        """End the broker."""
        self.wait(self.service.__aexit__(None, None, None))

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def provision(self, **changes: Any) -> None:
        """Put the manifest in force; with `changes` another one."""
        signed = self.mesh.signed(**changes)
        self.wait(
            provision(
                self.address,
                owner=self.mesh.owners[0],
                demands=self.mesh.demands,
                manifest=signed,
                goods=goods_of(()),
                now=unix_time,
            )
        )
        self.mesh.in_force(signed)

    def study(self, name: str = "s", *, given: bool = True, **more: Any) -> Study:
        """Return a study of tables that no job had yet; its policies are in force."""
        study = Study(self.place / "studies" / name, self.mesh, name=name, **more)
        if given:
            for owner in study.tables:
                self.give(study, owner)
        return study

    def give(self, study: Study, owner: str, **changes: Any) -> None:
        self.wait(study.give(self.address, owner, study.policy(owner, **changes)))

    def job(
        self, study: Study, plan: bytes | None = None, *, name: str = "job", **tables: Path
    ) -> Job:
        return Job(
            self,
            self.place / "jobs" / study.name / name,
            plan or study.plan(),
            {**study.by_place(*study.tables), **tables},
        )

    def record(self, study: Study, owner: str) -> TableRecord:
        """Return what the broker counted of a table."""

        async def found() -> TableRecord | None:
            authority = self.service.authority
            tables = Tables(
                authority.store, authority.clock, mesh=authority.mesh, policies=authority.policies
            )
            return tables.record(table_place(KEYS[owner].public.hex(), study.tables[owner]))

        record = self.wait(found())
        assert record is not None
        return record

    def uses(self, study: Study) -> list[int]:
        """Return how often each table's key left, in the order of owners."""
        return [self.record(study, owner).uses for owner in study.tables]

    def lines(self, event: str) -> list[AuditEntry]:
        """Return the audit log's lines of this event."""

        async def found() -> list[AuditEntry]:
            store = self.service.authority.store
            chain = verify_chain(store.audit_lines(limit=10_000), head=store.audit_head)
            return [each.entry for each in chain if each.entry.event == event]

        return self.wait(found())
