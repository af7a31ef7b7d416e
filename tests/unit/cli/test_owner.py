"""`wardian owner`: keys that stay private, and lines that say what was meant."""

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization

from wardian.broker.mesh.lines import ModelLine, ReleaseTerms, SecretLine
from wardian.broker.mesh.verify import verify_line
from wardian.cli.main import cli
from wardian.cli.owner.files import read_line_file
from wardian.cli.owner.keys import read_owner_key
from wardian.crypto import recipients
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, seal_file
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.errors import AuthenticationFailed, ConfigError, FormatError

MEASUREMENT = "ab" * 32


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipients.PassphraseRecipient.__init__.__kwdefaults__, "log2_n", 15)


def run(*arguments: object, text: str | None = None) -> str:
    done = CliRunner().invoke(
        cli, [str(each) for each in arguments], input=text, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def keygen(tmp_path: Path, *more: object, name: str = "owner.key") -> Path:
    run("owner", "keygen", "--out", tmp_path / name, *more)
    return tmp_path / name


def agreed(tmp_path: Path, owner: str) -> Path:
    path = tmp_path / "wardian.toml"
    path.write_text(f'[mesh]\nname = "test"\nowners = ["{owner}"]\n[models.digits]\n')
    return path


# Keys


@pytest.mark.parametrize("kind", list(SignatureKind))
def test_a_key_and_its_public_part(tmp_path: Path, kind: SignatureKind) -> None:
    path = tmp_path / "owner.key"
    public = run("owner", "keygen", "--type", kind, "--out", path).strip()
    key = read_owner_key(path)
    assert (key.kind, key.public.hex()) == (kind, public)
    assert run("owner", "public", path).strip() == public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = keygen(tmp_path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        keygen(tmp_path)
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="cannot be written"):
        run("owner", "keygen", "--out", tmp_path / "nowhere" / "owner.key")


def test_a_key_under_a_passphrase_from_a_file(tmp_path: Path) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse\nsecond line\n")
    phrase.chmod(0o644)  # whoever reads it has the key
    with pytest.raises(ConfigError, match=r"mode 0644\); run chmod 600"):
        keygen(tmp_path, "--passphrase-file", phrase)
    phrase.chmod(0o600)
    path = keygen(tmp_path, "--passphrase-file", phrase)
    assert b"private" not in path.read_bytes()
    key = read_owner_key(path, phrase)
    assert run("owner", "public", path).strip() == key.public.hex()  # needs no passphrase
    phrase.write_text("wrong\n")
    with pytest.raises(ConfigError, match="not its passphrase"):
        read_owner_key(path, phrase)
    phrase.chmod(0o660)
    with pytest.raises(ConfigError, match=r"phrase: .* \(mode 0660\)"):
        read_owner_key(path, phrase)


def test_a_passphrase_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "owner.key"
    out = run("owner", "keygen", "--out", path, "--passphrase", text="staple\nstaple\n")
    assert "staple" not in out
    with pytest.raises(ConfigError, match="give --passphrase-file"):
        read_owner_key(path)  # no terminal here


def test_a_passphrase_is_asked_for_where_there_is_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "owner.key"
    run("owner", "keygen", "--out", path, "--passphrase", text="staple\nstaple\n")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *_, **__: "staple")
    assert read_owner_key(path).public.hex() == run("owner", "public", path).strip()


def test_a_key_that_others_can_read(tmp_path: Path) -> None:
    path = keygen(tmp_path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_owner_key(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_owner_key(tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"00" * 32 + b"\n", b"x" * 5000])
def test_a_file_that_is_no_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="wardian owner keygen"):
        read_owner_key(path)
    with pytest.raises(ConfigError, match="wardian owner keygen"):
        run("owner", "public", path)


