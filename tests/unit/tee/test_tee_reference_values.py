"""Reference values: what a manifest or a signature measures, and the file that carries it."""

import contextlib
import hashlib
import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from simulators.gramine_signer import MODE64BIT, build_sigstruct, mr_signer, signing_key

from wardian._internal.agreed import Mesh
from wardian.attestation.verifier import verify_evidence
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.lines import sign_model_line
from wardian.broker.mesh.manifest import MeshManifest, sign_manifest
from wardian.broker.mesh.trust import RoleReference, TrustAnchor
from wardian.broker.mesh.verify import verify_manifest
from wardian.broker.release.policy import entitlements
from wardian.cli.enclave.measure import measure
from wardian.crypto.sealed_header import Pin
from wardian.crypto.signing import SigningKey
from wardian.errors import AuthenticationFailed, ConfigError, FormatError, PolicyDenied
from wardian.tee.launch.simulation import generate_platform
from wardian.tee.manifest.canonical import measure_manifest
from wardian.tee.manifest.measuring import measure_file
from wardian.tee.manifest.reference_values import (
    ReferenceValues,
    SgxRole,
    SimulatedRole,
    combine,
    load_reference_values,
    parse_reference_values,
)

REPOSITORY = Path(__file__).parents[3]
NOW = 1_790_000_000
WORKER = """\
# a comment
[libos]
entrypoint = "/usr/bin/python3"
[loader]
argv = ["python3", "-I"]
[sgx]
debug = false
isvprodid = 3
isvsvn = 1
trusted_files = [{ uri = "file:a", sha256 = "00" }, { uri = "file:b", sha256 = "11" }]
"""
SIGNED = """\
[libos]
entrypoint = "/usr/bin/python3"
[loader]
argv = ["python3", "-I"]
[fs]
root = { type = "tmpfs" }
mounts = [{ path = "/usr/bin", uri = "file:/usr/bin" }]
[sgx]
debug = false
remote_attestation = "dcap"
isvprodid = 3
isvsvn = 1
allowed_files = ["file:host.json"]
[[sgx.trusted_files]]
uri = "file:/usr/bin/python3"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
"""
BROKER = WORKER.replace("isvprodid = 3", "isvprodid = 1")


def write(folder: Path, **files: str | bytes) -> list[Path]:
    """Write `worker_manifest_sgx=…` and the like; return the paths in that order."""
    paths = []
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths.append(path)
    return paths


def digest(number: int) -> str:
    return f"{number:064x}"


def simulated(*numbers: int) -> SimulatedRole:
    return SimulatedRole(measurements=tuple(digest(each) for each in numbers))


def sgx(*numbers: int, **changes) -> SgxRole:
    fields = {
        "measurements": tuple(digest(each) for each in numbers),
        "signer": digest(7),
        "product_id": 3,
        "svn": 2,
        "date": "2026-03-01",
    }
    return SgxRole(**(fields | changes))


# --- the simulated measurement ----------------------------------------------------------------


def test_form_does_not_matter():
    other = """
    sgx.isvsvn = 0x1
    sgx.isvprodid = 3
    sgx.debug = false   # never
    loader.argv = [
      'python3',
      '-I',
    ]
    libos = { entrypoint = "/usr/bin/\\u0070ython3" }
    [[sgx.trusted_files]]
    sha256 = "00"
    uri = "file:a"
    [[sgx.trusted_files]]
    uri = "file:b"
    sha256 = "11"
    """
    assert measure_manifest(other) == measure_manifest(WORKER)
    assert measure_manifest(WORKER.replace("\n", "\r\n")) == measure_manifest(WORKER)
    assert len(measure_manifest(WORKER)) == 32


