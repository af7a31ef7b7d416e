"""`wardian audit` over a toy broker: what people see, what is remembered, how it ends."""

import errno
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from audit_logs import WITNESSES
from desk_calls import Desks
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.broker.ca import MeshCa
from wardian.broker.certificates import chain_pem
from wardian.broker.refusal import refusal_for
from wardian.broker.state.audit import AuditEntry, AuditLine, Event
from wardian.broker.status import Status
from wardian.broker.transparency.cosigning import WitnessedHead
from wardian.broker.transparency.heads import SignedHead, verify_head
from wardian.broker.transparency.memory import AuditMemory
from wardian.broker.transparency.records import AuditProof, LogExport
from wardian.broker.transparency.witnessing import (
    WitnessHello,
    WitnessMemory,
    WitnessOffer,
    WitnessSession,
)
from wardian.cli.audit import export, files, lines, prove, show, source, verify, witness
from wardian.cli.audit.files import load_memory, note_head, save_record
from wardian.cli.audit.group import audit
from wardian.cli.main import exit_status
from wardian.crypto.owner_key import encode_owner_key
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, ConfigError, PolicyDenied, WardianError

CLIENTS = ("wardian.broker.status", "wardian.broker.transparency.client")
BROKER = ("--broker", "127.0.0.1:1")
EVIL = "\x1b[2J\x1b]0;owned\x07\u202e\n  1  forged line"


@pytest.fixture
def mesh() -> ToyMesh:
    return ToyMesh(witnesses=list(WITNESSES), head_threshold=2)


@pytest.fixture
def broker(mesh: ToyMesh, tmp_path: Path) -> Iterator[ToyBroker]:
    with closing(ToyBroker(mesh, tmp_path / "broker.db")) as broker:
        yield broker


@pytest.fixture
def desks(broker: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desks]:
    desks = Desks(broker)
    desks.instead_of_sockets(monkeypatch, *CLIENTS)
    for module in (export, prove, show, verify, witness):
        monkeypatch.setattr(module, "unix_time", lambda: NOW)
    yield desks
    desks.office.close()


@pytest.fixture
def ca(broker: ToyBroker, tmp_path: Path) -> str:
    path = tmp_path / "mesh-ca.pem"
    path.write_bytes(chain_pem((broker.authority.ca.certificate,)))
    return str(path)


def run(*arguments: str, expect: int = 0) -> Result:
    """Run a command; an error of ours ends it as `main` would."""
    result = CliRunner().invoke(audit, arguments, catch_exceptions=True)
    if isinstance(result.exception, WardianError):
        result.exit_code = exit_status(result.exception)
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == expect, (result.output, result.exception)
    return result


def release(broker: ToyBroker, **more: object) -> None:
    fields = {
        "event": "release",
        "outcome": "granted",
        "role": "worker",
        "measurement": "ab" * 32,
        "model": "digits",
        "version": 1,
        "kind": "model",
        "key_id": "cd" * 16,
    }
    broker.authority.record([broker.authority.entry(**(fields | more))])


# show


def test_show_says_who_got_what(broker: ToyBroker, desks: Desks, ca: str) -> None:
    release(broker, use=2)
    shown = run("show", *BROKER, "--ca", ca).output
    assert "worker abababab" in shown
    assert "got key cdcdcdcd of digits version 1, use 2" in shown
    assert "put the manifest in force" in shown or "gave key" in shown
    assert f"signed by the mesh CA in {ca}" in shown
    assert "UNVERIFIED" in run("show", *BROKER).output


def test_show_filters(broker: ToyBroker, desks: Desks) -> None:
    release(broker)
    release(broker, model="faces", outcome="refused", rule="uses-exhausted", key_id="")
    release(broker, role="frontend", kind="queue", epoch=3, version=0)

    def numbers(*options: str) -> list[int]:
        rows = run("show", *BROKER, "--json", *options).output.splitlines()
        return [json.loads(each)["sequence"] for each in rows]

    count = broker.store.audit_head.count
    assert numbers() == list(range(1, count + 1))
    assert numbers("--last", "2") == [count - 1, count]
    assert numbers("--all") == list(range(1, count + 1))
    assert numbers("--model", "faces") == numbers("--refused") == [count - 1]
    assert numbers("--role", "frontend") == [count]
    assert numbers("--event", "release") == [count - 2, count - 1, count]
    assert "REFUSED by uses-exhausted" in run("show", *BROKER, "--refused").output


