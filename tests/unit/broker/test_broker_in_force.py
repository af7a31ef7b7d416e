"""What front ends ask every few seconds: who may answer it, how fresh it is, and what it may cost."""

from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from desk_calls import Desks, Pipe
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.broker.ca import MeshCa
from wardian.broker.certificates import MeshIdentity, build_csr, parse_csr
from wardian.broker.limits import MOST_PEERS, PeerBuckets, ServiceLimits
from wardian.broker.release import in_force_desk
from wardian.broker.release.admission import Admission
from wardian.broker.release.in_force import ForceRequest, InForce, ask_in_force, verify_in_force
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    AuthenticationFailed,
    EvidenceStale,
    FormatError,
    PeerProtocolError,
    PolicyDenied,
    SealError,
    TransportError,
)


def own_certificate(broker: ToyBroker) -> bytes:
    """What the broker's TLS server shows now, DER."""
    _, chain = broker.authority.own_identity()
    return x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.DER)


class Asking:
    """A front end that asks the broker's desk, without a socket."""

    def __init__(self, broker: ToyBroker, patch: pytest.MonkeyPatch, limits: ServiceLimits) -> None:
        self.broker, self.desks = broker, Desks(broker, limits=limits)
        self.desks.instead_of_sockets(patch, "wardian.broker.release.in_force")
        self.certificate: Callable[[], bytes] = lambda: own_certificate(broker)
        patch.setattr(Pipe, "peer_certificate", lambda _: self.certificate(), raising=False)
        self.admission = self.admit()

    def admit(self) -> Admission:
        mesh = self.broker.mesh
        return self.broker.admit(
            mesh.workload("frontend", ("digits", "faces")), mesh.attest("frontend")
        )

    async def ask(self) -> InForce:
        return await ask_in_force(("broker", 1), admission=self.admission, now=lambda: NOW)


LIMITS = ServiceLimits(polls_per_s=1, poll_burst=50)


@pytest.fixture
async def asking(broker: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asking]:
    asking = Asking(broker, monkeypatch, LIMITS)
    yield asking
    await asking.desks.close()


async def test_nothing_new(asking: Asking) -> None:
    answer = await asking.ask()
    assert (answer.manifest_version, answer.epoch) == (1, 1)
    assert not answer.is_news_to(asking.admission)


async def test_t21_a_turned_epoch_is_news_at_once(asking: Asking) -> None:
    asking.broker.authority.turn_epoch(rule="owner-order")
    answer = await asking.ask()
    assert answer.epoch == 2
    assert answer.is_news_to(asking.admission)
    assert not answer.is_news_to(asking.admit())


async def test_t21_a_new_manifest_is_news_from_a_broker_with_another_issuing_ca(
    asking: Asking,
) -> None:
    asking.broker.provision(asking.broker.mesh.signed(version=2))
    answer = await asking.ask()
    assert (answer.manifest_version, answer.epoch) == (2, 2)
    assert answer.is_news_to(asking.admission)


# Who may answer


async def test_the_certificate_of_the_connection_decides_who_answers(asking: Asking) -> None:
    """A host in between with a certificate of a front end that it holds, or of its own mesh."""
    mine = asking.admission.certificate_chain_pem
    front_end = x509.load_pem_x509_certificates(mine)[0].public_bytes(Encoding.DER)
    asking.certificate = lambda: front_end
    with pytest.raises(PolicyDenied) as caught:
        await asking.ask()
    assert caught.value.rule == "peer-role"
    stranger = MeshCa.create(mesh="test", simulated=True, now=NOW)
    asking.certificate = lambda: broker_leaf(asking, stranger)
    with pytest.raises(AuthenticationFailed, match="issuing CA"):
        await asking.ask()


def broker_leaf(asking: Asking, ca: MeshCa, *, now: int = NOW) -> bytes:
    digest = asking.broker.authority.manifest_digest
    issuer = ca.create_issuing(manifest_digest=digest, now=now)
    identity = MeshIdentity(role="broker", measurement=bytes(32), manifest_digest=digest)
    request = parse_csr(build_csr(TlsKey.generate()))
    return issuer.issue(request, identity=identity, now=now, life_s=3600)[0]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"manifest_digest": "ab" * 32}, PolicyDenied),
        ({"issuing_ca": b"x"}, FormatError),
        ({"manifest_version": 2}, None),
    ],
)
async def test_what_the_answer_says_is_what_the_certificates_say(
    asking: Asking, changes: dict[str, object], error: type[Exception] | None
) -> None:
    """The host cannot change it in TLS; a broker that says one thing and shows another is refused.

    Of the digest, that is: the version is the broker's word, and leads to a renewal that finds out.
    """

    def change(raw: bytes) -> bytes:
        return wire.encode(msgspec.structs.replace(wire.decode(raw, InForce, what="x"), **changes))

    asking.desks.carry = change
    if error is None:
        assert (await asking.ask()).manifest_version == 2
        return
    with pytest.raises(error):
        await asking.ask()


