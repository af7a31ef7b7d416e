"""A host that changes what a job shows: reports, evidence, plans, files. Commands refuse each of it.

One job ran in processes, and is held or out; each attack is on a copy of its directory. Whatever is
refused, nothing is signed and nothing is left where a result was to be written.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hospital_study import KEYS, A, B, C, HospitalMesh, Study, identity_file, key_file
from tables_mesh import Said, TablesMesh, command
from toy_mesh import ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.evidence import Purpose, bind
from wardian.broker.mesh.manifest import sign_manifest
from wardian.broker.mesh.trust import RoleReference
from wardian.cli.job.directory import JobDir
from wardian.cli.state import StateDir
from wardian.crypto.owner_key import encode_owner_key
from wardian.crypto.signing import SigningKey
from wardian.learning.shared.approvals import Approval
from wardian.learning.shared.outbox import report_evidence_data
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform

PLAIN_POLICY = """
mesh = "hospitals"
table = "records"
owner = "hospital-a"
serial = 1
[parties.hospital-a]
key = "29ad4860cf7e7077759833693efc4582667d403f0e2d979096446ef6a8dbc2a1"
"""
RULE = {"output": {"approvals": {"needed": 2, "of": [A, B, C]}}}
NOT_OF_THIS = (
    "does not vouch for the report: the evidence is genuine, but was made for something else"
)
PLAN = {"outputs": {"model": [A, B], "metrics": [A, B]}}


@dataclass(frozen=True)
class Ran:
    """A job that is out, and an earlier run of the same plan that is out, too."""

    mesh: TablesMesh
    study: Study
    job: JobDir
    earlier: JobDir


@pytest.fixture(scope="module")
def ran(tables_mesh: TablesMesh, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    place, study = tmp_path_factory.mktemp("keys"), tables_mesh.study("reported")
    for owner in (A, B):
        tables_mesh.give(study, owner, rule=RULE)
    jobs = []
    for name in ("earlier", "job"):
        job = tables_mesh.job(study, study.plan(**PLAN), name=name)
        process = tables_mesh.run(job)
        process.announced("job.held")
        for who in (A, B):
            mine = ("--state", tables_mesh.state.root, "--key", key_file(place, who))
            assert command("job", "approve", job.root, *mine).status == 0
        assert process.ended() == 0, process.text
        jobs.append(job)
    return Ran(tables_mesh, study, jobs[1], jobs[0])


class Copy:
    """A copy of the job's directory, in a host's hands, and people who use it."""

    def __init__(self, ran: Ran, place: Path) -> None:
        self.ran, self.place = ran, place
        self.root = shutil.copytree(ran.job.root, place / "job", symlinks=True)
        self.out = self.root / "out"
        self.options: tuple[object, ...] = ("--state", ran.mesh.state.root)
        shutil.rmtree(self.root / "approvals")
        (self.root / "approvals").mkdir()

    @property
    def report(self) -> bytes:
        return (self.out / "report.json").read_bytes()

    def show(self, report: bytes, platform: SimulatedPlatform, measurement: bytes) -> None:
        """Put `report` there, with evidence of such code."""
        (self.out / "report.json").write_bytes(report)
        self.vouch(report_evidence_data(report), platform, measurement)

    def vouch(self, data: bytes, platform: SimulatedPlatform, measurement: bytes) -> None:
        evidence = platform.evidence(mr_enclave=measurement, report_data=data)
        (self.out / "report.evidence").write_bytes(wire.encode(evidence))

    def changed(self, **changes: Any) -> bytes:
        return json.dumps({**json.loads(self.report), **changes}).encode()

    def result(self, party: str = A, output: str = "model", identity: str | None = None) -> Said:
        target = self.place / "opened"
        return command(
            *("job", "result", self.root, "--party", party, "--output", output),
            *("--identity", identity_file(self.place, identity or party), "-o", target),
            *self.options,
        )

    def refused(self, status: int, why: str) -> None:
        """Demand that report, approval and result are refused so, and leave nothing."""
        key = key_file(self.place, A)
        for said in (
            command("job", "report", self.root, *self.options, "--html", self.place / "page"),
            command("job", "approve", self.root, *self.options, "--key", key),
            self.result(),
        ):
            assert (said.status, said.output) == (status, "")
            assert why in said.error
        assert list((self.root / "approvals").iterdir()) == []
        assert left(self.place) == {"job", f"{A}.key", f"{A}.identity"} | self._files

    @property
    def _files(self) -> set[str]:
        named = [path for path in self.options if isinstance(path, Path)]
        return {path.name for path in named if path.parent == self.place}


def left(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


@pytest.fixture
def copy(ran: Ran, tmp_path: Path) -> Copy:
    return Copy(ran, tmp_path)


def test_as_it_is_all_is_well(copy: Copy) -> None:
    page = copy.place / "page"
    said = command("job", "report", copy.root, *copy.options, "--html", page)
    assert (said.status, page.exists()) == (0, True)
    assert f"made by {copy.ran.mesh.mesh.measurements['job'].hex()}" in said.output
    assert copy.result().status == copy.result(B, "metrics").status == 0
    assert "SIMULATED" in copy.result().output
    said = command("job", "approve", copy.root, *copy.options, "--key", key_file(copy.place, C))
    assert said.status == 0
    assert "approves export" in said.output
    assert "SIMULATED" in said.output


def test_what_was_verified_is_told_to_programs_whatever_the_report_says(copy: Copy) -> None:
    mesh = copy.ran.mesh.mesh
    lie = {"platform": "sgx", "measurement": "00" * 32}
    copy.show(copy.changed(verified=lie), mesh.platform, mesh.measurements["job"])
    said = command("job", "report", copy.root, *copy.options, "--json")
    manifest = mesh.signed()
    assert json.loads(said.output)["verified"] == {
        "platform": "SIMULATED",
        "measurement": mesh.measurements["job"].hex(),
        "manifest_version": "1",
        "manifest_digest": hashlib.sha256(manifest.manifest).hexdigest(),
        "policies": "none was named",
    }


def test_a_page_that_the_host_shows_does_not_look_like_one_that_was_verified(copy: Copy) -> None:
    page = copy.place / "page.html"
    assert command("job", "report", copy.root, *copy.options, "--html", page).status == 0
    own, verified = (copy.out / "report.html").read_text(), page.read_text()
    assert "Nobody has verified this page yet" in own.partition("<table>")[0]
    assert "What was verified" not in own
    assert "Nobody has verified" not in verified
    first = verified.partition("</table>")[0]
    for text in ("What was verified", "SIMULATED", copy.ran.mesh.mesh.measurements["job"].hex()):
        assert text in first


@pytest.mark.parametrize(
    "changes", [{"rows": 4_000_000}, {"outputs": []}, {"tables": []}, {"export_digest": "00" * 32}]
)
def test_a_changed_report(copy: Copy, changes: dict[str, Any]) -> None:
    (copy.out / "report.json").write_bytes(copy.changed(**changes))
    copy.refused(3, NOT_OF_THIS)


def test_a_report_that_only_looks_other(copy: Copy) -> None:
    (copy.out / "report.json").write_bytes(copy.report + b"\n")
    copy.refused(3, NOT_OF_THIS)


def test_evidence_of_another_role(copy: Copy) -> None:
    """The broker's code, on this very machine, vouches for the report."""
    mesh = copy.ran.mesh.mesh
    copy.show(copy.report, mesh.platform, mesh.measurements["broker"])
    copy.refused(3, "measurement")


