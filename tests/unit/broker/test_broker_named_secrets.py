"""Secrets by name: whose line says who gets them, and nobody else's (TRUST T7)."""

import base64
import dataclasses
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from toy_mesh import NOW, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.broker.frames import FRAME_BYTES
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.lines import MODEL_LINE_LABEL, ReleaseTerms, SecretLine
from wardian.broker.mesh.manifest import SignedManifest, sign_manifest
from wardian.broker.mesh.verify import MOST_SECRETS_OF_ONE, verify_manifest
from wardian.broker.release.admission import Admission
from wardian.broker.release.grants import Vault
from wardian.broker.release.protocol import ReleasedSecret, _NamedRecord
from wardian.broker.state import named_secrets
from wardian.broker.state.audit import AuditEntry, verify_chain
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.errors import (
    AuthenticationFailed,
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    SealError,
)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[ToyBroker]:
    """Two owners, either of whom may sign a manifest."""
    mesh = ToyMesh(owners=[SigningKey.generate(), SigningKey.generate()])
    with closing(ToyBroker(mesh, tmp_path / "pair.db")) as broker:
        yield broker


def worker(broker: ToyBroker) -> Admission:
    return broker.admit(broker.mesh.workload(), broker.mesh.attest("worker"))


def frontend(broker: ToyBroker) -> Admission:
    return broker.admit(broker.mesh.workload("frontend"), broker.mesh.attest("frontend"))


def named(admission: Admission) -> set[str]:
    return {secret.name for secret in admission.secrets if secret.kind == "secret"}


def entries(broker: ToyBroker) -> list[AuditEntry]:
    lines = broker.store.audit_lines(limit=1000)
    return [line.entry for line in verify_chain(lines, head=broker.store.audit_head)]


def next_version(broker: ToyBroker) -> int:
    return broker.authority.manifest_version + 1


def put(broker: ToyBroker, *lines: SecretLine, owner: int = 0, **secrets: bytes) -> None:
    """Put a manifest with these secrets in force, with values by name."""
    signed = broker.mesh.signed(version=next_version(broker), secrets=lines)
    values = {name: Secret(value) for name, value in secrets.items()}
    broker.provision(signed, owner=owner, secrets=values)


# The good case


def test_a_generated_secret_goes_to_whom_its_line_lists(pair: ToyBroker) -> None:
    both = (pair.mesh.measurements["worker"].hex(), pair.mesh.measurements["frontend"].hex())
    put(pair, pair.mesh.secret("shared", measurements=both), pair.mesh.secret("license"))
    one, other, front = worker(pair), worker(pair), frontend(pair)
    assert named(one) == {"shared", "license"}
    assert named(front) == {"shared"}
    assert len(one.named_secret("shared")) == 32
    assert (
        one.named_secret("shared") == other.named_secret("shared") == front.named_secret("shared")
    )
    assert one.named_secret("shared") != one.named_secret("license")
    with pytest.raises(LocalProtocolError, match="no secret license"):
        front.named_secret("license")


@pytest.mark.parametrize("length", [1, 7, 64 * 1024])
def test_a_supplied_secret_is_the_value_that_its_owner_gave(pair: ToyBroker, length: int) -> None:
    put(pair, pair.mesh.secret(source="supplied"), license=b"v" * length)
    assert worker(pair).named_secret("license").reveal() == b"v" * length


def test_as_much_as_one_measurement_may_get_fits_into_a_release(pair: ToyBroker) -> None:
    names = [f"s{number}" for number in range(MOST_SECRETS_OF_ONE)]
    lines = tuple(pair.mesh.secret(name, source="supplied") for name in names)
    put(pair, *lines)
    for name in names:  # as much at once does not fit into a visit
        value = Secret((name.encode() * 40000)[: 64 * 1024])
        pair.provision(pair.authority.manifest.signed, secrets={name: value})
    workload, session = pair.mesh.workload(), pair.open()
    shown = pair.challenge(session, workload.request(tee="simulated"))
    evidence = pair.mesh.attest("worker")(workload.receive_challenge(shown, now=NOW))
    response = pair.respond(session, workload.attestation(evidence))
    assert len(response) < FRAME_BYTES - 256 * 1024  # room for 256 queue keys and certificates
    admission = workload.receive_response(response, now=NOW)
    assert sum(len(admission.named_secret(name)) for name in names) == 2 * 1024**2


def test_a_generated_secret_stays_while_its_line_does(pair: ToyBroker) -> None:
    put(pair, pair.mesh.secret())
    first = worker(pair).named_secret("license")
    put(pair, pair.mesh.secret(serial=2))
    pair.restart()
    assert worker(pair).named_secret("license") == first


