"""Signing an enclave: what the tools get to know, and what becomes of what they write.

Gramine is not to be had on most machines that run these tests. Where the tools are STAND-INS
(`simulators.gramine_signer`), the tests show how we drive programs with the documented command
lines, and what we refuse of what such programs write; the signatures are real. The last test is on
Gramine's own tools, and skips where they are not installed.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from simulators import gramine_signer
from simulators.gramine_signer import mr_signer, pem, signing_key

from wardian.cli.enclave.sign import sign
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    PolicyDenied,
    Timeout,
    WardianError,
)
from wardian.tee.manifest import gramine_tools
from wardian.tee.manifest.builder import Builder
from wardian.tee.manifest.canonical import demand_unchanged, parse_manifest
from wardian.tee.manifest.gramine_tools import NEW_KEY, SCHEMA_CHECK, SIGN, missing_tools, run_tool
from wardian.tee.manifest.measuring import measure_file
from wardian.tee.manifest.signing import (
    Signer,
    file_signer,
    make_key,
    plugin_signer,
    sign_manifest,
)

DEPLOYMENT = f'[mesh]\nname = "test"\nowners = ["{"a" * 64}"]\n[models.digits]\n'.encode()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> str:
    """Return the manifest that `wardian enclave build` writes."""
    folder = tmp_path_factory.mktemp("built")
    return Builder(folder, deployment=DEPLOYMENT).build("broker").text


@pytest.fixture
def manifest(tmp_path, built) -> Path:
    """Return that manifest in a directory of its own, without most of its files: it is quicker."""
    (tmp_path / "enclave").mkdir()
    path = tmp_path / "enclave" / "broker.manifest"
    lines = built.splitlines(keepends=True)
    stdlib = [line for line in lines if "sha256 =" in line and "file:bytecode/" in line][10:]
    path.write_text("".join(line for line in lines if line not in stdlib))
    assert len(path.read_text()) < len(built) / 2
    return path


@pytest.fixture
def key(tmp_path) -> Path:
    path = tmp_path / "signer.pem"
    path.touch(mode=0o600)
    path.write_bytes(pem(signing_key()))
    return path


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Return a function that puts stand-ins on PATH which do wrong what it is told."""

    def install(**behaviour) -> Path:
        calls = gramine_signer.install(tmp_path / "tools", **behaviour)
        monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}{os.pathsep}{os.environ['PATH']}")
        return calls

    return install


def noted(calls: Path) -> list[dict]:
    return [json.loads(line) for line in calls.read_text().splitlines()]


def run(*arguments: object):
    return CliRunner().invoke(sign, [str(each) for each in arguments])


def written(manifest: Path) -> set[str]:
    return {path.name for path in manifest.parent.iterdir()} - {"broker.manifest"}


# --- the way that is meant --------------------------------------------------------------------


def test_a_key_file_signs(tools, manifest, built, key, tmp_path):
    calls = tools()
    manifest.write_text(built)
    done = run(manifest, "--key", key, "-o", tmp_path / "signed", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    signed = (tmp_path / "signed" / "broker.manifest.sgx").read_bytes()
    assert told["mr_enclave"] == hashlib.sha256(b"stand-in" + signed).hexdigest()
    assert told["mr_signer"] == mr_signer(signing_key()).hex()
    assert (told["product_id"], told["svn"], told["debug"]) == (1, 1, False)
    assert told["date"] == "2026-03-01"
    role, values = measure_file(tmp_path / "signed" / "broker.sig")
    assert (role, values.measurements) == ("broker", (told["mr_enclave"],))
    assert [call["tool"] for call in noted(calls)] == [SCHEMA_CHECK, SIGN]
    assert {path.name for path in (tmp_path / "signed").iterdir()} == {
        "broker.manifest.sgx",
        "broker.sig",
    }
    assert written(manifest) == set()


def test_a_person_reads_the_same(tools, manifest, key):
    tools()
    done = run(manifest, "--key", key)
    assert done.exit_code == 0, done.output
    rows = dict(line.split(maxsplit=1) for line in done.output.splitlines())
    assert rows["mr_signer"] == mr_signer(signing_key()).hex()
    assert rows["debug"] == "no"
    assert written(manifest) == {"broker.manifest.sgx", "broker.sig"}


def test_a_plugin_signs_with_a_key_that_is_nowhere_here(tools, manifest, tmp_path):
    calls = tools()
    (tmp_path / "tools" / "slot-3").write_bytes(pem(signing_key(1)))
    done = run(manifest, "--plugin", "hsm", "--json", "--", "--hsm-slot", "3")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["mr_signer"] == mr_signer(signing_key(1)).hex()
    argv = noted(calls)[-1]["argv"]
    assert argv[:4] == ["--with", "hsm", "--hsm-slot", "3"]
    assert "--key" not in argv


def test_a_new_key_is_made_and_signs(tools, manifest, tmp_path):
    tools()
    done = run(manifest, "--new-key", tmp_path / "new.pem", "--json")
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE((tmp_path / "new.pem").stat().st_mode) == 0o600
    again = run(manifest, "--new-key", tmp_path / "new.pem")
    assert isinstance(again.exception, ConfigError)
    assert "never overwritten" in str(again.exception)


def test_relative_paths_work(tools, manifest, key, tmp_path, monkeypatch):
    calls = tools()
    monkeypatch.chdir(tmp_path)
    done = run("enclave/broker.manifest", "--key", "signer.pem", "-o", "out")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "broker.sig").is_file()
    # Trusted files of the role's directory are named relative to it.
    assert {call["cwd"] for call in noted(calls)} == {str(manifest.parent)}