def test_the_measurement_never_changes():
    """Frozen, byte for byte: otherwise every manifest ever measured has another measurement."""
    label = (19).to_bytes(8, "big") + b"wardian manifest v1"
    for text, encoded in (
        ("", b"{}"),
        (
            'b = [1, true, "\u00e9\\n"]\na.y = -2\na.x = {}',
            b'{"a":{"x":{},"y":-2},"b":[1,true,"\xc3\xa9\\n"]}',
        ),
    ):
        frozen = hashlib.sha256(label + len(encoded).to_bytes(8, "big") + encoded).digest()
        assert measure_manifest(text) == frozen


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/usr/bin/python3", "/usr/bin/python4"),
        ('"python3", "-I"', '"-I", "python3"'),
        ("debug = false", "debug = true"),
        ("debug = false", "debug = 0"),
        ("debug = false", 'debug = "false"'),
        ("isvsvn = 1", "isvsvn = 2"),
        ("isvsvn = 1", 'isvsvn = "1"'),
        ("isvsvn = 1", ""),
        ('sha256 = "11"', 'sha256 = "12"'),
        ('{ uri = "file:a", sha256 = "00" }, ', ""),
        ("[sgx]", "[sgx]\nedmm_enable = false"),
        ("[libos]", "[empty]\n[libos]"),
    ],
)
def test_everything_that_it_says_matters(old, new):
    assert WORKER.count(old) >= 1
    assert measure_manifest(WORKER.replace(old, new)) != measure_manifest(WORKER)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("1.5", "float"),
        ("nan", "float"),
        ("-inf", "float"),
        ("1e3", "float"),
        ("2026-03-01", "date"),
        ("07:30:00", "time"),
        ("2026-03-01T07:30:00Z", "datetime"),
        ("[[1, {x = 2.0}]]", "float"),
    ],
)
def test_values_without_one_form_are_refused_by_name(value, kind):
    with pytest.raises(ConfigError, match=rf"sgx\.size\S* is a {kind}"):
        measure_manifest(f"sgx.size = {value}")


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**40])
def test_numbers_beyond_toml_are_refused(number):
    with pytest.raises(ConfigError, match="64 bits"):
        measure_manifest(f"a = {number}")
    measure_manifest(f"a = {2**63 - 1}\nb = {-(2**63)}")


def test_deep_nesting_is_refused():
    with pytest.raises(ConfigError, match="inside each other"):
        measure_manifest("a = " + "[" * 40 + "]" * 40)
    with pytest.raises(FormatError, match="nested deeper"):
        measure_manifest(".".join("a" * 40) + " = 1")


@pytest.mark.parametrize(
    "text",
    [
        *("a", "a = ", "= 1", "a = 1\na = 2", "[a]\n[a]", "\x00", "\ufeffa = 1", "a = '\ud800'"),
        *('{"a": 1}', "a = [", "a = " + "[" * 5000),
    ],
)
def test_what_is_no_toml_is_refused(text):
    with pytest.raises(FormatError):
        measure_manifest(text)


def test_what_is_too_long_is_refused():
    with pytest.raises(FormatError, match="more than 16777216 characters"):
        measure_manifest("#" * (16 * 1024**2 + 1))


@given(st.text(max_size=60))
def test_any_text_is_measured_or_refused(text):
    with contextlib.suppress(FormatError, ConfigError):
        assert len(measure_manifest(text)) == 32


# --- measuring files --------------------------------------------------------------------------


def test_a_manifest_is_a_simulated_enclave(tmp_path):
    (path,) = write(tmp_path, worker_manifest=WORKER)
    role, values = measure_file(path)
    assert role == "worker"
    assert isinstance(values, SimulatedRole)
    assert values.measurements == (measure_manifest(WORKER).hex(),)
    assert len(values.manifest_sha256) == 1


def test_a_signature_is_an_enclave_on_hardware(tmp_path):
    raw = build_sigstruct(signing_key(), mr_enclave=b"\x11" * 32, product_id=3, svn=1)
    signature, manifest = write(tmp_path, worker_sig=raw, worker_manifest_sgx=SIGNED)
    role, values = measure_file(signature)
    assert role == "worker"
    assert values == SgxRole(
        measurements=("11" * 32,),
        signer=mr_signer(signing_key()).hex(),
        product_id=3,
        svn=1,
        date="2026-03-01",
        manifest_sha256=values.manifest_sha256,
    )
    assert measure_file(manifest) == (role, values)
    manifest.unlink()
    _, alone = measure_file(signature)
    assert alone.manifest_sha256 == ()
    assert alone.measurements == values.measurements
    with pytest.raises(ConfigError, match="cannot be read"):
        measure_file(manifest)


