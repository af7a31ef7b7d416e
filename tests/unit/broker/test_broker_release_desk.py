"""A whole release between `obtain` and the broker's desk, without a socket."""

from collections.abc import AsyncIterator, Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from desk_calls import Desks, Pipe
from toy_mesh import NOW, OTHER_PLATFORM, ToyBroker, ToyMesh, digest

from wardian.attestation.evidence import Evidence
from wardian.broker.limits import ServiceLimits
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.release.admission import Admission
from wardian.broker.release.client import obtain
from wardian.broker.state.audit import AuditEntry, verify_chain
from wardian.errors import (
    AdmissionRefused,
    AuthenticationFailed,
    EvidenceInvalid,
    LocalProtocolError,
    PolicyDenied,
    TransportError,
)

LIMITS = ServiceLimits(lines_per_s=0, line_burst=2, quotes_per_s=0.001, quote_burst=6)
FLOODED = ServiceLimits(lines_per_s=0, line_burst=2, judged_per_s=0, judged_burst=3)


class Asking:
    """A workload, and the broker at the other end of its connections."""

    def __init__(
        self, broker: ToyBroker, patch: pytest.MonkeyPatch, *, limits: ServiceLimits | None = None
    ) -> None:
        self.broker, self.desks = broker, Desks(broker, limits=limits or LIMITS)
        self.desks.instead_of_sockets(patch, "wardian.broker.release.client")
        self.evidence = 0
        patch.setattr(Pipe, "peer_certificate", lambda _: self.certificate(), raising=False)

    def certificate(self) -> bytes:
        _, chain = self.broker.authority.own_identity()
        return x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.DER)

    async def ask(self, role: str = "worker", **changes: object) -> Admission:
        mesh = self.broker.mesh

        def attest(report_data: bytes) -> object:
            self.evidence += 1
            return mesh.attest(role)(report_data)

        arguments: dict[str, object] = {
            "role": role,
            "models": ("digits",),
            "agreed": mesh.agreed,
            "attest": attest,
            "tee": "simulated",
            "now": lambda: NOW,
        }
        return await obtain(("broker", 1), **(arguments | changes))  # type: ignore[arg-type]

    def last(self) -> AuditEntry:
        store = self.broker.store
        return verify_chain(store.audit_lines(limit=1000), head=store.audit_head)[-1].entry


@pytest.fixture
async def asking(broker: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asking]:
    asking = Asking(broker, monkeypatch)
    yield asking
    await asking.desks.close()


async def test_a_workload_is_admitted_and_renews(asking: Asking, mesh: ToyMesh) -> None:
    first = await asking.ask()
    assert first.model_key("digits", 1) == mesh.keys["digits"].key
    again = await asking.ask(renewal=True, seen=first.witnessed.head.audit)
    assert again.queue_key("digits") == first.queue_key("digits")
    with pytest.raises(LocalProtocolError):
        again.model_key("digits", 1)
    assert asking.last().event == "release"


async def test_what_nobody_may_have_costs_no_quote_and_few_lines(asking: Asking) -> None:
    lines = asking.broker.store.audit_head.count
    for _ in range(9):
        with pytest.raises(PolicyDenied) as caught:
            await asking.ask(models=("other",))
        assert caught.value.rule == "model-known"
        assert not isinstance(caught.value, AdmissionRefused)
    assert asking.broker.store.audit_head.count == lines + LIMITS.line_burst
    assert asking.evidence == 0
    await asking.ask()


async def test_t21_a_renewal_is_refused_after_evidence_and_audited(
    asking: Asking, mesh: ToyMesh
) -> None:
    """Where an admission is refused before any quote, the one that may end a process is not."""
    await asking.ask()
    asking.broker.provision(mesh.signed(version=2, models=(mesh.line("faces"),)))
    with pytest.raises(AdmissionRefused) as caught:
        await asking.ask(renewal=True)
    assert caught.value.rule == "model-known"
    assert asking.evidence == 2
    last = asking.last()
    assert (last.event, last.outcome, last.rule) == ("refusal", "refused", "model-known")


async def test_renewals_use_up_no_more_quotes_than_there_are(asking: Asking) -> None:
    for _ in range(LIMITS.quote_burst):
        with pytest.raises(AdmissionRefused):
            await asking.ask(models=("other",), renewal=True)
    with pytest.raises(TransportError, match="more evidence than it can make"):
        await asking.ask(renewal=True)


