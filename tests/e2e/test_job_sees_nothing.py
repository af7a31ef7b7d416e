"""What a job's host sees of owners' tables in the clear: nothing; and who opens what comes out.

The host carries every byte to the broker, keeps every file that ever was in the job's directory or
where it may make temporary ones, kills the job twice, and reads logs, arguments and environments.
"""

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canaries import contents, surroundings
from hospital_study import (
    PRIVATE,
    A,
    B,
    C,
    Study,
    identity_file,
    key_file,
    opened,
    outputs,
    records,
    status,
)
from learning_canaries import Canary, leaks
from simulators.relay import RelayThread
from simulators.watched_directory import WatchedDirectory
from tables_mesh import TablesMesh, command, pids_of
from toy_jobs import NAMES

from wardian.cli.job.directory import JobDir
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, open_bytes
from wardian.errors import CryptoError

COUNTS = [f"aggregates.{A}.sealed", f"aggregates.{B}.sealed"]
RULE = {"output": {"approvals": {"needed": 2, "of": list(NAMES)}}}


def tables() -> dict[str, dict[str, list[Any]]]:
    """Return the tables with identifiers and a column of text that nothing else is like."""
    found = records(seed=20)
    for owner in (A, B):
        found[owner]["patient"] = [
            each.replace("p", "PATIENT-CANARY-5f1b-") for each in found[owner]["patient"]
        ]
        found[owner]["note"] = [f"NOTE-CANARY-{owner}-{row:03}-77" for row in range(48)]
    return found


@dataclass(frozen=True)
class Seen:
    """What the host saw, and what it must not have."""

    canaries: dict[str, Canary]
    study: Study
    job: JobDir
    wire: RelayThread
    files: WatchedDirectory
    around: bytes
    """Environments, command lines and logs."""
    told: bytes
    """What commands and announcements say."""
    kept: bytes
    """The broker's own files."""