def test_a_signature_of_another_enclave_is_refused(tmp_path):
    signature, _ = write(
        tmp_path,
        worker_sig=build_sigstruct(signing_key(), product_id=1),
        worker_manifest_sgx=WORKER,
    )
    with pytest.raises(PolicyDenied, match="another product id"):
        measure_file(signature)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("file:/usr/bin/python3", "file:/usr/bin/python", "entrypoint"),
        ("mounts = [", 'mounts = [{ type = "tmpfs", path = "/dev/shm" }, ', "system-mount"),
        ('"file:host.json"', '"file:/etc"', "wildcard"),
        ("isvsvn = 1", 'isvsvn = 1\nseal_key.flags_mask = "0"', "seal-key"),
        ('remote_attestation = "dcap"', "", "attestation"),
        ("[fs]", "[loader.env]\nHOME = { passthrough = true }\n[fs]", "host-environment"),
    ],
)
def test_an_open_manifest_beside_a_signature_is_refused(tmp_path, old, new, rule):
    assert SIGNED.count(old) == 1
    signature, manifest = write(
        tmp_path,
        worker_sig=build_sigstruct(signing_key(), product_id=3, svn=1),
        worker_manifest_sgx=SIGNED.replace(old, new),
    )
    for path in (signature, manifest):
        with pytest.raises(PolicyDenied) as caught:
            measure_file(path)
        assert str(caught.value).startswith(f"{manifest}:")
        assert caught.value.rule == rule


def test_files_without_an_end_are_not_read(tmp_path):
    for name in ("worker.manifest", "worker.manifest.sgx", "worker.sig"):
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        write(folder, worker_sig=build_sigstruct(signing_key(), product_id=3, svn=1))
        (folder / name).unlink(missing_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(2**33)
        with pytest.raises(ConfigError, match="larger than"):
            measure_file(folder / name)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(ConfigError, match="no regular file"):
            measure_file(folder / name)


def test_a_wrong_signature_is_refused(tmp_path):
    raw = bytearray(build_sigstruct(signing_key()))
    raw[960] ^= 1
    (signature,) = write(tmp_path, worker_sig=bytes(raw))
    with pytest.raises(AuthenticationFailed):
        measure_file(signature)


def test_debug_enclaves_are_refused(tmp_path):
    debug = build_sigstruct(signing_key(), flags=MODE64BIT | 2)
    is_open = build_sigstruct(signing_key(), flags_mask=2**64 - 3)
    manifest = WORKER.replace("debug = false", "debug = true")
    for path in write(tmp_path, worker_sig=debug, broker_sig=is_open, worker_manifest=manifest):
        with pytest.raises(PolicyDenied, match="debug") as refusal:
            measure_file(path)
        assert refusal.value.rule == "not-debug"


@pytest.mark.parametrize(
    "name", ["worker.toml", "worker", ".manifest", ".sig", "Worker.sig", "a b.manifest", "-.sig"]
)
def test_a_file_that_names_no_role_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text(WORKER)
    with pytest.raises(ConfigError, match="ROLE"):
        measure_file(path)


def test_a_manifest_in_another_encoding_is_refused(tmp_path):
    (path,) = write(tmp_path, worker_manifest=WORKER.encode() + b"# \xff")
    with pytest.raises(FormatError, match="UTF-8"):
        measure_file(path)


# --- the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "roles",
    [
        {"worker": simulated(1)},
        {"broker": simulated(1, 2), "worker": simulated(3), "a.b": simulated(4)},
        {"worker": sgx(1, 2), "broker": sgx(3, product_id=1, manifest_sha256=(digest(9),))},
        {"worker": sgx(1), "broker": sgx(3, signer=digest(8))},
    ],
)
def test_what_is_written_is_what_is_read(roles, tmp_path):
    values = combine(roles.items())
    path = tmp_path / "reference-values.toml"
    path.write_text(values.render())
    loaded = load_reference_values(path)
    assert loaded == values
    assert loaded.to_roles() == {role: roles[role].measurements for role in sorted(roles)}
    assert loaded.render() == values.render()
    assert tomllib.loads(values.render()) == json.loads(json.dumps(values.describe()))
    assert loaded.simulated == isinstance(roles["worker"], SimulatedRole)


