"""The mesh manifest: who may sign it, what it may say, what a reader makes of it."""

import hashlib

import msgspec
import pytest
from toy_mesh import PLATFORM, ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.appraisal.policy import AllOf, AppraisalPolicy, MeasurementIn
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.broker.mesh.appraisal import appraisal_policy, interop_policy
from wardian.broker.mesh.manifest import (
    MANIFEST_LABEL,
    MAX_MANIFEST_BYTES,
    MeshManifest,
    OwnerSignature,
    SignedManifest,
    manifest_digest,
    parse_manifest,
    sign_manifest,
)
from wardian.broker.mesh.trust import RoleReference, TrustAnchor
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest, verify_manifest_for
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_header import Pin
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError, PolicyDenied

THREE = [SigningKey.generate() for _ in range(3)]


@pytest.fixture
def three() -> ToyMesh:
    return ToyMesh(owners=THREE, threshold=2)


def refused(signed: SignedManifest, mesh: ToyMesh) -> str:
    with pytest.raises(PolicyDenied) as caught:
        verify_manifest_for(signed, agreed=mesh.agreed)
    assert len(str(caught.value)) > 20
    return caught.value.rule


def test_a_manifest_that_the_owners_signed(mesh: ToyMesh) -> None:
    signed = mesh.signed()
    verified = verify_manifest_for(signed, agreed=mesh.agreed)
    assert verified.digest == hashlib.sha256(signed.manifest).digest() == manifest_digest(signed)
    assert verified.signers == (mesh.owners[0].public.hex(),)
    assert verified.signed == signed
    assert verified.manifest == parse_manifest(signed)
    assert wire.decode(wire.encode(signed), SignedManifest, what="x") == signed


def test_nothing_else_makes_a_verified_manifest(mesh: ToyMesh) -> None:
    with pytest.raises(LocalProtocolError):
        VerifiedManifest(
            manifest=mesh.manifest(), digest=bytes(32), signers=(), signed=mesh.signed(), proof=None
        )


# Who signs


def test_unsigned(mesh: ToyMesh) -> None:
    assert refused(sign_manifest(mesh.manifest(), []), mesh) == "manifest-signed"


def test_signed_by_a_stranger(mesh: ToyMesh) -> None:
    signed = sign_manifest(mesh.manifest(), [SigningKey.generate()])
    assert refused(signed, mesh) == "manifest-owner"


def test_signed_by_enough_owners_and_a_stranger(three: ToyMesh) -> None:
    signed = sign_manifest(three.manifest(), [*THREE[:2], SigningKey.generate()])
    assert refused(signed, three) == "manifest-owner"


def test_below_the_threshold(three: ToyMesh) -> None:
    assert refused(sign_manifest(three.manifest(), THREE[:1]), three) == "manifest-threshold"


def test_the_same_owner_twice_is_not_two_owners(three: ToyMesh) -> None:
    signed = sign_manifest(three.manifest(), [THREE[0], THREE[0]])
    assert refused(signed, three) == "manifest-owner-once"


def test_an_owner_listed_twice_in_wardian_toml_is_still_one(mesh: ToyMesh) -> None:
    """Settings refuse such a file; whoever builds a `Mesh` otherwise gains nothing either."""
    name = mesh.owners[0].public.hex()
    twice = msgspec.structs.replace(mesh.agreed.mesh, owners=(name, name.upper()), threshold=2)
    with pytest.raises(PolicyDenied) as caught:
        verify_manifest(sign_manifest(mesh.manifest(), mesh.owners), mesh=twice)
    assert caught.value.rule == "manifest-threshold"


def test_any_two_of_three(three: ToyMesh) -> None:
    for keys in (THREE[:2], THREE[1:], THREE):
        verify_manifest(sign_manifest(three.manifest(), keys), mesh=three.agreed.mesh)


def test_a_signature_over_something_else(mesh: ToyMesh) -> None:
    raw = wire.encode(mesh.manifest())
    key = mesh.owners[0]
    for message in (
        raw,
        wire.fields("wardian model line signature v1", raw),
        wire.fields(MANIFEST_LABEL, raw + b" "),
    ):
        signature = OwnerSignature(owner=key.public.hex(), signature=key.sign(message).hex())
        with pytest.raises(
            AuthenticationFailed, match="mesh manifest is not what its owner signed"
        ):
            verify_manifest(
                SignedManifest(manifest=raw, signatures=(signature,)), mesh=mesh.agreed.mesh
            )