# --- what the tools get to know ---------------------------------------------------------------


def test_no_secret_leaves_this_process(tools, manifest, key, monkeypatch):
    calls = tools()
    for name in ("WARDIAN_CANARY", "PYTHONPATH", "LD_PRELOAD_CANARY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "canary-7f3a")
    assert run(manifest, "--key", key).exit_code == 0
    shown = calls.read_text()
    assert "canary-7f3a" not in shown
    secret = signing_key().private_numbers()
    for form in (pem(signing_key()).decode().splitlines()[1], f"{secret.d:x}", f"{secret.p:x}"):
        assert form not in shown
    for call in noted(calls):
        assert call["env"].keys() <= {"HOME", "PATH", "LC_ALL", "LC_CTYPE"}
    assert str(key) in noted(calls)[-1]["argv"]


def test_the_tools_get_a_copy_that_nobody_else_writes(tools, manifest, key):
    """Who edits the file between the lint and the signature changes nothing that is signed."""
    calls = tools()
    assert run(manifest, "--key", key).exit_code == 0
    for call in noted(calls):
        assert str(manifest) not in call["argv"]


@pytest.mark.parametrize(
    "option",
    [
        *("--libpal", "--libpal=other.so", "-lother.so", "--chroot", "--manifest", "-m"),
        *("--output", "-o", "--sigfile", "-s", "--with", "--date", "--depfile"),
        *("--passphrase", "--passphrase=hunter2", "--password=hunter2", "-phunter2"),
    ],
)
def test_a_plugin_gets_its_own_options_only(option):
    with pytest.raises(ConfigError, match="not passed on") as refusal:
        plugin_signer("hsm", ["--hsm-slot", "3", option])
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("name", ["", "--output", "a b", "../x", "file", "x" * 65, "a\n"])
def test_what_is_no_plugin_is_refused(name):
    with pytest.raises(ConfigError, match="plug-in"):
        plugin_signer(name, [])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_can_read_is_refused(tools, manifest, key, mode):
    tools()
    key.chmod(mode)
    refused = run(manifest, "--key", key)
    assert isinstance(refused.exception, ConfigError)
    assert "chmod 600" in str(refused.exception)
    assert written(manifest) == set()


def test_a_key_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        file_signer(tmp_path / "none.pem")
    with pytest.raises(ConfigError, match="not a file"):
        file_signer(tmp_path)


def test_a_new_key_that_is_left_open_is_refused(tools, tmp_path):
    tools(open_key=True)
    with pytest.raises(ConfigError, match="chmod 600"):
        make_key(tmp_path / "new.pem")


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--key", "{key}", "--plugin", "hsm"),
        ("--key", "{key}", "--new-key", "new.pem"),
        ("--key", "{key}", "--", "--passphrase", "hunter2"),
        ("--plugin", "file", "--", "--key", "{key}"),
    ],
)
def test_one_signer_is_named(tools, manifest, key, options):
    calls = tools()
    refused = run(manifest, *(option.format(key=key) for option in options))
    assert isinstance(refused.exception, ConfigError)
    assert not calls.exists()


# --- attacks: tools, or what stands in their place, that write something else -----------------


