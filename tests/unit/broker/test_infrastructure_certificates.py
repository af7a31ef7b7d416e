"""T3: what proves a Redis, or who speaks to one, proves nobody of the mesh, and the other way round."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian.broker.ca import MeshCa
from wardian.broker.certificate_builder import CA_LIFE_S, builder, common_name, leaf_builder
from wardian.broker.certificate_form import sign_certificate
from wardian.broker.certificates import (
    MESH_IDENTITY_OID,
    CertificateRequest,
    MeshIdentity,
    build_csr,
    parse_csr,
    read_identity,
    verify_ca_certificate,
    verify_issuing_certificate,
    verify_peer_certificate,
)
from wardian.broker.infrastructure.ca import SERVER_LIFE_S, InfrastructureCa
from wardian.broker.infrastructure.certificates import (
    INFRASTRUCTURE_OID,
    SERVER,
    holder_der,
    names_in,
    verify_infrastructure_ca,
    verify_infrastructure_certificate,
)
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import AuthenticationFailed, EvidenceStale, FormatError, PolicyDenied

MANIFEST = bytes(range(32))
LEASE_S = 3600


@pytest.fixture(scope="module")
def ca() -> InfrastructureCa:
    return InfrastructureCa.create(mesh="test", simulated=True, now=NOW)


def request(*names: str, key: TlsKey | None = None) -> CertificateRequest:
    return parse_csr(build_csr(key or TlsKey.generate(), names=names))


def server(ca: InfrastructureCa) -> bytes:
    return ca.issue_server(request("redis.example", "127.0.0.1"), now=NOW)


def client(ca: InfrastructureCa, role: str = "worker") -> bytes:
    return ca.issue_client(request(), role=role, now=NOW, life_s=LEASE_S)


def everything_of(ca: InfrastructureCa) -> dict[str, bytes]:
    leaves = {role: client(ca, role) for role in ("frontend", "worker")}
    return {"ca": ca.certificate, "server": server(ca), **leaves}


# What is in them


def test_what_people_and_readers_see(ca: InfrastructureCa) -> None:
    for name, raw in everything_of(ca).items():
        certificate = x509.load_der_x509_certificate(raw)
        units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        assert {unit.value for unit in units} == {"INFRASTRUCTURE", "SIMULATED"}, name
        extension = certificate.extensions.get_extension_for_oid(INFRASTRUCTURE_OID)
        assert not extension.critical  # OpenSSL in Redis refuses what it does not know
        with pytest.raises(x509.ExtensionNotFound):
            certificate.extensions.get_extension_for_oid(MESH_IDENTITY_OID)


def test_a_server_s_certificate(ca: InfrastructureCa) -> None:
    key = TlsKey.generate()
    raw = ca.issue_server(request("redis.example", "::1", key=key), now=NOW)
    assert (
        verify_infrastructure_certificate(raw, ca=ca.certificate, holder=SERVER, now=NOW)
        == key.spki
    )
    assert names_in(raw) == {"redis.example", "::1"}
    certificate = x509.load_der_x509_certificate(raw)
    assert certificate.not_valid_after_utc.timestamp() == NOW + SERVER_LIFE_S
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    with pytest.raises(PolicyDenied) as caught:
        ca.issue_server(request(), now=NOW)
    assert caught.value.rule == "names"


def test_a_client_s_certificate_lasts_one_lease_and_names_nobody(ca: InfrastructureCa) -> None:
    key = TlsKey.generate()
    raw = ca.issue_client(request("localhost", key=key), role="frontend", now=NOW, life_s=LEASE_S)
    arguments = {"ca": ca.certificate, "holder": "frontend"}
    assert verify_infrastructure_certificate(raw, now=NOW + LEASE_S, **arguments) == key.spki
    assert names_in(raw) == frozenset()
    usage = x509.load_der_x509_certificate(raw).extensions
    assert list(usage.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    with pytest.raises(EvidenceStale):
        verify_infrastructure_certificate(raw, now=NOW + LEASE_S + 1, **arguments)
    with pytest.raises(EvidenceStale):
        verify_infrastructure_certificate(raw, now=NOW - 301, **arguments)


def test_the_ca_comes_back_from_what_is_kept(ca: InfrastructureCa) -> None:
    kept = TlsKey.from_secret(Secret(ca.to_secret().reveal()))
    again = InfrastructureCa(key=kept, certificate=ca.certificate)
    verify_infrastructure_certificate(client(again), ca=ca.certificate, holder="worker", now=NOW)
    with pytest.raises(FormatError, match="another key"):
        InfrastructureCa(key=TlsKey.generate(), certificate=ca.certificate)
    end = x509.load_der_x509_certificate(ca.certificate).not_valid_after_utc.timestamp()
    assert end == NOW + CA_LIFE_S


def test_a_certificate_for_another_holder(ca: InfrastructureCa) -> None:
    found = everything_of(ca)
    for issued, wanted in (("server", "worker"), ("worker", "frontend"), ("frontend", SERVER)):
        with pytest.raises(PolicyDenied) as caught:
            verify_infrastructure_certificate(
                found[issued], ca=ca.certificate, holder=wanted, now=NOW
            )
        assert caught.value.rule == "infrastructure-holder"


def test_a_certificate_of_another_ca_and_a_ca_as_a_leaf(ca: InfrastructureCa) -> None:
    other = InfrastructureCa.create(mesh="test", simulated=True, now=NOW)
    with pytest.raises(AuthenticationFailed):
        verify_infrastructure_certificate(
            client(other), ca=ca.certificate, holder="worker", now=NOW
        )
    with pytest.raises(FormatError, match="a CA's"):
        verify_infrastructure_certificate(
            ca.certificate, ca=ca.certificate, holder="authority", now=NOW
        )


def forged(key: TlsKey, value: bytes, *, critical: bool = False) -> bytes:
    """A leaf of `key` whose extension is `value`; b"" leaves it out."""
    name = x509.Name([common_name("forged")])
    made = leaf_builder(
        name, name, key.private_key.public_key(), now=NOW, life_s=60, usages=[
            ExtendedKeyUsageOID.CLIENT_AUTH
        ], issued_by=key
    )  # fmt: skip
    if value:
        extension = x509.UnrecognizedExtension(INFRASTRUCTURE_OID, value)
        made = made.add_extension(extension, critical=critical)
    return sign_certificate(made, key)


@pytest.mark.parametrize(
    ("value", "critical"),
    [
        (b"", False),
        (holder_der("worker"), True),
        (b"\x0c\x07worker", False),
        (b"\x04\x06worker", False),
        (holder_der("worker") + b"\x00", False),
        (b"\x0c\x81\x06worker", False),
        (b"\x0c\x06w\xc3\xb6rker", False),
        (b"\x0c", False),
    ],
)
def test_the_extension_has_one_form(ca: InfrastructureCa, value: bytes, critical: bool) -> None:
    raw = forged(ca._key, value, critical=critical)
    with pytest.raises(FormatError):
        verify_infrastructure_certificate(raw, ca=ca.certificate, holder="worker", now=NOW)


def test_a_certificate_without_constraints_is_nobody_s_authority(ca: InfrastructureCa) -> None:
    name, key = x509.Name([common_name("x")]), ca._key
    bare = sign_certificate(
        builder(name, name, key.private_key.public_key(), now=NOW, life_s=9), key
    )
    with pytest.raises(FormatError):
        verify_infrastructure_ca(bare)
    with pytest.raises(FormatError, match="something else"):
        verify_infrastructure_ca(sub_ca(key, holder="server"))
    with pytest.raises(FormatError):
        verify_infrastructure_ca(b"no certificate")


def sub_ca(key: TlsKey, *, holder: str) -> bytes:
    from wardian.broker.certificate_builder import ca_builder

    name = x509.Name([common_name("x")])
    made = ca_builder(name, name, key, now=NOW, life_s=60, path_length=0)
    extension = x509.UnrecognizedExtension(INFRASTRUCTURE_OID, holder_der(holder))
    return sign_certificate(made.add_extension(extension, critical=False), key)


# T3


@pytest.mark.parametrize("which", ["ca", "server", "frontend", "worker"])
def test_t3_no_reader_of_the_mesh_accepts_what_is_of_infrastructure(
    ca: InfrastructureCa, which: str
) -> None:
    """Not even where the key of the issuing CA were the infrastructure CA's."""
    raw = everything_of(ca)[which]
    mesh = MeshCa.create(mesh="test", simulated=True, now=NOW)
    issuer = mesh.create_issuing(manifest_digest=MANIFEST, now=NOW)
    with pytest.raises(FormatError):
        read_identity(raw)
    for role in ("broker", "frontend", "worker", "server"):
        with pytest.raises(AuthenticationFailed):
            verify_peer_certificate(
                raw, issuer_spki=issuer.spki, role=role, manifest_digest=MANIFEST, now=NOW
            )
        with pytest.raises(FormatError):
            verify_peer_certificate(
                raw,
                issuer_spki=verify_infrastructure_ca(ca.certificate),
                role=role,
                manifest_digest=MANIFEST,
                now=NOW,
            )
    with pytest.raises((FormatError, AuthenticationFailed)):
        verify_ca_certificate(raw)
    for spki in (mesh.spki, verify_infrastructure_ca(ca.certificate)):
        with pytest.raises((FormatError, AuthenticationFailed)):
            verify_issuing_certificate(raw, ca_spki=spki, manifest_digest=MANIFEST, now=NOW)