@pytest.mark.parametrize("kind", list(SignatureKind))
def test_the_public_key_of_a_hardware_module(tmp_path: Path, kind: SignatureKind) -> None:
    key = SigningKey.generate(kind)
    path = tmp_path / "module.pem"
    path.write_bytes(
        key._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    assert run("owner", "public", path).strip() == key.public.hex()
    path.write_bytes(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(ConfigError, match="PEM public key"):
        run("owner", "public", path)


# Lines


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[Path, BrokerKey]:
    clear, path = tmp_path / "digits.onnx", tmp_path / "digits.sealed"
    clear.write_bytes(b"a model")
    key = BrokerKey(Secret.random())
    pin = seal_file(
        clear, path, recipients=[key], media_type="application/onnx", name="digits", version=3
    )
    (tmp_path / "digits.sealed.pin").write_text(f"{pin}\n")
    key_file = tmp_path / "digits.key"
    key_file.write_text(key.key.reveal().hex() + "\n")
    key_file.chmod(0o600)
    return path, key


def test_a_models_line(tmp_path: Path, sealed: tuple[Path, BrokerKey]) -> None:
    path, broker_key = sealed
    key = keygen(tmp_path)
    signer = read_owner_key(key)
    out = tmp_path / "digits.line"
    settings = agreed(tmp_path, signer.public.hex())
    said = run(
        *("owner", "model", path, "--broker-key", tmp_path / "digits.key", "--agreed", settings),
        *("--key", key, "--measurement", MEASUREMENT, "--measurement", MEASUREMENT),
        *("--serial", 4, "--max-uses", 9, "--not-after", 1_800_000_000, "-o", out),
    )
    assert "model digits version 3, serial 4, signed" in said
    file = read_line_file(out)
    assert isinstance(file.line, ModelLine)
    verify_line(file.line, mesh="test")
    with pytest.raises(AuthenticationFailed):
        verify_line(file.line, mesh="other")
    assert file.line.terms == ReleaseTerms(max_uses=9, not_after=1_800_000_000)
    assert file.line.key_id == broker_key.key_id.hex()
    assert file.line.measurements == (MEASUREMENT,)
    assert (file.line.total_bytes, file.line.media_type) == (7, "application/onnx")
    assert broker_key.key.reveal().hex() not in out.read_text()


def test_a_pin_on_the_command_line_or_in_another_file(
    tmp_path: Path, sealed: tuple[Path, BrokerKey]
) -> None:
    path, broker_key = sealed
    key = keygen(tmp_path)
    common = (
        *("owner", "model", path, "--key-id", broker_key.key_id.hex(), "--key", key),
        *("--agreed", agreed(tmp_path, "11" * 32), "--measurement", MEASUREMENT),
        *("-o", tmp_path / "digits.line"),
    )
    pin = (tmp_path / "digits.sealed.pin").read_text().strip()
    run(*common, "--pin", pin)
    run(*common, "--pin", tmp_path / "digits.sealed.pin")
    with pytest.raises(FormatError, match="pin"):
        run(*common, "--pin", "garbage")
    other = Pin(header_digest=bytes(32), last_tag=bytes(16))
    with pytest.raises(ConfigError, match="another file than the one that the pin names"):
        run(*common, "--pin", str(other))
    (tmp_path / "digits.sealed.pin").unlink()
    with pytest.raises(ConfigError, match="give --pin"):
        run(*common)


def test_the_key_that_opens_a_model_is_named_once(
    tmp_path: Path, sealed: tuple[Path, BrokerKey]
) -> None:
    common = (
        *("owner", "model", sealed[0], "--key", keygen(tmp_path), "--measurement", MEASUREMENT),
        *("--agreed", agreed(tmp_path, "11" * 32), "-o", tmp_path / "digits.line"),
    )
    for both in ((), ("--key-id", "00" * 16, "--broker-key", tmp_path / "digits.key")):
        with pytest.raises(ConfigError, match="--broker-key, or its id"):
            run(*common, *both)
    assert not (tmp_path / "digits.line").exists()


def secret_line(tmp_path: Path, *more: object) -> SecretLine:
    out = tmp_path / "license.line"
    run(
        *("owner", "secret", "license", "--agreed", agreed(tmp_path, "11" * 32)),
        *("-o", out, *more),
    )
    line = read_line_file(out).line
    assert isinstance(line, SecretLine)
    return line


def test_a_secrets_line(tmp_path: Path) -> None:
    key = keygen(tmp_path)
    line = secret_line(
        *(tmp_path, "--source", "supplied", "--key", key, "--measurement", MEASUREMENT),
        *("--interop", "--max-beacon-age", 3600),
    )
    verify_line(line, mesh="test")
    assert (line.source, line.interop, line.serial) == ("supplied", True, 1)
    assert line.terms == ReleaseTerms(max_beacon_age_s=3600)


def test_a_line_for_a_key_that_is_kept_elsewhere(tmp_path: Path) -> None:
    owner = SigningKey.generate(SignatureKind.P256).public.hex()
    line = secret_line(
        *(tmp_path, "--source", "generated", "--owner", owner, "--measurement", MEASUREMENT)
    )
    assert (line.owner, set(line.signature)) == (owner, {"0"})
    with pytest.raises(AuthenticationFailed):
        verify_line(line, mesh="test")


def test_measurements_by_role(tmp_path: Path) -> None:
    values = tmp_path / "reference-values.toml"
    values.write_text(
        'format = "wardian reference values v1"\n'
        f'[roles.worker]\ntee = "simulated"\nmeasurements = ["{MEASUREMENT}", "{"cd" * 32}"]\n'
        f'[roles.frontend]\ntee = "simulated"\nmeasurements = ["{"ef" * 32}"]\n'
    )
    common = (tmp_path, "--source", "generated", "--key", keygen(tmp_path))
    line = secret_line(
        *(*common, "--role", "worker", "--role", "frontend", "--reference-values", values)
    )
    assert line.measurements == (MEASUREMENT, "cd" * 32, "ef" * 32)
    with pytest.raises(ConfigError, match="has no role broker"):
        secret_line(*common, "--role", "broker", "--reference-values", values)
    with pytest.raises(ConfigError, match="give --reference-values too"):
        secret_line(*common, "--role", "worker")


@pytest.mark.parametrize(
    "wrong",
    [
        ("--measurement", "AB" * 32),
        ("--measurement", "ab"),
        (),
        ("--measurement", MEASUREMENT, "--max-uses", 2**60),
    ],
    ids=["upper case", "short", "none", "too many uses"],
)
def test_a_line_that_no_manifest_takes(tmp_path: Path, wrong: tuple[object, ...]) -> None:
    with pytest.raises(ConfigError, match="the line"):
        secret_line(tmp_path, "--source", "generated", "--key", keygen(tmp_path), *wrong)
    assert not (tmp_path / "license.line").exists()


def test_who_signs_is_said_once(tmp_path: Path) -> None:
    common = (tmp_path, "--source", "generated", "--measurement", MEASUREMENT)
    for who in ((), ("--key", keygen(tmp_path), "--owner", "11" * 32)):
        with pytest.raises(ConfigError, match="--key, or your public key"):
            secret_line(*common, *who)


@pytest.mark.parametrize("content", [b"{}", b"garbage", b"x" * 70_000])
def test_a_file_that_is_no_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.line"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        read_line_file(path)


def test_a_line_file_that_says_one_thing_and_holds_another(tmp_path: Path) -> None:
    line = secret_line(
        *(tmp_path, "--source", "generated", "--key", keygen(tmp_path)),
        *("--measurement", MEASUREMENT),
    )
    path = tmp_path / "license.line"
    path.write_bytes(path.read_bytes().replace(b'"kind":"secret"', b'"kind":"model"'))
    with pytest.raises(ConfigError, match="no line of the kind"):
        read_line_file(path)
    assert line.name == "license"


def test_no_private_key_in_what_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "owner.key"
    out = run("owner", "keygen", "--out", path)
    private = path.read_text().splitlines()[3].split()[1]
    assert private not in out
    assert private not in run("owner", "public", path)
    assert os.environ.get("WARDIAN_KEY") is None
