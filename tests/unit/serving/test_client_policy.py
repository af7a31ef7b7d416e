"""Whom a client trusts with its data: attacks first."""

import dataclasses
import functools
import hashlib
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from simulators.front_end import (
    MEASUREMENTS,
    leaf_of,
    make_identity,
    make_manifest,
    make_papers,
)

from wardian.attestation.appraisal.policy import AllOf, AppraisalPolicy, MeasurementIn, NotDebug
from wardian.attestation.evidence import Purpose, bind
from wardian.broker.ca import IssuingCa, MeshCa
from wardian.broker.certificate_builder import SKEW_S
from wardian.broker.certificate_form import sign_certificate
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    ConfigError,
    EvidenceInvalid,
    EvidenceStale,
    FormatError,
    PolicyDenied,
    TcbUnacceptable,
)
from wardian.serving.client.policy import ClientPolicy, load_client_policy
from wardian.serving.frontend_evidence import FrontendEvidence, frontend_report_data
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform

NONCE = b"n" * 32
KEY = TlsKey.generate()
SPKI = KEY.spki
NOW = int(time.time())
ROLES = {role: frozenset({measured}) for role, measured in MEASUREMENTS.items()}
ISSUER = MeshCa.create(mesh="test", simulated=True, now=NOW).create_issuing(
    manifest_digest=bytes(32), now=NOW
)
"""Of another mesh; for what is refused before certificates are looked at."""


@dataclasses.dataclass(kw_only=True)
class Shown:
    """What a front end shows; a test changes one thing at a time."""

    platform: SimulatedPlatform
    manifest: VerifiedManifest
    ca: MeshCa
    nonce: bytes = NONCE
    tls_spki: bytes = SPKI
    measured: bytes = MEASUREMENTS["frontend"]
    debug: bool = False
    bound_digest: bytes | None = None
    bound_version: int = 3
    bound_ca: bytes | None = None
    purpose: str = Purpose.FRONTEND
    issuer: IssuingCa | None = None
    shown_issuer: bytes | None = None
    role: str = "frontend"

    @property
    def issuing(self) -> IssuingCa:
        """The CA that issues under the manifest that is shown, unless a test takes another."""
        return self.issuer or issuing_ca(self.ca, self.manifest.digest)

    @property
    def certificate(self) -> bytes:
        """The certificate of the connection."""
        return leaf_of(make_identity(self.issuing, KEY, role=self.role, now=NOW))

    def evidence(self) -> FrontendEvidence:
        parts = (
            self.nonce,
            self.tls_spki,
            self.bound_ca or self.ca.spki,
            self.bound_digest or self.manifest.digest,
            self.bound_version.to_bytes(8, "big"),
        )
        return FrontendEvidence(
            evidence=self.platform.evidence(
                mr_enclave=self.measured,
                report_data=bind(self.purpose, *parts),
                debug=self.debug,
            ),
            manifest=self.manifest.signed,
            mesh_ca=self.ca.certificate,
            issuing_ca=self.shown_issuer or self.issuing.certificate,
            witnessed=make_papers(self.ca, self.issuing, self.manifest).witnessed,
        )


@functools.cache
def issuing_ca(ca: MeshCa, digest: bytes) -> IssuingCa:
    return ca.create_issuing(manifest_digest=digest, now=NOW)


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    return generate_platform()


@pytest.fixture(scope="module")
def ca() -> MeshCa:
    return MeshCa.create(mesh="test", simulated=True, now=NOW)


@pytest.fixture
def shown(platform: SimulatedPlatform, ca: MeshCa) -> Shown:
    return Shown(platform=platform, manifest=make_manifest(platform), ca=ca)


def policy(platform: SimulatedPlatform, **more: Any) -> ClientPolicy:
    return ClientPolicy(
        evidence=AppraisalPolicy(
            roots=frozenset({platform.root_sha256}),
            rule=AllOf(NotDebug(), MeasurementIn(frozenset({MEASUREMENTS["frontend"]}))),
        ),
        **more,
    )