def test_evidence_of_another_platform(copy: Copy) -> None:
    measurement = copy.ran.mesh.mesh.measurements["job"]
    copy.show(copy.report, generate_platform(), measurement)
    copy.refused(3, "")


def test_evidence_that_the_job_gave_a_broker(copy: Copy) -> None:
    """It is of this code, and about something else."""
    mesh, data = copy.ran.mesh.mesh, hashlib.sha256(copy.report).digest()
    copy.vouch(bind(Purpose.JOB, bytes(32), data), mesh.platform, mesh.measurements["job"])
    copy.refused(3, NOT_OF_THIS)


def test_a_report_of_an_earlier_run(copy: Copy) -> None:
    """It is genuine, and of other files: `result` says so, and an approval of it fits nothing."""
    for name in ("report.json", "report.evidence"):
        shutil.copy(copy.ran.earlier.out / name, copy.out / name)
    said = copy.result()
    assert said.status == 1
    assert "model.hospital-a.sealed" in said.error or "pin" in said.error
    assert "opened" not in left(copy.place)
    mine = (*copy.options, "--key", key_file(copy.place, A))
    assert command("job", "approve", copy.root, *mine).status == 0
    (path,) = (copy.root / "approvals").iterdir()
    approved = wire.decode(path.read_bytes(), Approval, what="approval").export
    assert (
        approved
        != json.loads(copy.ran.job.out.joinpath("report.json").read_text())["export_digest"]
    )


def test_another_plan_in_the_directory(copy: Copy) -> None:
    plan = copy.ran.study.plan(outputs={"model": [A], "metrics": [A, B]})
    (copy.root / "job.toml").write_bytes(plan)
    copy.refused(3, "the report is of another plan than")