def test_a_secret_that_no_line_names_is_deleted_and_made_anew(pair: ToyBroker) -> None:
    put(pair, pair.mesh.secret())
    first = worker(pair).named_secret("license")
    put(pair)
    assert pair.store.keys(named_secrets.PLACE) == ()
    put(pair, pair.mesh.secret())
    assert worker(pair).named_secret("license") != first


def test_a_secret_that_was_given_never_passes_for_one_made_here(pair: ToyBroker) -> None:
    """Its owner knows the value: a line that says `generated` promises that nobody does."""
    put(pair, pair.mesh.secret(source="supplied"), license=b"known to its owner")
    put(pair, pair.mesh.secret(source="generated", serial=2))
    made = worker(pair).named_secret("license")
    assert made.reveal() != b"known to its owner"
    put(pair, pair.mesh.secret(source="supplied", serial=3))
    assert named(worker(pair)) == set()  # and the other way round it is still to come


def test_what_was_not_given_is_missing_and_withheld(pair: ToyBroker) -> None:
    put(pair, pair.mesh.secret(source="supplied"), pair.mesh.secret("made"))
    assert pair.authority.missing() == ("secret license",)
    assert named(worker(pair)) == {"made"}
    (withheld,) = [each for each in entries(pair) if each.rule == "key-given"]
    assert (withheld.event, withheld.outcome) == ("release", "refused")
    assert (withheld.kind, withheld.secret) == ("secret", "license")
    receipt = pair.provision(
        pair.authority.manifest.signed, secrets={"license": Secret(b"at last")}
    )
    assert receipt.missing == ()
    assert worker(pair).named_secret("license").reveal() == b"at last"


# Owner A's secret under owner B's hand


def test_t7_b_signs_a_line_over_as_secret(pair: ToyBroker) -> None:
    """B takes A's line out and puts one of its own in: same name, a measurement of B's choice."""
    mesh = pair.mesh
    put(pair, mesh.secret(source="supplied"), license=b"A's")
    theft = mesh.secret(source="supplied", owner=mesh.owners[1])
    put(pair, theft, owner=1)
    assert named(worker(pair)) == set()
    assert pair.authority.missing() == ("secret license",)


def test_t7_b_names_as_generated_secret_as_its_own(pair: ToyBroker) -> None:
    mesh = pair.mesh
    put(pair, mesh.secret())
    first = worker(pair).named_secret("license")
    put(pair, mesh.secret(owner=mesh.owners[1]))
    assert worker(pair).named_secret("license") != first


def test_t7_b_cannot_give_a_value_for_as_line(pair: ToyBroker) -> None:
    line = pair.mesh.secret(source="supplied")
    for owner in (0, 1):
        signed = pair.mesh.signed(version=next_version(pair), secrets=(line,))
        if owner == 1:
            with pytest.raises(PolicyDenied) as caught:
                pair.provision(signed, owner=1, secrets={"license": Secret(b"B's")})
            assert caught.value.rule == "secret-named"
        else:
            pair.provision(signed, secrets={"license": Secret(b"A's")})
    assert worker(pair).named_secret("license").reveal() == b"A's"


def test_nobody_gives_a_value_for_what_is_made_here(pair: ToyBroker) -> None:
    signed = pair.mesh.signed(version=2, secrets=(pair.mesh.secret(),))
    for name in ("license", "another"):
        with pytest.raises(PolicyDenied) as caught:
            pair.provision(signed, secrets={name: Secret(b"mine")})
        assert caught.value.rule == "secret-named"


def test_t7_a_majority_makes_its_code_a_role_and_gets_nothing(pair: ToyBroker) -> None:
    mesh = pair.mesh
    trojan = digest("trojan")
    roles = dict(mesh.manifest().roles)
    roles["worker"] = type(roles["worker"])(
        measurements=(mesh.measurements["worker"].hex(), trojan.hex())
    )
    lines = (mesh.line(measurements=[mesh.measurements["worker"], trojan], serial=2),)
    signed = mesh.signed(version=2, roles=roles, models=lines, secrets=(mesh.secret(),))
    pair.provision(signed, keys=(mesh.keys["digits"],))
    assert named(worker(pair)) == {"license"}
    admission = pair.admit(mesh.workload(), mesh.attest("worker", measurement=trojan))
    assert named(admission) == set()


# Lines


def verified(mesh: ToyMesh, *lines: SecretLine) -> SignedManifest:
    signed = sign_manifest(mesh.manifest(secrets=lines), mesh.owners)
    verify_manifest(signed, mesh=mesh.agreed.mesh)
    return signed


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"serial": 9},
        {"source": "supplied"},
        {"interop": True},
        {"measurements": ("11" * 32,)},
        {"measurements": (digest("worker").hex(), "11" * 32)},
        {"terms": ReleaseTerms(max_uses=1)},
        {"terms": ReleaseTerms(not_after=1)},
        {"terms": ReleaseTerms(max_beacon_age_s=1)},
        {"signature": "11" * 64},
    ],
    ids=str,
)
def test_owners_sign_a_line_that_its_owner_did_not(
    mesh: ToyMesh, change: dict[str, object]
) -> None:
    line = mesh.secret()
    verified(mesh, line)
    with pytest.raises(AuthenticationFailed, match="the line of secret"):
        verified(mesh, msgspec.structs.replace(line, **change))