def test_what_a_job_told_and_what_an_owner_took_back_of_it() -> None:
    told = AuditEntry(
        event="export",
        outcome="granted",
        kind="table",
        role="job",
        secret="records",
        plan="1" * 64,
        job="2" * 64,
        export="3" * 64,
        approvers=f"{'a' * 64} {'b' * 64}",
    )
    of = "(job 22222222 of plan 11111111)"
    assert lines.sentence(told) == f"gives out 33333333, made of table records, 2 approvals {of}"
    one = msgspec.structs.replace(told, approvers="a" * 64)
    assert lines.sentence(one).endswith(f", 1 approval {of}")
    other = msgspec.structs.replace(told, approvers="")  # they stand in the first line alone
    assert lines.sentence(other) == f"gives out 33333333, made of table records {of}"
    model = msgspec.structs.replace(
        told, kind="model", model="study.model", version=1, key_id="4" * 32
    )
    assert lines.sentence(model) == f"gave key 44444444 of study.model version 1 {of}"
    taken = AuditEntry(
        event="provision",
        outcome="granted",
        kind="model",
        owner="c" * 64,
        secret="records",
        model="study.model",
        version=1,
        rule="ended",
    )
    assert lines.sentence(taken) == "ended study.model version 1 by its word over table records"


def test_every_kind_of_line_is_a_sentence() -> None:
    assert set(lines._SAID) == set(get_args(Event))
    for event in get_args(Event):
        for kind in ("", "model", "queue", "secret", "certificate", "master", "policy", "table"):
            for outcome in ("granted", "refused"):
                entry = AuditEntry(
                    event=event,
                    outcome=outcome,
                    kind=kind,
                    rule="some-rule",
                    model="digits",
                    secret="token",
                    key_id="ab" * 16,
                    counter="state",
                )
                told = lines.sentence(entry)
                assert told
                assert told == told.strip()
                assert outcome == "granted" or "some-rule" in told or event == "standby"
    provision = AuditEntry(event="provision", outcome="granted")
    for fields, said in (
        ({}, "put the manifest in force"),
        ({"epoch": 7}, "put the manifest in force, epoch 7"),
        ({"rule": "recovery-key"}, "set its recovery key"),
        ({"rule": "nothing-new"}, "brought the manifest in force again"),
    ):
        assert lines.sentence(msgspec.structs.replace(provision, **fields)) == said
    left_out = AuditEntry(event="refusal", outcome="refused", rule="left-out", count=4)
    assert lines.sentence(left_out) == "4 refusals without a line of their own"
    owner = AuditEntry(event="order", outcome="granted", owner="ab" * 32, rule="turn-epoch")
    line = AuditLine(sequence=1, time=2**60, previous="0" * 64, entry=owner)
    assert "owner abababab" in lines.row(line)
    assert "ordered turn-epoch" in lines.row(line)


def test_nothing_in_a_line_moves_the_cursor(
    broker: ToyBroker, desks: Desks, tmp_path: Path
) -> None:
    for field in ("role", "model", "rule", "key_id", "measurement", "owner", "counter", "secret"):
        for event in get_args(Event):
            for kind in ("model", "queue", "secret"):
                entry = AuditEntry(event=event, outcome="refused", kind=kind)
                told = lines.row(
                    AuditLine(
                        sequence=1,
                        time=-5,
                        previous="0" * 64,
                        entry=msgspec.structs.replace(entry, **{field: EVIL}),
                    )
                )
                assert "\n" not in told
                assert "\x07" not in told
                assert "\x1b[2J" not in told
                assert "\u202e" not in told
    desks.carry = on_status(
        lambda status: msgspec.structs.replace(
            status,
            lines=tuple(
                raw.replace(b'"role":"broker"', b'"role":"\\u001b[2J"') for raw in status.lines
            ),
        )
    )
    run("show", *BROKER, expect=3)


