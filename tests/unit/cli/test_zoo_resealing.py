"""An encrypted model of a config.yaml becomes a sealed one that `wardian up` takes; nothing else."""

import hashlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from simulators.zoo_models import encrypted, openvino_digits, write_keys
from test_reseal_no_trace import CALLS, HARMLESS, is_trace

from wardian.cli.migrate import migrate
from wardian.cli.up.example import ModelFile, Source
from wardian.cli.up.sealed import leave_sealed
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, open_bytes
from wardian.crypto.secret import Secret
from wardian.crypto.zoo_formats import ZooForm
from wardian.errors import AuthenticationFailed, ConfigError
from wardian.inference.ir_file import build_ir

IR = "application/vnd.wardian.openvino-ir"
CBC, AS_CBC = ZooForm.UNAUTHENTICATED_CBC_128, ("--form", "cbc", "--bits", "128")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return openvino_digits(tmp_path_factory.mktemp("clear"))


@pytest.fixture
def job(tmp_path, pair):
    (tmp_path / "model").mkdir()
    for name, content in zip(("n.xml", "n.bin"), pair, strict=True):
        (tmp_path / "model" / name).write_bytes(encrypted(content, CBC))
    (tmp_path / "config.yaml").write_text(
        "modelPath: model\njobName: secret_job\nmodelEncrypted: true\n"
    )
    return tmp_path


def run(job: Path, *options: str):
    arguments = [str(job / "config.yaml"), "--out", str(job / "out"), *options]
    return CliRunner().invoke(migrate, arguments)


def test_it_is_sealed_under_a_key_of_its_own_and_up_takes_it(job, pair):
    done = run(job, *AS_CBC, *write_keys(job), "--stream")
    assert done.exit_code == 0, done.output + str(done.exception)
    source = Source.read(job / "out")
    model = source.example.models["secret_job"]
    assert (model.file, model.key_file) == ("secret_job.sealed", "secret_job.key")
    assert (job / "out" / "secret_job.key").stat().st_mode & 0o077 == 0
    assert "does not notice changes" in done.stderr
    for name in ("n.xml", "n.bin"):
        digest = hashlib.sha256((job / "model" / name).read_bytes()).hexdigest()
        assert f"read {name}, SHA-256 {digest}" in done.stdout
    assert "works" in next(line for line in done.stdout.splitlines() if "modelEncrypted" in line)
    target = job / "taken"
    left = leave_sealed(model, target, directory=job / "out", media_type=IR, name="secret_job")
    data = open_bytes(
        io.BytesIO(target.read_bytes()), identities=[left.key], pin=left.pin, media_type=IR,
        name="secret_job", version=1, max_bytes=2**26,
    )  # fmt: skip
    assert bytes(data) == build_ir(*pair)
    assert left.total_bytes == len(data)
    assert not target.with_name("taken.part").exists()


def test_without_a_form_it_is_not_touched(job):
    done = run(job)
    assert done.exit_code == 1
    assert "--form and --bits" in done.stdout
    assert sorted(path.name for path in (job / "out").iterdir()) == [
        "operator.toml",
        "wardian.toml",
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--bits", "128"), "go with --form"),
        (("--clear", "xml"), "go with --form"),
        (("--form", "cbc"), "--bits: say 128 or 256"),
        (("--form", "v09", "--bits", "128"), "256 bits alone"),
        ((*AS_CBC, "--model-secured", "--secret-file", "config.yaml"), "takes the place"),
        (AS_CBC, "give --secret-file"),
    ],
)
def test_what_is_not_said_wholly(job, options, told, monkeypatch):
    monkeypatch.chdir(job)
    done = run(job, *options)
    assert isinstance(done.exception, ConfigError), done.output
    assert told in str(done.exception)
    assert not (job / "out" / "wardian.toml").exists()


def test_an_encrypted_model_that_is_not_there(job):
    (job / "config.yaml").write_text("modelPath: elsewhere\nmodelEncrypted: true\n")
    done = run(job, *AS_CBC, *write_keys(job))
    assert "config.yaml: modelPath: no such directory here" in str(done.exception)
    (job / "config.yaml").write_text("modelPath: hdfs://a/b\nmodelEncrypted: true\n")
    done = run(job, *AS_CBC, *write_keys(job))
    assert done.exit_code == 1
    assert "another machine's" in done.stdout