@pytest.mark.parametrize("term", ["max_uses", "not_after", "max_beacon_age_s"])
def test_terms_are_not_exchanged_for_each_other(mesh: ToyMesh, term: str) -> None:
    """Five uses are not five seconds, and neither is no term at all."""
    line = mesh.secret(terms=ReleaseTerms(**{term: 5}))
    for other in ("max_uses", "not_after", "max_beacon_age_s", None):
        terms = ReleaseTerms(**({other: 5} if other else {}))
        changed = msgspec.structs.replace(line, terms=terms)
        if other == term:
            verified(mesh, changed)
        else:
            with pytest.raises(AuthenticationFailed):
                verified(mesh, changed)


def test_a_models_terms_are_signed_as_well(mesh: ToyMesh) -> None:
    line = mesh.line(terms=ReleaseTerms(max_uses=1))
    endless = msgspec.structs.replace(line, terms=ReleaseTerms())
    with pytest.raises(AuthenticationFailed, match="the line of model digits"):
        verify_manifest(mesh.signed(models=(endless,)), mesh=mesh.agreed.mesh)


def test_a_line_of_another_mesh_or_owner(pair: ToyBroker) -> None:
    mesh = pair.mesh
    with pytest.raises(AuthenticationFailed):
        verified(mesh, mesh.secret(mesh="other"))
    taken = msgspec.structs.replace(mesh.secret(), owner=mesh.owners[1].public.hex())
    with pytest.raises(AuthenticationFailed):
        verified(mesh, taken)


def test_a_models_signature_is_none_over_a_secret(mesh: ToyMesh) -> None:
    line = mesh.secret()
    forged = mesh.owners[0].sign(
        line.signed_bytes(mesh=mesh.name).replace(b"secret line", b"model line")
    )
    assert MODEL_LINE_LABEL.encode() in line.signed_bytes(mesh=mesh.name).replace(
        b"secret line", b"model line"
    )
    with pytest.raises(AuthenticationFailed):
        verified(mesh, msgspec.structs.replace(line, signature=forged.hex()))


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        (lambda m: (m.secret(), m.secret(source="supplied")), "secret-once"),
        (lambda m: (m.secret(), m.secret(owner=m.owners[1])), "secret-once"),
        (lambda m: (m.secret(owner=SigningKey.generate()),), "line-owner"),
        (
            lambda m: tuple(m.secret(f"s{n}") for n in range(MOST_SECRETS_OF_ONE + 1)),
            "secrets-count",
        ),
    ],
    ids=["twice", "two owners", "no owner", "too many"],
)
def test_what_a_manifest_may_not_say_of_secrets(pair: ToyBroker, lines, rule: str) -> None:
    with pytest.raises(PolicyDenied) as caught:
        verified(pair.mesh, *lines(pair.mesh))
    assert caught.value.rule == rule


def test_one_measurement_twice_in_a_line_counts_once(mesh: ToyMesh) -> None:
    twice = (digest("worker").hex(),) * 2
    verified(mesh, *(mesh.secret(f"s{n}", measurements=twice) for n in range(MOST_SECRETS_OF_ONE)))


def test_an_old_line_of_a_secret_does_not_come_back(pair: ToyBroker) -> None:
    """A withdrew a measurement; B still has A's old line, well signed."""
    mesh = pair.mesh
    old, new = mesh.secret(), mesh.secret(serial=2, measurements=(digest("fixed").hex(),))
    put(pair, old)
    put(pair, new)
    for lines in ((old,), (mesh.secret(serial=2),)):
        with pytest.raises(PolicyDenied) as caught:
            put(pair, *lines, owner=1)
        assert caught.value.rule == "line-serial"
    put(pair, owner=1)
    with pytest.raises(PolicyDenied, match="serial 2 was in force"):
        put(pair, old, owner=1)


def test_no_model_and_secret_share_a_place(mesh: ToyMesh) -> None:
    """A model called `secret` in version 7, a secret called `7` or `secret`."""
    secrets = {mesh.secret(name).place for name in ("7", "secret", "digits")}
    models = {mesh.line(name, version=7).place for name in ("secret", "7", "digits")}
    assert len(secrets | models) == 6


# What the workload is shown, and what nobody is