def on_status(change: Callable[[Status], Status]) -> Callable[[bytes], bytes]:
    def carry(raw: bytes) -> bytes:
        if b"wardian status v1" not in raw[:40]:
            return raw
        return wire.encode(change(wire.decode(raw, Status, what="x")))

    return carry


@pytest.mark.parametrize("lines_of_the_fork", [0, 1, 4])
def test_show_follows_and_notices_a_fork(
    broker: ToyBroker,
    desks: Desks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines_of_the_fork: int,
) -> None:
    copy, counted = tmp_path / "copy.db", broker.counter.value
    copy.write_bytes(broker.path.read_bytes())
    twin = ToyBroker.__new__(ToyBroker)
    twin.mesh, twin.path, twin.now, twin.host_time = broker.mesh, copy, 100.0, NOW
    twin.counter = type(broker.counter)(counted)
    twin.start()
    other = Desks(twin)
    turns = iter(["nothing", "grow", "fork"])

    def pause(_: float) -> None:
        match next(turns):
            case "grow":
                release(broker, model="later")
                release(broker, model="later")
            case "fork":
                for _ in range(lines_of_the_fork):
                    release(twin, model="hidden")
                other.instead_of_sockets(monkeypatch, *CLIENTS)

    monkeypatch.setattr(show.time, "sleep", pause)
    with closing(twin):
        shown = run("show", *BROKER, "--follow", expect=3)
        other.office.close()
    assert "of later version 1" in shown.output
    assert "hidden" not in shown.output
    assert "forked" in str(shown.exception)


# verify


