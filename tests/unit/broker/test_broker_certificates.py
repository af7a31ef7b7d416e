"""Mesh certificates: what the CAs issue and what peers demand (TRUST T3, T21)."""

import datetime as dt
import ipaddress
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.x509.oid import ExtensionOID, NameOID
from toy_mesh import NOW

from wardian.broker.ca import ISSUING_LIFE_S, IssuingCa, MeshCa
from wardian.broker.certificate_builder import CA_LIFE_S
from wardian.broker.certificate_form import MAX_CERTIFICATE_BYTES, sign_certificate
from wardian.broker.certificates import (
    ISSUING_MANIFEST_OID,
    MESH_IDENTITY_OID,
    MeshIdentity,
    build_csr,
    certificate_digest,
    chain_pem,
    issuing_manifest_der,
    parse_csr,
    read_identity,
    spki_of,
    valid_until,
    verify_ca_certificate,
    verify_issuing_certificate,
    verify_peer_certificate,
)
from wardian.crypto.tls_keys import TlsKey, verify_ecdsa
from wardian.errors import (
    AuthenticationFailed,
    EvidenceStale,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
)

DIGEST = b"d" * 32
LEASE_S = 3600
ROOT = MeshCa.create(mesh="test", simulated=True, now=NOW)
CA = ROOT.create_issuing(manifest_digest=DIGEST, now=NOW)
OTHER = ROOT.create_issuing(manifest_digest=b"e" * 32, now=NOW)
KEY = TlsKey.generate()
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def identity(role: str = "worker", digest: bytes = DIGEST) -> MeshIdentity:
    return MeshIdentity(role=role, measurement=b"m" * 32, manifest_digest=digest)


def leaf(
    role: str = "worker",
    *,
    ca: IssuingCa = CA,
    names: tuple[str, ...] = (),
    now: int = NOW,
) -> bytes:
    request = parse_csr(build_csr(KEY, names=names))
    who = identity(role, ca.manifest_digest)
    return ca.issue(request, identity=who, now=now, life_s=LEASE_S)[0]


def verify(
    raw: bytes, *, role: str = "worker", digest: bytes = DIGEST, now: int = NOW
) -> MeshIdentity:
    return verify_peer_certificate(
        raw, issuer_spki=CA.spki, role=role, manifest_digest=digest, now=now
    )


def verify_issuer(raw: bytes, *, digest: bytes = DIGEST, now: int = NOW) -> bytes:
    return verify_issuing_certificate(raw, ca_spki=ROOT.spki, manifest_digest=digest, now=now)


def test_a_certificate_says_role_measurement_and_manifest() -> None:
    raw = leaf()
    assert verify(raw) == identity()
    assert read_identity(raw) == identity()
    assert spki_of(raw) == KEY.spki
    assert len(certificate_digest(raw)) == 32
    assert valid_until(raw) == NOW + LEASE_S
    assert chain_pem([raw]).startswith(b"-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    ("role", "critical"), [("worker", True), ("broker", True), ("frontend", False)]
)
def test_the_extension_is_critical_but_for_curl(role: str, critical: bool) -> None:
    certificate = x509.load_der_x509_certificate(leaf(role))
    found = [e for e in certificate.extensions if e.oid == MESH_IDENTITY_OID]
    assert [e.critical for e in found] == [critical]


def test_a_simulated_ca_says_so_in_every_subject() -> None:
    for raw in (ROOT.certificate, CA.certificate, leaf("frontend")):
        subject = x509.load_der_x509_certificate(raw).subject
        assert [
            a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        ] == ["SIMULATED"]
    real = MeshCa.create(mesh="test", simulated=False, now=NOW)
    assert (
        "SIMULATED" not in x509.load_der_x509_certificate(real.certificate).subject.rfc4514_string()
    )


