"""`wardian mesh policy`: what a client accepts is what the manifest lists, and no more."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_mesh import NOW, PLATFORM, ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.verifier import verify_evidence
from wardian.broker.mesh.lines import sign_model_line
from wardian.broker.mesh.manifest import SignedManifest, manifest_digest, sign_manifest
from wardian.broker.mesh.trust import RoleReference, TrustAnchor
from wardian.cli.main import cli
from wardian.errors import AuthenticationFailed, ConfigError, PolicyDenied
from wardian.serving.client.policy import ClientPolicy, load_client_policy

HARDWARE = {
    "simulation_root_sha256": None,
    "tcb_statuses": ("UpToDate", "OutOfDate"),
    "advisories": ("INTEL-SA-00615",),
}


class Desk:
    def __init__(self, root: Path) -> None:
        self.mesh = ToyMesh()
        self.agreed, self.manifest = root / "wardian.toml", root / "manifest.json"
        self.output = root / "client-policy.toml"
        self.agreed.write_bytes(self.mesh.agreed_toml)

    def write(self, *options: str, signed: SignedManifest | None = None) -> str:
        """Run the command on a manifest that nobody signed, unless one is given."""
        signed = signed or sign_manifest(self.mesh.manifest(), ())
        self.manifest.write_bytes(wire.encode(signed))
        arguments = ["mesh", "policy", self.manifest, "--agreed", self.agreed, "-o", self.output]
        done = CliRunner().invoke(cli, [*map(str, arguments), *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    def policy(self, *options: str, **changes: object) -> ClientPolicy:
        self.write(*options, signed=sign_manifest(self.mesh.manifest(**changes), ()))
        return load_client_policy(self.output)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def verify(policy: ClientPolicy, measurement: bytes) -> None:
    evidence = PLATFORM.evidence(mr_enclave=measurement, report_data=bytes(64), product_id=2, svn=1)
    verify_evidence(evidence, policy=policy.evidence, report_data=bytes(64), now=NOW)


def test_it_lists_every_role_of_a_manifest_that_nobody_signed_yet(desk: Desk) -> None:
    measured = desk.mesh.measurements
    roles = {role: RoleReference(measurements=(each.hex(),)) for role, each in measured.items()}
    roles["frontend"] = RoleReference(
        measurements=(measured["frontend"].hex(), digest("next").hex())
    )
    said = desk.write(signed=sign_manifest(desk.mesh.manifest(roles=roles), ()))
    assert "measurements: broker 1, frontend 2, worker 1" in said
    policy = load_client_policy(desk.output)
    assert policy.manifest_digest is None
    assert policy.roles == {
        role: frozenset({each}) | ({digest("next")} if role == "frontend" else set())
        for role, each in measured.items()
    }
    for accepted in (measured["frontend"], digest("next")):
        verify(policy, accepted)
    with pytest.raises(PolicyDenied):
        verify(policy, measured["worker"])


def test_it_pins_a_manifest_where_that_is_asked_for(desk: Desk) -> None:
    policy = desk.policy("--pin")
    assert policy.manifest_digest == manifest_digest(sign_manifest(desk.mesh.manifest(), ()))
    assert policy.roles is not None


@pytest.mark.parametrize(
    "platform", [{"any_platform": "risk accepted"}, {"platforms": ("ab" * 16,)}]
)
def test_platforms_are_held_to_what_the_owners_hold_them_to(
    desk: Desk, platform: dict[str, object]
) -> None:
    bounds = {
        "min_tcb_evaluation_number": 17,
        "out_of_date_grace_s": 3600,
        "max_collateral_age_s": 7200,
    }
    policy = desk.policy(trust=TrustAnchor(**HARDWARE, **platform, **bounds))
    text = desk.output.read_text()
    for bound in (*(f"{key} = {value}" for key, value in bounds.items()), "INTEL-SA-00615"):
        assert bound in text
    assert ("any_platform" in text) is ("any_platform" in platform)
    with pytest.raises(Exception, match="root"):
        verify(policy, desk.mesh.measurements["frontend"])  # a simulated one


def test_the_same_manifest_gives_the_same_file(desk: Desk) -> None:
    desk.write()
    first = desk.output.read_bytes()
    desk.write()
    assert desk.output.read_bytes() == first
    assert not list(desk.output.parent.glob("*.new"))


# Refused


def test_a_line_that_its_owner_did_not_sign(desk: Desk) -> None:
    mesh = desk.mesh
    other = sign_model_line(
        mesh="another",
        owner=mesh.owners[0],
        name="digits",
        version=1,
        serial=1,
        media_type="application/onnx",
        pin=mesh.line().pin,
        key_id=bytes(16),
        total_bytes=1,
        measurements=[mesh.measurements["worker"]],
    )
    with pytest.raises(AuthenticationFailed):
        desk.policy(models=(other,))
    assert not desk.output.exists()


def test_a_manifest_without_a_front_end(desk: Desk) -> None:
    worker = RoleReference(measurements=(desk.mesh.measurements["worker"].hex(),))
    with pytest.raises(ConfigError, match="no front end"):
        desk.policy(roles={"worker": worker})


def test_what_no_client_would_take_does_not_replace_what_is_there(desk: Desk) -> None:
    desk.output.write_text("kept")
    trust = TrustAnchor(
        simulation_root_sha256=PLATFORM.root_sha256.hex(),
        tcb_statuses=("UpToDate",),
        advisories=("lower case",),
    )
    with pytest.raises(ConfigError, match="advisories"):
        desk.policy(trust=trust)
    assert desk.output.read_text() == "kept"
    assert not list(desk.output.parent.glob("*.new"))
