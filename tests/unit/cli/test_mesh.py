"""`wardian mesh`: from nothing to a manifest in force, and its history."""

import base64
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_desks import Desks, open_desks
from toy_mesh import NOW, PLATFORM, ToyBroker, ToyMesh, digest

import wardian
from wardian._internal import wire
from wardian.broker.mesh.draft import Changes, LineFile, draft_manifest, line_file
from wardian.broker.mesh.lines import SecretLine
from wardian.broker.mesh.manifest import (
    MeshManifest,
    SignedManifest,
    manifest_digest,
    manifest_signed_bytes,
    parse_manifest,
    sign_manifest,
)
from wardian.broker.mesh.verify import verify_manifest_for
from wardian.cli.main import cli
from wardian.crypto.owner_key import encode_owner_key
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectionLost,
    PolicyDenied,
    TransportError,
)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


class Desk:
    """What lies on an owner's desk: files, and the mesh that they are about."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mesh = ToyMesh(
            owners=[SigningKey.generate(), SigningKey.generate(SignatureKind.P256)], threshold=2
        )
        self.agreed = self.file("wardian.toml", self.mesh.agreed_toml)
        self.keys = [
            self.file(f"owner-{n}.key", encode_owner_key(key).reveal())
            for n, key in enumerate(self.mesh.owners)
        ]
        self.model_key = self.file(
            "digits.key", self.mesh.keys["digits"].key.reveal().hex().encode()
        )
        self.values = self.file(
            "reference-values.toml",
            b'format = "wardian reference values v1"\n'
            + b"".join(
                f'[roles.{role}]\ntee = "simulated"\nmeasurements = ["{each.hex()}"]\n'.encode()
                for role, each in self.mesh.measurements.items()
            ),
        )
        self.manifest = root / "manifest.json"

    def file(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    def line(self, line: Any, *, mesh: str = "test") -> Path:
        name = line.said.replace(" ", "-")
        return self.file(f"{name}.line", wire.encode(line_file(line, mesh=mesh)))

    def new(self, *more: object, output: Path | None = None, **first: object) -> str:
        if first.get("first", True):
            more = (
                *("--simulation-root", PLATFORM.root_sha256.hex()),
                *("--reference-values", self.values, "--line", self.line(self.mesh.line())),
                *more,
            )
        return run("mesh", "new", "--agreed", self.agreed, "-o", output or self.manifest, *more)

    def sign(self, *owners: int, path: Path | None = None, **more: object) -> str:
        said = ""
        for owner in owners:
            options = [part for name, value in more.items() for part in (f"--{name}", value)]
            said = run(
                *("mesh", "sign", path or self.manifest, "--agreed", self.agreed),
                *("--key", self.keys[owner], *options),
            )
        return said

    def read(self, path: Path | None = None) -> tuple[SignedManifest, MeshManifest]:
        raw = (path or self.manifest).read_bytes()
        signed = wire.decode(raw, SignedManifest, what="x")
        return signed, parse_manifest(signed)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# Put together


def test_a_first_manifest(desk: Desk) -> None:
    said = desk.new("--line", desk.line(desk.mesh.secret()))
    signed, manifest = desk.read()
    assert (manifest.version, manifest.previous, manifest.change_threshold) == (1, None, 2)
    assert signed.signatures == ()
    assert f"version 1, digest {manifest_digest(signed).hex()}" in said
    assert "Owners who have to sign it: 2" in said
    assert "model digits version 1: added" in said
    assert {line.said for line in manifest.owned_lines} == {
        "model digits version 1",
        "secret license",
    }
    assert manifest.trust.tcb_statuses == ("UpToDate",)


def test_the_next_manifest_changes_what_it_is_told(desk: Desk) -> None:
    desk.new("--line", desk.line(desk.mesh.line("faces")))
    desk.sign(0, 1)
    following = desk.root / "next.json"
    said = desk.new(
        *("--previous", desk.manifest, "--line", desk.line(desk.mesh.line(serial=2))),
        *("--without", "faces:1", "--change-threshold", 2, "--advisory", "INTEL-SA-1"),
        *("--min-tcb-evaluation-number", 17, "--tcb-status", "SWHardeningNeeded"),
        output=following,
        first=False,
    )
    before, after = desk.read()[1], desk.read(following)[1]
    assert (after.version, after.previous) == (2, manifest_digest(desk.read()[0]).hex())
    assert after.roles == before.roles
    assert [(line.name, line.serial) for line in after.models] == [("digits", 2)]
    assert after.trust.simulation_root_sha256 == before.trust.simulation_root_sha256
    assert after.trust.min_tcb_evaluation_number == 17
    assert after.trust.tcb_statuses == ("SWHardeningNeeded",)
    assert "model faces version 1: removed" in said
    assert "  advisories: +INTEL-SA-1" in said


@pytest.mark.parametrize(
    ("options", "trust"),
    [
        (("--any-platform", "risk accepted"), {"any_platform": "risk accepted", "platforms": ()}),
        (("--platform", "ab" * 16), {"any_platform": None, "platforms": ("ab" * 16,)}),
    ],
    ids=["any", "listed"],
)
def test_from_simulation_to_hardware(
    desk: Desk, options: tuple[str, ...], trust: dict[str, object]
) -> None:
    desk.new()
    following = desk.root / "next.json"
    desk.new("--previous", desk.manifest, *options, output=following, first=False)
    found = desk.read(following)[1].trust
    assert found.simulation_root_sha256 is None
    assert {name: getattr(found, name) for name in trust} == trust


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (("--reference-values",), ConfigError, "say what vouches|--simulation-root"),
        (("--simulation-root",), ConfigError, "which code is which role"),
    ],
    ids=["no trust", "no roles"],
)
def test_what_a_first_manifest_needs(
    desk: Desk, options: tuple[str, ...], error: type[Exception], text: str
) -> None:
    values: dict[str, object] = {
        "--reference-values": desk.values,
        "--simulation-root": PLATFORM.root_sha256.hex(),
    }
    more = [part for name in options for part in (name, values[name])]
    if "--simulation-root" not in options:
        more += ["--advisory", "INTEL-SA-1"]
    with pytest.raises(error, match=text):
        desk.new(*more, first=False)
    if "--simulation-root" not in options:
        with pytest.raises(ConfigError, match="what vouches for the platforms"):
            desk.new("--reference-values", desk.values, first=False)
    assert not desk.manifest.exists()


def test_what_every_broker_would_refuse_is_refused_at_once(desk: Desk) -> None:
    unsigned = msgspec.structs.replace(desk.mesh.secret(), signature="00" * 64)
    stranger = desk.mesh.secret("other", owner=SigningKey.generate())
    unknown = desk.mesh.line("trojan")
    for line, error in (
        (unsigned, AuthenticationFailed),
        (stranger, PolicyDenied),
        (unknown, PolicyDenied),
    ):
        with pytest.raises(error):
            desk.new("--line", desk.line(line))
    with pytest.raises(PolicyDenied) as caught:
        desk.new("--change-threshold", 3)
    assert caught.value.rule == "manifest-change-threshold"
    with pytest.raises(ConfigError, match="for mesh other, not for test"):
        desk.new("--line", desk.line(desk.mesh.secret(mesh="other"), mesh="other"))
    with pytest.raises(ConfigError, match="no line nothing that could be left out"):
        desk.new("--without", "nothing")
    with pytest.raises(ConfigError, match="trust"):
        desk.new("--simulation-root", "AB" * 32, "--reference-values", desk.values, first=False)


def test_a_line_leaves_by_its_name(desk: Desk) -> None:
    secret = desk.mesh.secret()
    first = draft_manifest(
        Changes(
            trust=desk.mesh.manifest().trust,
            roles={"broker": ("11" * 32,)},
            lines=(secret, desk.mesh.line()),
        ),
        agreed=desk.mesh.agreed,
        previous=None,
    )
    assert len(first.owned_lines) == 2
    signed = sign_manifest(first, desk.mesh.owners)
    for name, left in (("license", ["model digits version 1"]), ("digits:1", ["secret license"])):
        after = draft_manifest(
            Changes(without={name}), agreed=desk.mesh.agreed, previous=(signed, first)
        )
        assert [line.said for line in after.owned_lines] == left


# Signed


def test_owners_sign_one_after_the_other(desk: Desk) -> None:
    desk.new()
    said = desk.sign(0)
    assert "role worker: added" in said
    assert f"signed as {desk.mesh.owners[0].public.hex()}" in said
    with pytest.raises(PolicyDenied) as caught:
        run("mesh", "verify", desk.manifest, "--agreed", desk.agreed)
    assert caught.value.rule == "manifest-threshold"
    desk.sign(1)
    desk.sign(0)  # again: still one signature each
    signed, _ = desk.read()
    assert {each.owner for each in signed.signatures} == {
        key.public.hex() for key in desk.mesh.owners
    }
    assert len(signed.signatures) == 2
    verify_manifest_for(signed, agreed=desk.mesh.agreed)


def test_nobody_signs_what_would_be_refused_or_as_a_stranger(desk: Desk) -> None:
    desk.new()
    stranger = desk.file("stranger.key", encode_owner_key(SigningKey.generate()).reveal())
    with pytest.raises(ConfigError, match="nobody who is an owner"):
        run("mesh", "sign", desk.manifest, "--agreed", desk.agreed, "--key", stranger)
    bad = desk.mesh.manifest(models=(msgspec.structs.replace(desk.mesh.line(), total_bytes=9),))
    path = desk.file("bad.json", wire.encode(sign_manifest(bad, ())))
    with pytest.raises(AuthenticationFailed):
        desk.sign(0, path=path)
    assert desk.read(path)[0].signatures == ()


def test_what_does_not_follow_is_not_signed(desk: Desk) -> None:
    desk.new()
    desk.sign(0, 1)
    other = desk.root / "other.json"
    desk.new("--line", desk.line(desk.mesh.secret()), output=other)
    with pytest.raises(PolicyDenied) as caught:
        desk.sign(0, path=other, previous=desk.manifest)
    assert caught.value.rule == "manifest-previous"
    following = desk.root / "next.json"
    desk.new(
        *("--previous", desk.manifest, "--line", desk.line(desk.mesh.secret())),
        output=following,
        first=False,
    )
    said = desk.sign(0, path=following, previous=desk.manifest)
    assert "secret license: added" in said
    assert "role worker" not in said
    assert "is not shown" not in said


def test_an_owner_is_told_that_a_removal_does_not_show(desk: Desk) -> None:
    """The other owner leaves a line out; all that is left looks as it did."""
    desk.new("--line", desk.line(desk.mesh.secret()))
    desk.sign(0, 1)
    following = desk.root / "next.json"
    desk.new(*("--previous", desk.manifest, "--without", "license"), output=following, first=False)
    said = desk.sign(0, path=following)
    assert "license" not in said
    assert "is not shown" in said
    assert "secret license: removed" in desk.sign(1, path=following, previous=desk.manifest)


# Signed elsewhere


def signatures_of(key: SigningKey, message: bytes) -> dict[str, bytes]:
    """The forms in which tools and modules give a signature."""
    raw = key.sign(message)
    forms = {"raw": raw, "hex": raw.hex().encode() + b"\n", "base64": base64.b64encode(raw)}
    if key.kind is SignatureKind.P256:
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        forms |= {
            "der": encode_dss_signature(r, s),
            "high s": raw[:32] + (order - s).to_bytes(32, "big"),
            "der in base64": base64.encodebytes(encode_dss_signature(r, order - s)),
        }
    return forms


@pytest.mark.parametrize("owner", [0, 1], ids=["ed25519", "p256"])
def test_a_manifest_that_a_module_signs(desk: Desk, owner: int) -> None:
    desk.new()
    key = desk.mesh.owners[owner]
    message = manifest_signed_bytes(desk.read()[0].manifest)
    out = desk.root / "to-sign"
    named = run("mesh", "digest", desk.manifest, "--bytes", out).strip()
    assert out.read_bytes() == message
    assert named == __import__("hashlib").sha256(message).hexdigest()
    as_json = json.loads(run("mesh", "digest", desk.manifest, "--json"))
    assert as_json == {"sha256": named, "bytes": base64.b64encode(message).decode()}
    for name, form in signatures_of(key, message).items():
        signature = desk.file(f"signature-{name}", form)
        run(
            *("mesh", "attach", desk.manifest, "--owner", key.public.hex()),
            *("--signature", signature),
        )
        signed, _ = desk.read()
        assert [each.owner for each in signed.signatures] == [key.public.hex()]
        raw = bytes.fromhex(signed.signatures[0].signature)
        assert len(raw) == 64
        if key.kind is SignatureKind.ED25519:
            assert raw == key.sign(message)


def test_a_line_that_a_module_signs(desk: Desk) -> None:
    key = desk.mesh.owners[1]
    line = desk.mesh.secret(owner=key)
    path = desk.line(msgspec.structs.replace(line, signature="00" * 64))
    out = desk.root / "to-sign"
    run("mesh", "digest", path, "--bytes", out)
    assert out.read_bytes() == line.signed_bytes(mesh="test")
    signature = desk.file("signature", key.sign(out.read_bytes()))
    run("mesh", "attach", path, "--owner", key.public.hex(), "--signature", signature)
    found = wire.decode(path.read_bytes(), LineFile, what="x").line
    assert isinstance(found, SecretLine)
    desk.new("--line", path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key, message: key.sign(message + b" "),
        lambda key, message: SigningKey.generate(key.kind).sign(message),
        lambda key, message: b"",
        lambda key, message: b"no signature",
        lambda key, message: key.sign(message)[:63],
    ],
    ids=["other bytes", "other key", "empty", "text", "cut"],
)
def test_a_signature_is_verified_before_it_is_attached(
    desk: Desk, spoil: Callable[[SigningKey, bytes], bytes]
) -> None:
    desk.new()
    before = desk.manifest.read_bytes()
    for key in desk.mesh.owners:
        message = manifest_signed_bytes(desk.read()[0].manifest)
        signature = desk.file("signature", spoil(key, message))
        with pytest.raises(AuthenticationFailed, match="not this owner's"):
            run(
                *("mesh", "attach", desk.manifest, "--owner", key.public.hex()),
                *("--signature", signature),
            )
    assert desk.manifest.read_bytes() == before


@pytest.mark.parametrize("owner", [0, 1], ids=["ed25519", "p256"])
def test_an_owner_typed_in_another_spelling(desk: Desk, owner: int) -> None:
    """Written as typed, the file was one that nobody could read any more."""
    desk.new()
    key = desk.mesh.owners[owner]
    signature = desk.file("signature", key.sign(manifest_signed_bytes(desk.read()[0].manifest)))
    typed = f" {key.public.hex()[:8].upper()} {key.public.hex()[8:]}"
    run("mesh", "attach", desk.manifest, "--owner", typed, "--signature", signature)
    run("mesh", "attach", desk.manifest, "--owner", key.public.hex(), "--signature", signature)
    assert [each.owner for each in desk.read()[0].signatures] == [key.public.hex()]


def test_what_attach_does_not_take(desk: Desk) -> None:
    desk.new()
    signature = desk.file("signature", bytes(64))
    with pytest.raises(ConfigError, match="not hex"):
        run("mesh", "attach", desk.manifest, "--owner", "zz", "--signature", signature)
    line = desk.line(desk.mesh.secret())
    other = desk.mesh.owners[1]
    message = desk.mesh.secret().signed_bytes(mesh="test")
    signature = desk.file("signature", other.sign(message))
    with pytest.raises(ConfigError, match="the line is of another owner"):
        run("mesh", "attach", line, "--owner", other.public.hex(), "--signature", signature)
    garbage = desk.file("garbage", b"{}")
    broken = desk.file("broken", b'{"format":"wardian signed manifest v1"}')
    for path in (garbage, broken):
        with pytest.raises(ConfigError):
            run("mesh", "digest", path)


@pytest.mark.parametrize("kind", ["model", "secret"])
def test_a_line_file_that_says_one_thing_and_holds_another(desk: Desk, kind: str) -> None:
    """What is shown of it, and what comes into the manifest, is one line."""
    model, secret = desk.mesh.line(), desk.mesh.secret()
    other = {"model": {"secret": secret}, "secret": {"model": model}}[kind]
    for held in ({}, other, {"model": model, "secret": secret}):
        path = desk.file("x.line", wire.encode(LineFile(mesh="test", kind=kind, **held)))
        with pytest.raises(ConfigError, match="no line of the kind"):
            desk.new("--line", path)


# Shown and verified


def test_what_it_says(desk: Desk) -> None:
    desk.new()
    assert "UNVERIFIED, by nobody yet" in run("mesh", "show", desk.manifest)
    desk.sign(0)
    said = run("mesh", "show", desk.manifest)
    assert f"UNVERIFIED, by {desk.mesh.owners[0].public.hex()[:16]}…" in said
    assert "Follows   none: it is the first" in said
    as_json = json.loads(run("mesh", "show", desk.manifest, "--json"))
    assert as_json["digest"] == manifest_digest(desk.read()[0]).hex()
    assert as_json["manifest"]["version"] == 1
    against_itself = run("mesh", "show", desk.manifest, "--previous", desk.manifest)
    assert "role" not in against_itself


def test_whether_it_counts(desk: Desk) -> None:
    desk.new()
    desk.sign(0, 1)
    following = desk.root / "next.json"
    desk.new("--previous", desk.manifest, output=following, first=False)
    desk.sign(0, 1, path=following)
    common = ("--agreed", desk.agreed)
    assert "signed by 2" in run("mesh", "verify", desk.manifest, *common)
    said = run("mesh", "verify", following, *common, "--previous", desk.manifest)
    assert f"follows {desk.manifest}" in said
    as_json = json.loads(run("mesh", "verify", following, *common, "--json"))
    assert (as_json["version"], as_json["follows"]) == (2, False)
    assert as_json["previous"] == manifest_digest(desk.read()[0]).hex()
    with pytest.raises(PolicyDenied) as caught:
        run("mesh", "verify", desk.manifest, *common, "--previous", following)
    assert caught.value.rule == "manifest-version"


@pytest.mark.parametrize("content", [b"{}", b"garbage"])
def test_a_file_that_is_no_manifest(desk: Desk, content: bytes) -> None:
    path = desk.file("x.json", content)
    for command in (("show", path), ("verify", path, "--agreed", desk.agreed)):
        with pytest.raises(ConfigError, match=r"x\.json"):
            run("mesh", *command)


# At a broker


@pytest.fixture
def desks(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desks]:
    broker = ToyBroker(desk.mesh, tmp_path / "broker.db", provisioned=False)
    for module in ("wardian.cli.mesh.visits",):
        monkeypatch.setattr(f"{module}.unix_time", lambda: NOW)
    with closing(broker):
        desks = open_desks(broker, monkeypatch)
        yield desks
        desks.office.close()


def visit(desk: Desk, command: str, *more: object, owner: int = 0) -> str:
    return run(
        *("mesh", command, *more, "--broker", "localhost:7443", "--agreed", desk.agreed),
        *("--key", desk.keys[owner]),
    )


def test_from_files_to_a_mesh_in_force(desk: Desk, desks: Desks) -> None:
    supplied = desk.mesh.secret(source="supplied")
    desk.new("--line", desk.line(supplied))
    desk.sign(0, 1)
    value = desk.file("license.txt", b"value of the license\n")
    ca = desk.root / "mesh-ca.pem"
    said = visit(
        *(desk, "propose", desk.manifest, "--model-key", desk.model_key, "--mesh-ca", ca),
        *("--secret", f"license={value}", "--recovery-public", "cd" * 32),
    )
    assert "Broker    verified, SIMULATED" in said
    assert "Missing   nothing" in said
    assert b"BEGIN CERTIFICATE" in ca.read_bytes()
    broker, mesh = desks.broker, desk.mesh
    admission = broker.admit(mesh.workload(), mesh.attest("worker"))
    assert admission.named_secret("license").reveal() == b"value of the license\n"
    assert admission.model_key("digits", 1) == mesh.keys["digits"].key
    public = mesh.owners[0].public.hex()
    assert broker.store.get("recovery-public", public) == b"\xcd" * 32
    as_json = json.loads(visit(desk, "propose", desk.manifest, "--json", owner=1))
    assert as_json["receipt"]["manifest_version"] == 1
    assert as_json["broker"]["measurement"] == mesh.measurements["broker"].hex()


def in_force(desk: Desk) -> None:
    desk.new()
    desk.sign(0, 1)
    visit(desk, "propose", desk.manifest, "--model-key", desk.model_key)


def test_an_owner_turns_the_epoch(desk: Desk, desks: Desks) -> None:
    in_force(desk)
    said = visit(desk, "rotate", "--manifest", desk.manifest, owner=1)
    assert "Epoch     2" in said
    assert desks.entries()[-1].owner == desk.mesh.owners[1].public.hex()


def test_t5_a_second_broker_gets_nothing_from_an_owner_who_knows_the_first(
    desk: Desk, desks: Desks, tmp_path: Path
) -> None:
    """The same code on an empty state, to which the host leads the owner: uses would begin anew."""
    ca = desk.root / "mesh-ca.pem"
    desk.new()
    desk.sign(0, 1)
    common = ("--model-key", desk.model_key, "--mesh-ca", ca)
    said = visit(desk, "propose", desk.manifest, *common)
    assert f"first seen, kept in {ca}" in said
    assert "as it is known" in visit(desk, "propose", desk.manifest, *common)
    assert "as it is known" in visit(desk, "rotate", "--manifest", desk.manifest, "--mesh-ca", ca)
    assert "NOT compared" in visit(desk, "rotate", "--manifest", desk.manifest)
    kept, first = ca.read_bytes(), desks.broker
    with closing(ToyBroker(desk.mesh, tmp_path / "second.db", provisioned=False)) as second:
        desks.office.authority = second.authority
        desks.owners = type(desks.owners)(desks.office)
        for command in (
            ("propose", desk.manifest, *common),
            ("rotate", "--manifest", desk.manifest, "--mesh-ca", ca),
            ("beacon", "--manifest", desk.manifest, "--mesh-ca", ca),
        ):
            with pytest.raises(PolicyDenied) as caught:
                visit(desk, *command)
            assert caught.value.rule == "mesh-ca"
        assert second.authority.manifest_version == 0
        assert second.store.keys("model-key") == ()
    assert ca.read_bytes() == kept
    assert first.authority.epoch == 3


def test_a_file_that_holds_no_mesh_ca(desk: Desk, desks: Desks) -> None:
    in_force(desk)
    with pytest.raises(ConfigError, match="mesh CA's certificate in PEM"):
        visit(desk, "rotate", "--manifest", desk.manifest, "--mesh-ca", desk.manifest)
    assert desks.broker.authority.epoch == 1


def test_an_owner_says_what_time_it_is(desk: Desk, desks: Desks) -> None:
    in_force(desk)
    visit(desk, "beacon", "--manifest", desk.manifest)
    clock = desks.broker.authority.clock
    assert clock.beacon_of(desk.mesh.owners[0].public.hex()) == NOW
    day = NOW + 24 * 3600
    with pytest.raises(PolicyDenied) as caught:
        visit(desk, "beacon", "--manifest", desk.manifest, "--at", day)
    assert caught.value.rule == "beacon-ahead"
    for owner in (0, 1):
        visit(desk, "beacon", "--manifest", desk.manifest, "--at", day, "--ahead", owner=owner)
    assert clock() == day


def program(desk: Desk, name: str, body: str) -> Path:
    """A program that has the second owner's key, as an agent or a module's tool would."""
    path = desk.file(
        name,
        f"#!{sys.executable}\nimport sys\n"
        f"sys.path.insert(0, {str(Path(wardian.__file__).parents[1])!r})\n"
        "from pathlib import Path\n"
        "from wardian.crypto.owner_key import decode_owner_key\n"
        "from wardian.crypto.secret import Secret\n"
        f"key = decode_owner_key(Secret(Path({str(desk.keys[1])!r}).read_bytes()))\n"
        f"{body}\n".encode(),
    )
    path.chmod(0o700)
    return path


def test_an_owner_whose_key_another_program_has(desk: Desk, desks: Desks) -> None:
    in_force(desk)
    signs = program(desk, "signs", "sys.stdout.buffer.write(key.sign(sys.stdin.buffer.read()))")
    common = (
        *("mesh", "rotate", "--manifest", desk.manifest, "--broker", "localhost:7443"),
        *("--agreed", desk.agreed, "--owner", desk.mesh.owners[1].public.hex()),
    )
    assert "Epoch     2" in run(*common, "--sign-with", signs)
    for body, text in (
        ("sys.exit(1)", "failed"),
        ("sys.stdout.buffer.write(key.sign(b'something else'))", "no signature"),
        ("print('hello')", "no signature"),
    ):
        with pytest.raises(ConfigError, match=text):
            run(*common, "--sign-with", program(desk, "other", body))
    for command, text in (
        ("/nonexistent", "No such file"),
        ("'", "quotation"),
        ("''", "No such file|Permission"),
        (" ", "name a program"),
    ):
        with pytest.raises(ConfigError, match=text):
            run(*common, "--sign-with", command)
    assert desks.broker.authority.epoch == 2


def test_who_visits_is_said_once(desk: Desk, desks: Desks) -> None:
    for who in (
        ("--owner", "11" * 32),
        ("--sign-with", "true"),
        ("--owner", "11" * 32, "--sign-with", "true", "--key", desk.keys[0]),
    ):
        with pytest.raises(ConfigError, match="both --owner and --sign-with"):
            run(
                *("mesh", "rotate", "--broker", "localhost:1", "--agreed", desk.agreed),
                *who,
            )
    with pytest.raises(ConfigError, match="--sign-with or --owner"):
        run(
            *("mesh", "rotate", "--broker", "localhost:1", "--agreed", desk.agreed),
            *("--owner", "zz", "--sign-with", "true"),
        )


def test_a_broker_that_is_not_the_one_gets_nothing(desk: Desk, desks: Desks) -> None:
    in_force(desk)
    desk.mesh.measurements["broker"] = digest("another broker")
    with pytest.raises(PolicyDenied, match="measurement"):
        visit(desk, "rotate", "--manifest", desk.manifest)
    assert desks.broker.authority.epoch == 1


def test_an_owner_does_not_go_to_a_broker_with_a_manifest_that_does_not_count(
    desk: Desk, desks: Desks
) -> None:
    desk.new()
    desk.sign(0)
    with pytest.raises(PolicyDenied) as caught:
        visit(desk, "propose", desk.manifest)
    assert caught.value.rule == "manifest-threshold"
    assert desks.places == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--secret", "license"), "NAME=FILE"),
        (("--secret", "license=/dev/null"), "is empty"),
        (("--secret", "license=open"), r"open: other users can read .*mode 0644.*chmod 600"),
        (("--model-key", "open"), r"open: other users can read .*mode 0644.*chmod 600"),
        (("--secret", "license=empty"), "is empty"),
        (("--secret", "license=long"), "larger than"),
        (("--recovery-public", "zz"), "not hex"),
        (("--recovery-public", "ab"), "32 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_what_propose_does_not_take(
    desk: Desk, desks: Desks, options: tuple[str, ...], text: str, monkeypatch: Any
) -> None:
    desk.new()
    desk.sign(0, 1)
    desk.file("empty", b"")
    desk.file("long", bytes(64 * 1024 + 1))
    desk.file("open", b"value of the license").chmod(0o644)
    monkeypatch.chdir(desk.root)
    with pytest.raises(ConfigError, match=text):
        visit(desk, "propose", desk.manifest, *options)
    assert desks.places == []


def test_a_secrets_value_on_the_command_line_is_no_file(desk: Desk, desks: Desks) -> None:
    desk.new("--line", desk.line(desk.mesh.secret(source="supplied")))
    desk.sign(0, 1)
    with pytest.raises(ConfigError, match="cannot be read"):
        visit(desk, "propose", desk.manifest, "--secret", "license=hunter2")


# The log


def history(desk: Desk, *more: object) -> str:
    return run("mesh", "log", "--broker", "localhost:7443", "--agreed", desk.agreed, *more)


def test_every_manifest_and_what_it_changed(desk: Desk, desks: Desks) -> None:
    assert "No manifest was ever in force" in history(desk)
    in_force(desk)
    following = desk.root / "next.json"
    desk.new(
        *("--previous", desk.manifest, "--line", desk.line(desk.mesh.secret())),
        output=following,
        first=False,
    )
    desk.sign(0, 1, path=following)
    visit(desk, "propose", following)
    said = history(desk)
    assert said.count("signed by 2") == 2
    assert said.index("version 1") < said.index("version 2") < said.index("secret license: added")
    assert said.count("role worker: added") == 1
    newest = desk.root / "newest.json"
    first, second = json.loads(history(desk, "--json", "--out", newest))
    assert desk.read(newest) == desk.read(following)
    assert second["previous"] == first["digest"] == manifest_digest(desk.read()[0]).hex()
    assert second["accepted"] == NOW
    assert [change["subject"] for change in second["changes"]] == ["secret license"]


def test_a_log_that_somebody_edited_ends_with_a_refusal(
    desk: Desk, desks: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2, 3):
        desks.broker.provision(desk.mesh.signed(version=version))
    desks.broker.store.commit(
        {("manifest-history", f"{2:016d}"): None}, audit=[], now=NOW
    )  # the broker itself would have to leave it out
    with pytest.raises(PolicyDenied) as caught:
        history(desk)
    assert caught.value.rule == "manifest-previous"


# Which broker


def test_a_state_directory_has_it_all(desk: Desk, desks: Desks) -> None:
    in_force(desk)
    state = desk.root / "state"
    (state / "run").mkdir(parents=True)
    (state / "wardian.toml").write_bytes(desk.mesh.agreed_toml)
    (state / "manifest.json").write_bytes(desk.manifest.read_bytes())
    key = state / "owner.key"
    key.write_bytes(desk.keys[0].read_bytes())
    key.chmod(0o600)
    (state / "run" / "broker.address").write_text("127.0.0.1:7443\n")
    assert "Epoch     2" in run("mesh", "rotate", "--state", state)
    assert "version 1" in run("mesh", "log", "--state", state)
    assert "Epoch     2" in run("mesh", "beacon", "--state", state, "--broker", "[::1]:7443")
    (state / "run" / "broker.address").unlink()
    with pytest.raises(ConfigError, match="no broker wrote its address"):
        run("mesh", "log", "--state", state)


def test_what_has_to_be_named(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="--agreed"):
        run("mesh", "log", "--broker", "localhost:1")
    with pytest.raises(ConfigError, match="--broker HOST:PORT, or a state"):
        run("mesh", "log", "--agreed", desk.agreed)
    with pytest.raises(ConfigError, match="HOST:PORT was expected"):
        run("mesh", "log", "--agreed", desk.agreed, "--broker", "nowhere")
    for options, missing in (((), "--key"), (("--key", desk.keys[0]), "--manifest")):
        with pytest.raises(ConfigError, match=missing):
            run("mesh", "rotate", "--agreed", desk.agreed, "--broker", "localhost:1", *options)


def test_nobody_answers_there(desk: Desk) -> None:
    with pytest.raises((TransportError, ConnectionLost)):
        run("mesh", "log", "--agreed", desk.agreed, "--broker", "127.0.0.1:1")


def test_no_command_prints_a_private_key(desk: Desk, desks: Desks) -> None:
    desk.new()
    told = desk.sign(0, 1) + visit(desk, "propose", desk.manifest, "--model-key", desk.model_key)
    told += run("mesh", "show", desk.manifest) + history(desk)
    for path in (*desk.keys, desk.model_key):
        secret = path.read_text().split()[-1]
        assert secret not in told
        assert secret not in desk.manifest.read_text()
    assert os.environ.get("HOME") is not None