@pytest.fixture(scope="module")
def seen(tables_mesh: TablesMesh, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    place = tmp_path_factory.mktemp("seen")
    columns = tables()
    study = tables_mesh.study("seen", columns=columns)
    for owner in (A, B):
        tables_mesh.give(study, owner, rule=RULE)
    (place / "tmp").mkdir()
    relay = RelayThread(tables_mesh.address[1])
    with (
        WatchedDirectory(place, place.with_name(f"{place.name}-vault")) as files,
        tables_mesh.by_way_of(relay.port),
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setenv("TMPDIR", str(place / "tmp"))
        job = JobDir.make(
            place / "job",
            plan=study.counting(),
            tables=study.by_place(A, B),
            mesh=tables_mesh.state.root,
        )
        process = tables_mesh.run(job)
        process.announced("job.granted")
        process.kill()
        process.start()
        around, until = b"", time.monotonic() + 30
        while b"bootstrap" not in around and time.monotonic() < until:  # the enclave's own process
            around += surroundings(pids_of(process))
        process.announced("job.held")
        around += surroundings(pids_of(process))
        told = said_of(job)
        process.kill()
        process.start()
        for who in (A, C):
            mine = ("--state", tables_mesh.state.root, "--key", key_file(place, who))
            assert command("job", "approve", job.root, *mine).status == 0
        assert process.ended() == 0, process.text
        told += said_of(job) + json.dumps(process.said()).encode()
    relay.stop()
    return Seen(
        canaries=canaries_of(study, job),
        study=study,
        job=job,
        wire=relay,
        files=files,
        around=around + process.log.read_bytes() + tables_mesh.broker.log.read_bytes(),
        told=told,
        kept=contents(tables_mesh.state.store.parent),
    )


def said_of(job: JobDir) -> bytes:
    words = [("status",), ("status", "--json"), ("report",), ("report", "--json")]
    state = {"report": ("--state", job.mesh.root)}
    said = [command("job", name, job.root, *more, *state.get(name, ())) for name, *more in words]
    page = job.out / "report.html"
    shown = [page.read_text()] if page.exists() else []
    return "".join([each.output + each.error for each in said] + shown).encode()


def canaries_of(study: Study, job: JobDir) -> dict[str, Canary]:
    found: dict[str, Canary] = {}
    for owner in (A, B):
        found[f"key/{owner}"] = study.keys[owner].reveal()
        columns = study.columns[owner]
        for row in (0, 20, 47):
            found[f"patient/{owner}/{row}"] = columns["patient"][row]
            found[f"note/{owner}/{row}"] = columns["note"][row]
    for owner, names in ((A, ("age", "bmi")), (B, ("cost",))):
        for name in names:
            found[f"values/{owner}/{name}"] = np.array(study.columns[owner][name])
    clear = opened(job.out, COUNTS[0], PRIVATE[A])
    assert clear is not None
    for line in clear.decode().splitlines()[1:]:
        name, _, moments = line.split(",", 2)  # six digits of each: too few to look for one alone
        found[f"moments/{name}"] = moments
    return found


def test_nothing_on_the_wire(seen: Seen) -> None:
    assert leaks(seen.wire.relay.seen, seen.canaries) == set()


def test_nothing_in_any_file_that_ever_was(seen: Seen) -> None:
    assert leaks(seen.files.contents(), seen.canaries) == set()


def test_nothing_in_logs_arguments_or_environment(seen: Seen) -> None:
    assert leaks(seen.around, seen.canaries) == set()


def test_nothing_in_status_report_or_announcements(seen: Seen) -> None:
    assert leaks(seen.told, seen.canaries) == set()


def test_nothing_in_what_the_broker_keeps(seen: Seen) -> None:
    assert leaks(seen.kept, seen.canaries) == set()


def test_all_of_it_was_looked_at(seen: Seen) -> None:
    """A release and the word about the export were carried; every file is in the vault."""
    assert len(seen.wire.relay.wires) >= 2  # three, where it was killed before it had trained
    assert len(seen.wire.relay.seen) > 20_000
    names = {Path(name).name for name in seen.files.names}
    assert {"status.json", "report.json", "report.evidence", "held.sealed", *COUNTS} <= {
        name for name in names if not name.startswith(".")
    }
    assert b"PATH=" in seen.around
    assert b"bootstrap" in seen.around
    assert b'"role.started"' in seen.around
    assert b"job.granted" in seen.told
    assert len(seen.kept) > 10_000
    assert {"moments/age", "moments/cost", f"values/{B}/cost", f"note/{A}/20"} < set(seen.canaries)


def test_the_search_finds_them_where_they_are(seen: Seen) -> None:
    clear = b"".join(
        open_bytes(
            io.BytesIO(seen.study.paths[owner].read_bytes()),
            identities=[BrokerKey(seen.study.keys[owner])],
            pin=seen.study.pins[owner],
            media_type="text/csv",
            name=seen.study.tables[owner],
            version=1,
            max_bytes=2**20,
        )
        for owner in (A, B)
    )
    results = opened(seen.job.out, COUNTS[1], PRIVATE[B])
    assert results is not None
    keys = b"".join(seen.study.keys[owner].reveal() for owner in (A, B))
    assert leaks(clear + results + keys, seen.canaries) == set(seen.canaries)


@pytest.mark.parametrize("file", COUNTS)
@pytest.mark.parametrize("who", [*NAMES, "eve"])
def test_each_output_opens_for_its_recipient_alone(seen: Seen, file: str, who: str) -> None:
    assert (opened(seen.job.out, file, PRIVATE[who]) is not None) is (f".{who}." in file)


@pytest.mark.parametrize("owner", [A, B])
def test_no_table_s_key_opens_an_output(seen: Seen, owner: str) -> None:
    report = json.loads((seen.job.out / "report.json").read_text())
    assert outputs(seen.job.out) == set(COUNTS)
    for entry in report["outputs"]:
        with pytest.raises(CryptoError):
            open_bytes(
                io.BytesIO((seen.job.out / entry["file"]).read_bytes()),
                identities=[BrokerKey(seen.study.keys[owner])],
                pin=Pin.parse(entry["pin"]),
                media_type=entry["media_type"],
                name=entry["name"],
                version=1,
                max_bytes=2**20,
            )


def test_the_command_opens_for_its_recipient_alone(seen: Seen, tmp_path: Path) -> None:
    def result(party: str, identity: str) -> tuple[int, bool]:
        target = tmp_path / f"{party}-{identity}"
        done = command(
            *("job", "result", seen.job.root, "--party", party, "--output", "aggregates"),
            *("--identity", identity_file(tmp_path, identity), "-o", target),
            *("--state", seen.job.mesh.root),
        )
        return done.status, target.exists()

    assert result(A, A) == result(B, B) == (0, True)
    assert result(A, B) == result(B, "eve") == (1, False)
    assert result(C, C) == (2, False)
    assert list(tmp_path.glob(".*")) == []


def test_what_is_told_is_what_may_be_told(seen: Seen) -> None:
    """Names of columns stand in the report, no value does, and not how many rows were joined."""
    report = json.loads((seen.job.out / "report.json").read_text())
    assert (report["rows"], report["rows_at_least"]) == (None, 10)
    assert status(seen.job.out).keys() == {
        *(
            "format",
            "job",
            "plan_digest",
            "state",
            "simulated",
            "job_id",
            "export_digest",
            "approvals",
        ),
        *("approvals", "outputs"),
    }
    used = {column for table in report["tables"] for column in table["columns"]}
    assert used == {"age", "bmi", "cost"}


def test_nothing_where_a_job_fails_because_of_a_value(
    tables_mesh: TablesMesh, tmp_path: Path
) -> None:
    """A text stands among B's numbers: it is said where, and nothing else."""
    columns = tables()
    columns[B]["cost"][30] = "VALUE-CANARY-of-patient-4711"
    study = tables_mesh.study("failing", A, B, columns=columns)
    job = tables_mesh.job(study)
    with WatchedDirectory(job.root, tmp_path / "vault") as files:
        process = tables_mesh.run(job)
        assert process.ended() == 1
        told = said_of(job)
    where = "what is no number stands within 48 rows up to line 49"
    assert where in process.text
    assert where in told.decode()
    wanted: dict[str, Canary] = {
        "value": columns[B]["cost"][30],
        "patient": columns[B]["patient"][30],
        "note": columns[A]["note"][0],
        "age": np.array(columns[A]["age"]),
    }
    assert leaks(process.log.read_bytes() + told + files.contents(), wanted) == set()
