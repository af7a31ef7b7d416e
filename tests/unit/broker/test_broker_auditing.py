"""An auditor at a broker's desks: what it reads, what it remembers, what cannot be hidden from it."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from audit_logs import STRANGER, WITNESSES
from desk_calls import Desks
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.broker.audit_log import asking
from wardian.broker.audit_log.asking import Asked
from wardian.broker.audit_log.auditing import (
    Audited,
    audit,
    audit_export,
    find_lines,
    read_newest,
)
from wardian.broker.ca import MeshCa
from wardian.broker.limits import ServiceLimits
from wardian.broker.state.audit import AuditLine, decode_line
from wardian.broker.status import PAGE_LINES, Status, read_status
from wardian.broker.transparency.client import read_proofs, visit
from wardian.broker.transparency.cosigning import Cosignature, HeadDemand, WitnessedHead
from wardian.broker.transparency.heads import sign_head
from wardian.broker.transparency.memory import (
    MAX_UNPROVED,
    NOTHING,
    AuditMemory,
    noted,
    refuse_contradiction,
)
from wardian.broker.transparency.proofs import ProofRequest, Proofs
from wardian.broker.transparency.records import AuditProof, LogExport, verify_proof
from wardian.broker.transparency.witnessing import WitnessMemory, WitnessSession
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectionLost,
    FormatError,
    PeerProtocolError,
    PolicyDenied,
    SealError,
    TransportError,
)

WHERE = ("broker", 1)
CLIENTS = ("wardian.broker.status", "wardian.broker.transparency.client")
replace = msgspec.structs.replace


@pytest.fixture
def mesh() -> ToyMesh:
    return ToyMesh(witnesses=list(WITNESSES))


@pytest.fixture
def broker(mesh: ToyMesh, tmp_path: Path) -> Iterator[ToyBroker]:
    with closing(ToyBroker(mesh, tmp_path / "broker.db")) as broker:
        yield broker


@pytest.fixture
async def desks(broker: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desks]:
    desks = Desks(broker)
    desks.instead_of_sockets(monkeypatch, *CLIENTS)
    yield desks
    await desks.close()


def asked(ca_spki: bytes | None) -> Asked:
    return Asked(address=WHERE, ca_spki=ca_spki, now=lambda: NOW)


def refusals(broker: ToyBroker, count: int, *, rule: str = "r") -> None:
    entry = broker.authority.entry(event="refusal", outcome="refused", rule=rule)
    broker.authority.record([entry] * count)


async def audited(
    broker: ToyBroker, memory: AuditMemory = NOTHING, **more: object
) -> tuple[Audited, list[AuditLine]]:
    read: list[AuditLine] = []
    found = await audit(
        asked(more.pop("ca_spki", broker.authority.ca.spki)),  # type: ignore[arg-type]
        memory=memory,
        each=lambda _, line: read.append(line),
        **more,  # type: ignore[arg-type]
    )
    return found, read


async def come(
    broker: ToyBroker, key=WITNESSES[0], memory: WitnessMemory | None = None
) -> tuple[WitnessedHead, WitnessMemory]:
    kept: list[WitnessMemory] = []
    session = WitnessSession(key=key, memory=memory, ca_spki=broker.authority.ca.spki)
    found = await visit(WHERE, session, remember=kept.append, now=lambda: NOW)
    assert not found.set_back
    return found.shown, kept[0]


# Reading


async def test_a_log_is_read_once_and_then_on(broker: ToyBroker, desks: Desks) -> None:
    first, lines = await audited(broker)
    assert [line.sequence for line in lines] == list(range(1, first.read + 1))
    assert first.memory.chain.head == broker.store.audit_head
    refusals(broker, 3)
    second, lines = await audited(broker, first.memory)
    assert (second.read, len(lines)) == (3, 3)
    third, lines = await audited(broker, second.memory)
    assert (third.read, lines) == (0, [])
    assert third.memory.chain == second.memory.chain
    assert third.vouched is None


async def test_a_long_log_comes_in_pages(broker: ToyBroker, desks: Desks) -> None:
    refusals(broker, 2 * PAGE_LINES)
    found, lines = await audited(broker)
    assert len(lines) == found.read == broker.store.audit_head.count
    assert desks.served == 3


async def test_lines_that_come_meanwhile_are_for_the_next_time(
    broker: ToyBroker, desks: Desks
) -> None:
    refusals(broker, PAGE_LINES)

    def grow(raw: bytes) -> bytes:
        refusals(broker, 7)
        return raw

    desks.carry = grow
    before = broker.store.audit_head.count
    found, lines = await audited(broker)
    assert len(lines) == found.read == before


async def test_a_busy_broker_is_asked_again(
    broker: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    desks = Desks(broker, limits=ServiceLimits(status_burst=2, statuses_per_s=0))
    desks.instead_of_sockets(monkeypatch, *CLIENTS)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asking.asyncio, "sleep", pause)
    await audited(broker)
    await audited(broker)
    with pytest.raises(TransportError, match="more status than it can give"):
        await audited(broker)
    assert len(pauses) == asking.ATTEMPTS - 1
    await desks.close()


async def test_a_broker_that_leaves_is_not_asked_again(
    broker: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(*_: object) -> None:
        raise ConnectionLost("no broker answers")

    monkeypatch.setattr("wardian.broker.status.connect", nobody)
    with pytest.raises(ConnectionLost):
        await audited(broker)


async def test_a_broker_that_is_not_the_newest_says_nothing(
    broker: ToyBroker, desks: Desks
) -> None:
    broker.counter.value += 1
    for ask in (
        read_status(WHERE),
        read_proofs(WHERE, ProofRequest()),
        come(broker),
    ):
        with pytest.raises(TransportError, match="cannot answer"):
            await ask
        broker.store._usable = True


# What a broker, or its carrier, may do to the log


def on_status(change: Callable[[Status], Status]) -> Callable[[bytes], bytes]:
    def carry(raw: bytes) -> bytes:
        return wire.encode(change(wire.decode(raw, Status, what="x")))

    return carry


def _altered(status: Status) -> Status:
    lines = list(status.lines)
    lines[1] = lines[1].replace(b'"owner":"', b'"owner":"0')
    return replace(status, lines=tuple(lines))


@pytest.mark.parametrize(
    "change",
    [
        _altered,
        lambda status: replace(status, lines=status.lines[1:]),
        lambda status: replace(status, lines=(status.lines[1], status.lines[0])),
        lambda status: replace(status, lines=(status.lines[0], *status.lines)),
        lambda status: replace(status, lines=(*status.lines[:-1], status.lines[-2])),
    ],
    ids=["altered", "first dropped", "reordered", "repeated", "last replaced"],
)
async def test_lines_that_are_not_the_log(
    broker: ToyBroker, desks: Desks, change: Callable[[Status], Status]
) -> None:
    desks.carry = on_status(change)
    with pytest.raises(AuthenticationFailed):
        await audited(broker)


async def test_the_last_line_is_another_of_the_same_length(broker: ToyBroker, desks: Desks) -> None:
    desks.carry = on_status(
        lambda status: replace(
            status,
            lines=(
                *status.lines[:-1],
                status.lines[-1].replace(b'"outcome":"granted"', b'"outcome":"refused"'),
            ),
        )
    )
    with pytest.raises(AuthenticationFailed, match="forked"):
        await audited(broker)


async def test_a_log_that_is_not_shown_to_its_end(broker: ToyBroker, desks: Desks) -> None:
    desks.carry = on_status(lambda status: replace(status, lines=()))
    with pytest.raises(PeerProtocolError, match="to the end"):
        await audited(broker)


async def test_another_ca(broker: ToyBroker, desks: Desks) -> None:
    other = MeshCa.create(mesh="test", simulated=True, now=NOW)
    with pytest.raises(AuthenticationFailed, match="another mesh CA than the one given"):
        await audited(broker, ca_spki=other.spki)
    found, _ = await audited(broker, ca_spki=None)
    assert found.mesh_ca == broker.authority.ca.certificate
    forged = sign_head(
        broker.store.audit_head,
        mesh="test",
        manifest_digest=broker.authority.manifest_digest,
        ca_spki=other.spki,
        sign=other.sign,
        now=NOW,
    )
    desks.carry = on_status(
        lambda status: replace(
            status,
            mesh_ca=other.certificate,
            witnessed=replace(status.witnessed, head=forged, cosigned=()),
        )
    )
    await audited(broker, ca_spki=None)  # a stranger is deceived
    with pytest.raises(AuthenticationFailed, match="than the one remembered"):
        await audited(broker, found.memory, ca_spki=None)


async def test_an_older_copy_and_a_fork(
    mesh: ToyMesh, broker: ToyBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, counted = tmp_path / "copy.db", broker.counter.value
    copy.write_bytes(broker.path.read_bytes())
    refusals(broker, 4)
    desks = Desks(broker)
    desks.instead_of_sockets(monkeypatch, *CLIENTS)
    memory = (await audited(broker))[0].memory
    receipt = broker.authority.transparency.head()
    await desks.close()
    twin = ToyBroker.__new__(ToyBroker)
    twin.mesh, twin.path, twin.now, twin.host_time = mesh, copy, 100.0, NOW
    twin.counter = type(broker.counter)(counted)
    twin.start()
    with closing(twin):
        desks = Desks(twin)
        desks.instead_of_sockets(monkeypatch, *CLIENTS)
        for lines in (0, 3, 5):
            refusals(twin, lines, rule="hidden") if lines else None
            with pytest.raises(AuthenticationFailed, match=r"forked|does not follow"):
                await audited(twin, memory)
            with pytest.raises(AuthenticationFailed, match="forked"):
                await audited(twin, noted(NOTHING, receipt))
        await audited(twin)  # who remembers nothing notices nothing
        await desks.close()


# Heads that were only seen


async def test_heads_seen_elsewhere_are_proved_and_then_forgotten(
    broker: ToyBroker, desks: Desks
) -> None:
    memory = NOTHING
    for _ in range(40):
        refusals(broker, 1)
        memory = noted(memory, broker.authority.transparency.head())
    assert len(memory.seen) == 40
    assert noted(memory, memory.seen[3]) == memory
    found, _ = await audited(broker, memory)
    assert found.memory.seen == ()
    assert noted(found.memory, memory.seen[-1]) == found.memory
    later = noted(found.memory, memory.seen[0])
    assert (await audited(broker, later))[0].read == 0


async def test_proofs_that_are_spoiled_on_the_way(broker: ToyBroker, desks: Desks) -> None:
    memory = noted(NOTHING, broker.authority.transparency.head())
    refusals(broker, 2)

    def spoil(raw: bytes) -> bytes:
        if b"wardian audit proofs v1" not in raw[:50]:
            return raw
        proofs = wire.decode(raw, Proofs, what="x")
        return wire.encode(replace(proofs, seen=((bytes(32),),)))

    desks.carry = spoil
    with pytest.raises(AuthenticationFailed, match="forked"):
        await audited(broker, memory)


def test_two_heads_of_one_length_convict(broker: ToyBroker) -> None:
    head = broker.authority.transparency.head()
    other = replace(head, audit=replace(head.audit, root="00" * 32))
    with pytest.raises(AuthenticationFailed, match="together they convict"):
        noted(noted(NOTHING, head), other)
    refuse_contradiction(head.audit, head.audit)


def test_a_memory_of_another_log(broker: ToyBroker) -> None:
    head = broker.authority.transparency.head()
    with pytest.raises(AuthenticationFailed, match="than the one remembered"):
        noted(noted(NOTHING, head), replace(head, log="00" * 32))


def test_a_memory_that_is_full(broker: ToyBroker) -> None:
    head = broker.authority.transparency.head()
    full = AuditMemory(
        read=None,
        peaks=(),
        seen=tuple(
            replace(head, audit=replace(head.audit, count=1000 + number))
            for number in range(MAX_UNPROVED)
        ),
    )
    with pytest.raises(ConfigError, match="wardian audit verify"):
        noted(full, head)


async def test_a_memory_that_was_damaged(broker: ToyBroker, desks: Desks) -> None:
    memory = (await audited(broker))[0].memory
    for broken in (
        replace(memory, peaks=memory.peaks[:-1]),
        replace(memory, peaks=(*memory.peaks[:-1], bytes(32))),
        replace(memory, peaks=(*memory.peaks, bytes(32))),
    ):
        with pytest.raises(FormatError, match="peaks"):
            await audited(broker, broken)
    assert wire.decode(wire.encode(memory), AuditMemory, what="x") == memory


# Witnesses


async def test_witnesses_come_to_the_desk(broker: ToyBroker, desks: Desks) -> None:
    demand = HeadDemand(
        witnesses=frozenset(key.public.hex() for key in WITNESSES),
        threshold=2,
        max_lines=0,
        max_age_s=60,
    )
    _, memory = await come(broker)
    with pytest.raises(PolicyDenied, match="1 of the 2 witnesses"):
        await audited(broker, demand=demand)
    shown, _ = await come(broker, WITNESSES[1])
    assert len(shown.cosigned) == 2
    found, _ = await audited(broker, demand=demand)
    assert found.vouched is not None
    assert found.vouched.lines_behind == 0
    refusals(broker, 1)
    await come(broker, memory=memory)


async def test_a_stranger_is_refused_before_and_a_forger_after(
    broker: ToyBroker, desks: Desks
) -> None:
    lines = broker.store.audit_head.count
    with pytest.raises(PolicyDenied, match="not a witness"):
        await come(broker, STRANGER)
    assert broker.store.audit_head.count == lines  # who says to be nobody leaves no line

    class Forger(WitnessSession):
        def cosignature(self) -> bytes:
            signed = wire.decode(super().cosignature(), Cosignature, what="x")
            return wire.encode(replace(signed, signature=bytes(64)))

    session = Forger(key=WITNESSES[0], memory=None, ca_spki=broker.authority.ca.spki)
    with pytest.raises(PolicyDenied, match="cosignature is not this witness's"):
        await visit(WHERE, session, remember=lambda _: None, now=lambda: NOW)
    last = decode_line(broker.store.audit_lines(after=lines)[0]).entry
    assert (last.event, last.role, last.rule) == ("refusal", "witness", "AuthenticationFailed")


async def test_nothing_is_signed_that_could_not_be_remembered(
    broker: ToyBroker, desks: Desks
) -> None:
    def full(_: WitnessMemory) -> None:
        raise OSError("no space left")

    session = WitnessSession(key=WITNESSES[0], memory=None, ca_spki=broker.authority.ca.spki)
    with pytest.raises(OSError, match="no space"):
        await visit(WHERE, session, remember=full, now=lambda: NOW)
    await asyncio.sleep(0)
    assert broker.authority.transparency.witnessed().cosigned == ()


async def test_a_state_that_cannot_be_written(broker: ToyBroker, desks: Desks) -> None:
    refusals(broker, 1)
    broker.counter.fails = True
    session = WitnessSession(key=WITNESSES[0], memory=None, ca_spki=broker.authority.ca.spki)
    with pytest.raises(TransportError, match="cannot answer"):
        await visit(WHERE, session, remember=lambda _: None, now=lambda: NOW)
    assert not broker.store.usable
    with pytest.raises(SealError):
        refusals(broker, 1)


# Proofs that outlive the answer


async def test_a_proof_file_needs_no_broker(broker: ToyBroker, desks: Desks) -> None:
    proofs = await read_proofs(WHERE, ProofRequest(lines=(1, 3)))
    proof = AuditProof(mesh_ca=proofs.mesh_ca, head=proofs.witnessed.head, lines=proofs.lines)
    spki = broker.authority.ca.spki
    again = wire.decode(wire.encode(proof), AuditProof, what="x")
    assert [line.sequence for line in verify_proof(again, ca_spki=spki)] == [1, 3]
    assert verify_proof(again, ca_spki=None) == verify_proof(again, ca_spki=spki)
    other = MeshCa.create(mesh="test", simulated=True, now=NOW)
    for forged, ca_spki in (
        (proof, other.spki),
        (replace(proof, mesh_ca=other.certificate), other.spki),
        (replace(proof, mesh_ca=other.certificate), None),
        (replace(proof, head=replace(proof.head, time=1)), spki),
        (replace(proof, lines=(replace(proof.lines[0], sequence=2),)), spki),
    ):
        with pytest.raises(AuthenticationFailed):
            verify_proof(forged, ca_spki=ca_spki)


async def test_proofs_are_rationed(broker: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    desks = Desks(broker, limits=ServiceLimits(proof_burst=1, proofs_per_s=0))
    desks.instead_of_sockets(monkeypatch, *CLIENTS)
    await read_proofs(WHERE, ProofRequest())
    with pytest.raises(TransportError, match="more proofs than"):
        await read_proofs(WHERE, ProofRequest())
    await come(broker)
    with pytest.raises(TransportError, match="more witnesses than"):
        await come(broker)
    await desks.close()


async def test_the_answer_to_something_else(broker: ToyBroker, desks: Desks) -> None:
    answer = wire.encode(broker.authority.transparency.prove(ProofRequest(lines=(1,))))
    desks.carry = lambda _: answer
    with pytest.raises(PeerProtocolError, match="other proofs"):
        await read_proofs(WHERE, ProofRequest(lines=(2,)))


# The newest lines, and lines that somebody looks for


async def test_the_newest_lines(broker: ToyBroker, desks: Desks) -> None:
    refusals(broker, 120)
    count = broker.store.audit_head.count
    for last, wanted in ((3, 3), (110, 110), (None, count), (10**6, count)):
        status, lines = await read_newest(asked(None), last=last)
        assert status.audit.count == count
        assert [line.sequence for line in lines] == list(range(count - wanted + 1, count + 1))
    for after, wanted in ((count - 2, 2), (count, 0), (count + 5, 0)):
        assert len((await read_newest(asked(None), after=after))[1]) == wanted


async def test_newest_lines_that_do_not_lead_to_the_head(broker: ToyBroker, desks: Desks) -> None:
    desks.carry = on_status(lambda status: replace(status, lines=status.lines[::-1]))
    with pytest.raises(AuthenticationFailed):
        await read_newest(asked(None), last=3)


async def test_lines_that_are_looked_for(broker: ToyBroker, desks: Desks) -> None:
    refusals(broker, 6, rule="wanted")
    count = broker.store.audit_head.count
    head, found = await find_lines(asked(None), lambda line: line.entry.rule == "wanted", most=4)
    assert head.audit == broker.store.audit_head
    assert found == tuple(range(count - 3, count + 1))
    assert (await find_lines(asked(None), lambda line: line.sequence == 0, most=4))[1] == ()


# A log in a file


async def exported(broker: ToyBroker) -> list[bytes]:
    raws: list[bytes] = []
    found = await audit(
        asked(None),
        memory=NOTHING,
        each=lambda raw, _: raws.append(raw),
    )
    return [wire.encode(LogExport(mesh_ca=found.mesh_ca, witnessed=found.witnessed)), *raws]


async def test_an_exported_log(broker: ToyBroker, desks: Desks) -> None:
    await come(broker)
    refusals(broker, 3)
    lines, spki = await exported(broker), broker.authority.ca.spki
    read: list[int] = []
    found = audit_export(
        lines,
        memory=NOTHING,
        ca_spki=spki,
        now=lambda: NOW,
        each=lambda _, line: read.append(line.sequence),
    )
    assert (found.read, len(read)) == (broker.store.audit_head.count,) * 2
    assert found.memory.chain.head == broker.store.audit_head
    again = audit_export(lines, memory=found.memory, ca_spki=spki, now=lambda: NOW)
    assert again.memory == found.memory
    one = HeadDemand(
        witnesses=frozenset({WITNESSES[0].public.hex()}), threshold=1, max_lines=3, max_age_s=9
    )
    vouched = audit_export(lines, memory=NOTHING, ca_spki=None, now=lambda: NOW, demand=one).vouched
    assert vouched is not None
    assert vouched.lines_behind == 3
    with pytest.raises(PolicyDenied):
        audit_export(
            lines, memory=NOTHING, ca_spki=None, now=lambda: NOW, demand=replace_lines(one, 2)
        )


def replace_lines(demand: HeadDemand, most: int) -> HeadDemand:
    return dataclasses.replace(demand, max_lines=most)


async def test_an_exported_log_that_was_spoiled(broker: ToyBroker, desks: Desks) -> None:
    refusals(broker, 3)
    lines = await exported(broker)
    other = wire.encode(
        replace(
            wire.decode(lines[0], LogExport, what="x"),
            mesh_ca=MeshCa.create(mesh="test", simulated=True, now=NOW).certificate,
        )
    )
    for spoiled in (
        lines[:-1],
        [*lines, lines[-1]],
        [*lines[:2], *lines[3:]],
        [lines[0], lines[2], lines[1], *lines[3:]],
        [other, *lines[1:]],
    ):
        with pytest.raises(AuthenticationFailed):
            audit_export(spoiled, memory=NOTHING, ca_spki=None, now=lambda: NOW)
    for broken in ([], [b"{}"], [*lines, b"{}"]):
        with pytest.raises(FormatError):
            audit_export(broken, memory=NOTHING, ca_spki=None, now=lambda: NOW)
    with pytest.raises(AuthenticationFailed, match="than the one given"):
        audit_export(lines, memory=NOTHING, ca_spki=b"another", now=lambda: NOW)


async def test_an_exported_log_and_what_is_remembered(broker: ToyBroker, desks: Desks) -> None:
    refusals(broker, 1)
    seen = broker.authority.transparency.head()
    memory = noted(NOTHING, seen)
    refusals(broker, 1)
    lines = await exported(broker)
    assert audit_export(lines, memory=memory, ca_spki=None, now=lambda: NOW).memory.seen == ()
    forged = replace(seen, audit=replace(seen.audit, root="00" * 32))
    with pytest.raises(AuthenticationFailed, match="convict"):
        audit_export(lines, memory=noted(NOTHING, forged), ca_spki=None, now=lambda: NOW)
    refusals(broker, 1)
    later = noted(NOTHING, broker.authority.transparency.head())
    with pytest.raises(AuthenticationFailed, match="cut short"):
        audit_export(lines, memory=later, ca_spki=None, now=lambda: NOW)
