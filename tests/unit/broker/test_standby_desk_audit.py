"""What the log says of brokers that ask for all of another's keys: who, on which evidence."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from desk_calls import Desks
from toy_mesh import NOW, OTHER_PLATFORM, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.attestation.evidence_digest import evidence_digest
from wardian.broker.limits import ServiceLimits
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.standby.messages import StandbyHello
from wardian.broker.standby.standby_session import StandbySession
from wardian.broker.state.audit import AuditEntry, decode_line

LIMITS = ServiceLimits(lines_per_s=0, line_burst=2, judged_per_s=0, judged_burst=3)
NEWER = digest("newer broker")


@pytest.fixture
def broker(mesh: ToyMesh, tmp_path: Path) -> Iterator[ToyBroker]:
    roles = {
        role: RoleReference(measurements=(measured.hex(),))
        for role, measured in mesh.measurements.items()
    }
    roles["broker"] = RoleReference(
        measurements=(mesh.measurements["broker"].hex(), NEWER.hex()),
    )
    with closing(ToyBroker(mesh, tmp_path / "broker.db", provisioned=False)) as broker:
        broker.provision(mesh.signed(roles=roles), keys=tuple(mesh.keys.values()))
        yield broker


@pytest.fixture
async def desks(broker: ToyBroker) -> AsyncIterator[Desks]:
    desks = Desks(broker, limits=LIMITS)
    yield desks
    await desks.close()


async def take_over(mesh: ToyMesh, desks: Desks, attest: Callable[[bytes], Evidence]) -> bytes:
    """Message 4, or a refusal, for a broker that asks with this evidence."""
    session = StandbySession(wish="take over", agreed=mesh.agreed, nonce=bytes(32))
    stream = await desks.connect(("broker", 1))
    await stream.send(session.hello(tee="simulated"))
    report_data = session.receive_challenge(await stream.receive(most=2**22), now=NOW, known=None)
    await stream.send(session.proof(attest(report_data)))
    answer = await stream.receive(most=2**22)
    await stream.close()
    return answer


def entries(broker: ToyBroker, after: int) -> list[AuditEntry]:
    return [decode_line(raw).entry for raw in broker.store.audit_lines(after=after, limit=1000)]


async def test_the_keys_of_all_go_with_the_evidence_that_they_went_for(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks
) -> None:
    before, shown = broker.store.audit_head.count, list[Evidence]()

    def attest(report_data: bytes) -> Evidence:
        shown.append(mesh.attest("broker", measurement=NEWER)(report_data))
        return shown[0]

    assert b"wardian standby answer" in await take_over(mesh, desks, attest)
    released, handed_over = entries(broker, before)
    assert (released.event, released.kind, handed_over.rule) == ("release", "master", "handed-over")
    for entry in (released, handed_over):
        assert entry.measurement == NEWER.hex()
        assert entry.evidence == evidence_digest(shown[0]).hex()


async def test_a_broker_that_is_refused_is_written_down_with_its_evidence(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks
) -> None:
    before, shown = broker.store.audit_head.count, list[Evidence]()

    def attest(report_data: bytes) -> Evidence:
        shown.append(mesh.attest("broker", measurement=digest("trojan"))(report_data))
        return shown[0]

    assert b"wardian refusal" in await take_over(mesh, desks, attest)
    (line,) = entries(broker, before)
    assert (line.event, line.role, line.rule) == ("refusal", "broker", "MeasurementIn")
    assert line.evidence == evidence_digest(shown[0]).hex()


async def test_strangers_do_not_fill_the_log_here_either(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks
) -> None:
    before = broker.store.audit_head.count
    for evidence in (
        mesh.attest("broker", platform=OTHER_PLATFORM),
        lambda _: mesh.attest("broker")(bytes(64)),
        lambda _: Evidence(quote=b"x", collateral=b""),
    ):
        for _ in range(3):
            await take_over(mesh, desks, evidence)
    for _ in range(3):
        stream = await desks.connect(("broker", 1))
        hello = StandbyHello(wish="take over", tee="simulated", nonce=bytes(32))
        await stream.send(wire.encode(hello))
        await stream.receive(most=2**22)
        await stream.send(b"x")
        assert b"wardian refusal" in await stream.receive(most=2**22)
        await stream.close()
    assert len(entries(broker, before)) == LIMITS.line_burst
