"""What a job keeps and shows: whole or not at all, its own, and an error where the disk fails."""

import dataclasses
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from shared_world import SEED, A, B, Owner, csv_text, plan_of, run
from toy_jobs import KEYS

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.jobs.merge import ApprovalTerms
from wardian.broker.joint.masked import MaskedKey
from wardian.broker.keeping.sealing import Sealing
from wardian.broker.session.shown import KnownBroker
from wardian.broker.state.audit import AuditHead
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied, SealError
from wardian.learning.shared.keeping import Held, JobKeeper
from wardian.learning.shared.outbox import (
    EVIDENCE,
    REPORT,
    REPORT_PAGE,
    STATUS,
    Outbox,
    report_evidence_data,
)
from wardian.learning.shared.outputs import HeldOutputs
from wardian.learning.shared.running import Finished
from wardian.tee.launch.simulation import generate_platform
from wardian.tee.sealing import seal_state, unseal_state

SERVING = MaskedKey(key_id="07" * 16, masked=b"masked key".ljust(32))
CONTENTS, SALT = b"c" * 32, bytes(range(16))
BROKER = KnownBroker(
    ca_spki=b"spki", audit=AuditHead(count=3, digest="0" * 64, root="1" * 64), version=2
)


class ToySealing(Sealing):
    """Seals as an enclave with this key does."""

    def __init__(self, key: bytes = b"k" * 32) -> None:
        self.key = key

    def sealing_key(self, *_: object) -> Secret:
        return Secret(self.key)

    def seal(self, plaintext: bytes, *, label: str) -> bytes:
        return seal_state(self, plaintext, label=label, version=1)  # type: ignore[arg-type]

    def unseal(self, sealed: bytes, *, label: str) -> bytes:
        return unseal_state(self, sealed, label=label, version=1)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A plan, and what came out of it."""
    folder, ids = tmp_path_factory.mktemp("tables"), [f"id{at}" for at in range(60)]
    owners = [
        Owner(A, folder, csv_text({"id": ids, "age": range(60)})),
        Owner(B, folder, csv_text({"id": ids, "cost": range(60)})),
    ]
    plan = plan_of(owners, [["age"], ["cost"]], "statistics", label=None)
    return plan, run(plan, owners, seed=SEED)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def keeper(ran: Any, place: Path, *, key: bytes = b"k" * 32) -> JobKeeper:
    return JobKeeper(place, plan=ran[0], sealing=ToySealing(key))


def held(ran: Any, serving: MaskedKey | None = None) -> Held:
    return Held(finished=ran[1], serving=serving, broker=BROKER)


@contextmanager
def full_disk(room_bytes: int) -> Iterator[None]:
    """Let no file grow beyond this: what a write to a full disk ends with is an error likewise."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_kept_comes_back(ran: Any, place: Path) -> None:
    kept = keeper(ran, place)
    assert kept.load() is None
    kept.keep(held(ran, SERVING))
    found = keeper(ran, place).load()
    assert found is not None
    finished = found.finished
    assert (found.serving, found.broker) == (SERVING, BROKER)
    assert finished.held.digest == ran[1].held.digest
    assert dict(finished.held.contents()) == dict(ran[1].held.contents())
    assert finished.held.terms == ran[1].held.terms
    assert json.dumps(finished.report) == json.dumps(ran[1].report)
    kept.keep(held(ran, None))
    again = kept.load()
    assert again is not None
    assert again.serving is None


def test_the_salt_is_found_again_for_the_same_contents_alone(ran: Any, place: Path) -> None:
    salt = keeper(ran, place).salt(CONTENTS)
    assert len(salt) == 16
    assert keeper(ran, place).salt(CONTENTS) == salt
    assert len({salt, *(keeper(ran, place).salt(each) for each in (b"", b"x" * 32))}) == 3


def test_nobody_but_the_job_knows_what_its_salts_come_of(ran: Any, place: Path) -> None:
    """Else two contents with one salt could be looked for: another answer of the same debit."""
    salt, path = keeper(ran, place).salt(CONTENTS), place / "salt.sealed"
    (place / "held.sealed").write_bytes(path.read_bytes())
    with pytest.raises(SealError):
        keeper(ran, place).load()
    for raw in (b"", b"00" * 16, path.read_bytes()[:-1], bytes(2**20)):
        path.write_bytes(raw)
        other = keeper(ran, place).salt(CONTENTS)
        assert (len(other), other != salt) == (16, True)
    assert keeper(ran, place, key=b"o" * 32).salt(CONTENTS) != other
    with full_disk(0), pytest.raises(SealError):
        path.unlink()
        keeper(ran, place).salt(CONTENTS)