def test_t3_no_reader_of_infrastructure_accepts_what_is_of_the_mesh(ca: InfrastructureCa) -> None:
    mesh = MeshCa.create(mesh="test", simulated=True, now=NOW)
    issuer = mesh.create_issuing(manifest_digest=MANIFEST, now=NOW)
    leaves = []
    for role in ("broker", "frontend", "worker", SERVER):
        identity = MeshIdentity(role=role, measurement=bytes(32), manifest_digest=MANIFEST)
        leaves += issuer.issue(request(), identity=identity, now=NOW, life_s=60)
    for raw in {*leaves, mesh.certificate, issuer.certificate}:
        with pytest.raises((FormatError, AuthenticationFailed)):
            verify_infrastructure_ca(raw)
        for authority in (ca.certificate, mesh.certificate, issuer.certificate):
            for holder in (SERVER, "worker", "frontend"):
                with pytest.raises((FormatError, AuthenticationFailed)):
                    verify_infrastructure_certificate(raw, ca=authority, holder=holder, now=NOW)


def test_t3_a_front_end_s_certificate_is_not_of_the_ca_that_redis_trusts(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    """In one admission: two certificates for one key, of two authorities that vouch for neither."""
    admission = broker.admit(mesh.workload("frontend", queue_access=True), mesh.attest("frontend"))
    assert admission.queue_access is not None
    shown = x509.load_pem_x509_certificates(admission.certificate_chain_pem)
    chain = [each.public_bytes(Encoding.DER) for each in shown]
    for raw in (*chain, admission.mesh_ca):
        with pytest.raises((FormatError, AuthenticationFailed)):
            verify_infrastructure_certificate(
                raw, ca=admission.queue_access.infrastructure_ca, holder="frontend", now=NOW
            )
    with pytest.raises(AuthenticationFailed):
        verify_peer_certificate(
            admission.queue_access.certificate,
            issuer_spki=admission.issuer_spki,
            role="frontend",
            manifest_digest=admission.manifest.digest,
            now=NOW,
        )
