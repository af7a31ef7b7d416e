"""Who is at the other end: a broker of the CA that somebody vouches for, or anybody else."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from desk_calls import Desks
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian.broker.ca import MeshCa
from wardian.broker.certificates import BROKER, NO_MANIFEST, MeshIdentity, build_csr, parse_csr
from wardian.broker.status import read_status
from wardian.broker.transparency.client import read_proofs
from wardian.broker.transparency.proofs import ProofRequest
from wardian.broker.transparency.sender import verify_sender
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import AuthenticationFailed, ConnectionLost, FormatError, PeerProtocolError

OTHER_CA = MeshCa.create(mesh="test", simulated=True, now=NOW)
WHERE = ("broker", 1)


def own(broker: ToyBroker) -> bytes:
    _, chain = broker.authority.own_identity()
    return x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.DER)


def sent(broker: ToyBroker, **changes: Any) -> None:
    authority = broker.authority
    good: dict[str, Any] = {
        "head": authority.transparency.head(),
        "mesh_ca": authority.ca.certificate,
        "issuing_ca": authority.issuer.certificate,
        "certificate": own(broker),
        "ca_spki": authority.ca.spki,
        "now": NOW,
    }
    fields = good | changes
    verify_sender(fields.pop("head"), **fields)


def issued(broker: ToyBroker, role: str) -> bytes:
    """A certificate of the broker's issuing CA for somebody else."""
    digest = broker.authority.manifest_digest
    identity = MeshIdentity(role=role, measurement=bytes(32), manifest_digest=digest)
    return broker.authority.issue(parse_csr(build_csr(TlsKey.generate())), identity=identity)[0]


def test_the_broker_is_known_before_its_first_manifest_and_after(
    mesh: ToyMesh, broker: ToyBroker, tmp_path: Any
) -> None:
    sent(broker)
    fresh = ToyBroker(mesh, tmp_path / "fresh.db", provisioned=False)
    try:
        sent(fresh)
    finally:
        fresh.close()


@pytest.mark.parametrize(
    "certificate",
    [
        lambda broker: issued(broker, "worker"),
        lambda broker: broker.authority.issuer.certificate,
        lambda broker: broker.authority.ca.certificate,
        lambda _: OTHER_CA.certificate,
        lambda _: b"x",
    ],
    ids=["a worker", "the issuing CA", "the CA", "another CA", "garbage"],
)
def test_the_connection_ends_elsewhere(
    broker: ToyBroker, certificate: Callable[[ToyBroker], bytes]
) -> None:
    with pytest.raises(PeerProtocolError, match="does not end at a broker of this mesh CA"):
        sent(broker, certificate=certificate(broker))


def test_a_broker_of_another_mesh_ca_that_shows_this_one_s_head(broker: ToyBroker) -> None:
    digest = broker.authority.manifest_digest
    issuer = OTHER_CA.create_issuing(manifest_digest=digest, now=NOW)
    identity = MeshIdentity(role=BROKER, measurement=bytes(32), manifest_digest=digest)
    request = parse_csr(build_csr(TlsKey.generate()))
    leaf = issuer.issue(request, identity=identity, now=NOW, life_s=3600)[0]
    with pytest.raises(PeerProtocolError, match="not signed by the mesh CA|mesh CA"):
        sent(broker, issuing_ca=issuer.certificate, certificate=leaf)
    with pytest.raises(AuthenticationFailed, match="another mesh CA than the one given"):
        sent(broker, mesh_ca=OTHER_CA.certificate, issuing_ca=issuer.certificate, certificate=leaf)
    with pytest.raises(AuthenticationFailed, match="another mesh"):
        sent(broker, mesh_ca=OTHER_CA.certificate, ca_spki=OTHER_CA.spki)


def test_a_certificate_of_before(mesh: ToyMesh, broker: ToyBroker) -> None:
    old, issuer = own(broker), broker.authority.issuer.certificate
    broker.provision(mesh.signed(version=2))
    for changes in ({"certificate": old}, {"certificate": old, "issuing_ca": issuer}):
        with pytest.raises(PeerProtocolError):
            sent(broker, **changes)
    life = broker.authority.lease_s
    sent(broker, now=NOW + life)
    for now in (NOW + life + 1, NOW - 301):
        with pytest.raises(PeerProtocolError, match="not valid at this time"):
            sent(broker, now=now)


def test_a_head_that_the_ca_did_not_sign(broker: ToyBroker) -> None:
    head = broker.authority.transparency.head()
    for forged in (
        msgspec.structs.replace(head, manifest=NO_MANIFEST.hex()),
        msgspec.structs.replace(head, manifest=""),
        msgspec.structs.replace(head, time=head.time + 1),
    ):
        with pytest.raises(AuthenticationFailed, match="audit head"):
            sent(broker, head=forged)
    with pytest.raises(FormatError):
        sent(broker, mesh_ca=b"x")


async def test_what_is_read_comes_from_the_broker_or_from_whoever(
    broker: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    desks = Desks(broker)
    desks.instead_of_sockets(
        monkeypatch, "wardian.broker.status", "wardian.broker.transparency.client"
    )
    spki = broker.authority.ca.spki

    def reads(ca_spki: bytes | None) -> tuple[Any, ...]:
        return (
            read_status(WHERE, ca_spki=ca_spki, now=lambda: NOW),
            read_proofs(WHERE, ProofRequest(), ca_spki=ca_spki, now=lambda: NOW),
        )

    for read in reads(spki):
        await read
    for read in reads(OTHER_CA.spki):
        with pytest.raises(AuthenticationFailed, match="than the one given"):
            await read
    desks.certificate = lambda: OTHER_CA.certificate
    for read in reads(None):
        await read
    for read in reads(spki):
        with pytest.raises(PeerProtocolError, match="does not end at a broker"):
            await read

    def none() -> bytes:
        raise ConnectionLost("the peer showed no certificate")

    desks.certificate = none
    for read in reads(spki):
        with pytest.raises(ConnectionLost):
            await read
    await desks.close()