def test_the_id_of_a_debit(ran: Any, place: Path) -> None:
    kept = keeper(ran, place)
    assert kept.job_id(SALT) is None
    kept.keep_id(bytes(range(32)))
    assert keeper(ran, place).job_id(SALT) == bytes(range(32))
    assert (place / "job").read_text() == bytes(range(32)).hex() + "\n"
    assert keeper(ran, place).job_id(bytes(16)) is None  # of other contents


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"xyz",
        bytes(range(31)).hex().encode(),
        bytes(range(33)).hex().encode(),
        b"\xff\xfe",
        bytes(range(32)).hex().encode() * 3125,
        "é".encode() * 64,
    ],
)
def test_an_id_that_is_none_is_as_if_it_were_lost(ran: Any, place: Path, raw: bytes) -> None:
    (place / "job").write_bytes(raw)
    assert keeper(ran, place).job_id(SALT) is None


def test_a_pipe_is_not_waited_for(ran: Any, place: Path) -> None:
    for name in ("job", "held.sealed", "salt.sealed"):
        os.mkfifo(place / name)
    kept = keeper(ran, place)
    with pytest.raises(SealError, match="job cannot be read"):
        kept.job_id(SALT)  # and is not taken for lost: that would cost budgets
    with pytest.raises(SealError, match=r"salt.sealed cannot be read"):
        kept.salt(CONTENTS)
    with pytest.raises(SealError, match="damaged"):
        kept.load()


def test_a_file_larger_than_memory_is_damaged(ran: Any, place: Path) -> None:
    for name in ("held.sealed", "salt.sealed", "job"):
        with (place / name).open("wb") as file:
            file.truncate(2**43)
    assert keeper(ran, place).job_id(SALT) is None
    assert len(keeper(ran, place).salt(CONTENTS)) == 16
    with pytest.raises(SealError, match="damaged"):
        keeper(ran, place).load()


def test_only_this_code_on_this_machine_reads_it(ran: Any, place: Path) -> None:
    keeper(ran, place).keep(held(ran, SERVING))
    with pytest.raises(SealError, match="sealed by another measurement or on another platform"):
        keeper(ran, place, key=b"o" * 32).load()


def test_nothing_of_it_is_in_the_clear(ran: Any, place: Path) -> None:
    keeper(ran, place).keep(held(ran, SERVING))
    raw = (place / "held.sealed").read_bytes()
    assert SERVING.masked not in raw
    for content in (each for _, each in ran[1].held.contents()):
        assert content[:64] not in raw


def test_every_changed_byte_is_refused(ran: Any, place: Path) -> None:
    kept, path = keeper(ran, place), place / "held.sealed"
    kept.keep(held(ran, None))
    raw = path.read_bytes()
    for at in (*range(80), len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :])
        with pytest.raises(SealError):
            kept.load()
    for length in (0, 1, 71, 72, len(raw) - 1):
        path.write_bytes(raw[:length])
        with pytest.raises(SealError):
            kept.load()


def test_what_this_code_sealed_for_something_else(ran: Any, place: Path) -> None:
    sealing = ToySealing()
    for content in (b"", b"\xc1", b"{}", b"\x80"):
        (place / "held.sealed").write_bytes(sealing.seal(content, label="wardian job held v1"))
        with pytest.raises(SealError, match="damaged"):
            keeper(ran, place).load()
    keeper(ran, place).keep(held(ran, None))
    inner = sealing.unseal((place / "held.sealed").read_bytes(), label="wardian job held v1")
    (place / "held.sealed").write_bytes(sealing.seal(inner, label="another label"))
    with pytest.raises(SealError):
        keeper(ran, place).load()