def test_an_owners_signature_under_another_owners_name(three: ToyMesh) -> None:
    signed = sign_manifest(three.manifest(), THREE[:2])
    first, second = signed.signatures
    swapped = msgspec.structs.replace(
        signed, signatures=(first, msgspec.structs.replace(second, owner=THREE[2].public.hex()))
    )
    with pytest.raises(AuthenticationFailed):
        verify_manifest(swapped, mesh=three.agreed.mesh)


def test_a_manifest_of_another_mesh_of_the_same_owners(mesh: ToyMesh) -> None:
    other = ToyMesh(name="other", owners=mesh.owners)
    assert refused(other.signed(), mesh) == "manifest-mesh"


# What it says


def test_one_measurement_in_two_roles(mesh: ToyMesh) -> None:
    same = RoleReference(measurements=(digest("worker").hex(),))
    roles = {"worker": same, "frontend": same, "broker": RoleReference(measurements=("00" * 32,))}
    assert refused(mesh.signed(roles=roles), mesh) == "role-distinct"


def test_intels_root_under_the_name_of_a_simulation(mesh: ToyMesh) -> None:
    trust = TrustAnchor(
        simulation_root_sha256=INTEL_ROOT_SHA256.hex(), tcb_statuses=("UpToDate",), advisories=()
    )
    assert refused(mesh.signed(trust=trust), mesh) == "trust-anchor"


def test_a_model_that_wardian_toml_does_not_name(mesh: ToyMesh) -> None:
    assert refused(mesh.signed(models=(mesh.line("trojan"),)), mesh) == "model-agreed"


@pytest.mark.parametrize(
    "change", [{"media_type": "application/x-pickle"}, {"total_bytes": 100_001}]
)
def test_a_model_against_the_terms_of_wardian_toml(
    mesh: ToyMesh, change: dict[str, object]
) -> None:
    assert refused(mesh.signed(models=(mesh.line(**change),)), mesh) == "model-terms"


def test_one_version_of_a_model_twice(mesh: ToyMesh) -> None:
    lines = (mesh.line(), mesh.line(total_bytes=7))
    assert refused(mesh.signed(models=lines), mesh) == "model-once"


def test_a_model_of_somebody_who_is_no_owner(mesh: ToyMesh) -> None:
    line = mesh.line(owner=SigningKey.generate())
    assert refused(mesh.signed(models=(line,)), mesh) == "line-owner"


@pytest.mark.parametrize(
    "change",
    [
        {"header_digest": "11" * 32},
        {"last_tag": "11" * 16},
        {"key_id": "11" * 16},
        {"version": 9},
        {"serial": 9},
        {"name": "faces"},
        {"total_bytes": 9},
        {"media_type": "x"},
        {"measurements": ("11" * 32,)},
        {"measurements": (digest("worker").hex(), "11" * 32)},
        {"signature": "11" * 64},
    ],
)
def test_t14_owners_sign_a_model_line_that_its_owner_did_not(
    three: ToyMesh, change: dict[str, object]
) -> None:
    """All the mesh's owners together cannot swap a model, or widen who gets its key."""
    line = msgspec.structs.replace(three.line(), **change)
    with pytest.raises(AuthenticationFailed, match=r"the line of model .* version"):
        verify_manifest(
            sign_manifest(three.manifest(models=(line,)), THREE), mesh=three.agreed.mesh
        )


def test_t14_another_owner_takes_a_line_over(three: ToyMesh) -> None:
    line = msgspec.structs.replace(three.line(), owner=THREE[1].public.hex())
    with pytest.raises(AuthenticationFailed):
        verify_manifest(
            sign_manifest(three.manifest(models=(line,)), THREE), mesh=three.agreed.mesh
        )


def test_a_line_signed_for_another_mesh(mesh: ToyMesh) -> None:
    with pytest.raises(AuthenticationFailed):
        verify_manifest(mesh.signed(models=(mesh.line(mesh="other"),)), mesh=mesh.agreed.mesh)


def test_a_line_gives_its_pin_and_versions_are_sorted(mesh: ToyMesh) -> None:
    manifest = mesh.manifest(models=(mesh.line(version=10), mesh.line(version=9)))
    assert [line.version for line in manifest.lines("digits")] == [9, 10]
    assert manifest.lines("none") == ()
    assert manifest.models[0].pin == Pin(
        header_digest=digest("header of digits"), last_tag=bytes(16)
    )


# Its form