def test_a_front_end_gets_its_names() -> None:
    certificate = x509.load_der_x509_certificate(
        leaf("frontend", names=("example.org", "127.0.0.1", "::1"))
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["example.org"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]


def test_a_brokers_certificate_with_names_is_for_strangers_alone() -> None:
    """Their software would stop at what it does not know; no peer takes it for the broker's own."""
    named = leaf("broker", names=("kbs.example", "127.0.0.1"))
    certificate = x509.load_der_x509_certificate(named)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kbs.example"]
    known = {each.oid for each in certificate.extensions if each.critical}
    assert known == {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
    assert verify(leaf("broker"), role="broker").role == "broker"
    with pytest.raises(FormatError, match="wrongly marked critical"):
        verify(named, role="broker")


def test_nobody_else_gets_names() -> None:
    with pytest.raises(PolicyDenied, match="gets no server names") as caught:
        leaf("worker", names=("localhost",))
    assert caught.value.rule == "names"


def test_another_role_is_refused() -> None:
    with pytest.raises(PolicyDenied, match="of role 'frontend'") as caught:
        verify(leaf("frontend"))
    assert caught.value.rule == "peer-role"


def test_another_manifest_is_refused() -> None:
    with pytest.raises(PolicyDenied, match="another mesh manifest") as caught:
        verify(leaf(), digest=b"e" * 32)
    assert caught.value.rule == "peer-manifest"


def test_t3_a_certificate_of_another_ca_is_refused() -> None:
    infrastructure = MeshCa.create(mesh="test", simulated=True, now=NOW)
    swapped = infrastructure.create_issuing(manifest_digest=DIGEST, now=NOW)
    with pytest.raises(AuthenticationFailed, match="not signed by the issuing CA"):
        verify(leaf(ca=swapped))
    with pytest.raises(AuthenticationFailed, match="not signed by the mesh CA"):
        verify_issuer(swapped.certificate)


def test_t21_a_certificate_of_an_older_manifests_ca_is_refused() -> None:
    """Even one that names the new manifest: its key was made for the old one."""
    old = ROOT.create_issuing(manifest_digest=b"o" * 32, now=NOW)
    forged = sign_certificate(leaf_builder(issuer=old.certificate), old.key)
    with pytest.raises(AuthenticationFailed, match="not signed by the issuing CA"):
        verify(forged)
    with pytest.raises(PolicyDenied, match="another mesh manifest") as caught:
        verify_issuer(old.certificate)
    assert caught.value.rule == "issuer-manifest"


def test_a_certificate_that_the_mesh_ca_signed_itself_is_refused() -> None:
    direct = sign_certificate(leaf_builder(issuer=ROOT.certificate), ROOT._key)
    with pytest.raises(AuthenticationFailed, match="not signed by the issuing CA"):
        verify(direct)
    with pytest.raises(FormatError, match="issues to processes"):
        verify_issuer(direct)


def test_an_issuing_ca_that_makes_another_ca_gains_nothing() -> None:
    below = TlsKey.generate()
    name = x509.Name([])
    builder = (
        empty_builder(name, name, below)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.UnrecognizedExtension(ISSUING_MANIFEST_OID, issuing_manifest_der(DIGEST)),
            critical=False,
        )
    )
    with pytest.raises(AuthenticationFailed, match="not signed by the mesh CA"):
        verify_issuer(sign_certificate(builder, CA.key))


def test_a_process_does_not_pass_for_a_ca() -> None:
    with pytest.raises(AuthenticationFailed):
        verify_issuer(leaf())
    forged = sign_certificate(leaf_builder(issuer=leaf("frontend")), KEY)
    with pytest.raises(AuthenticationFailed):
        verify(forged)
    with pytest.raises(FormatError):
        verify_issuer(ROOT.certificate)


def test_an_issuing_ca_issues_under_its_own_manifest() -> None:
    request = parse_csr(build_csr(KEY))
    with pytest.raises(LocalProtocolError):
        CA.issue(request, identity=identity(digest=b"e" * 32), now=NOW, life_s=LEASE_S)


@pytest.mark.parametrize("seconds", [-301, LEASE_S + 1])
def test_outside_its_lease_it_is_refused(seconds: int) -> None:
    with pytest.raises(EvidenceStale):
        verify(leaf(), now=NOW + seconds)
    verify(leaf(), now=NOW - 299)


@pytest.mark.parametrize("seconds", [-301, ISSUING_LIFE_S + 1])
def test_outside_its_time_an_issuing_ca_is_refused(seconds: int) -> None:
    with pytest.raises(EvidenceStale, match="issuing CA"):
        verify_issuer(CA.certificate, now=NOW + seconds)
    assert verify_issuer(CA.certificate, now=NOW - 299) == CA.spki


@pytest.mark.parametrize(
    ("after", "due"),
    [(0, False), (ISSUING_LIFE_S // 2, False), (ISSUING_LIFE_S // 2 + 1, True), (-1, True)],
)
def test_an_issuing_ca_is_due_for_another(after: int, due: bool) -> None:
    assert CA.due(NOW + after) is due


def extension_of_manifest(der: bytes) -> tuple[x509.ExtensionType, bool]:
    return x509.UnrecognizedExtension(ISSUING_MANIFEST_OID, der), False


MANIFEST = extension_of_manifest(issuing_manifest_der(DIGEST))
ISSUING = (x509.BasicConstraints(ca=True, path_length=0), True)


@pytest.mark.parametrize(
    ("extensions", "says"),
    [
        ((ISSUING,), "names no manifest"),
        ((ISSUING, (MANIFEST[0], True)), "wrongly marked critical"),
        ((ISSUING, extension_of_manifest(b"\x05\x20" + DIGEST)), "names no manifest"),
        ((ISSUING, extension_of_manifest(b"\x04\x1f" + DIGEST[:31])), "32 bytes"),
        ((ISSUING, extension_of_manifest(b"")), "32 bytes"),
        (((ISSUING[0], False), MANIFEST), "issues to processes"),
        (((x509.BasicConstraints(ca=True, path_length=None), True), MANIFEST), "no further CA"),
        (((x509.BasicConstraints(ca=True, path_length=1), True), MANIFEST), "no further CA"),
        (((x509.BasicConstraints(ca=False, path_length=None), True), MANIFEST), "no further CA"),
        ((MANIFEST,), "does not say whether"),
    ],
)
def test_issuing_certificates_in_another_form(
    extensions: tuple[tuple[x509.ExtensionType, bool], ...], says: str
) -> None:
    """All of them signed by the mesh CA's own key."""
    with pytest.raises(FormatError, match=says):
        verify_issuer(signed_by_ca(*extensions, by=ROOT._key))
    assert verify_issuer(signed_by_ca(ISSUING, MANIFEST, by=ROOT._key)) == KEY.spki


def empty_builder(subject: x509.Name, issuer: x509.Name, key: TlsKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(1)
        .public_key(key.private_key.public_key())
        .not_valid_before(dt.datetime.fromtimestamp(NOW, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(NOW + 9, dt.UTC))
    )


def leaf_builder(*, issuer: bytes) -> x509.CertificateBuilder:
    """A worker's certificate as the CA of `issuer` would make it, for the manifest of now."""
    extension = x509.UnrecognizedExtension(MESH_IDENTITY_OID, identity().to_der())
    return (
        empty_builder(x509.Name([]), x509.load_der_x509_certificate(issuer).subject, KEY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(extension, critical=True)
    )


def signed_by_ca(
    *extensions: tuple[x509.ExtensionType, bool], key: object = None, by: TlsKey = CA.key
) -> bytes:
    """A certificate that the CA's key signed, but not through `IssuingCa.issue`."""
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .serial_number(1)
        .public_key(key or KEY.private_key.public_key())  # type: ignore[arg-type]
        .not_valid_before(dt.datetime.fromtimestamp(NOW, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(NOW + 9, dt.UTC))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return sign_certificate(builder, by)


LEAF = (x509.BasicConstraints(ca=False, path_length=None), True)


def test_a_certificate_without_identity_is_refused() -> None:
    with pytest.raises(FormatError, match="carries no mesh identity"):
        verify(signed_by_ca(LEAF))


def test_a_certificate_that_may_issue_others_is_refused() -> None:
    ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    with pytest.raises(FormatError, match="a CA's"):
        verify(signed_by_ca(ca))
    with pytest.raises(FormatError, match="a CA's"):
        verify(sign_certificate(ca_builder(CA.key), CA.key))


def ca_builder(key: TlsKey, path_length: int | None = 1) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    name = x509.Name([])
    return empty_builder(name, name, key).add_extension(constraints, critical=True)


def test_a_certificate_without_constraints_is_refused() -> None:
    with pytest.raises(FormatError, match="does not say whether"):
        verify(signed_by_ca())


@pytest.mark.parametrize(("role", "critical"), [("worker", False), ("frontend", True)])
def test_an_identity_that_is_wrongly_marked(role: str, critical: bool) -> None:
    extension = x509.UnrecognizedExtension(MESH_IDENTITY_OID, identity(role).to_der())
    with pytest.raises(FormatError, match="wrongly marked"):
        verify(signed_by_ca(LEAF, (extension, critical)), role=role)


GOOD = identity().to_der()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x30\x00",
        GOOD[:-1],
        GOOD + b"\x00",
        b"\x31" + GOOD[1:],
        GOOD.replace(b"worker", b"w\xf6rker"),
        GOOD.replace(b"\x04\x20mm", b"\x05\x20mm"),
        b"\x30\x81" + GOOD[1:],
        bytes(200),
        MeshIdentity(role="r" * 65, measurement=b"m" * 32, manifest_digest=DIGEST).to_der(),
        MeshIdentity(role="worker", measurement=b"m" * 31, manifest_digest=DIGEST).to_der(),
    ],
)
def test_an_identity_in_another_form(raw: bytes) -> None:
    with pytest.raises(FormatError, match="mesh identity"):
        MeshIdentity.from_der(raw)


@pytest.mark.parametrize("role", ["", "r", "r" * 57, "r" * 58, "r" * 64])
def test_an_identity_of_any_role_length(role: str) -> None:
    assert MeshIdentity.from_der(identity(role).to_der()) == identity(role)


@pytest.mark.parametrize(
    "raw", [b"", b"garbage", ROOT.certificate[:-1], bytes(MAX_CERTIFICATE_BYTES + 1)]
)
def test_what_is_no_certificate(raw: bytes) -> None:
    for read in (verify, verify_issuer, read_identity, verify_ca_certificate, spki_of):
        with pytest.raises(FormatError):
            read(raw)


def test_a_key_on_another_curve_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(FormatError, match="P-256"):
        spki_of(signed_by_ca(LEAF, key=other.public_key()))
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(other, hashes.SHA256())
    )
    with pytest.raises(FormatError, match="P-256"):
        parse_csr(csr.public_bytes(serialization.Encoding.DER))


# What `cryptography` does not parse, it says in many ways

VERSION = (bytes.fromhex("a003020102"), bytes.fromhex("a003020105"))
CURVE = (bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030117"))
ALGORITHM = (bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0255"))
POINT = bytes.fromhex("03420004")
X400_NAME = x509.UnrecognizedExtension(
    x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex("3004a3023000")
)


def off_curve(raw: bytes) -> bytes:
    at = raw.index(POINT) + 10
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.mark.parametrize("swap", [VERSION, CURVE, ALGORITHM], ids=["version", "curve", "algorithm"])
def test_certificates_that_no_error_of_ours_described(swap: tuple[bytes, bytes]) -> None:
    for good in (ROOT.certificate, leaf()):
        raw = good.replace(*swap, 1)
        assert raw != good
        for read in (verify_ca_certificate, spki_of):
            with pytest.raises(FormatError, match="does not parse"):
                read(raw)
        with pytest.raises((FormatError, AuthenticationFailed)):
            verify(raw)


def test_a_key_that_is_no_point_of_its_curve() -> None:
    for read in (verify_ca_certificate, spki_of):
        with pytest.raises(FormatError, match="key does not parse"):
            read(off_curve(ROOT.certificate))
    with pytest.raises(FormatError, match="does not parse"):
        parse_csr(off_curve(csr()))


def test_a_name_of_a_kind_that_nobody_supports() -> None:
    for read in (verify, read_identity, verify_ca_certificate, spki_of):
        with pytest.raises(FormatError, match="does not parse"):
            read(signed_by_ca(LEAF, (X400_NAME, False)))
    with pytest.raises(FormatError, match="does not parse"):
        parse_csr(csr(X400_NAME))


def test_a_request_of_version_8() -> None:
    with pytest.raises(FormatError, match="does not parse"):
        parse_csr(csr().replace(bytes.fromhex("020100"), bytes.fromhex("020107"), 1))


# The mesh CA's own certificate


def test_the_ca_certificate_names_its_key_and_lasts_ten_years() -> None:
    assert verify_ca_certificate(ROOT.certificate) == ROOT.spki
    certificate = x509.load_der_x509_certificate(ROOT.certificate)
    assert certificate.not_valid_after_utc.timestamp() == NOW + CA_LIFE_S


def test_a_ca_certificate_that_is_a_leaf_or_signed_by_another() -> None:
    for signed in (leaf(), CA.certificate):
        with pytest.raises(AuthenticationFailed):
            verify_ca_certificate(signed)
    own = TlsKey.generate()
    for critical, ca in ((True, False), (False, True)):
        builder = empty_builder(x509.Name([]), x509.Name([]), own).add_extension(
            x509.BasicConstraints(ca=ca, path_length=None), critical=critical
        )
        with pytest.raises(FormatError, match="not a CA's"):
            verify_ca_certificate(sign_certificate(builder, own))


@pytest.mark.parametrize("path_length", [None, 0, 2])
def test_a_ca_without_room_for_exactly_one_below(path_length: int | None) -> None:
    own = TlsKey.generate()
    raw = sign_certificate(ca_builder(own, path_length), own)
    with pytest.raises(FormatError, match="issuing CAs below it and nothing further"):
        verify_ca_certificate(raw)


def test_a_ca_is_restored_only_with_its_own_certificate() -> None:
    key = TlsKey.from_secret(ROOT.to_secret())
    assert MeshCa(key=key, certificate=ROOT.certificate).spki == ROOT.spki
    with pytest.raises(FormatError, match="of another key"):
        MeshCa(key=TlsKey.generate(), certificate=ROOT.certificate)


def test_an_issuing_ca_is_restored_only_as_it_was() -> None:
    kept = {"key": CA.key, "certificate": CA.certificate, "manifest_digest": DIGEST}
    opened = ROOT.open_issuing(**kept)
    assert (opened.spki, opened.mesh_ca) == (CA.spki, ROOT.certificate)
    assert "key" not in repr(opened)
    with pytest.raises(FormatError, match="of another key"):
        ROOT.open_issuing(**(kept | {"key": OTHER.key}))
    with pytest.raises(PolicyDenied):
        ROOT.open_issuing(**(kept | {"manifest_digest": b"e" * 32}))
    stranger = MeshCa.create(mesh="test", simulated=True, now=NOW)
    with pytest.raises(AuthenticationFailed):
        stranger.open_issuing(**kept)


# Requests


def csr(*extensions: x509.ExtensionType, sign: TlsKey = KEY) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(sign.private_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_a_request_that_its_key_did_not_sign() -> None:
    raw = bytearray(csr())
    raw[-1] ^= 1
    with pytest.raises(AuthenticationFailed, match="own key"):
        parse_csr(bytes(raw))


def test_a_request_for_more_than_names() -> None:
    with pytest.raises(FormatError, match="more than names"):
        parse_csr(csr(x509.BasicConstraints(ca=True, path_length=None)))


@pytest.mark.parametrize("raw", [b"", b"garbage", csr()[:-2]])
def test_what_is_no_request(raw: bytes) -> None:
    with pytest.raises(FormatError, match="does not parse"):
        parse_csr(raw)


@pytest.mark.parametrize(
    "names",
    [
        [x509.DNSName("*.example.org")],
        [x509.DNSName("EXAMPLE.org")],
        [x509.DNSName("a..b")],
        [x509.DNSName("-a")],
        [x509.RFC822Name("a@example.org")],
        [x509.UniformResourceIdentifier("https://example.org")],
        [x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))],
        [x509.DNSName(f"h{i}") for i in range(17)],
    ],
)
def test_names_that_no_certificate_gets(names: list[x509.GeneralName]) -> None:
    with pytest.raises(FormatError, match="name"):
        parse_csr(csr(x509.SubjectAlternativeName(names)))


def test_a_name_that_is_none_is_refused_before_it_is_sent() -> None:
    with pytest.raises(FormatError, match="neither a DNS name nor an IP address"):
        build_csr(KEY, names=("not a name",))


# One certificate, one form


def inner_and_outer(raw: bytes) -> tuple[int, int]:
    """Return where the two algorithm identifiers of a certificate lie."""
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    inner = raw.index(algorithm)
    return inner, raw.index(algorithm, inner + 1)


@pytest.mark.parametrize("role", ["worker", "frontend"])
def test_no_byte_of_a_certificate_is_loose(role: str) -> None:
    """Else one certificate would have many digests."""
    good = leaf(role)
    _, outer = inner_and_outer(good)
    for at in range(len(good)):
        flips = range(1, 256) if outer <= at < outer + 20 else (1, 2, 4, 8, 16, 32, 64, 128, 255)
        for flip in flips:
            bad = bytearray(good)
            bad[at] ^= flip
            with pytest.raises((AuthenticationFailed, FormatError)):
                verify(bytes(bad), role=role)


@pytest.mark.parametrize("made", ["leaf", "issuing", "root"])
def test_the_twin_of_a_signature(made: str) -> None:
    """With n - s instead of s it is as good to ECDSA, and another digest (SEC 1, 4.1.4)."""
    good, check = {
        "leaf": (leaf(), verify),
        "issuing": (CA.certificate, verify_issuer),
        "root": (ROOT.certificate, verify_ca_certificate),
    }[made]
    parsed = x509.load_der_x509_certificate(good)
    r, s = decode_dss_signature(parsed.signature)
    twin = encode_dss_signature(r, P256_ORDER - s)
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    bad = certificate(parsed.tbs_certificate_bytes, algorithm, twin)
    issuer = {"leaf": CA.key, "issuing": ROOT._key, "root": ROOT._key}[made]
    verify_ecdsa(issuer.spki, twin, parsed.tbs_certificate_bytes)
    check(good)
    with pytest.raises(FormatError, match="other of two forms"):
        check(bad)


def test_every_certificate_is_made_with_the_lesser_s() -> None:
    for _ in range(20):
        _, s = decode_dss_signature(x509.load_der_x509_certificate(leaf()).signature)
        assert s <= P256_ORDER // 2


def test_unused_bits_in_the_signature() -> None:
    """A parser accepts some where they are 0 (X.690, 8.6.2.2): one in two signatures has one."""
    tried = 0
    for _ in range(40):
        good = leaf()
        signature = x509.load_der_x509_certificate(good).signature
        if signature[-1] & 1:
            continue
        at = len(good) - len(signature) - 1
        bad = good[:at] + b"\x01" + good[at + 1 :]
        assert x509.load_der_x509_certificate(bad).signature == signature
        with pytest.raises(FormatError, match="whole bytes"):
            verify(bad)
        tried += 1
    assert tried


def test_parameters_and_other_algorithms() -> None:
    """Signed by the CA, in a form that it never makes."""
    for other in ("2a8648ce3d040303", "2a8648ce3d040301"):
        good = leaf()
        inner, _ = inner_and_outer(good)
        tbs = x509.load_der_x509_certificate(good).tbs_certificate_bytes
        at = inner - good.index(tbs)
        changed = tbs[: at + 4] + bytes.fromhex(other) + tbs[at + 12 :]
        for outer in (other, "2a8648ce3d040302"):
            algorithm = b"\x30\x0a\x06\x08" + bytes.fromhex(outer)
            with pytest.raises(FormatError):
                verify(certificate(changed, algorithm, CA.key.sign(changed)))


def certificate(tbs: bytes, algorithm: bytes, signature: bytes) -> bytes:
    content = tbs + algorithm + element(0x03, b"\0" + signature)
    return element(0x30, content)


def element(tag: int, content: bytes) -> bytes:
    length = len(content)
    size = (length.bit_length() + 7) // 8
    head = bytes([length]) if length < 128 else bytes([0x80 | size]) + length.to_bytes(size, "big")
    return bytes([tag]) + head + content


@pytest.mark.parametrize("length", [0, 1, 73, 127, 128, 254, 255, 256, 257, 1000])
def test_a_signature_of_any_length(length: int) -> None:
    tbs = x509.load_der_x509_certificate(leaf()).tbs_certificate_bytes
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    with pytest.raises((AuthenticationFailed, FormatError)):
        verify(certificate(tbs, algorithm, bytes(length)))


def test_a_certificate_without_its_version() -> None:
    """Version 1, which has no extensions; the parser lets it have them."""
    tbs = x509.load_der_x509_certificate(leaf()).tbs_certificate_bytes
    at = tbs.index(b"\xa0\x03\x02\x01\x02")
    changed = element(0x30, tbs[at + 5 :])
    raw = certificate(changed, bytes.fromhex("300a06082a8648ce3d040302"), CA.key.sign(changed))
    assert x509.load_der_x509_certificate(raw).version is x509.Version.v1
    with pytest.raises(FormatError, match="not of version 3"):
        verify(raw)


@pytest.mark.parametrize("serial", ["80", "ff"])
def test_a_negative_serial_number(serial: str) -> None:
    """The library warns of it, and filters may turn a warning into an error; either way: no."""
    good = leaf()
    tbs = x509.load_der_x509_certificate(good).tbs_certificate_bytes
    at = tbs.index(b"\xa0\x03\x02\x01\x02") + 5
    assert tbs[at] == 0x02
    rest = tbs[at + 2 + tbs[at + 1] :]
    number = bytes.fromhex(serial) * tbs[at + 1]
    body = tbs[4:at] + bytes([0x02, len(number)]) + number + rest
    changed = element(0x30, body)
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    raw = certificate(changed, algorithm, CA.key.sign(changed))
    for action in ("error", "ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)  # type: ignore[arg-type]
            with pytest.raises(FormatError):
                verify(raw)
            with pytest.raises(FormatError):
                read_identity(raw)
