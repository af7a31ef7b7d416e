"""The process of one job of shared learning: tables in, sealed outputs out, and then it ends.

It may be killed at any step and started again. Before it trained it asks for its tables by the id
of the debit that it had; after that it goes on from what it sealed, and asks for nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

from wardian._internal import settings
from wardian._internal.agreed import Agreed
from wardian._internal.clock import unix_time
from wardian.attestation.quotes.quote import parse_quote
from wardian.broker.exports.client import tell_export
from wardian.broker.exports.exported import Exported
from wardian.broker.jobs.plan import load_plan
from wardian.broker.tables.client import obtain_tables
from wardian.broker.tables.granted import GrantedTables
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError
from wardian.learning.shared.approvals import MAX_APPROVAL_BYTES, verify_approvals
from wardian.learning.shared.fixed import Content, digest_of, look_through
from wardian.learning.shared.keeping import Held, JobKeeper
from wardian.learning.shared.outbox import Outbox, report_evidence_data
from wardian.learning.shared.ready import refuse_unready
from wardian.learning.shared.running import Finished, run_job
from wardian.learning.shared.tables import SealedTable
from wardian.learning.shared.telling import export_statement
from wardian.learning.shared.trial import try_job
from wardian.roles import start
from wardian.roles.asking import Addresses, patiently
from wardian.roles.enclave_sealing import EnclaveSealing
from wardian.roles.host import Address, HostSettings, JobPlace
from wardian.tee.backend import Enclave

ROLE: Final = "job"
POLL_S: Final = 0.5
"""How often it looks for approvals."""
T = TypeVar("T")
MOST_APPROVALS: Final = 1024
"""Files that it looks at; parties are 64 at most."""


def main(enclave: Enclave) -> int:
    """Run one job until its outputs are out; return the exit status of the process."""
    return start.run(
        enclave,
        ROLE,
        lambda host, agreed: _Job(enclave, host, agreed).run(),
        kind=Agreed,
        trials={"trainers": lambda host: try_job(Path(_place(host).store))},
    )


def _place(host: HostSettings) -> JobPlace:
    if host.job is None:
        raise ConfigError("host settings: a job needs to be told where its plan and tables lie")
    return host.job


class _Job:
    """One job, step by step. No step begins before what the one before left is on the disk."""

    def __init__(self, enclave: Enclave, host: HostSettings, agreed: Agreed) -> None:
        place = _place(host)
        self._enclave, self._agreed, self._place = enclave, agreed, place
        self._addresses = Addresses(host.brokers)
        self._plan = load_plan(settings.read(Path(place.plan)), name="the job's plan")
        self._outbox = Outbox(Path(place.out), plan=self._plan, simulated=enclave.simulated)
        self._keeper = JobKeeper(
            Path(place.store), plan=self._plan, sealing=EnclaveSealing(enclave)
        )

    def run(self) -> None:
        """Do all of it.

        Raises:
            AdmissionRefused: an owner refuses the job, or what comes out of it.
            PolicyDenied: the join or a cohort is too small.
            WardianError: see `run_job` and `obtain_tables`.
        """
        held = self._keeper.load()
        if held is None:
            held = self._trained()
            self._keeper.keep(held)
        finished = held.finished
        self._outbox.show_report(finished, attest=self._enclave.evidence)
        approved = self._approved(finished)
        self._outbox.give(finished, approved, told=self._told(held, approved))
        self._enclave.announce("job.exported", export=finished.held.digest.hex())

    def _trained(self) -> Held:
        files = {name: Path(path) for name, path in self._place.tables.items()}
        refuse_unready(self._plan, files)
        contents = self._looked_through(files)
        self._outbox.say("asking")
        granted = self._granted(contents)
        self._keeper.keep_id(granted.job_id)
        self._enclave.announce("job.granted", job=granted.job_id.hex())
        self._outbox.say("running", job=granted.job_id)
        serving = Secret.random() if self._plan.outputs.serving else None
        try:
            finished = run_job(
                self._plan,
                granted.tables,
                granted.terms,
                self._tables(granted, files, contents),
                job_id=granted.job_id,
                seed=granted.noise_seed,
                measurement=self._measurement(),
                serving=serving,
            )
            masked = None if serving is None else granted.mask(serving)
        finally:
            granted.wipe()
            if serving is not None:
                serving.wipe()
        return Held(finished=finished, serving=masked, broker=granted.broker)

    def _looked_through(self, files: Mapping[str, Path]) -> Mapping[str, Content]:
        """Return what the files are, if noise is to hide what the job tells of them.

        Then no other ones are read for the debit that is asked for.
        """
        if self._plan.privacy is None:
            return {}
        places = [f"{used.owner}/{used.table}" for used in self._plan.inputs]
        return {place: look_through(files[place], where=place) for place in places}

    def _granted(self, contents: Mapping[str, Content]) -> GrantedTables:
        """Return the tables' keys, once a broker is there and has a manifest."""
        salt = self._keeper.salt(digest_of(contents) if contents else b"")
        again = self._keeper.job_id(salt)
        return self._asked(
            lambda address: obtain_tables(
                address,
                self._plan,
                agreed=self._agreed,
                attest=self._enclave.evidence,
                tee=self._enclave.name,
                now=unix_time,
                salt=salt,
                again=again,
            )
        )

    def _told(self, held: Held, approved: frozenset[str]) -> Exported:
        """Return that the broker has written down what leaves; before that nothing does."""
        statement = export_statement(held.finished, approved, serving=held.serving)
        return self._asked(
            lambda address: tell_export(
                address,
                self._plan,
                statement,
                key=held.serving,
                agreed=self._agreed,
                attest=self._enclave.evidence,
                tee=self._enclave.name,
                now=unix_time,
                known=held.broker,
            )
        )

    def _asked(self, ask: Callable[[Address], Awaitable[T]]) -> T:
        """Return what a broker answers, once one is there."""

        async def answer() -> T:
            return await patiently(lambda: self._addresses.first(ask))

        return asyncio.run(answer())

    def _tables(
        self,
        granted: GrantedTables,
        files: Mapping[str, Path],
        contents: Mapping[str, Content],
    ) -> list[SealedTable]:
        """Return where each table of the plan lies, as the host says, with its key and pin."""
        found = []
        for used in self._plan.inputs:
            place = f"{used.owner}/{used.table}"
            key = granted.table(self._plan.parties[used.owner].key, used.table)
            found.append(
                SealedTable(
                    owner=used.owner,
                    name=used.table,
                    path=files[place],
                    pin=key.pin,
                    key=key.key,
                    content=contents.get(place),
                )
            )
        return found

    def _measurement(self) -> str:
        """Return this code's measurement, in hex, for people; evidence proves it."""
        quote = self._enclave.evidence(report_evidence_data(b"")).quote
        return parse_quote(quote).report.measurement.hex()

    def _approved(self, finished: Finished) -> frozenset[str]:
        """Return who approved, once those are enough; until then nothing leaves."""
        held, told = finished.held, None
        while True:
            approved = verify_approvals(
                self._approvals(),
                held.terms.approvals,
                export=held.digest,
                mesh=self._plan.mesh,
            )
            if held.terms.approved_by(approved):
                return approved
            if approved != told:
                told = approved
                self._outbox.say("held", finished=finished, approved=approved)
                self._enclave.announce("job.held", export=held.digest.hex(), given=len(approved))
            time.sleep(POLL_S)

    def _approvals(self) -> Iterator[bytes]:
        """Yield the files that the host brought, whatever they are."""
        folder = Path(self._place.approvals)
        try:
            names = sorted(folder.iterdir())[:MOST_APPROVALS]
        except OSError:
            return
        for path in names:
            with contextlib.suppress(ConfigError):
                yield settings.read(path, limit_bytes=MAX_APPROVAL_BYTES)