def verify(
    shown: Shown | FrontendEvidence,
    policy: ClientPolicy,
    *,
    certificate: bytes | None = None,
    now: int = NOW,
) -> Any:
    """Judge what is shown on a connection; by default its certificate is as it should be."""
    if isinstance(shown, Shown):
        certificate = certificate or shown.certificate
        shown = shown.evidence()
    return policy.verify(
        shown,
        nonce=NONCE,
        certificate=certificate or leaf_of(make_identity(ISSUER, KEY, now=NOW)),
        now=now,
    )


def test_one_definition_of_what_is_bound(shown: Shown) -> None:
    assert shown.evidence().evidence.quote  # and `bind` above is what the product binds:
    assert frontend_report_data(
        nonce=b"a", tls_spki=b"b", ca_spki=b"c", manifest_digest=b"d", version=5
    ) == bind("wardian frontend v1", b"a", b"b", b"c", b"d", b"\0\0\0\0\0\0\0\5")


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": b"m" * 32},  # replayed
        {"tls_spki": b"the key of somebody in between"},
        {"bound_ca": b"another mesh CA"},
        {"bound_digest": b"d" * 32},  # the manifest shown is not the one that it serves under
        {"bound_version": 4},
        {"purpose": Purpose.BROKER},  # made for another use
        {"purpose": Purpose.RELEASE},
    ],
)
def test_evidence_for_something_else_is_refused(shown: Shown, changes: dict[str, Any]) -> None:
    changed = dataclasses.replace(shown, **changes)
    with pytest.raises(EvidenceInvalid, match="not bound to this nonce"):
        verify(changed.evidence(), policy(shown.platform, manifest_digest=shown.manifest.digest))


def test_another_mesh_than_the_pinned_one_is_refused(shown: Shown) -> None:
    with pytest.raises(PolicyDenied, match="does not pin") as caught:
        verify(shown.evidence(), policy(shown.platform, manifest_digest=b"x" * 32))
    assert caught.value.rule == "manifest-pinned"
    assert (b"x" * 32).hex() not in str(caught.value)


@pytest.mark.parametrize("role", ["broker", "worker", "frontend", "zoo"])
def test_owners_who_sign_another_program_into_a_role(shown: Shown, role: str) -> None:
    """TRUST T2: the front end's measurement is the same, its owners' signatures are good."""
    evil = make_manifest(
        shown.platform,
        roles={
            **{name: (measured,) for name, measured in MEASUREMENTS.items()},
            role: (*((MEASUREMENTS[role],) if role in MEASUREMENTS else ()), b"\xee" * 32),
        },
    )
    changed = dataclasses.replace(shown, manifest=evil)
    with pytest.raises(PolicyDenied, match=f"admits code as '{role}'") as caught:
        verify(changed.evidence(), policy(shown.platform, roles=ROLES))
    assert caught.value.rule == "role-measurements"


def test_a_role_that_the_policy_does_not_list_is_refused(shown: Shown) -> None:
    some = {role: ROLES[role] for role in ("frontend", "worker")}
    with pytest.raises(PolicyDenied, match="admits code as 'broker'"):
        verify(shown.evidence(), policy(shown.platform, roles=some))


def test_a_front_end_that_its_manifest_does_not_name(shown: Shown) -> None:
    odd = make_manifest(
        shown.platform, roles={"worker": (b"\x77" * 32,), "frontend": (b"\x12" * 32,)}
    )
    for manifest in (odd, make_manifest(shown.platform, roles={"worker": (b"\x77" * 32,)})):
        changed = dataclasses.replace(shown, manifest=manifest)
        with pytest.raises(PolicyDenied, match="its own measurement"):
            verify(changed.evidence(), policy(shown.platform, manifest_digest=manifest.digest))


def test_another_program_than_the_policy_measures(shown: Shown) -> None:
    changed = dataclasses.replace(shown, measured=MEASUREMENTS["worker"])
    with pytest.raises(PolicyDenied):
        verify(changed.evidence(), policy(shown.platform, roles=ROLES))


def test_a_debug_enclave(shown: Shown) -> None:
    changed = dataclasses.replace(shown, debug=True)
    with pytest.raises(TcbUnacceptable):
        verify(changed.evidence(), policy(shown.platform, roles=ROLES))


def test_another_simulation(shown: Shown) -> None:
    with pytest.raises(PolicyDenied, match="root"):
        verify(shown.evidence(), policy(generate_platform(), roles=ROLES))