@pytest.mark.parametrize(
    ("behaviour", "error", "told"),
    [
        ({"debug": True}, PolicyDenied, "signed for debug mode"),
        ({"debug_open": True}, PolicyDenied, "mask leaves DEBUG open"),
        ({"product_id_off_by": 1}, PolicyDenied, "another product id"),
        ({"svn_off_by": 1}, PolicyDenied, "another security version"),
        ({"flip": 0}, FormatError, "header"),
        ({"flip": 600}, AuthenticationFailed, "signature"),
        ({"flip": 970}, AuthenticationFailed, "signature"),
        ({"flip": 1100}, AuthenticationFailed, "q1 or q2"),
        ({"no_signature": True}, ConfigError, "did not write broker.sig"),
        ({"fails": SIGN}, ConfigError, "ValueError: no such key in slot 3"),
        ({"fails": SCHEMA_CHECK}, ConfigError, "gramine-manifest-check failed"),
        ({"edits": {"sgx.allowed_files": "file:/tmp/"}}, PolicyDenied, "sgx.allowed_files"),
        (
            {"edits": {"sgx.file_check_policy": "allow_all_but_log"}},
            PolicyDenied,
            "file_check_policy",
        ),
        (
            {"edits": {"sgx.trusted_files": {"uri": "file:x", "sha256": "00"}}},
            PolicyDenied,
            "file:x",
        ),
        ({"edits": {"sgx.trusted_files": []}}, PolicyDenied, "sgx.trusted_files"),
        ({"edits": {"sgx.enable_stats": True}}, PolicyDenied, "sgx.enable_stats"),
        ({"edits": {"sgx.cpu_features.pkru": "required"}}, PolicyDenied, "pkru"),
        ({"edits": {"loader.argv": ["sh"]}}, PolicyDenied, "loader.argv"),
        ({"edits": {"loader.env.LD_PRELOAD": "/x.so"}}, PolicyDenied, "LD_PRELOAD"),
        ({"edits": {"loader.insecure__use_cmdline_argv": True}}, PolicyDenied, "insecure__"),
        ({"edits": {"loader.log_level": None}}, PolicyDenied, "log_level"),
        ({"edits": {"loader.entrypoint.uri": "file:/tmp/libsysdb.so"}}, PolicyDenied, "entrypoint"),
        ({"edits": {"fs.mounts": {"path": "/etc", "uri": "file:/etc"}}}, PolicyDenied, "fs.mounts"),
        ({"edits": {"libos.check_invalid_pointers": False}}, PolicyDenied, "libos"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_is_not_what_was_judged_is_refused(tools, manifest, key, behaviour, error, told):
    tools(**behaviour)
    before = manifest.read_bytes()
    refused = run(manifest, "--key", key)
    assert isinstance(refused.exception, error), refused.output
    assert told in str(refused.exception)
    assert written(manifest) == set(), "nothing is left behind"
    assert manifest.read_bytes() == before


def test_an_older_signature_stays_where_a_new_one_is_refused(tools, manifest, key):
    tools()
    assert run(manifest, "--key", key).exit_code == 0
    kept = (manifest.parent / "broker.sig").read_bytes()
    tools(flip=600)
    assert isinstance(run(manifest, "--key", key).exception, AuthenticationFailed)
    assert (manifest.parent / "broker.sig").read_bytes() == kept


@pytest.mark.parametrize("schema_status", [True, False])
def test_what_gramine_does_not_know_is_refused(tools, manifest, tmp_path, schema_status):
    """Whatever the status: the tool of Gramine 1.8 ended with 0 after it had said what is wrong."""
    tools(schema_status=schema_status)
    manifest.write_text(manifest.read_text() + "[extra]\nkey = 1\n")
    with pytest.raises(ConfigError, match="extra keys not allowed"):
        gramine_tools.demand_schema(manifest, cwd=tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("debug = false", "debug = true"),
        ('file_check_policy = "strict"', 'file_check_policy = "allow_all_but_log"'),
        ("[loader]", "[loader]\ninsecure__use_host_env = true"),
        ("[sgx]", "[sgx]\nno_such_key = 1"),
    ],
)
def test_what_the_lint_refuses_is_not_signed(tools, manifest, key, old, new):
    calls = tools()
    assert manifest.read_text().count(old) == 1
    manifest.write_text(manifest.read_text().replace(old, new))
    refused = run(manifest, "--key", key)
    assert isinstance(refused.exception, PolicyDenied), refused.output
    assert f"{manifest}:" in str(refused.exception)
    assert not calls.exists(), "no tool saw it"
    with pytest.raises(PolicyDenied):
        sign_manifest(manifest, file_signer(key), output=manifest.parent)


@pytest.mark.parametrize("line", ["isvprodid = 1\n", "isvsvn = 1\n"])
def test_a_manifest_that_does_not_say_what_it_is_is_not_signed(tools, manifest, key, line):
    """Gramine would take 0 for both, and every role would be the same product (TRUST T6)."""
    calls = tools()
    assert manifest.read_text().count(line) == 1
    manifest.write_text(manifest.read_text().replace(line, ""))
    refused = run(manifest, "--key", key)
    assert isinstance(refused.exception, ConfigError | PolicyDenied)
    assert not calls.exists()


def test_a_trusted_file_without_hash_is_not_signed(tools, manifest, key):
    """The tool would hash whatever lies there when it runs."""
    tools()
    content = manifest.read_text()
    manifest.write_text(content.replace("trusted_files = [", 'trusted_files = [\n  "file:other",'))
    refused = run(manifest, "--key", key)
    assert isinstance(refused.exception, ConfigError | PolicyDenied)
    assert written(manifest) == set()


def test_a_tool_that_hangs_is_ended(tools, manifest, key, monkeypatch):
    tools(hangs=SIGN)
    monkeypatch.setattr(gramine_tools, "SIGN_TIMEOUT_S", 0.3)
    refused = run(manifest, "--key", key)
    assert isinstance(refused.exception, Timeout)
    assert "no result after 0.3 s" in str(refused.exception)
    assert written(manifest) == set()


def test_a_tool_that_says_much_says_one_line(tools, tmp_path):
    program = tmp_path / "noisy"
    program.write_text(
        "#!/bin/sh\nyes error | head -c 3000000\nprintf '\\033[2Jlast\\n\\n'\nexit 3\n"
    )
    program.chmod(0o755)
    with pytest.raises(ConfigError) as refusal:
        run_tool([str(program)], cwd=tmp_path, timeout_s=60)
    assert str(refusal.value).endswith("noisy failed: ?[2Jlast")
    program.write_text("#!/bin/sh\nexit 4\n")
    with pytest.raises(ConfigError, match="ended with status 4"):
        run_tool([str(program)], cwd=tmp_path, timeout_s=60)
    program.write_bytes(b"\x7fELF, but not really")
    with pytest.raises(ConfigError, match="cannot be started"):
        run_tool([str(program)], cwd=tmp_path, timeout_s=60)


# --- without Gramine --------------------------------------------------------------------------


def test_without_gramine_one_line_says_what_is_missing(manifest, key, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run(manifest, "--key", key)
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    for told in (SCHEMA_CHECK, SIGN, "package gramine", "installation guide"):
        assert told in line
    assert "://" not in line
    more = run(manifest, "--new-key", tmp_path / "new.pem")
    assert NEW_KEY in more.output
    assert not (tmp_path / "new.pem").exists()
    assert written(manifest) == set()
    with pytest.raises(ConfigError, match="is not installed"):
        run_tool([SIGN], cwd=tmp_path, timeout_s=1)


def test_where_the_tools_are_nothing_is_missing(tools):
    tools()
    assert missing_tools((SCHEMA_CHECK, SIGN, NEW_KEY)) is None
    one = missing_tools((SIGN, "no-such-tool"))
    assert one is not None
    assert one.startswith("no-such-tool is not installed")


def test_help_teaches():
    shown = run("--help").output
    for told in ("--key", "--plugin", "ROLE.manifest.sgx", "debug"):
        assert told in shown
    assert isinstance(sign, click.Command)
    assert "  wardian enclave sign enclave/worker.manifest --key signer.pem\n" in shown


# --- the same manifest ------------------------------------------------------------------------


def test_gramines_own_defaults_are_no_change(built):
    wanted = parse_manifest(built)
    signed = gramine_signer._with_defaults(parse_manifest(built))
    assert signed != wanted
    demand_unchanged(wanted, signed)
    demand_unchanged(wanted, wanted)
    signed["sgx"]["trusted_files"].reverse()
    demand_unchanged(wanted, signed)


def test_every_single_value_counts(built):
    """Each value of the manifest is changed and left out, and each time it is refused."""
    wanted = parse_manifest(built)
    paths = [path for path in leaves(wanted) if path[:2] != ("sgx", "trusted_files")]
    assert len(paths) > 20
    for path in paths:
        for value in ("changed", None):
            signed = parse_manifest(built)
            gramine_signer._edit(signed, list(path), value)
            with pytest.raises(PolicyDenied) as refusal:
                demand_unchanged(wanted, signed)
            assert refusal.value.rule == "manifest-unchanged"
    files = wanted["sgx"]["trusted_files"]
    for index in range(0, len(files), 50):
        mine = files[index]
        other = mine | {"sha256": "00" * 32}
        more = mine | {"uri": "file:more"}
        for changed in ([], [other], [mine, more], [mine, other], [other, mine], [mine, mine]):
            replaced = [*files[:index], *changed, *files[index + 1 :]]
            with pytest.raises(PolicyDenied):
                demand_unchanged(
                    wanted, wanted | {"sgx": wanted["sgx"] | {"trusted_files": replaced}}
                )


def leaves(table: dict, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in table.items():
        found += leaves(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]
    return found


def test_trusted_files_have_one_form():
    wanted = {"sgx": {"trusted_files": [{"uri": "file:a", "sha256": "00"}]}}
    for entries in (
        {"file:a": "00"},
        {"uri": {"x": 1}, "sha256": "00", "more": 1},
        ["file:a"],
        [{"uri": "file:a"}],
        [{"uri": "file:a", "sha256": "00", "more": 1}],
    ):
        for pair in ((wanted, entries), (entries, wanted)):
            before, after = (
                each if each is wanted else {"sgx": {"trusted_files": each}} for each in pair
            )
            with pytest.raises(ConfigError, match="uri and a sha256"):
                demand_unchanged(before, after)


@pytest.mark.parametrize(
    ("wanted", "signed"),
    [
        ({"sgx": {"debug": False}}, {"sgx": {"debug": 0}}),
        ({"a": 1}, {"a": True}),
        ({"a": {}}, {"a": {"b": 1}}),
        ({"a": [1]}, {"a": [1, 1]}),
        ({}, {"sgx": {"max_threads": 5}}),
        ({}, {"sgx": {"max_threads": 4.0}}),
        ({}, {"sgx": {"debug": True}}),
        ({}, {"sgx": {"remote_attestation": "dcap"}}),
        ({"loader": {"entrypoint": "file:a"}}, {"loader": {"entrypoint": {"uri": "file:b"}}}),
    ],
)
def test_values_that_only_look_alike_are_changes(wanted, signed):
    with pytest.raises(PolicyDenied):
        demand_unchanged(wanted, signed)


# --- Gramine itself ---------------------------------------------------------------------------


def test_gramine_itself(manifest, tmp_path):
    """The same on Gramine's own tools, and what they write is what we say they write."""
    missing = missing_tools((SCHEMA_CHECK, SIGN, NEW_KEY))
    if missing is not None:
        pytest.skip(missing)  # on no package index and in no Debian release: cannot be demanded
    Builder(manifest.parent, deployment=DEPLOYMENT).build("broker")
    signer = make_key(tmp_path / "signer.pem")
    signed = sign_manifest(manifest, signer, output=manifest.parent)
    again = sign_manifest(manifest, signer, output=manifest.parent)
    assert again.verified.sigstruct.mr_enclave == signed.verified.sigstruct.mr_enclave
    assert (signed.verified.sigstruct.product_id, signed.verified.sigstruct.svn) == (1, 1)
    view = subprocess.run(
        ["gramine-sgx-sigstruct-view", "--output-format", "json", str(signed.signature)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    seen, fields = json.loads(view.stdout), signed.verified.sigstruct
    assert seen["mr_enclave"] == fields.mr_enclave.hex()
    assert seen["mr_signer"] == fields.mr_signer.hex()
    assert (seen["isv_prod_id"], seen["isv_svn"]) == (fields.product_id, fields.svn)
    assert seen["debug_enclave"] is False
    folder = tmp_path / "broken"
    shutil.copytree(manifest.parent, folder)
    (folder / "broker.manifest").write_text(manifest.read_text().replace("[sgx]", "[sgx]\nx = 1"))
    with pytest.raises(WardianError):
        gramine_tools.demand_schema(folder / "broker.manifest", cwd=folder)
    with pytest.raises(ConfigError):
        sign_manifest(
            manifest, Signer(plugin="no-such-plugin", arguments=()), output=manifest.parent
        )