def test_a_secret_that_the_manifest_does_not_name(
    pair: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that is attested and wrong."""
    put(pair, pair.mesh.secret())
    honest = Vault._named

    def wrong(self: Vault, line: SecretLine) -> ReleasedSecret:
        return dataclasses.replace(honest(self, line), name="another")

    monkeypatch.setattr(Vault, "_named", wrong)
    with pytest.raises(PeerProtocolError, match="does not name"):
        worker(pair)


def test_no_value_is_printed_logged_or_stored_in_the_clear(
    pair: ToyBroker, caplog: pytest.LogCaptureFixture
) -> None:
    value = b"correct horse battery staple"
    with caplog.at_level(logging.DEBUG):
        put(pair, pair.mesh.secret(source="supplied"), pair.mesh.secret("made"), license=value)
        admission = worker(pair)
    shown = " ".join(
        [repr(admission), caplog.text, *(repr(getattr(r, "fields", "")) for r in caplog.records)]
    ).encode() + b"".join(pair.store.audit_lines(limit=1000))
    for secret in (value, admission.named_secret("made").reveal()):
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert form not in shown
            assert form not in pair.path.read_bytes()
    record = _NamedRecord(name="license", key_id="00" * 16, value=value)
    assert value.decode() not in f"{record!r} {record!s}"


def test_the_log_names_a_value_by_an_id_that_tells_nothing_of_it(pair: ToyBroker) -> None:
    """Whoever reads the log could otherwise try passwords until one has the id."""
    put(pair, pair.mesh.secret(source="supplied"), license=b"1234")
    put(pair, pair.mesh.secret(source="supplied", serial=2), license=b"1234")
    worker(pair)
    given = [e for e in entries(pair) if (e.event, e.secret) == ("provision", "license")]
    released = [e for e in entries(pair) if (e.event, e.secret) == ("release", "license")]
    assert len({e.key_id for e in given}) == 2
    assert released[-1].key_id == given[-1].key_id
    assert released[-1].use == 1
    assert given[-1].owner == pair.mesh.owners[0].public.hex()


def test_a_secret_without_a_value_in_the_state(pair: ToyBroker) -> None:
    line = pair.mesh.secret()
    put(pair, line)
    pair.store.commit({(named_secrets.PLACE, line.kept): bytes(16)}, audit=[], now=NOW)
    with pytest.raises(SealError, match="without a value"):
        worker(pair)


# Over another protocol


def result_of(broker: ToyBroker, role: str = "worker") -> AttestationResult:
    return verify_evidence(
        broker.mesh.attest(role)(bytes(64)),
        policy=appraisal_policy(broker.mesh.manifest(), role),
        report_data=bytes(64),
        now=NOW,
    )


def test_a_secret_that_its_owner_gives_over_another_protocol(pair: ToyBroker) -> None:
    put(pair, pair.mesh.secret(interop=True), pair.mesh.secret("ours"))
    value = pair.releases.release_interop("license", result=result_of(pair), evidence=bytes(32))
    assert value == worker(pair).named_secret("license")
    uses = [e.use for e in entries(pair) if (e.event, e.secret) == ("release", "license")]
    assert uses == [1, 2]


@pytest.mark.parametrize(
    ("name", "role"), [("ours", "worker"), ("none", "worker"), ("license", "frontend")]
)
def test_everything_else_is_one_refusal(pair: ToyBroker, name: str, role: str) -> None:
    """Not agreed to, not there, not for this measurement: a stranger learns which of them? No."""
    put(pair, pair.mesh.secret(interop=True), pair.mesh.secret("ours"))
    with pytest.raises(PolicyDenied) as caught:
        pair.releases.release_interop(name, result=result_of(pair, role), evidence=bytes(32))
    assert caught.value.rule == "interop-secret"


def test_a_manifest_names_its_secrets_in_one_form(mesh: ToyMesh) -> None:
    raw = wire.encode(mesh.manifest(secrets=(mesh.secret(),)))
    for spoiled in (
        raw.replace(b'"generated"', b'"stolen"'),
        raw.replace(b'"interop":false', b'"interop":0'),
        raw.replace(b',"interop":false', b""),
        raw.replace(b'"max_uses":null', b'"max_uses":0'),
    ):
        assert spoiled != raw
        with pytest.raises(FormatError):
            verify_manifest(
                sign_like(spoiled, mesh.owners[0]),
                mesh=mesh.agreed.mesh,
            )


def sign_like(raw: bytes, key: SigningKey) -> SignedManifest:
    from wardian.broker.mesh.manifest import OwnerSignature, manifest_signed_bytes

    signature = key.sign(manifest_signed_bytes(raw)).hex()
    return SignedManifest(
        manifest=raw, signatures=(OwnerSignature(owner=key.public.hex(), signature=signature),)
    )