def resigned(raw: bytes, mesh: ToyMesh) -> SignedManifest:
    key = mesh.owners[0]
    signature = key.sign(wire.fields(MANIFEST_LABEL, raw)).hex()
    return SignedManifest(
        manifest=raw, signatures=(OwnerSignature(owner=key.public.hex(), signature=signature),)
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: b" " + raw,
        lambda raw: raw.replace(b'"version":1,', b'"version":9,"version":1,', 1),
        lambda raw: raw.replace(b'{"format"', b'{"comment":1,"format"', 1),
        lambda raw: raw.replace(b"manifest v1", b"manifest v2", 1),
        lambda raw: raw.replace(b'"version":1,', b'"version":0,', 1),
        lambda raw: raw[:-1],
        lambda raw: b"[]",
        lambda raw: raw + b" " * MAX_MANIFEST_BYTES,
    ],
    ids=[
        "space",
        "key twice",
        "unknown field",
        "other format",
        "version 0",
        "cut",
        "not an object",
        "too long",
    ],
)
def test_signed_bytes_that_are_not_the_one_form(mesh: ToyMesh, spoil) -> None:
    with pytest.raises(FormatError, match="mesh manifest"):
        verify_manifest(resigned(spoil(wire.encode(mesh.manifest())), mesh), mesh=mesh.agreed.mesh)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw.replace(
            digest("worker").hex().encode(), digest("worker").hex().upper().encode()
        ),
        lambda raw: raw.replace(b'"test"', b'"test\\n"'),
        lambda raw: raw.replace(b'"UpToDate"', b'"Revoked"'),
        lambda raw: raw.replace(b'["UpToDate"]', b"[]"),
        lambda raw: raw.replace(b'["' + digest("broker").hex().encode() + b'"]', b"[]"),
    ],
    ids=["upper case", "final newline", "Revoked", "no status", "no measurement"],
)
def test_values_with_a_second_spelling_or_no_meaning(mesh: ToyMesh, spoil) -> None:
    raw = wire.encode(mesh.manifest())
    assert spoil(raw) != raw
    with pytest.raises(FormatError):
        verify_manifest(resigned(spoil(raw), mesh), mesh=mesh.agreed.mesh)


def test_it_names_what_it_is() -> None:
    assert b'"format":"wardian mesh manifest v1"' in wire.encode(ToyMesh().manifest())


# What follows from it


def test_the_policy_for_a_role_names_its_measurements_and_one_root(mesh: ToyMesh) -> None:
    manifest = mesh.manifest()
    policy = appraisal_policy(manifest, "worker")
    assert policy.roots == frozenset({PLATFORM.root_sha256})
    assert rules_of(policy) >= {
        "MeasurementIn",
        "NotConfigured",
        "NotDebug",
        "TcbEvaluationAtLeast",
    }
    policy = appraisal_policy(mesh.manifest(trust=hardware(any_platform="risk accepted")), "worker")
    assert policy.roots == frozenset({INTEL_ROOT_SHA256})


def rules_of(policy: AppraisalPolicy) -> set[str]:
    assert isinstance(policy.rule, AllOf)
    return {rule.name for rule in policy.rule.rules}


def hardware(**platforms: object) -> TrustAnchor:
    return TrustAnchor(
        simulation_root_sha256=None,
        tcb_statuses=("UpToDate",),
        advisories=(),
        **platforms,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "trust",
    [hardware(), hardware(platforms=("00" * 16,), any_platform="risk accepted")],
    ids=["neither", "both"],
)
def test_t12_hardware_lists_its_platforms_or_says_the_words(
    mesh: ToyMesh, trust: TrustAnchor
) -> None:
    assert refused(mesh.signed(trust=trust), mesh) == "trust-platforms"


def test_a_grace_for_platforms_that_are_accepted_in_no_state(mesh: ToyMesh) -> None:
    trust = msgspec.structs.replace(mesh.manifest().trust, out_of_date_grace_s=60)
    assert refused(mesh.signed(trust=trust), mesh) == "trust-grace"
    both = msgspec.structs.replace(trust, tcb_statuses=("UpToDate", "OutOfDate"))
    policy = appraisal_policy(mesh.verified(trust=both).manifest, "worker")
    assert "OutOfDateWithin" in rules_of(policy)


def test_collateral_may_be_bounded_by_age(mesh: ToyMesh) -> None:
    trust = msgspec.structs.replace(mesh.manifest().trust, max_collateral_age_s=60)
    policy = appraisal_policy(mesh.verified(trust=trust).manifest, "worker")
    assert "CollateralNoOlderThan" in rules_of(policy)
    assert "CollateralNoOlderThan" not in rules_of(appraisal_policy(mesh.manifest(), "worker"))


