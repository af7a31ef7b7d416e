"""The command line: help that teaches, JSON where a program reads, one line and a status for errors."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mesh import DIGITS, REPOSITORY

from wardian.cli.host import free_port
from wardian.cli.main import COMMANDS

QUOTES = REPOSITORY.parent / "shared" / "data" / "quotes"


def run(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "wardian.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd or REPOSITORY,
        timeout=90,
    )


def assert_one_line(done: "subprocess.CompletedProcess[str]", status: int, *told: str) -> None:
    assert done.returncode == status, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    (error,) = [line for line in lines if line.startswith(("error:", "Error:"))]
    assert "Traceback" not in done.stderr
    for text in told:
        assert text in error


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_teaches(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0, done.stderr
    text = re.sub(r"\s+", " ", done.stdout)
    assert len(text) > 250
    assert command in text


def test_version() -> None:
    assert run("--version").stdout.startswith("wardian, version 0.")


# --- sealing ----------------------------------------------------------------------------------


def test_seal_and_open_by_key_identity_and_passphrase(tmp_path: Path) -> None:
    content = os.urandom(700_000)
    (tmp_path / "model.onnx").write_bytes(content)
    (tmp_path / "words").write_text("correct horse battery staple\n")
    (tmp_path / "words").chmod(0o600)
    public = run("keygen", "id.key", cwd=tmp_path).stdout.strip()
    sealed = run(
        "seal",
        "model.onnx",
        "--name",
        "m",
        "--version",
        "3",
        "--new-key",
        "m.key",
        "--to",
        public,
        "--passphrase-file",
        "words",
        "--json",
        cwd=tmp_path,
    )
    assert sealed.returncode == 0, sealed.stderr
    told = json.loads(sealed.stdout)
    assert (tmp_path / "model.onnx.sealed.pin").read_text().strip() == told["pin"]
    assert content[:64] not in (tmp_path / "model.onnx.sealed").read_bytes()
    for number, opener in enumerate(
        (("--key", "m.key"), ("--identity", "id.key"), ("--passphrase-file", "words"))
    ):
        opened = run(
            "open",
            "model.onnx.sealed",
            "--pin",
            "model.onnx.sealed.pin",
            "--name",
            "m",
            "--version",
            "3",
            "-o",
            f"out{number}",
            *opener,
            cwd=tmp_path,
        )
        assert opened.returncode == 0, opened.stderr
        assert (tmp_path / f"out{number}").read_bytes() == content


def test_a_passphrase_comes_out_of_another_program(tmp_path: Path) -> None:
    """By a pipe: nothing lies on a disk. A file that others can read is refused."""
    (tmp_path / "model.onnx").write_bytes(b"content")
    words = tmp_path / "words"
    words.write_text("correct horse battery staple\n")
    words.chmod(0o644)
    seal = ("seal", "model.onnx", "--passphrase-file")
    assert_one_line(run(*seal, "words", cwd=tmp_path), 2, "mode 0644", "chmod 600")
    assert not (tmp_path / "model.onnx.sealed").exists()
    done = subprocess.run(
        [sys.executable, "-m", "wardian.cli", *seal, "/dev/stdin"],
        input="correct horse battery staple\n",
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    words.chmod(0o600)
    opened = ("open", "model.onnx.sealed", "--pin", "model.onnx.sealed.pin", "--name", "model")
    done = run(*opened, "-o", "out", "--passphrase-file", "words", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == b"content"


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(os.urandom(3000))
    assert (
        run("seal", "model.onnx", "--name", "m", "--new-key", "m.key", cwd=tmp_path).returncode == 0
    )
    return tmp_path


def open_it(directory: Path, *more: str, name: str = "m") -> "subprocess.CompletedProcess[str]":
    return run(
        "open",
        "model.onnx.sealed",
        "--pin",
        "model.onnx.sealed.pin",
        "--name",
        name,
        "-o",
        "out",
        *more,
        cwd=directory,
    )


def test_the_wrong_key_is_refused(sealed: Path) -> None:
    (sealed / "other.key").write_text("11" * 32 + "\n")
    assert_one_line(open_it(sealed, "--key", "other.key"), 2, "other users can read")
    (sealed / "other.key").chmod(0o600)
    assert_one_line(
        open_it(sealed, "--key", "other.key"), 1, "no key or passphrase at hand opens it"
    )
    assert not (sealed / "out").exists()


def test_another_model_s_name_is_refused(sealed: Path) -> None:
    assert_one_line(open_it(sealed, "--key", "m.key", name="n"), 1, "sealed as")


def test_a_changed_file_is_refused(sealed: Path) -> None:
    path = sealed / "model.onnx.sealed"
    raw = bytearray(path.read_bytes())
    raw[-40] ^= 1
    path.write_bytes(raw)
    assert_one_line(open_it(sealed, "--key", "m.key"), 1)
    assert not (sealed / "out").exists()


def test_seal_and_open_say_what_is_missing(sealed: Path) -> None:
    assert_one_line(run("seal", "model.onnx", cwd=sealed), 2, "at least one recipient")
    assert_one_line(run("seal", "nothing.onnx", "--new-key", "k", cwd=sealed), 2, "does not exist")
    assert_one_line(open_it(sealed), 2, "--key")
    assert_one_line(open_it(sealed, "--key", "nothing.key"), 2, "nothing.key", "No such file")
    (sealed / "empty.key").write_text("\n")
    (sealed / "empty.key").chmod(0o600)
    assert_one_line(open_it(sealed, "--key", "empty.key"), 2, "no key in hex")
    assert_one_line(
        run("seal", "model.onnx", "--new-key", "m.key", cwd=sealed), 2, "never overwritten"
    )
    assert_one_line(run("seal", "model.onnx", "--to", "zz", cwd=sealed), 2, "not hex")


# --- attestation ------------------------------------------------------------------------------


@pytest.mark.skipif(not QUOTES.is_dir(), reason="the real quotes are not beside this repository")
def test_attest_verify_on_a_real_quote(tmp_path: Path) -> None:
    arguments = (
        "attest",
        "verify",
        str(QUOTES / "sgx_quote"),
        "--collateral",
        str(QUOTES / "sgx_quote_collateral.json"),
        "--at",
        "1751624924",
        "--json",
    )
    judged = run(*arguments)
    assert judged.returncode == 3, judged.stderr
    told = json.loads(judged.stdout)
    assert told["kind"] == "SGX"
    assert told["tcb_status"] == "ConfigurationAndSWHardeningNeeded"
    assert told["advisory_ids"] == ["INTEL-SA-00289", "INTEL-SA-00615"]
    assert "TcbStatusIn" in told["refused_by"]
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'measurements = ["{told["measurements"]["mr_enclave"]}"]\n'
        'tcb_statuses = ["ConfigurationAndSWHardeningNeeded"]\n'
        'advisories = ["INTEL-SA-00289", "INTEL-SA-00615"]\n'
        'any_platform = "risk accepted"\n'
    )
    accepted = run(*arguments, "--policy", str(policy))
    assert accepted.returncode == 0, accepted.stdout
    assert json.loads(accepted.stdout)["refused_by"] is None
    late = run(*arguments[:-2], "1851624924")
    assert_one_line(late, 3)


def test_attest_verify_of_garbage(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(b"not a quote")
    (tmp_path / "c").write_bytes(b"{}")
    done = run("attest", "verify", "q", "--collateral", "c", cwd=tmp_path)
    assert_one_line(done, 3, "FormatError: quote: ")


# --- up ---------------------------------------------------------------------------------------


def test_what_lies_in_the_working_directory_is_not_run(tmp_path: Path) -> None:
    """A hostile example, run with `cd example; wardian up .`, must not reach the launchers."""
    example = shutil.copytree(DIGITS, tmp_path / "example")
    for name in ("tomllib", "msgspec", "click", "resource", "wardian"):
        (example / f"{name}.py").write_text(
            f"open({str(tmp_path / name)!r}, 'w')\nraise SystemExit(9)"
        )
    wardian = Path(sys.executable).with_name("wardian")
    done = subprocess.run(
        [str(wardian), "up", ".", "--state", str(tmp_path / "state"), "--once", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        cwd=example,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["example", "state"]


def test_a_state_directory_that_others_can_write_is_refused(example: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    assert_one_line(up(example), 2, "open to other users")


def test_terminal_escapes_of_a_peer_are_not_printed(tmp_path: Path) -> None:
    (tmp_path / "e").write_text('{"quote": "", "collateral": "", "\\u001b[2J": 1}')
    policy = 'measurements = ["' + "00" * 32 + '"]\nany_platform = "risk accepted"\n'
    (tmp_path / "p").write_text(policy)
    done = run("attest", "explain", "e", "--policy", "p", cwd=tmp_path)
    assert "\x1b[2J" not in done.stderr + done.stdout
    assert "?[2J" in done.stderr  # the peer's word is shown, its escape is not
    assert done.returncode == 3


@pytest.fixture
def example(tmp_path: Path) -> Path:
    return shutil.copytree(DIGITS, tmp_path / "example")


def up(example: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    state = str(example.parent / "state")
    return run("up", str(example), "--state", state, "--port", "0", "--once", *more)


def test_a_taken_port_says_what_to_do(example: Path) -> None:
    with socket.socket(socket.AF_INET6) as taken, socket.socket() as also:
        port = free_port(["::1", "127.0.0.1"])  # one that is free on both
        taken.bind(("::1", port))
        also.bind(("127.0.0.1", port))
        taken.listen()
        also.listen()
        assert_one_line(up(example, "--port", str(port)), 2, "frontend", str(port), "in use")


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("wardian.toml", "[limits]", "[limits]\ncolour = 1", ("line 19", "unknown field `colour`")),
        ("wardian.toml", "[mesh]", "[nesh]", ("line 6", "unknown field `nesh`")),
        (
            "wardian.toml",
            "owners = []",
            'owners = ["aa"]',
            ("plays the owner only where",),
        ),
        ("wardian.toml", "[models.digits]", "[models.other]", ("no [models.digits]",)),
        ("example.toml", "digits.onnx", "gone.onnx", ("no file", "gone.onnx")),
        (
            "example.toml",
            'data = "heldout.npz"',
            'data = "heldout.npz"\nshuffle = true',
            ("unknown field `shuffle`",),
        ),
    ],
)
def test_wrong_settings_say_where(
    example: Path, file: str, old: str, new: str, told: tuple[str, ...]
) -> None:
    path = example / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert_one_line(up(example), 2, file, *told)


def test_an_unknown_operator_option_says_where(example: Path) -> None:
    (example / "operator.toml").write_text("[frontend]\nport = 0\ncolour = 'red'\n")
    assert_one_line(up(example), 2, "operator.toml, line 3", "colour")


def test_a_missing_example_and_a_file_for_a_state(example: Path, tmp_path: Path) -> None:
    assert_one_line(run("up", str(tmp_path / "nothing")), 2, "no such directory")
    (tmp_path / "file").touch()
    assert_one_line(
        run("up", str(example), "--state", str(tmp_path / "file")), 2, "is a file; name a directory"
    )


@pytest.mark.slow
def test_a_model_that_is_none(example: Path) -> None:
    (example / "digits.onnx").write_bytes(b"this is no model")
    done = up(example)
    assert_one_line(done, 1, "worker-digits-1")


def test_processes_without_a_mesh_say_what_is_missing(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    assert_one_line(run("worker", "--state", state, "--model", "digits"), 2, "no broker wrote")
    assert_one_line(run("broker", "--state", state), 2, "wardian enclave build")
    assert_one_line(run("status", "--state", str(tmp_path / "none")), 2, "no such directory")


def test_doctor_answers(tmp_path: Path) -> None:
    shown = run("doctor")
    assert shown.returncode == 0
    assert "Enclaves on this machine:" in shown.stdout
    names = {finding["name"] for finding in json.loads(run("doctor", "--json").stdout)}
    assert {"Python", "SGX driver", "Landlock", "openvino"} <= names


def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    """Sealing onto a file system of 64 KiB, in a mount namespace of the test's own."""
    (tmp_path / "model.onnx").write_bytes(os.urandom(300_000))
    (tmp_path / "small").mkdir()
    command = f"{sys.executable} -m wardian.cli seal model.onnx -o small/m.sealed --new-key m.key"
    done = subprocess.run(
        [
            "unshare",
            "-rm",
            "sh",
            "-c",
            (
                f"mount -t tmpfs -o size=64k none small || exit 77; {command}; "
                "status=$?; ls small | wc -l; exit $status"
            ),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mount namespace of our own can be made here")
    assert_one_line(done, 2, "no space left")
    assert done.stdout.strip().endswith("0")  # nothing half-written is left
