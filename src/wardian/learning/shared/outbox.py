"""The directory that a job shows to its host: how far it is, its report, and what leaves.

status.json                what the host may know, for `wardian job status`
report.json, report.html   what was done, for people; `report.evidence` vouches for the first
OUTPUT.PARTY.sealed        what leaves, sealed to each recipient, once it may
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal

from wardian._internal import wire
from wardian._internal.files import replace_file, sync_directory
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.broker.exports.exported import Exported
from wardian.broker.exports.statement import ExportStatement
from wardian.broker.jobs.plan import JobPlan, plan_digest
from wardian.broker.transparency.cosigning import WitnessedHead
from wardian.errors import SealError
from wardian.learning.shared.report import as_html, as_json
from wardian.learning.shared.running import Finished

STATUS: Final = "status.json"
REPORT: Final = "report.json"
REPORT_PAGE: Final = "report.html"
EXPORTED: Final = "exported.json"
EVIDENCE: Final = "report.evidence"
FORMAT: Final = "wardian job status v1"
State = Literal["asking", "running", "held", "exported"]
_USE: Final = b"report"


class ExportRecord(wire.Message, frozen=True, tag_field="format", tag="wardian job export v1"):
    """What the broker has written down of what came out, for owners."""

    statement: ExportStatement
    log: WitnessedHead
    """The audit log with the export's own lines."""


def report_evidence_data(report: bytes) -> bytes:
    """Return the 64 bytes that a job's evidence about its report binds.

    No nonce: the evidence says that this code made this report, whenever that was. It is none for a
    broker, whose sessions bind more parts.

    Args:
        report: the JSON, exact bytes.
    """
    return bind(Purpose.JOB, _USE, hashlib.sha256(report).digest())


class Outbox:
    """What one job puts in the directory."""

    __slots__ = ("_place", "_plan", "_simulated")

    def __init__(self, place: Path, *, plan: JobPlan, simulated: bool) -> None:
        """Put what the job `plan` shows in the directory `place`, which is there.

        Each status says whether the enclave is `simulated`.
        """
        self._place, self._plan, self._simulated = place, plan, simulated

    def say(
        self,
        state: State,
        *,
        job: bytes | None = None,
        finished: Finished | None = None,
        approved: Iterable[str] = (),
    ) -> None:
        """Say how far the job is.

        Args:
            state: `asking` the broker for its tables, `running`, `held` until it is approved,
                `exported`.
            job: the id of its debit.
            finished: what came out.
            approved: who approved that: public keys in hex.
        """
        said: dict[str, Any] = {
            "format": FORMAT,
            "job": self._plan.name,
            "plan_digest": plan_digest(self._plan).hex(),
            "state": state,
            "simulated": self._simulated,
        }
        if job is not None:
            said["job_id"] = job.hex()
        if finished is not None:
            given = frozenset(approved)
            said["job_id"] = finished.report["job_id"]
            said["export_digest"] = finished.held.digest.hex()
            said["approvals"] = [
                {
                    "needed": each.needed,
                    "of": sorted(each.of),
                    "given": sorted(each.of & given),
                }
                for each in sorted(finished.held.terms.approvals, key=lambda one: sorted(one.of))
            ]
            said["outputs"] = [each.file_name for each in finished.held.outputs]
        self._write(STATUS, wire.encode(said) + b"\n")

    def show_report(self, finished: Finished, *, attest: Callable[[bytes], Evidence]) -> None:
        """Write the report, with evidence that this code made it.

        Args:
            finished: a job that ran.
            attest: makes this process's evidence over 64 bytes.
        """
        raw = as_json(finished.report)
        self._write(REPORT, raw)
        self._write(EVIDENCE, wire.encode(attest(report_evidence_data(raw))))
        self._write(REPORT_PAGE, as_html(finished.report))

    def give(self, finished: Finished, approved: frozenset[str], *, told: Exported) -> None:
        """Write every sealed output, once `approved` are enough; see `HeldOutputs.release`.

        Args:
            finished: a job that ran.
            approved: who approved what came out: public keys in hex.
            told: that the broker knows of it.
        """
        record = ExportRecord(statement=told.statement, log=told.witnessed)
        self._write(EXPORTED, wire.encode(record) + b"\n")
        for name, content in finished.held.release(approved).items():
            self._write(name, content)
        self.say("exported", finished=finished, approved=approved)

    def _write(self, name: str, content: bytes) -> None:
        try:
            replace_file(self._place / name, content, sync=True)
            sync_directory(self._place)
        except OSError as err:
            raise SealError(f"{name} of the job cannot be written: {err.strerror}") from err