async def test_t5_a_broker_of_before_is_not_listened_to(asking: Asking) -> None:
    """Its host put its state back, or started a copy: the epoch, or the manifest, is an older one."""
    authority, mesh = asking.broker.authority, asking.broker.mesh
    old_epoch = await asking.ask()
    leaf = own_certificate(asking.broker)
    authority.turn_epoch(rule="owner-order")
    asking.admission = asking.admit()
    refuse_older(old_epoch, leaf, asking.admission)
    asking.broker.provision(mesh.signed(version=2))
    asking.admission = asking.admit()
    later = msgspec.structs.replace(old_epoch, epoch=99)
    refuse_older(later, leaf, asking.admission)


def refuse_older(answer: InForce, leaf: bytes, admission: Admission) -> None:
    with pytest.raises(PolicyDenied) as caught:
        verify_in_force(answer, certificate=leaf, admission=admission, now=NOW)
    assert caught.value.rule == "in-force-older"


async def test_a_certificate_out_of_its_time(asking: Asking) -> None:
    answer, leaf = await asking.ask(), own_certificate(asking.broker)
    with pytest.raises(EvidenceStale):
        verify_in_force(answer, certificate=leaf, admission=asking.admission, now=NOW + 3601)


async def test_answers_that_are_none(asking: Asking) -> None:
    for raw in (b"", b"{}", wire.encode(ForceRequest())):
        asking.desks.carry = lambda _, raw=raw: raw
        with pytest.raises(PeerProtocolError):
            await asking.ask()


# A broker that may not answer


async def test_before_the_first_manifest(
    mesh: ToyMesh, asking: Asking, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = ToyBroker(mesh, tmp_path / "empty.db", provisioned=False)
    desks = Desks(empty)
    desks.instead_of_sockets(monkeypatch, "wardian.broker.release.in_force")
    with pytest.raises(TransportError, match="no mesh manifest yet"):
        await asking.ask()
    await desks.close()
    empty.close()


async def test_t5_a_broker_in_whose_place_another_one_counts_does_not_answer(
    asking: Asking,
) -> None:
    await asking.ask()
    asking.broker.counter.value += 2**32  # another broker, on a copy of the state
    asking.desks.ticks += in_force_desk.CONFIRMED_S + 0.01
    with pytest.raises(TransportError, match="its log says why"):
        await asking.ask()
    with pytest.raises(SealError):
        asking.broker.store.confirm()


async def test_the_counter_is_asked_once_a_second_at_most(asking: Asking) -> None:
    reads = []
    read = asking.broker.counter.read
    asking.broker.store._counter = msgspec_counter(asking, lambda: reads.append(1) or read())
    for _ in range(20):
        await asking.ask()
        asking.desks.ticks += 0.1
    assert len(reads) == 2


def msgspec_counter(asking: Asking, read: Callable[[], int]):
    from dataclasses import replace

    return replace(asking.broker.store._counter, read=read)


# What it may cost


async def test_one_peer_that_asks_without_end(asking: Asking) -> None:
    for _ in range(LIMITS.poll_burst):
        await asking.ask()
    with pytest.raises(TransportError, match="asked more often than it answers") as caught:
        await asking.ask()
    assert caught.value.retryable
    asking.desks.ticks += 1
    await asking.ask()


def test_buckets_are_of_one_peer_and_only_so_many() -> None:
    buckets = PeerBuckets(per_s=0.001, burst=1)
    assert [buckets.take("a", 0.0), buckets.take("a", 0.0), buckets.take("b", 0.0)] == [
        True,
        False,
        True,
    ]
    for number in range(MOST_PEERS):
        assert buckets.take(f"peer {number}", 1.0)
    assert len(buckets._buckets) == MOST_PEERS
    assert buckets.take("a", 1.0)  # forgotten, hence new