def test_a_disk_that_is_full_loses_nothing_that_was_there(ran: Any, place: Path) -> None:
    kept = keeper(ran, place)
    kept.keep_id(bytes(32))
    kept.keep(held(ran, None))
    before = (place / "held.sealed").read_bytes()
    with full_disk(100), pytest.raises(SealError, match="the state of the job cannot be written"):
        kept.keep(held(ran, SERVING))
    with full_disk(10), pytest.raises(SealError):
        kept.keep_id(bytes(range(32)))
    assert (place / "held.sealed").read_bytes() == before
    assert kept.job_id(bytes(16)) == bytes(32)
    assert sorted(path.name for path in place.iterdir()) == ["held.sealed", "job"]


@pytest.mark.parametrize("make", ["nothing", "file"])
def test_no_directory_to_write_to(ran: Any, tmp_path: Path, make: str) -> None:
    place = tmp_path / "gone"
    if make == "file":
        place.touch()
    kept, box = keeper(ran, place), Outbox(place, plan=ran[0], simulated=True)
    with pytest.raises(SealError, match="cannot be written"):
        kept.keep_id(bytes(32))
    with pytest.raises(SealError, match="cannot be written"):
        kept.keep(held(ran, None))
    with pytest.raises(SealError, match=r"status\.json of the job cannot be written"):
        box.say("asking")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_directory_that_may_not_be_written(ran: Any, place: Path) -> None:
    place.chmod(0o500)
    with pytest.raises(SealError, match="cannot be written"):
        keeper(ran, place).keep(held(ran, None))


def attest(data: bytes) -> Evidence:
    return generate_platform().evidence(mr_enclave=bytes(32), report_data=data)


def asking(finished: Finished, plan: Any, *, needed: int) -> Finished:
    """Return the same, held until so many of A and B approve."""
    of = frozenset(KEYS[name].public.hex() for name in (A, B))
    terms = dataclasses.replace(
        finished.held.terms, approvals=frozenset((ApprovalTerms(needed=needed, of=of),))
    )
    return Finished(
        held=HeldOutputs(plan, terms, dict(finished.held.contents())), report=finished.report
    )


def test_what_a_job_says_of_itself(ran: Any, place: Path) -> None:
    box = Outbox(place, plan=ran[0], simulated=True)
    box.say("asking")
    said = json.loads((place / STATUS).read_bytes())
    assert said.keys() == {"format", "job", "plan_digest", "state", "simulated"}
    box.say("running", job=bytes(32))
    assert json.loads((place / STATUS).read_bytes())["job_id"] == "00" * 32
    held = asking(ran[1], ran[0], needed=2)
    (terms,) = held.held.terms.approvals
    one = min(terms.of)
    box.say("held", finished=held, approved=[one, "ab" * 32])
    said = json.loads((place / STATUS).read_bytes())
    assert said["approvals"] == [{"needed": 2, "of": sorted(terms.of), "given": [one]}]
    assert said["export_digest"] == held.held.digest.hex()


def test_too_few_approvals_release_no_output(ran: Any) -> None:
    held = asking(ran[1], ran[0], needed=2)
    (terms,) = held.held.terms.approvals
    with pytest.raises(PolicyDenied) as caught:
        held.held.release([min(terms.of)])
    assert caught.value.rule == "export-approvals"
    assert len(held.held.release(terms.of)) == 2


def test_the_report_is_shown_with_evidence_over_its_bytes(ran: Any, place: Path) -> None:
    given: list[bytes] = []

    def noted(data: bytes) -> Evidence:
        given.append(data)
        return attest(data)

    Outbox(place, plan=ran[0], simulated=True).show_report(ran[1], attest=noted)
    raw = (place / REPORT).read_bytes()
    assert given == [report_evidence_data(raw)]
    assert json.loads(raw) == json.loads(json.dumps(ran[1].report))
    wire.decode((place / EVIDENCE).read_bytes(), Evidence, what="evidence")
    assert (place / REPORT_PAGE).read_bytes().startswith(b"<!doctype html>")


def test_a_full_disk_while_the_report_is_shown(ran: Any, place: Path) -> None:
    """Nothing that was there is lost, and no half of a file takes its name."""
    box = Outbox(place, plan=ran[0], simulated=True)
    box.show_report(ran[1], attest=attest)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with full_disk(64), pytest.raises(SealError, match=r"report\.json of the job cannot be"):
        box.show_report(ran[1], attest=attest)
    with full_disk(64), pytest.raises(SealError, match=r"status\.json"):
        box.say("held", finished=ran[1])
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