def test_t12_an_unverified_manifest_without_platforms_accepts_none(mesh: ToyMesh) -> None:
    policy = appraisal_policy(mesh.manifest(trust=hardware()), "worker")
    assert "PlatformIn" in rules_of(policy)
    assert "AnyPlatform" not in rules_of(policy)


def test_t12_evidence_of_a_machine_that_is_not_listed(mesh: ToyMesh) -> None:
    from toy_mesh import NOW

    from wardian.attestation.verifier import verify_evidence

    evidence = mesh.attest("worker")(bytes(64))
    for ppid, accepted in ((PLATFORM.ppid, True), (b"p" * 16, False)):
        trust = TrustAnchor(
            simulation_root_sha256=PLATFORM.root_sha256.hex(),
            tcb_statuses=("UpToDate",),
            advisories=(),
            platforms=(ppid.hex(),),
        )
        policy = appraisal_policy(mesh.verified(trust=trust).manifest, "worker")
        if accepted:
            verify_evidence(evidence, policy=policy, report_data=bytes(64), now=NOW)
            continue
        with pytest.raises(PolicyDenied, match="platform .* is not one"):
            verify_evidence(evidence, policy=policy, report_data=bytes(64), now=NOW)


def test_t9_collateral_from_before_the_owners_bound_is_refused(mesh: ToyMesh) -> None:
    """A host that stops the clock keeps old collateral valid; its number stays what it is."""
    from toy_mesh import NOW

    from wardian.attestation.verifier import verify_evidence

    evidence = mesh.attest("worker")(bytes(64))
    trust = mesh.manifest().trust
    policy = appraisal_policy(mesh.verified().manifest, "worker")
    result = verify_evidence(evidence, policy=policy, report_data=bytes(64), now=NOW)
    number = result.claims.tcb_evaluation_number
    for bound, accepted in ((number, True), (number + 1, False)):
        bounded = msgspec.structs.replace(trust, min_tcb_evaluation_number=bound)
        policy = appraisal_policy(mesh.verified(trust=bounded).manifest, "worker")
        if accepted:
            verify_evidence(evidence, policy=policy, report_data=bytes(64), now=NOW)
            continue
        with pytest.raises(PolicyDenied, match="older than the policy") as caught:
            verify_evidence(evidence, policy=policy, report_data=bytes(64), now=NOW)
        assert caught.value.rule == "TcbEvaluationAtLeast"


def test_evidence_over_another_protocol_is_of_roles_and_of_whom_owners_list(mesh: ToyMesh) -> None:
    listed, unlisted = digest("a guest of the mesh"), digest("for Wardian's own way alone")
    secrets = (
        mesh.secret("guests", interop=True, measurements=(listed.hex(),)),
        mesh.secret("ours", measurements=(unlisted.hex(),)),
    )
    rule = interop_policy(mesh.verified(secrets=secrets).manifest).rule
    assert isinstance(rule, AllOf)
    (named,) = (each for each in rule.rules if isinstance(each, MeasurementIn))
    assert named.measurements == {*mesh.measurements.values(), listed}


def test_a_role_without_reference_values(mesh: ToyMesh) -> None:
    with pytest.raises(PolicyDenied, match="no role 'aggregator'"):
        appraisal_policy(mesh.manifest(), "aggregator")


def test_the_manifest_holds_no_key(mesh: ToyMesh) -> None:
    raw = wire.encode(mesh.signed())
    assert isinstance(mesh.manifest(), MeshManifest)
    assert mesh.keys["digits"].key.reveal().hex().encode() not in raw
    assert BrokerKey(Secret(b"1" * 32)).key_id != BrokerKey(Secret(b"2" * 32)).key_id


@pytest.mark.parametrize(
    "word",
    ["INTEL-SA-00\u0430", "\u009b2J", "\x1b[2J", "a\nb", " a", "a ", "", "x" * 65, "\u202e1"],
)
def test_words_that_look_like_others_or_move_a_terminal(mesh: ToyMesh, word: str) -> None:
    """Owners read a manifest before they sign it, as text and as JSON."""
    trust = msgspec.structs.replace(mesh.manifest().trust, advisories=("INTEL-SA-00615", word))
    with pytest.raises(FormatError):
        parse_manifest(sign_manifest(mesh.manifest(trust=trust), []))
    line = msgspec.structs.replace(mesh.line(), media_type=word)
    with pytest.raises(FormatError):
        parse_manifest(sign_manifest(mesh.manifest(models=(line,)), []))