def test_a_wrong_secret_leaves_nothing_and_can_be_tried_again(job):
    keys = write_keys(job)
    right = (job / "secret.txt").read_bytes()
    (job / "secret.txt").write_bytes(b"another\n")
    done = run(job, *AS_CBC, *keys)
    assert isinstance(done.exception, AuthenticationFailed)
    assert list((job / "out").iterdir()) == []
    (job / "secret.txt").write_bytes(right)
    assert run(job, *AS_CBC, *keys).exit_code == 0


def test_a_sealed_file_that_is_another_or_has_another_key(job):
    assert run(job, *AS_CBC, *write_keys(job)).exit_code == 0
    out, model = job / "out", ModelFile(file="secret_job.sealed", key_file="secret_job.key")
    content = (out / model.file).read_bytes()

    def refused(name: str = "secret_job", told: str = "does not open", **other: int) -> None:
        with pytest.raises(ConfigError, match=told):
            leave_sealed(
                ModelFile(file=model.file, key_file=model.key_file, **other),
                job / "taken", directory=out, media_type=IR, name=name,
            )  # fmt: skip
        assert not (job / "taken").exists()

    refused(name="other")
    refused(version=2)
    for altered in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), content[:40], b""):
        (out / model.file).write_bytes(altered)
        refused()
    (out / model.file).write_bytes(content)
    key = (out / "secret_job.key").read_text()
    (out / "secret_job.key").write_text("ab" * 32 + "\n")
    refused()
    (out / "secret_job.key").write_text(key)
    (out / "secret_job.key").chmod(0o644)
    refused(told="chmod 600")
    (out / "secret_job.key").chmod(0o600)
    (out / "secret_job.sealed.pin").write_text("wardian-pin-v1:00")
    refused()
    (out / "secret_job.sealed.pin").unlink()
    refused(told="cannot be read")


def test_an_example_names_a_key_that_is_there(job):
    assert run(job, *AS_CBC, *write_keys(job)).exit_code == 0
    (job / "out" / "secret_job.key").unlink()
    with pytest.raises(ConfigError, match=r"no file .*secret_job\.key"):
        Source.read(job / "out")


def test_the_pin_and_the_key_are_those_of_wardian_open(job, pair):
    assert run(job, *AS_CBC, *write_keys(job)).exit_code == 0
    out = job / "out"
    key = BrokerKey(Secret(bytes.fromhex((out / "secret_job.key").read_text())))
    data = open_bytes(
        io.BytesIO((out / "secret_job.sealed").read_bytes()), identities=[key],
        pin=Pin.parse((out / "secret_job.sealed.pin").read_text().strip()), media_type=IR,
        name="secret_job", version=1, max_bytes=2**26,
    )  # fmt: skip
    assert bytes(data) == build_ir(*pair)


@pytest.mark.strace
def test_nothing_decrypted_is_written(job, pair, need_program):
    home, trace = job / "home", job / "trace"
    home.mkdir()
    done = subprocess.run(
        [
            need_program("strace"), "-f", "-qq", "-s", "300", "-o", str(trace),
            "-e", f"trace={CALLS}", sys.executable, "-B", "-m", "wardian.cli", "migrate",
            str(job / "config.yaml"), *AS_CBC, *write_keys(job), "--out", str(job / "out"),
        ],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    written = [line for line in lines if is_trace(line) and not HARMLESS.search(line)]
    ours = re.compile(rf'"{job}/out(?:/(?:\.wardian-\w+\.part|\.[\w.]+-\w+|secret_job\.sealed))?"')
    assert [line for line in written if not ours.search(line)] == []
    assert len(written) > 6
    assert list(home.iterdir()) == []
    names = {path.name for path in (job / "out").iterdir()}
    assert names == {
        "wardian.toml", "operator.toml", "example.toml", "migrated.json", "secret_job.sealed",
        "secret_job.sealed.pin", "secret_job.key",
    }  # fmt: skip
    graph, weights = pair
    for path in (job / "out").iterdir():
        content = path.read_bytes()
        for canary in (graph[100:140], weights[500:532], weights[3000:3032]):
            assert canary not in content
