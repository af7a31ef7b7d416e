"""A mesh at a glance: what is shown, what is warned of, and what a lying broker cannot make of it."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from audit_logs import WITNESSES, Watcher
from desk_calls import Desks
from test_broker_release_log import Desk
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian._internal.counter import CounterKeeper
from wardian.broker.audit_log.asking import Asked
from wardian.broker.ca import MeshCa
from wardian.broker.mesh.lines import ReleaseTerms, sign_line
from wardian.broker.overview.client import MOST_LINES, read_overview
from wardian.broker.overview.view import Overview, RoleView, SecretView, WitnessView
from wardian.broker.overview.warnings import DAY_S, SOON_S, WITNESSED_S, warnings_of
from wardian.broker.owners.manifest_log import ManifestLog
from wardian.broker.status import Status, StatusRequest
from wardian.broker.status_desk import tell_status
from wardian.broker.transparency.cosigning import Cosignature, Cosigned
from wardian.errors import AuthenticationFailed, PeerProtocolError

WHERE = ("broker", 1)
CLIENTS = (
    "wardian.broker.status",
    "wardian.broker.transparency.client",
    "wardian.broker.overview.client",
)
replace = msgspec.structs.replace


@pytest.fixture
def mesh() -> ToyMesh:
    return ToyMesh(witnesses=list(WITNESSES[:2]), head_threshold=1)


@pytest.fixture
def broker(mesh: ToyMesh, tmp_path: Path) -> Iterator[ToyBroker]:
    with closing(ToyBroker(mesh, tmp_path / "broker.db", provisioned=False)) as broker:
        yield broker


@pytest.fixture
async def desks(broker: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desks]:
    desks = Desks(broker)
    desks.instead_of_sockets(monkeypatch, *CLIENTS)
    yield desks
    await desks.close()


def provision(mesh: ToyMesh, broker: ToyBroker) -> None:
    broker.provision(mesh.signed(), keys=(mesh.keys["digits"],))


async def seen(broker: ToyBroker, **more: object) -> tuple[Overview, tuple[str, ...]]:
    spki = more.pop("ca_spki", broker.authority.ca.spki)
    now = broker.host_time
    return await read_overview(
        Asked(address=WHERE, ca_spki=spki, now=lambda: now)  # type: ignore[arg-type]
    )


# What is shown


async def test_a_mesh_without_a_manifest(broker: ToyBroker, desks: Desks) -> None:
    found, warnings = await seen(broker)
    assert (found.manifest, found.roles, found.models, found.epoch) == (None, (), (), 0)
    assert any("no mesh manifest" in told for told in warnings)


async def test_a_mesh_at_a_glance(mesh: ToyMesh, broker: ToyBroker, desks: Desks) -> None:
    provision(mesh, broker)
    Watcher(WITNESSES[0], ca_spki=broker.authority.ca.spki).visit(Desk(broker))
    for _ in range(2):
        broker.admit(mesh.workload(), mesh.attest("worker"))
    found, warnings = await seen(broker)
    assert found.manifest is not None
    assert found.manifest.digest == mesh.verified().digest.hex()
    assert found.manifest.signers == (mesh.owners[0].public.hex(),)
    roles = {role.name: role for role in found.roles}
    assert {name: role.certificates for name, role in roles.items()} == {
        "broker": 0,
        "frontend": 0,
        "worker": 2,
    }
    assert roles["worker"].measurements == (mesh.measurements["worker"].hex(),)
    assert [(each.name, each.given, each.uses) for each in found.models] == [
        ("digits version 1", True, 2),
        ("faces version 1", False, 0),
    ]
    assert found.head == broker.store.audit_head
    assert found.head_verified
    first, second = sorted(found.witnesses, key=lambda each: each.seconds_ago is None)
    assert (first.lines_behind, first.seconds_ago) == (6, 0)
    assert (second.lines_behind, second.seconds_ago) == (None, None)
    told = "\n".join(warnings)
    assert "faces version 1: its owner" in told
    assert f"witness {second.public[:16]}… has signed no head" in told
    assert "counter is a file of the host" in told
    assert wire.decode(wire.encode(found), Overview, what="x") == found


async def test_certificates_of_the_last_lease_alone(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks
) -> None:
    provision(mesh, broker)
    Watcher(WITNESSES[0], ca_spki=broker.authority.ca.spki).visit(Desk(broker))
    broker.admit(mesh.workload(), mesh.attest("worker"))
    broker.host_time += broker.authority.lease_s + 1
    entry = broker.authority.entry(event="refusal", outcome="refused", rule="r")
    broker.authority.record([entry] * 150)
    found, _ = await seen(broker)
    assert {role.certificates for role in found.roles} == {0}
    broker.authority.record(
        [
            broker.authority.entry(
                event="release", outcome="granted", role="worker", certificate="ab" * 32
            )
        ]
        * 3
    )
    broker.authority.record([entry] * 150)  # more than come with a status, all of this lease
    found, _ = await seen(broker)
    assert {role.name: role.certificates for role in found.roles}["worker"] == 1
    assert broker.store.audit_head.count < MOST_LINES


async def test_named_secrets(mesh: ToyMesh, broker: ToyBroker, desks: Desks) -> None:
    from wardian.broker.mesh.lines import UNSIGNED, SecretLine

    line = SecretLine(
        name="token",
        serial=1,
        source="supplied",
        measurements=(mesh.measurements["worker"].hex(),),
        owner=mesh.owners[0].public.hex(),
        terms=ReleaseTerms(max_uses=3, not_after=NOW + 100, max_beacon_age_s=60),
        signature=UNSIGNED,
    )
    signed = sign_line(line, mesh=mesh.name, owner=mesh.owners[0])
    broker.provision(mesh.signed(secrets=(signed,)), keys=tuple(mesh.keys.values()))
    found, warnings = await seen(broker)
    (token,) = found.secrets
    assert (token.name, token.given, token.uses, token.max_uses) == ("secret token", False, 0, 3)
    assert token.beacon_by == 60  # never came
    told = "\n".join(warnings)
    assert "secret token: its owner" in told
    assert "secret token: its time is over in 0 hours" in told
    assert "secret token: the newest time beacon" in told


# A broker, or its carrier, that lies


async def test_nobody_vouches(mesh: ToyMesh, broker: ToyBroker, desks: Desks) -> None:
    found, warnings = await seen(broker, ca_spki=None)
    assert not found.head_verified
    assert any("--ca" in told for told in warnings)


async def test_another_manifest_than_the_signed_head_names(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks
) -> None:
    provision(mesh, broker)
    other = mesh.signed(version=1, change_threshold=1, roles=mesh.manifest().roles | {})
    bad = replace(other, manifest=other.manifest.replace(b"onnx", b"ONNX"))

    def carry(raw: bytes) -> bytes:
        if b"wardian manifest log v1" not in raw[:50]:
            return raw
        page = wire.decode(raw, ManifestLog, what="x")
        return wire.encode(replace(page, editions=(replace(page.editions[0], signed=bad),)))

    desks.carry = carry
    with pytest.raises(AuthenticationFailed, match="another manifest than its audit head"):
        await seen(broker)
    desks.carry = lambda raw: (
        wire.encode(ManifestLog(editions=(), more=False)) if b"manifest log v1" in raw[:50] else raw
    )
    with pytest.raises(PeerProtocolError, match="in force"):
        await seen(broker)


async def test_a_status_that_hides_the_manifest(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks
) -> None:
    provision(mesh, broker)

    def carry(raw: bytes) -> bytes:
        return wire.encode(replace(wire.decode(raw, Status, what="x"), manifest_version=0))

    desks.carry = carry
    with pytest.raises(AuthenticationFailed, match="another manifest"):
        await seen(broker)


LIES: dict[str, Callable[[Status], Status]] = {
    "hardware": lambda status: replace(status, simulated=False),
    "nothing is missing": lambda status: replace(status, missing=()),
    "other owners": lambda status: replace(
        status, governance=replace(status.governance, owners=("ab" * 32,), quorum=7)
    ),
    "a better counter": lambda status: replace(
        status, keeping=replace(status.keeping, counter=CounterKeeper.QUORUM)
    ),
    "no use": lambda status: replace(status, uses={}),
}


@pytest.mark.parametrize("lie", list(LIES))
async def test_whoever_carries_it_does_not_speak_for_the_broker(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks, lie: str
) -> None:
    """None of this is signed: what says whose word it is, is the connection."""
    provision(mesh, broker)
    stranger = MeshCa.create(mesh="test", simulated=True, now=NOW)
    desks.carry = on_status(LIES[lie])
    desks.certificate = lambda: stranger.certificate
    with pytest.raises(PeerProtocolError, match="does not end at a broker of this mesh CA"):
        await seen(broker)
    found, warnings = await seen(broker, ca_spki=None)
    assert not found.head_verified
    assert any("nobody vouches" in told for told in warnings)


def on_status(change: Callable[[Status], Status]) -> Callable[[bytes], bytes]:
    def carry(raw: bytes) -> bytes:
        if b"wardian status v1" not in raw[:40]:
            return raw
        return wire.encode(change(wire.decode(raw, Status, what="x")))

    return carry


async def test_the_manifest_comes_from_the_broker_too(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks
) -> None:
    provision(mesh, broker)
    genuine, stranger = desks.certificate, MeshCa.create(mesh="test", simulated=True, now=NOW)

    def carry(raw: bytes) -> bytes:
        later = b"wardian status v1" in raw[:40]
        desks.certificate = (lambda: stranger.certificate) if later else genuine
        return raw

    desks.carry = carry
    with pytest.raises(PeerProtocolError, match="does not end at a broker"):
        await seen(broker)


async def test_a_mesh_or_manifest_that_the_head_does_not_name(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks
) -> None:
    provision(mesh, broker)
    desks.carry = on_status(lambda status: replace(status, mesh="production"))
    with pytest.raises(AuthenticationFailed, match="another mesh"):
        await seen(broker)
    desks.carry = on_status(lambda status: replace(status, manifest_digest="00" * 32))
    with pytest.raises(AuthenticationFailed, match="another manifest than its audit head"):
        await seen(broker)


async def test_a_witness_that_did_not_sign(mesh: ToyMesh, broker: ToyBroker, desks: Desks) -> None:
    def carry(status: Status) -> Status:
        signed = Cosignature(
            witness=WITNESSES[0].public.hex(),
            count=status.audit.count,
            root=status.audit.root,
            time=NOW,
            signature=bytes(64),
        )
        cosigned = (Cosigned(cosignature=signed, consistency=()),)
        return replace(status, witnessed=replace(status.witnessed, cosigned=cosigned))

    desks.carry = on_status(carry)
    for ca_spki in (broker.authority.ca.spki, None):
        with pytest.raises(AuthenticationFailed, match="cosignature"):
            await seen(broker, ca_spki=ca_spki)


async def test_an_owner_that_did_not_sign(mesh: ToyMesh, broker: ToyBroker, desks: Desks) -> None:
    provision(mesh, broker)

    def carry(raw: bytes) -> bytes:
        if b"wardian manifest log v1" not in raw[:50]:
            return raw
        page = wire.decode(raw, ManifestLog, what="x")
        signed = page.editions[0].signed
        other = replace(signed.signatures[0], owner=WITNESSES[0].public.hex())
        forged = replace(signed, signatures=(*signed.signatures, other))
        return wire.encode(replace(page, editions=(replace(page.editions[0], signed=forged),)))

    desks.carry = carry
    with pytest.raises(AuthenticationFailed, match="signature"):
        await seen(broker)


async def test_counts_of_lines_that_are_gone_do_not_outgrow_a_status(
    mesh: ToyMesh, broker: ToyBroker, desks: Desks
) -> None:
    provision(mesh, broker)
    Watcher(WITNESSES[0], ca_spki=broker.authority.ca.spki).visit(Desk(broker))
    broker.admit(mesh.workload(), mesh.attest("worker"))
    for version in (2, 3):
        broker.provision(mesh.signed(version=version, models=(mesh.line("faces"),)))
    status = tell_status(broker.authority, StatusRequest())
    assert len(broker.store.keys("uses")) == 1
    assert status.uses == {}


# Warnings


def quiet(broker: ToyBroker) -> tuple[Overview, Status]:
    """A mesh that nothing is to be said of."""
    status = tell_status(broker.authority, StatusRequest(), collateral_expires=NOW + 30 * DAY_S)
    status = replace(
        status, keeping=replace(status.keeping, counter=CounterKeeper.QUORUM, standby="kept up")
    )
    owner = broker.mesh.owners[0].public.hex()
    return (
        Overview(
            mesh="test",
            simulated=False,
            measurement="00" * 32,
            time=NOW,
            manifest=None,
            owners=(owner,),
            quorum=1,
            issuing_ca="00" * 32,
            issuing_ca_until=NOW + 30 * DAY_S,
            lease_s=3600,
            epoch=1,
            epoch_began=NOW,
            roles=(),
            models=(
                SecretView(
                    name="digits version 1",
                    owner=owner,
                    given=True,
                    uses=1,
                    max_uses=2,
                    not_after=NOW + 30 * DAY_S,
                    beacon_by=NOW,
                ),
            ),
            secrets=(),
            counter="",
            standby="kept up",
            head=status.audit,
            head_verified=True,
            witnesses=(WitnessView(public=owner, lines_behind=1, seconds_ago=WITNESSED_S),),
            head_threshold=1,
        ),
        status,
    )


NO_MANIFEST = 1  # warning: a mesh without one, in all of the cases below


def test_nothing_to_warn_of(broker: ToyBroker) -> None:
    seen_, status = quiet(broker)
    assert len(warnings_of(seen_, status, now=NOW)) == NO_MANIFEST


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"simulated": True}, "simulated"),
        ({"head_verified": False}, "--ca"),
        ({"witnesses": ()}, "no witness is named"),
        ({"head_threshold": 0}, "head_threshold is 0"),
        ({"standby": "none"}, "not kept up"),
        ({"issuing_ca_until": NOW + SOON_S - 1}, "issuing CA's certificate is over in 167 hours"),
        ({"issuing_ca_until": NOW - 7200}, "issuing CA's certificate is over since 2 hours"),
        ({"time": NOW - 301}, "differ by 301 seconds"),
        ({"roles": (RoleView("zoo", ("00" * 32,), 1),)}, "the role zoo is UNPROTECTED"),
    ],
)
def test_a_warning_for(broker: ToyBroker, changes: dict[str, object], said: str) -> None:
    seen_, status = quiet(broker)
    changed = replace(seen_, **changes)
    if "time" in changes:
        changed = replace(changed, models=())
    warnings = warnings_of(changed, status, now=NOW)
    assert len(warnings) == NO_MANIFEST + 1
    assert any(said in told for told in warnings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"given": False}, "has not given it"),
        ({"uses": 2}, "all 2 releases were had"),
        ({"not_after": NOW - 1}, "its time is over"),
        ({"not_after": NOW + 7200}, "its time is over in 2 hours"),
        ({"beacon_by": NOW - 1}, "newest time beacon"),
    ],
)
def test_a_warning_about_a_secret(broker: ToyBroker, changes: dict[str, object], said: str) -> None:
    seen_, status = quiet(broker)
    (model,) = seen_.models
    warnings = warnings_of(replace(seen_, models=(replace(model, **changes),)), status, now=NOW)
    assert len(warnings) == NO_MANIFEST + 1
    assert any(said in told for told in warnings)
    unlimited = replace(model, max_uses=None, not_after=None, beacon_by=None)
    assert len(warnings_of(replace(seen_, models=(unlimited,)), status, now=NOW)) == NO_MANIFEST


@pytest.mark.parametrize(
    ("seconds", "lines", "said"),
    [(None, None, "has signed no head"), (WITNESSED_S + 1, 2, "was here 24 hours ago")],
)
def test_a_witness_that_does_not_come(
    broker: ToyBroker, seconds: int | None, lines: int | None, said: str
) -> None:
    seen_, status = quiet(broker)
    away = WitnessView(public="ab" * 32, lines_behind=lines, seconds_ago=seconds)
    warnings = warnings_of(replace(seen_, witnesses=(away,)), status, now=NOW)
    assert any(f"witness abababababababab… {said}" in told for told in warnings)


def test_warnings_about_the_state_and_collateral(broker: ToyBroker) -> None:
    seen_, status = quiet(broker)
    keeping = replace(status.keeping, counter=CounterKeeper.HOST)
    for changed, said in (
        (replace(status, keeping=keeping), "file of the host"),
        (replace(status, collateral_expires=NOW + 3600), "over in 1 hours"),
        (replace(status, collateral_expires=NOW - 3600), "over since 1 hours"),
    ):
        assert any(said in told for told in warnings_of(seen_, changed, now=NOW))
    assert len(warnings_of(seen_, replace(status, collateral_expires=None), now=NOW)) == NO_MANIFEST


def test_warnings_about_platforms(broker: ToyBroker) -> None:
    from wardian.broker.overview.view import ManifestView

    seen_, status = quiet(broker)
    good = ManifestView(
        version=1,
        digest="00" * 32,
        accepted=NOW,
        signers=(),
        any_platform=False,
        tcb_statuses=("UpToDate", "SWHardeningNeeded"),
    )
    assert warnings_of(replace(seen_, manifest=good), status, now=NOW) == ()
    lax = replace(good, any_platform=True, tcb_statuses=("OutOfDate", "UpToDate"))
    any_platform, out_of_date = warnings_of(replace(seen_, manifest=lax), status, now=NOW)
    assert "any platform is accepted" in any_platform
    assert "accepted that are OutOfDate" in out_of_date