def test_a_plan_and_a_report_of_another_mesh(copy: Copy) -> None:
    """Owners of another mesh list the same code: they see that the report is not of theirs."""
    mesh = copy.ran.mesh.mesh
    other = ToyMesh(name="clinics", owners=[KEYS[A]], measurements=mesh.measurements)
    other.keys = {}
    agreed, manifest = copy.place / "other.toml", copy.place / "other.json"
    agreed.write_bytes(other.agreed_toml)
    signed = other.signed(trust=mesh.manifest().trust, models=())
    manifest.write_bytes(wire.encode(signed))
    copy.options = ("--agreed", agreed, "--manifest", manifest)
    copy.refused(1, "of another mesh")


def with_manifest(copy: Copy, **changes: Any) -> None:
    mesh, path = copy.ran.mesh.mesh, copy.place / "other.json"
    path.write_bytes(wire.encode(sign_manifest(mesh.manifest(**changes), mesh.owners[:1])))
    copy.options = (*copy.options, "--manifest", path)


def roles(copy: Copy, **changes: str) -> dict[str, RoleReference]:
    listed = {name: each.hex() for name, each in copy.ran.mesh.mesh.measurements.items()}
    return {
        name: RoleReference(measurements=(each,))
        for name, each in (listed | changes).items()
        if each
    }


def test_a_manifest_that_lists_other_jobs(copy: Copy) -> None:
    with_manifest(copy, roles=roles(copy, job=digest("other").hex()))
    copy.refused(3, "measurement")


def of_other_code(copy: Copy, **changes: Any) -> bytes:
    """Have a job of other code, that a quorum lists too, vouch for a report; return its code."""
    mesh, other = copy.ran.mesh.mesh, digest("other")
    both = tuple(sorted((mesh.measurements["job"].hex(), other.hex())))
    with_manifest(copy, roles={**roles(copy), "job": RoleReference(measurements=both)})
    copy.show(copy.changed(**{"measurement": other.hex(), **changes}), mesh.platform, other)
    return other


@pytest.mark.parametrize("way", ["fewer", "other order", "another pin", "to another"])
def test_other_code_in_the_manifest_shows_other_outputs_of_the_real_export(
    copy: Copy, way: str
) -> None:
    outputs = json.loads(copy.report)["outputs"]
    other = {
        "fewer": [each for each in outputs if each["to"] == A],
        "other order": outputs[::-1],
        "another pin": [{**outputs[0], "pin": outputs[1]["pin"]}, *outputs[1:]],
        "to another": [{**outputs[0], "to": C}, *outputs[1:]],
    }[way]
    of_other_code(copy, outputs=other)
    copy.refused(3, "the report is of other outputs than those of its export")


@pytest.mark.parametrize(
    "way", ["table", "no table", "columns", "order", "parameters", "purpose", "noise", "no terms"]
)
def test_other_code_in_the_manifest_says_other_things_of_the_real_plan(
    copy: Copy, way: str
) -> None:
    real = json.loads(copy.report)
    first, *more = real["tables"]
    of_other_code(
        copy,
        **{
            "table": {"tables": [{**first, "table": "other"}, *more]},
            "no table": {"tables": more},
            "columns": {"tables": [{**first, "columns": first["columns"][1:]}, *more]},
            "order": {"tables": [*more, first]},
            "parameters": {"parameters": {}},
            "purpose": {"purpose": "research"},
            "noise": {"terms": {**real["terms"], "epsilon": 0.1}},
            "no terms": {"terms": []},
        }[way],
    )
    copy.refused(3, "the report says other things of its plan than stand there")


def test_other_code_in_the_manifest_says_that_it_is_the_job_s(copy: Copy) -> None:
    measurement = copy.ran.mesh.mesh.measurements["job"].hex()
    of_other_code(copy, measurement=measurement, rows=4_000_000)
    copy.refused(3, "the report names other code than the one that vouches for it")


def policy_file(copy: Copy, owner: str = A, **changes: Any) -> Path:
    path = copy.place / "my.policy"
    path.write_bytes(wire.encode(copy.ran.study.policy(owner, rule=RULE, **changes)))
    return path


def test_other_code_in_the_manifest_that_the_owner_does_not_accept(copy: Copy) -> None:
    """What such code says of rows or rules is its word; who names its policy does not take it."""
    other = of_other_code(copy, rows=4_000_000)
    key = key_file(copy.place, A)
    said = command("job", "approve", copy.root, *copy.options, "--key", key)
    assert said.status == 0
    assert f"made by {other.hex()} (SIMULATED, as the owners' manifest lists)" in said.output
    (approval,) = (copy.root / "approvals").iterdir()
    approval.unlink()
    copy.options = (*copy.options, "--policy", policy_file(copy))
    copy.refused(3, f"{A} does not give")