GOOD = f"""\
format = "wardian reference values v1"
[roles.worker]
tee = "sgx"
measurements = ["{digest(1)}"]
signer = "{digest(7)}"
product_id = 3
svn = 2
date = "2026-03-01"
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("values v1", "values v2", "format"),
        ('format = "wardian reference values v1"\n', "", "format"),
        ("product_id", "produkt_id", "line 6"),
        ("svn = 2\n", "", "svn"),
        ("svn = 2", "svn = 65536", "65535"),
        ("svn = 2", "svn = -1", "0"),
        ('"sgx"', '"tdx"', "tdx"),
        ('"sgx"', '"simulated"', "unknown field `signer`"),
        ('tee = "sgx"\n', "", "tee"),
        (f'["{digest(1)}"]', "[]", "length >= 1"),
        (f'["{digest(1)}"]', '["12"]', "regex"),
        (f'["{digest(1)}"]', f'["{digest(10).upper()}"]', "regex"),
        (f'["{digest(1)}"]', f'["{digest(1)}\\n"]', "regex"),
        (f'["{digest(1)}"]', f'["{digest(1)}", "{digest(1)}"]', "stands twice"),
        ("2026-03-01", "yesterday", "regex"),
        ("[roles.worker]", '[roles."Worker one"]', "regex"),
        ("[roles.worker]", "[workers.worker]", "workers"),
        ("svn = 2", "svn = 2\ndebug = false", "unknown field `debug`"),
    ],
)
def test_what_is_not_as_it_must_be_is_refused(old, new, told):
    parse_reference_values(GOOD.encode(), name="values.toml")
    assert GOOD.count(old) == 1
    with pytest.raises(ConfigError, match=told) as refusal:
        parse_reference_values(GOOD.replace(old, new).encode(), name="values.toml")
    assert str(refusal.value).startswith("values.toml")


def test_hardware_and_simulation_never_share_a_file():
    both = GOOD + f'[roles.broker]\ntee = "simulated"\nmeasurements = ["{digest(2)}"]\n'
    for attempt in (
        lambda: parse_reference_values(both.encode(), name="values.toml"),
        lambda: combine([("worker", sgx(1)), ("broker", simulated(2))]),
        lambda: combine([("worker", sgx(1))], kept=combine([("broker", simulated(2))])),
        lambda: combine([("worker", sgx(1))], kept=combine([("worker", simulated(2))])),
        lambda: ReferenceValues(roles={"worker": sgx(1), "broker": simulated(2)}),
    ):
        with pytest.raises(ConfigError, match="hardware and simulation in one file"):
            attempt()


def test_no_role_passes_for_another():
    with pytest.raises(ConfigError, match="stands twice"):
        combine([("worker", simulated(1)), ("broker", simulated(2, 1))])
    with pytest.raises(ConfigError, match="roles broker and worker are one product id"):
        combine([("worker", sgx(1)), ("broker", sgx(2))])
    combine([("worker", sgx(1)), ("broker", sgx(2, product_id=1))])


def test_nothing_is_no_reference_value():
    with pytest.raises(ConfigError, match="no role"):
        combine([])
    with pytest.raises(ConfigError):
        parse_reference_values(b'format = "wardian reference values v1"\nroles = {}', name="v")


def test_a_role_that_is_measured_twice_has_one_value():
    assert combine([("worker", simulated(1))] * 2).to_roles() == {"worker": (digest(1),)}
    with pytest.raises(ConfigError, match="measured twice"):
        combine([("worker", simulated(1)), ("worker", simulated(2))])


def test_kept_values_stay_behind_the_new_ones():
    old = combine([("worker", sgx(1, svn=1, date="2025-01-01")), ("broker", sgx(2, product_id=1))])
    new = combine([("worker", sgx(3, svn=4))], kept=old)
    assert new.to_roles() == {"broker": (digest(2),), "worker": (digest(3), digest(1))}
    assert new.roles["worker"].svn == 1, "the lowest that is still accepted"
    assert new.roles["worker"].date == "2026-03-01"
    assert combine([("worker", sgx(3, svn=4))], kept=new) == new
    for change in ({"signer": digest(8)}, {"product_id": 4}):
        with pytest.raises(ConfigError, match="another signer or product id"):
            combine([("worker", sgx(3, **change))], kept=old)


def test_more_than_the_mesh_manifest_takes_is_refused():
    old = combine([("worker", simulated(*range(1, 65)))])
    with pytest.raises(ConfigError, match="64"):
        combine([("worker", simulated(99))], kept=old)


def test_the_examples_of_the_documentation_are_valid():
    page = (REPOSITORY / "docs" / "reference" / "reference-values.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        assert parse_reference_values(example.encode(), name="example").render() == example


# --- the command ------------------------------------------------------------------------------


def run(*arguments: object):
    return CliRunner().invoke(measure, [str(each) for each in arguments])


def test_the_command_writes_what_it_says(tmp_path):
    paths = write(tmp_path, worker_manifest=WORKER, broker_manifest=BROKER)
    shown = run(*paths)
    assert shown.exit_code == 0, shown.output
    written = run(*paths, "-o", tmp_path / "values.toml")
    assert written.exit_code == 0
    assert "SIMULATED" in written.output
    assert (tmp_path / "values.toml").read_text() == shown.output
    as_json = json.loads(run(*paths, "--json").output)
    assert as_json["roles"]["worker"]["measurements"] == [measure_manifest(WORKER).hex()]


def test_help_teaches():
    shown = run("--help").output
    assert "  wardian enclave measure enclave/*.sig -o reference-values.toml\n" in shown


def test_the_command_keeps_what_is_named(tmp_path):
    (path,) = write(tmp_path, worker_manifest=WORKER)
    run(path, "-o", tmp_path / "values.toml")
    path.write_text(WORKER.replace("isvsvn = 1", "isvsvn = 2"))
    kept = run(path, "--keep", tmp_path / "values.toml", "--json")
    newer = measure_manifest(path.read_text()).hex()
    assert json.loads(kept.output)["roles"]["worker"]["measurements"] == [
        newer,
        measure_manifest(WORKER).hex(),
    ]


def test_the_command_refuses_a_mixture_and_writes_nothing(tmp_path):
    paths = write(tmp_path, worker_manifest=WORKER, broker_sig=build_sigstruct(signing_key()))
    refused = run(*paths, "-o", tmp_path / "values.toml")
    assert isinstance(refused.exception, ConfigError)
    assert not (tmp_path / "values.toml").exists()


# --- what the broker makes of it --------------------------------------------------------------


def test_a_mesh_that_releases_to_what_was_measured_and_to_nothing_else(tmp_path):
    """From manifests on disk to the release policy: the measurements go through unchanged."""
    paths = write(tmp_path, worker_manifest=WORKER, broker_manifest=BROKER)
    values = combine(measure_file(path) for path in paths)
    platform, owner = generate_platform(clock=lambda: NOW), SigningKey.generate()
    worker = bytes.fromhex(values.to_roles()["worker"][0])
    line = sign_model_line(
        mesh="test",
        owner=owner,
        name="digits",
        version=1,
        serial=1,
        media_type="application/onnx",
        pin=Pin(header_digest=bytes(32), last_tag=bytes(16)),
        key_id=bytes(16),
        total_bytes=1,
        measurements=[worker],
    )
    manifest = MeshManifest(
        mesh="test",
        version=1,
        trust=TrustAnchor(
            simulation_root_sha256=platform.root_sha256.hex(),
            tcb_statuses=("UpToDate",),
            advisories=(),
        ),
        roles={
            role: RoleReference(measurements=measurements)
            for role, measurements in values.to_roles().items()
        },
        models=(line,),
    )
    mesh = Mesh(name="test", owners=(owner.public.hex(),))
    verified = verify_manifest(sign_manifest(manifest, [owner]), mesh=mesh).manifest

    def appraised(measurement: bytes):
        return verify_evidence(
            platform.evidence(mr_enclave=measurement, report_data=bytes(64)),
            policy=appraisal_policy(verified, "worker"),
            report_data=bytes(64),
            now=NOW,
        )

    granted = entitlements(verified, role="worker", models=("digits",), result=appraised(worker))
    assert {each.kind for each in granted} == {"model", "queue", "request"}
    edited = measure_manifest(WORKER.replace('"-I"', '"-i"'))
    for stranger in (edited, measure_manifest(BROKER)):
        with pytest.raises(PolicyDenied, match="measurement"):
            appraised(stranger)