async def test_t24_quotes_that_one_address_uses_up_are_not_all(
    broker: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ServiceLimits(quotes_per_s=0, quote_burst=10, peer_quotes_per_s=0, peer_quote_burst=3)
    asking = Asking(broker, monkeypatch, limits=limits)
    for peer, quotes in (("10.0.0.1", 7), ("10.0.0.2", 3)):
        asking.desks.peer = peer
        for _ in range(quotes):
            await asking.ask()
        with pytest.raises(TransportError, match="more evidence than it can make"):
            await asking.ask()
    await asking.desks.close()


async def test_evidence_of_other_code_is_refused_and_audited(asking: Asking, mesh: ToyMesh) -> None:
    trojan = mesh.attest("worker", measurement=digest("trojan"))
    with pytest.raises(AdmissionRefused) as caught:
        await asking.ask(attest=trojan)
    assert caught.value.rule == asking.last().rule == "MeasurementIn"


class Lines:
    """How many lines an attacker makes, and what the last one says."""

    def __init__(self, asking: Asking) -> None:
        self.asking, self.before = asking, asking.broker.store.audit_head.count

    @property
    def new(self) -> int:
        return self.asking.broker.store.audit_head.count - self.before


def _unbound(mesh: ToyMesh) -> Callable[[bytes], Evidence]:
    return lambda _: mesh.attest("worker")(bytes(64))  # genuine, of another session: played back


def _own_root(mesh: ToyMesh) -> Callable[[bytes], Evidence]:
    return mesh.attest("worker", platform=OTHER_PLATFORM)  # the attacker's own vendor


def _garbage(_: ToyMesh) -> Callable[[bytes], Evidence]:
    return lambda _: Evidence(quote=b"x", collateral=b"")


@pytest.mark.parametrize("attest", [_unbound, _own_root, _garbage])
async def test_evidence_that_costs_nothing_does_not_fill_the_log(
    mesh: ToyMesh,
    broker: ToyBroker,
    monkeypatch: pytest.MonkeyPatch,
    attest: Callable[[ToyMesh], Callable[[bytes], Evidence]],
) -> None:
    """The quote that each visit costs is the broker's: it bounds nothing that is kept for good."""
    asking = Asking(broker, monkeypatch, limits=FLOODED)
    lines = Lines(asking)
    for _ in range(9):
        with pytest.raises((PolicyDenied, EvidenceInvalid, TransportError)):
            await asking.ask(attest=attest(mesh))
    assert lines.new == FLOODED.line_burst
    with pytest.raises(AdmissionRefused):  # nobody's garbage takes the line of a genuine platform
        await asking.ask(attest=mesh.attest("worker", measurement=digest("trojan")))
    assert asking.last().rule == "MeasurementIn"
    assert asking.last().evidence
    assert lines.new == FLOODED.line_burst + 1
    await asking.desks.close()


async def test_a_platform_does_not_fill_the_log_either(
    mesh: ToyMesh, broker: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(broker, monkeypatch, limits=FLOODED)
    lines, trojan = Lines(asking), mesh.attest("worker", measurement=digest("trojan"))
    for _ in range(9):
        with pytest.raises(AdmissionRefused):
            await asking.ask(attest=trojan)
    assert lines.new == FLOODED.judged_burst + FLOODED.line_burst
    assert asking.desks.office.lines.close() == 9 - lines.new
    await asking.desks.close()


async def test_a_connection_that_does_not_end_at_the_broker_gets_no_evidence(
    asking: Asking, mesh: ToyMesh
) -> None:
    before = asking.certificate()
    asking.broker.provision(mesh.signed(version=2))
    asking.certificate = lambda: before  # type: ignore[method-assign]
    with pytest.raises(AuthenticationFailed, match="issuing CA of this manifest"):
        await asking.ask()
    assert asking.evidence == 0


async def test_the_manifest_changes_while_evidence_is_made(asking: Asking, mesh: ToyMesh) -> None:
    """Nothing was decided, so nothing is audited: the workload asks again."""
    shown = asking.certificate()
    asking.certificate = lambda: shown  # type: ignore[method-assign]

    def attest(report_data: bytes) -> object:
        return mesh.attest("worker")(report_data)

    def change(raw: bytes) -> bytes:
        if asking.broker.authority.manifest_version == 1:
            asking.broker.provision(mesh.signed(version=2))
        return raw

    asking.desks.carry = change
    with pytest.raises(TransportError, match="manifest changed meanwhile"):
        await asking.ask(attest=attest)
    assert asking.last().event != "refusal"


async def test_a_role_that_left_the_manifest(asking: Asking, mesh: ToyMesh) -> None:
    roles = dict(mesh.manifest().roles) | {
        "worker": RoleReference(measurements=(digest("another").hex(),))
    }
    asking.broker.provision(mesh.signed(version=2, roles=roles))
    with pytest.raises(AdmissionRefused):
        await asking.ask(renewal=True)


async def test_who_presents_no_evidence_fills_no_log(asking: Asking) -> None:
    """One frame of garbage in the place of evidence, and each had a line that stays for good."""
    before = asking.broker.store.audit_head.count
    workload = asking.broker.mesh.workload()
    for _ in range(LIMITS.quote_burst):
        stream = await asking.desks.connect(("broker", 1))
        await stream.send(workload.request(tee="simulated"))
        await stream.receive(most=2**22)
        await stream.send(b"garbage")
        assert b"malformed" in await stream.receive(most=2**22)
        workload = asking.broker.mesh.workload()
    assert asking.broker.store.audit_head.count == before + LIMITS.line_burst
    assert asking.last().rule == "FormatError"