@pytest.mark.parametrize(
    "change", [{"mesh_ca": b"not a certificate"}, {"manifest": SignedManifest(manifest=b"{}", signatures=())}]
)  # fmt: skip
def test_what_does_not_parse(shown: Shown, change: dict[str, Any]) -> None:
    broken = msgspec.structs.replace(shown.evidence(), **change)
    with pytest.raises(FormatError):
        verify(broken, policy(shown.platform, roles=ROLES))


# TRUST T21: the connection's certificate is of the CA that is bound to the manifest


def accepting(shown: Shown) -> ClientPolicy:
    return policy(shown.platform, manifest_digest=shown.manifest.digest)


def refused(shown: Shown, says: str, *, certificate: bytes | None = None) -> None:
    with pytest.raises(EvidenceInvalid, match=says):
        verify(shown, accepting(shown), certificate=certificate)


def test_t21_a_swapped_mesh_ca(shown: Shown) -> None:
    """The evidence is about another CA's key; and where it is about this one, nothing fits it."""
    stranger = MeshCa.create(mesh="test", simulated=True, now=NOW)
    refused(dataclasses.replace(shown, ca=stranger, bound_ca=shown.ca.spki), "not bound to this")
    forged = dataclasses.replace(shown, issuer=issuing_ca(stranger, shown.manifest.digest))
    refused(forged, "not signed by the mesh CA")


def test_t21_an_issuing_ca_of_an_older_manifest(shown: Shown) -> None:
    """A front end, or its stolen key, from before the owners changed the mesh."""
    old = issuing_ca(shown.ca, b"o" * 32)
    certificate = leaf_of(make_identity(old, KEY, now=NOW))
    refused(shown, "not signed by the issuing CA of this manifest", certificate=certificate)
    with pytest.raises(PolicyDenied, match="issues under another mesh manifest") as caught:
        verify(dataclasses.replace(shown, issuer=old), accepting(shown))
    assert caught.value.rule == "issuer-manifest"


def test_t21_an_issuing_ca_that_an_issuing_ca_made(shown: Shown) -> None:
    """Its certificate names the manifest, and only its signer is wrong."""
    good = shown.issuing
    key = TlsKey.generate()
    parsed = x509.load_der_x509_certificate(good.certificate)
    builder = (
        x509.CertificateBuilder()
        .subject_name(parsed.subject)
        .issuer_name(parsed.subject)
        .serial_number(1)
        .public_key(key.private_key.public_key())
        .not_valid_before(parsed.not_valid_before_utc)
        .not_valid_after(parsed.not_valid_after_utc)
    )
    for extension in parsed.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    below = dataclasses.replace(good, key=key, certificate=sign_certificate(builder, good.key))
    refused(dataclasses.replace(shown, issuer=below), "not signed by the mesh CA")


def test_t21_a_front_end_that_plays_a_ca(shown: Shown) -> None:
    leaf = shown.certificate
    with pytest.raises(EvidenceInvalid, match="not signed by the mesh CA"):
        verify(dataclasses.replace(shown, shown_issuer=leaf), accepting(shown))
    forger = dataclasses.replace(shown.issuing, key=KEY)
    certificate = leaf_of(make_identity(forger, KEY, now=NOW))
    refused(shown, "not signed by the issuing CA", certificate=certificate)


def test_t21_a_certificate_that_the_mesh_ca_signed_itself(shown: Shown) -> None:
    direct = dataclasses.replace(shown.issuing, key=shown.ca._key)
    certificate = leaf_of(make_identity(direct, KEY, now=NOW))
    refused(shown, "not signed by the issuing CA", certificate=certificate)
    with pytest.raises(FormatError, match="issues to processes"):
        verify(dataclasses.replace(shown, shown_issuer=shown.ca.certificate), accepting(shown))


def test_t3_another_role_s_certificate(shown: Shown) -> None:
    with pytest.raises(PolicyDenied, match="of role 'worker'") as caught:
        verify(dataclasses.replace(shown, role="worker"), accepting(shown))
    assert caught.value.rule == "peer-role"