def test_the_owner_s_policy_accepts_the_job_s_code(copy: Copy) -> None:
    copy.options = (*copy.options, "--policy", policy_file(copy))
    said = command("job", "approve", copy.root, *copy.options, "--key", key_file(copy.place, A))
    assert said.status == 0
    assert f"as the owners' manifest lists and {A}'s policy accepts)" in said.output


def test_a_policy_that_is_of_no_use_here_is_refused(copy: Copy) -> None:
    plain = copy.options
    copy.options = (*plain, "--policy", policy_file(copy, C))
    copy.refused(2, "is the policy of no table that the job used")
    copy.options = (*plain, "--policy", policy_file(copy, revoked=True))
    copy.refused(3, "withdraws")
    path = policy_file(copy)
    signed = json.loads(path.read_bytes())
    path.write_text(json.dumps({**signed, "signature": "00" * 64}))
    copy.options = (*plain, "--policy", path)
    copy.refused(1, "")
    path.write_text(PLAIN_POLICY)
    copy.refused(2, "nobody signed this policy")


def test_a_manifest_that_lists_no_job(copy: Copy) -> None:
    with_manifest(copy, roles=roles(copy, job=""))
    copy.refused(3, "role")


def test_a_manifest_that_nobody_signed(copy: Copy) -> None:
    mesh, path = copy.ran.mesh.mesh, copy.place / "other.json"
    path.write_bytes(wire.encode(sign_manifest(mesh.manifest(), [SigningKey.generate()])))
    copy.options = (*copy.options, "--manifest", path)
    copy.refused(3, "sign")


def forged(copy: Copy, place: Path) -> None:
    """Make a whole mesh of the host's own at `place`, whose job vouches for another report."""
    state, platform = StateDir.open(place), generate_platform()
    mesh = HospitalMesh(platform, copy.ran.mesh.mesh.measurements)
    state.agreed.write_bytes(mesh.agreed_toml)
    state.manifest.write_bytes(wire.encode(mesh.signed()))
    copy.show(copy.changed(rows=4_000_000), platform, mesh.measurements["job"])


NAME_YOURS = "name your own state directory of the mesh with --state"