def test_verify_remembers_and_notices(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    memory = tmp_path / "memory.json"
    first = run("verify", *BROKER, "--ca", ca, "--head", str(memory)).output
    assert "WHOLE" in first
    assert f"remembered in {memory}" in first
    assert load_memory(memory).chain.head == broker.store.audit_head
    release(broker)
    assert "1 read now" in run("verify", *BROKER, "--ca", ca, "--head", str(memory)).output
    forged = load_memory(memory)
    assert forged.read is not None
    other = msgspec.structs.replace(forged.read.audit, digest="00" * 32)
    save_record(
        memory,
        msgspec.structs.replace(forged, read=msgspec.structs.replace(forged.read, audit=other)),
    )
    before = memory.read_bytes()
    release(broker)
    shown = run("verify", *BROKER, "--ca", ca, "--head", str(memory), expect=3)
    assert "altered" in str(shown.exception)
    assert memory.read_bytes() == before
    (kept,) = tmp_path.glob("memory.json.refused-*")
    assert str(kept) in str(shown.exception)
    said = wire.decode(kept.read_bytes(), LogExport, what="x")
    assert said.witnessed.head.audit == broker.store.audit_head
    told = run("verify", *BROKER, "--ca", ca, "--head", str(memory), "--json", expect=3)
    refused = json.loads(told.output)
    assert set(refused) == {"verified", "rule", "reason"}
    assert refused["verified"] is False


def test_what_is_noted_while_a_log_is_read_is_not_forgotten(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    """A client notes a head while an auditor reads for minutes: both write the one memory."""
    memory = tmp_path / "memory.json"
    arguments = ("verify", *BROKER, "--ca", ca, "--head", str(memory))
    head = broker.authority.transparency.head()
    older = msgspec.structs.replace(head.audit, count=2, root="00" * 32)
    fork = msgspec.structs.replace(head, audit=older)

    def carry(raw: bytes) -> bytes:
        note_head(memory, fork)
        return raw

    desks.carry = carry
    run(*arguments)
    assert fork in load_memory(memory).known
    desks.carry = lambda raw: raw
    assert "forked" in str(run(*arguments, expect=3).exception)
    memory.unlink()
    fork = msgspec.structs.replace(head, audit=msgspec.structs.replace(head.audit, root="00" * 32))
    desks.carry = carry
    assert "convict" in str(run(*arguments, expect=3).exception)
    assert load_memory(memory).known == (fork,)
    assert len(list(tmp_path.glob("memory.json.refused-*"))) == 1


def test_an_old_status_is_not_shown_for_ever(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    """Whoever carries the bytes plays back what the broker said when there was nothing to hide."""
    kept: list[bytes] = []

    def record(raw: bytes) -> bytes:
        kept.append(raw)
        return raw

    arguments = ("verify", *BROKER, "--head", str(tmp_path / "memory.json"))
    desks.carry = record
    run(*arguments, "--ca", ca)
    release(broker, model="hidden")
    desks.carry = lambda _: kept[0]
    desks.certificate = lambda: MeshCa.create(mesh="test", simulated=True, now=NOW).certificate
    shown = run(*arguments, "--ca", ca, expect=1)
    assert "does not end at a broker of this mesh CA" in str(shown.exception)
    assert "UNVERIFIED" in run(*arguments).output  # who knows no CA is told anything


def test_verify_without_anything_says_so(broker: ToyBroker, desks: Desks) -> None:
    shown = run("verify", *BROKER).output
    assert "UNVERIFIED" in shown
    assert "nothing remembered" in shown
    told = json.loads(run("verify", *BROKER, "--json").output)
    assert (told["verified"], told["whole"], told["witnesses"]) == (False, True, [])
    assert "UNVERIFIED" in told["reason"]


def test_json_says_one_truth(broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path) -> None:
    """A program reads one field: what nobody vouches for is not verified, however whole it is."""
    exported, proof = tmp_path / "log.jsonl", tmp_path / "proof.json"
    run("export", str(exported), *BROKER)
    run("prove", "1", *BROKER, "--out", str(proof))
    for arguments in (BROKER, (str(exported),), ("--proof", str(proof))):
        told = json.loads(run("verify", *arguments, "--json").output)
        assert (told["verified"], told["whole"]) == (False, True)
        assert "ca" not in told
        told = json.loads(run("verify", *arguments, "--ca", ca, "--json").output)
        assert (told["verified"], told["whole"]) == (True, True)
        assert "mesh CA" in told["reason"]


def test_verify_another_ca(broker: ToyBroker, desks: Desks, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    made = MeshCa.create(mesh="test", simulated=True, now=NOW)
    other.write_bytes(chain_pem((made.certificate,)))
    assert "another mesh CA" in str(run("verify", *BROKER, "--ca", str(other), expect=3).exception)
    other.write_text("no certificate")
    run("verify", *BROKER, "--ca", str(other), expect=2)


def test_verify_demands_witnesses(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    agreed = tmp_path / "wardian.toml"
    agreed.write_bytes(mesh.agreed_toml)
    demand = ("--witnesses", str(agreed), "--max-age", "60")
    assert "0 of the 2" in str(run("verify", *BROKER, *demand, expect=3).exception)
    for number in range(2):
        sign(tmp_path, ca, number)
    assert "witnessed by 2: 0 lines and 0 s ago" in run("verify", *BROKER, *demand).output
    release(broker)
    assert "witnessed by 2" in run("verify", *BROKER, *demand, "--max-lines", "1").output
    run("verify", *BROKER, *demand, "--max-lines", "0", expect=3)
    run("verify", *BROKER, *demand, "--head-threshold", "3", expect=3)
    run("verify", *BROKER, *demand, "--head-threshold", "4", expect=2)
    run("verify", *BROKER, "--head-threshold", "1", expect=2)


def test_a_log_in_a_file(broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path) -> None:
    release(broker)
    out, memory = tmp_path / "log.jsonl", tmp_path / "memory.json"
    assert "lines in" in run("export", str(out), *BROKER, "--ca", ca).output
    run("export", str(out), *BROKER, expect=2)
    assert "WHOLE" in run("verify", str(out), "--ca", ca, "--head", str(memory)).output
    run("verify", str(out), "--ca", ca, "--head", str(memory))
    raw = out.read_bytes().splitlines(keepends=True)
    for spoiled in (
        [*raw[:3], *raw[4:]],
        raw[:-1],
        [raw[0], raw[2], raw[1], *raw[3:]],
        [*raw[:-1], raw[-1].replace(b"digits", b"faces!")],
        [*raw, raw[-1]],
        [],
        [raw[0][:100]],
    ):
        bad = tmp_path / "bad.jsonl"
        bad.write_bytes(b"".join(spoiled))
        run("verify", str(bad), "--ca", ca, expect=3)
    older = tmp_path / "older.jsonl"
    older.write_bytes(out.read_bytes())
    release(broker)
    run("verify", *BROKER, "--ca", ca, "--head", str(memory))
    run("verify", str(older), "--ca", ca, "--head", str(memory), expect=3)  # cut short


# prove


def test_a_proof_is_verified_anywhere(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    out, memory = tmp_path / "proof.json", tmp_path / "memory.json"
    release(broker)
    run("verify", *BROKER, "--ca", ca, "--head", str(memory))
    release(broker, key_id="ef" * 16)
    count = broker.store.audit_head.count
    shown = run("prove", str(count), *BROKER, "--ca", ca, "--out", str(out)).output
    assert "got key efefefef" in shown
    assert f"In the first {count} lines" in run("verify", "--proof", str(out), "--ca", ca).output
    assert "UNVERIFIED" in run("verify", "--proof", str(out)).output
    run("verify", "--proof", str(out), "--ca", ca, "--head", str(memory), expect=2)
    nothing = run("verify", "--proof", str(out), "--head", str(tmp_path / "typo"), expect=2)
    assert "is not one that" in str(nothing.exception)
    agreed = tmp_path / "wardian.toml"
    agreed.write_bytes(broker.mesh.agreed_toml)
    for more in (("--witnesses", str(agreed)), (str(memory),)):
        shown = str(run("verify", "--proof", str(out), *more, expect=2).exception)
        assert "--proof: is of some lines" in shown
    run("prove", "--key-id", "cd" * 16, *BROKER, "--out", str(out), "--head", str(memory))
    run("verify", "--proof", str(out), "--ca", ca, "--head", str(memory))
    told = run("verify", "--proof", str(out), "--ca", ca, "--json").output
    assert json.loads(told)["lines"][0]["entry"]["key_id"] == "cd" * 16
    out.write_bytes(out.read_bytes().replace(b'"sequence":', b'"sequence": 1'))
    run("verify", "--proof", str(out), "--ca", ca, expect=3)


def test_a_proof_of_a_fork(broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path) -> None:
    out, memory = tmp_path / "proof.json", tmp_path / "memory.json"
    run("prove", "1", *BROKER, "--out", str(out))
    proof = wire.decode(out.read_bytes(), AuditProof, what="x")
    audit_ = msgspec.structs.replace(proof.head.audit, root="00" * 32)
    note_head(memory, msgspec.structs.replace(proof.head, audit=audit_))
    shown = run("verify", "--proof", str(out), "--ca", ca, "--head", str(memory), expect=3)
    assert "convict" in str(shown.exception)


def test_no_line_about_a_key_is_left_out(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    """A carrier, where no CA is known, or a broken broker, hides the newest use of a key."""
    for use in (1, 2, 3):
        release(broker, use=use)
    desks.carry = on_status(
        lambda status: msgspec.structs.replace(
            status,
            lines=tuple(
                raw.replace(b'"key_id":"cd', b'"key_id":"ee') if b'"use":3' in raw else raw
                for raw in status.lines
            ),
        )
    )
    out = tmp_path / "proof.json"
    shown = run("prove", "--key-id", "cd" * 16, *BROKER, "--out", str(out), expect=3)
    assert "forked" in str(shown.exception)
    assert not out.exists()


def test_prove_says_what_is_wrong(broker: ToyBroker, desks: Desks, tmp_path: Path) -> None:
    out = str(tmp_path / "proof.json")
    run("prove", *BROKER, "--out", out, expect=2)
    run("prove", "1", "--key-id", "ab", *BROKER, "--out", out, expect=2)
    run("prove", "--key-id", "ab", *BROKER, "--out", out, expect=2)
    run("prove", "9999", *BROKER, "--out", out, expect=3)
    run("prove", "1", *BROKER, "--out", out, "--head", str(tmp_path / "none"), expect=2)


# witness


def sign(tmp_path: Path, ca: str, number: int = 0, *more: str, expect: int = 0) -> Result:
    key = tmp_path / f"witness-{number}.key"
    if not key.exists():
        key.write_bytes(encode_owner_key(WITNESSES[number]).reveal())
        key.chmod(0o600)
    memory = tmp_path / f"witness-{number}.json"
    if not memory.exists():
        more = ("--first", *more)
    arguments = ("--key", str(key), "--memory", str(memory), "--ca", ca, *BROKER, *more)
    return run("witness", *arguments, expect=expect)


def test_a_witness_signs_and_remembers(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    count = broker.store.audit_head.count
    assert f"signed {count} lines of mesh test" in sign(tmp_path, ca).output
    memory = wire.decode((tmp_path / "witness-0.json").read_bytes(), WitnessMemory, what="x")
    assert memory.head.audit == broker.store.audit_head
    (tmp_path / "witness-0.json").unlink()
    assert "an older copy was put in its place" in sign(tmp_path, ca).output


def test_a_witness_keeps_what_convicts_the_broker(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    place = tmp_path / "witness-0.json"
    sign(tmp_path, ca)
    memory = wire.decode(place.read_bytes(), WitnessMemory, what="x")
    other = msgspec.structs.replace(memory.head.audit, root="00" * 32)
    forged = msgspec.structs.replace(memory.head, audit=other)
    save_record(place, msgspec.structs.replace(memory, head=forged))
    before = place.read_bytes()
    for arguments in ((), ("--every", "1")):
        told = str(sign(tmp_path, ca, 0, *arguments, expect=3).exception)
        assert "forked" in told
        (kept,) = tmp_path.glob("witness-0.json.refused-*")
        assert str(kept) in told
    offer = wire.decode(kept.read_bytes(), WitnessOffer, what="x")
    assert verify_head(offer.head, ca_spki=broker.authority.ca.spki) == broker.store.audit_head
    assert place.read_bytes() == before


def test_a_witness_begins_once_and_by_hand(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    sign(tmp_path, ca)
    place, key = tmp_path / "witness-0.json", str(tmp_path / "witness-0.key")
    assert "signed before" in str(sign(tmp_path, ca, 0, "--first", expect=2).exception)
    place.unlink()
    lost = run("witness", "--key", key, "--memory", str(place), "--ca", ca, *BROKER, expect=2)
    assert "one that forgot signs a second log" in str(lost.exception)
    assert not place.exists()


def test_a_memory_that_goes_away_while_a_witness_runs(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that takes the file, or puts back an older one, meets what the process knows."""
    place, seen = tmp_path / "witness-0.json", list[int]()

    class Enough(Exception):
        pass

    def pause(_: float) -> None:
        seen.append(wire.decode(place.read_bytes(), WitnessMemory, what="x").head.audit.count)
        place.unlink()
        release(broker)
        if len(seen) == 3:
            raise Enough

    hellos: list[int] = []
    real = WitnessSession.hello

    def hello(session: WitnessSession) -> bytes:
        raw = real(session)
        hellos.append(wire.decode(raw, WitnessHello, what="x").seen)
        return raw

    monkeypatch.setattr(WitnessSession, "hello", hello)
    monkeypatch.setattr(witness.time, "sleep", pause)
    with pytest.raises(Enough):
        sign(tmp_path, ca, 0, "--every", "7")
    assert hellos == [0, *seen[:2]]
    assert seen == [seen[0], seen[0] + 1, seen[0] + 2]


def test_two_names_of_one_memory_are_one(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    sign(tmp_path, ca)
    place, link = tmp_path / "witness-0.json", tmp_path / "link.json"
    link.symlink_to(place)
    release(broker)
    arguments = ("--key", str(tmp_path / "witness-0.key"), "--memory", str(link), "--ca", ca)
    with files.held(place):
        assert "another process holds it" in str(
            run("witness", *arguments, *BROKER, expect=2).exception
        )
    run("witness", *arguments, *BROKER)
    assert link.is_symlink()
    memory = wire.decode(place.read_bytes(), WitnessMemory, what="x")
    assert memory.head.audit == broker.store.audit_head


def test_a_witness_says_what_it_signed_and_not_what_it_is_told(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    def carry(raw: bytes) -> bytes:
        if b"wardian audit witnessed head v1" not in raw[:60]:
            return raw
        shown = wire.decode(raw, WitnessedHead, what="x")
        audit_ = msgspec.structs.replace(shown.head.audit, count=10**6, root="ab" * 32)
        head = msgspec.structs.replace(shown.head, audit=audit_, mesh="other")
        return wire.encode(msgspec.structs.replace(shown, head=head))

    desks.carry = carry
    root = broker.store.audit_head.root
    assert f"signed {broker.store.audit_head.count} lines of mesh test, root {root[:16]}" in (
        sign(tmp_path, ca).output
    )


def test_nobody_on_the_way_ends_a_witness(
    broker: ToyBroker,
    desks: Desks,
    ca: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An old offer, another CA, a spoiled proof, an unsigned refusal: said, and none convicts."""

    class Enough(Exception):
        pass

    offers: list[bytes] = []

    def record(raw: bytes) -> bytes:
        offers.append(raw)
        return raw

    def stranger() -> bytes:
        return MeshCa.create(mesh="test", simulated=True, now=NOW).certificate

    def offer_of(**changes: object) -> Callable[[bytes], bytes]:
        def carry(raw: bytes) -> bytes:
            if b"witness offer" not in raw[:40]:
                return raw
            return wire.encode(
                msgspec.structs.replace(wire.decode(raw, WitnessOffer, what="x"), **changes)
            )

        return carry

    desks.carry = record
    sign(tmp_path, ca)
    genuine, old = desks.certificate, offers[0]
    release(broker)
    turns = iter(
        [
            (lambda _: old, stranger),
            (offer_of(mesh_ca=stranger()), genuine),
            (offer_of(consistency=()), stranger),
            (lambda _: wire.encode(refusal_for(PolicyDenied("go", rule="audit-log"))), stranger),
            (lambda raw: raw, genuine),
        ]
    )

    def pause(_: float) -> None:
        try:
            desks.carry, desks.certificate = next(turns)
        except StopIteration as end:
            raise Enough from end

    pause(0)
    monkeypatch.setattr(witness.time, "sleep", pause)
    with pytest.raises(Enough):
        sign(tmp_path, ca, 0, "--every", "7")
    memory = wire.decode((tmp_path / "witness-0.json").read_bytes(), WitnessMemory, what="x")
    assert memory.head.audit == broker.store.audit_head
    assert list(tmp_path.glob("*.refused-*")) == []


def test_a_witness_comes_again(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    turns = iter(["clock", "busy", "fine", "enough"])

    def pause(seconds: float) -> None:
        assert seconds == 7
        match next(turns):
            case "clock":
                monkeypatch.setattr(witness, "unix_time", lambda: NOW + 1000)
            case "busy":
                monkeypatch.setattr(witness, "unix_time", lambda: NOW)
                desks.office.limits = desks.office.limits
                desks.carry = lambda _: b"{}"
            case "fine":
                desks.carry = lambda raw: raw
            case _:
                raise Enough

    monkeypatch.setattr(witness.time, "sleep", pause)
    with pytest.raises(Enough):
        sign(tmp_path, ca, 0, "--every", "7")


def test_one_memory_serves_one_witness(
    broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path
) -> None:
    with files.held(tmp_path / "witness-0.json"):
        assert "another process holds it" in str(sign(tmp_path, ca, expect=2).exception)
    with pytest.raises(ConfigError, match="cannot be held"), files.held(tmp_path / "no" / "x"):
        pass


def test_a_witness_without_a_ca(broker: ToyBroker, desks: Desks, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(encode_owner_key(WITNESSES[0]).reveal())
    key.chmod(0o644)
    arguments = ("--first", "--key", str(key), "--memory", str(tmp_path / "m"), *BROKER)
    run("witness", *arguments, expect=2)
    key.chmod(0o600)
    assert "mesh-ca.pem" in str(run("witness", *arguments, expect=2).exception)


def test_keys_of_witnesses(broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path) -> None:
    key, words = tmp_path / "witness-1.key", tmp_path / "words"
    words.write_text("correct horse\n")
    words.chmod(0o600)
    locked = encode_owner_key(WITNESSES[1], passphrase=Secret(b"correct horse")).reveal()
    key.write_bytes(locked)
    key.chmod(0o600)
    assert "--passphrase-file" in str(sign(tmp_path, ca, 1, expect=2).exception)
    assert "signed" in sign(tmp_path, ca, 1, "--passphrase-file", str(words)).output
    key.write_bytes(b"wardian owner key v1\nkind none\n")
    assert "keygen" in str(sign(tmp_path, ca, 1, expect=2).exception)


# Where the log is, and files


def test_a_state_directory(broker: ToyBroker, desks: Desks, ca: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    run("verify", "--state", str(state), expect=2)
    (state / "run").mkdir(parents=True)
    assert "no broker wrote its address" in str(
        run("verify", "--state", str(state), expect=2).exception
    )
    (state / "run" / "broker.address").write_text("127.0.0.1:7\n")
    (state / "mesh-ca.pem").write_bytes(Path(ca).read_bytes())
    assert "UNVERIFIED" not in run("verify", "--state", str(state)).output
    assert load_memory(state / "audit-memory.json").read is not None
    run("verify", "--state", str(state), *BROKER, expect=2)
    out = str(tmp_path / "log")
    run("export", out, "--state", str(state))
    assert "UNVERIFIED" in run("verify", out).output
    assert "UNVERIFIED" not in run("verify", out, "--state", str(state)).output


@pytest.mark.parametrize(
    ("text", "address"),
    [("h:1", ("h", 1)), ("[::1]:65535", ("::1", 65535)), ("a.example:443", ("a.example", 443))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert source.parse_address(text) == address


@pytest.mark.parametrize("text", ["", "h", "h:", ":1", "h:65536", "h:x", "a b:1", "h:1 "])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        source.parse_address(text)


def test_a_memory_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    assert load_memory(path).known == ()
    assert load_memory(None).known == ()
    path.write_text("{}")
    with pytest.raises(ConfigError, match="audit memory"):
        load_memory(path)
    path.write_bytes(wire.encode(AuditMemory(read=None, peaks=())))
    assert load_memory(path).known == ()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_memory(tmp_path)


def test_a_damaged_memory(broker: ToyBroker, tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    head = broker.authority.transparency.head()
    path.write_bytes(wire.encode(AuditMemory(read=head, peaks=())))
    with pytest.raises(ConfigError, match="peaks"):
        load_memory(path)


def test_what_cannot_be_written_leaves_what_was_there(
    broker: ToyBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "memory.json"
    head = broker.authority.transparency.head()
    note_head(path, head)
    assert load_memory(path).seen == (head,)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wardian.cli.audit.files.os.fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        save_record(path, AuditMemory(read=None, peaks=()))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".memory")] == []


def test_a_directory_that_cannot_be_synced(
    broker: ToyBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems know no such thing; one whose disk fails says so, and nobody signs."""
    path, real = tmp_path / "memory.json", os.fsync
    says = errno.EINVAL

    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(says, os.strerror(says))
        real(descriptor)

    monkeypatch.setattr("wardian.cli.audit.files.os.fsync", sync)
    note_head(path, broker.authority.transparency.head())
    says = errno.EIO
    with pytest.raises(ConfigError, match="cannot be written"):
        note_head(path, broker.authority.transparency.head())


def test_heads_that_contradict_are_all_kept(broker: ToyBroker, tmp_path: Path) -> None:
    path, head = tmp_path / "memory.json", broker.authority.transparency.head()
    note_head(path, head)
    forks = [
        msgspec.structs.replace(head, audit=msgspec.structs.replace(head.audit, root=root * 32))
        for root in ("00", "11")
    ]
    for fork in (*forks, *forks):
        with pytest.raises(AuthenticationFailed, match="convict.*what was shown is kept in"):
            note_head(path, fork)
    kept = sorted(tmp_path.glob("memory.json.refused-*"))
    assert [wire.decode(each.read_bytes(), SignedHead, what="x") for each in kept] == forks
    assert load_memory(path).known == (head,)


def test_what_shows_a_wrong_log_ends_with_3() -> None:
    with pytest.raises(PolicyDenied) as caught, source.log_refused():
        raise AuthenticationFailed("forked")
    assert (caught.value.rule, exit_status(caught.value)) == ("audit-log", 3)