@pytest.mark.parametrize("seconds", [3601, -SKEW_S - 1])
def test_a_certificate_out_of_its_time(shown: Shown, seconds: int) -> None:
    with pytest.raises(EvidenceStale, match="certificate is not valid at this time"):
        verify(shown, accepting(shown), now=NOW + seconds)


@pytest.mark.parametrize("by", ["digest", "roles", "both"])
def test_the_right_front_end_is_accepted(shown: Shown, by: str) -> None:
    pins: dict[str, Any] = {}
    if by != "roles":
        pins["manifest_digest"] = shown.manifest.digest
    if by != "digest":
        pins["roles"] = {**ROLES, "more": frozenset({b"\1" * 32})}
    verified = verify(shown, policy(shown.platform, **pins))
    assert verified.result.claims.simulated
    assert verified.manifest_digest == shown.manifest.digest
    assert verified.mesh_ca == shown.ca.certificate


@pytest.mark.parametrize(
    ("pins", "says"),
    [
        ({}, "names no mesh"),
        ({"roles": {}}, "names no mesh"),
        ({"manifest_digest": b"short"}, "32 bytes"),
        ({"manifest_digest": bytes(32), "mesh_ca": b"short"}, "32 bytes"),
        ({"roles": {"worker": frozenset({b"short"})}}, "32 bytes"),
    ],
)
def test_a_policy_that_names_no_mesh_is_none(
    platform: SimulatedPlatform, pins: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        policy(platform, **pins)


FILE = """
max_evidence_age_s = 60
[evidence]
simulation_root_sha256 = "{root}"
measurements = ["{frontend}"]
[mesh]
{mesh}
"""


def write(path: Path, mesh: str, platform: SimulatedPlatform, text: str = FILE) -> Path:
    path.write_text(
        text.format(
            root=platform.root_sha256.hex(), frontend=MEASUREMENTS["frontend"].hex(), mesh=mesh
        )
    )
    return path


def test_a_policy_file(shown: Shown, tmp_path: Path) -> None:
    roles = "\n".join(f'{role} = ["{each.hex()}"]' for role, each in MEASUREMENTS.items())
    for mesh in (f'manifest_digest = "{shown.manifest.digest.hex()}"', f"[mesh.roles]\n{roles}"):
        loaded = load_client_policy(write(tmp_path / "p.toml", mesh, shown.platform))
        assert loaded.max_evidence_age_s == 60
        verify(shown, loaded)


@pytest.mark.parametrize(
    ("mesh", "text", "says"),
    [
        ("", FILE, "names no mesh"),
        ("roles = {}", FILE, "names no mesh"),
        ('manifest_digest = "12"', FILE, "manifest_digest"),
        (f"manifest_digest = {'ab' * 32!r}\nca = '12'", FILE, "ca"),
        ("manifest = 1", FILE, "line 7: .*unknown field `manifest`"),
        ("", FILE.replace("[mesh]", ""), "missing required field `mesh`"),
        ("manifest_digest = " + repr("ab" * 32), FILE.replace("measurements", "#"), "names no enclave"),
        ("manifest_digest = " + repr("ab" * 32), FILE.replace("60", "-1"), ">= 0"),
    ],
)  # fmt: skip
def test_policy_files_that_are_refused(
    platform: SimulatedPlatform, tmp_path: Path, mesh: str, text: str, says: str
) -> None:
    path = write(tmp_path / "p.toml", mesh, platform, text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_client_policy(path)
    assert "p.toml" in str(caught.value)


def test_a_policy_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_client_policy(str(tmp_path / "none.toml"))


def test_t13_the_file_may_pin_the_mesh_ca(shown: Shown, tmp_path: Path) -> None:
    """The evidence binds whichever CA the front end names; who pins one believes no other."""
    digest = hashlib.sha256(shown.ca.spki).hexdigest()
    pin = f'manifest_digest = "{shown.manifest.digest.hex()}"\nca = '
    verify(
        shown, load_client_policy(write(tmp_path / "p.toml", pin + f'"{digest}"', shown.platform))
    )
    other = load_client_policy(write(tmp_path / "p.toml", pin + repr("ab" * 32), shown.platform))
    with pytest.raises(PolicyDenied) as refused:
        verify(shown, other)
    assert refused.value.rule == "mesh-ca"