@pytest.mark.parametrize("way", ["inside", "relative", "link", "nowhere", "file", "nul", "binary"])
def test_a_mesh_that_came_along_with_the_job(
    copy: Copy, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is sent a job's directory has to say itself whom it trusts."""
    monkeypatch.chdir(copy.place)
    own = copy.root / "state" / "mesh"
    forged(copy, own)
    said = {
        "inside": os.fsencode(own),
        "relative": b"job/state/mesh",
        "link": os.fsencode(copy.root / "m"),
        "nowhere": b"/nowhere/at/all",
        "file": b"/dev/null",
        "nul": b"/tmp\0/x",
        "binary": b"\xff\xfe",
    }[way]
    (copy.root / "m").symlink_to("state/mesh")
    (copy.root / "mesh").write_bytes(said)
    copy.options = ()
    copy.refused(2, NAME_YOURS)
    copy.options = ("--manifest", copy.ran.mesh.state.manifest)
    copy.refused(2, NAME_YOURS)


@pytest.mark.parametrize("way", ["beside", "around", "where one works"])
def test_a_mesh_that_came_in_one_archive_with_the_job(
    copy: Copy, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it lies, and whatever it is called: it is believed if the user names it."""
    unpacked = copy.place
    state = unpacked / (".wardian" if way == "where one works" else "evil")
    forged(copy, state)
    monkeypatch.chdir(unpacked)
    if way != "beside":
        (state / "jobs").mkdir()
        copy.root = copy.root.rename(state / "jobs" / "job")
        copy.out = copy.root / "out"
    (copy.root / "mesh").write_text(f"/proc/self/cwd/{state.name}")
    before = sorted(unpacked.rglob("*"))
    key, identity = key_file(unpacked, A), identity_file(unpacked, A)
    copy.options = ()
    for said in (
        command("job", "report", copy.root, "--html", "page"),
        command("job", "approve", copy.root, "--key", key),
        copy.result(),
    ):
        assert (said.status, said.output) == (2, "")
        assert NAME_YOURS in said.error
    assert set(unpacked.rglob("*")) == {*before, key, identity}


def test_a_state_directory_inside_the_job_is_not_believed_by_name_either(copy: Copy) -> None:
    forged(copy, copy.root / "state" / "mesh")
    copy.options = ("--state", copy.root / "state" / "mesh")
    copy.refused(2, f"came along with the job; {NAME_YOURS}")


def test_a_directory_that_is_only_read_stays_as_it_is(copy: Copy) -> None:
    empty = copy.place / "empty"
    empty.mkdir(mode=0o700)
    copy.options = ("--state", empty)
    copy.refused(2, "wardian.toml")
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("name", ["report.json", "report.evidence"])
@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"", 1), (b"{}", 1), (b"\xff" * 100, 1), (b"[" * 100_000, 1), (b" " * (4 * 2**20 + 1), 2)],
    ids=["empty", "nothing", "binary", "deep", "long"],
)
def test_what_is_no_report_or_no_evidence(copy: Copy, name: str, raw: bytes, status: int) -> None:
    (copy.out / name).write_bytes(raw)
    refusing = 3 if name == "report.json" and status == 1 else status
    copy.refused(refusing, "")


@pytest.mark.parametrize("name", ["report.json", "report.evidence"])
@pytest.mark.parametrize("make", [lambda _: None, os.mkdir, os.mkfifo], ids=["none", "dir", "pipe"])
def test_no_file_where_report_or_evidence_was(
    copy: Copy, name: str, make: Callable[[Path], None]
) -> None:
    (copy.out / name).unlink()
    make(copy.out / name)
    copy.refused(2, "")


@pytest.mark.parametrize(
    ("victim", "other"),
    [
        (f"model.{A}.sealed", f"model.{B}.sealed"),
        (f"model.{A}.sealed", f"metrics.{A}.sealed"),
        (f"metrics.{A}.sealed", f"model.{A}.sealed"),
    ],
)
def test_an_output_in_place_of_another(copy: Copy, victim: str, other: str) -> None:
    shutil.copy(copy.out / other, copy.out / victim)
    said = copy.result(output=victim.partition(".")[0])
    assert said.status == 1
    assert said.error
    assert "opened" not in left(copy.place)


@pytest.mark.parametrize("spoil", ["cut", "flipped", "longer", "empty"])
def test_an_output_that_was_changed(copy: Copy, spoil: str) -> None:
    path = copy.out / f"model.{A}.sealed"
    raw = path.read_bytes()
    path.write_bytes(
        {
            "cut": raw[:-1],
            "flipped": raw[:-30] + bytes((raw[-30] ^ 1,)) + raw[-29:],
            "longer": raw + b"x",
            "empty": b"",
        }[spoil]
    )
    kept = copy.place / "opened"
    kept.write_text("what was there before")
    said = copy.result()
    assert said.status == 1
    assert kept.read_text() == "what was there before"
    assert left(copy.place) == {"job", f"{A}.identity", "opened"}


def test_an_output_that_is_gone(copy: Copy) -> None:
    (copy.out / f"model.{A}.sealed").unlink()
    said = copy.result()
    assert said.status == 2
    assert "not there yet" in said.error


@pytest.mark.parametrize(
    ("party", "output", "identity", "status", "why"),
    [
        (A, "model", B, 1, ""),
        (B, "metrics", "eve", 1, ""),
        (C, "model", C, 2, f"the job gives no model to {C}"),
        (A, "aggregates", A, 2, f"the job gives no aggregates to {A}"),
        ("../../x", "model", A, 2, "the job gives no model to ../../x"),
    ],
)
def test_who_asks_for_what_is_not_its_own(
    copy: Copy, party: str, output: str, identity: str, status: int, why: str
) -> None:
    target = copy.place / "opened"
    said = command(
        *("job", "result", copy.root, "--party", party, "--output", output),
        *("--identity", identity_file(copy.place, identity), "-o", target),
        *copy.options,
    )
    assert said.status == status
    assert why in said.error
    assert not target.exists()


def test_who_is_not_asked_is_told_so(copy: Copy) -> None:
    """Else it would wait for an export that its approval is no part of."""
    key = copy.place / "stranger.key"
    key.touch(mode=0o600)
    key.write_bytes(encode_owner_key(SigningKey.generate()).reveal())
    said = command("job", "approve", copy.root, *copy.options, "--key", key)
    assert said.status == 2
    assert "nobody asks for the approval of this key" in said.error
    assert list((copy.root / "approvals").iterdir()) == []


def test_before_there_is_a_report(copy: Copy) -> None:
    for path in copy.out.iterdir():
        path.unlink()
    copy.refused(2, "has no report yet")


@pytest.fixture(scope="module", autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)
