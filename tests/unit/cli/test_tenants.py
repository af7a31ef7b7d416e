"""`wardian tenants`: from a person's file to a list that a front end takes."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from wardian._internal import wire
from wardian._internal.operator import Operator
from wardian.cli.host import place_frontend
from wardian.cli.main import cli
from wardian.cli.state import StateDir
from wardian.crypto.owner_key import encode_owner_key
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.errors import AuthenticationFailed, ConfigError, PolicyDenied
from wardian.serving.client.credentials import load_api_key
from wardian.serving.tenants.api_key import api_key_digest
from wardian.serving.tenants.lists import SignedTenants, TenantTerms, parse_tenants

TERMS = """[tenants.alice]
keys = ["{digest}"]
models = ["digits"]
rate_per_s = 50
burst = 100
max_open = 32
"""


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


class Desk:
    """What lies on a signer's desk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.signers = [SigningKey.generate(), SigningKey.generate(SignatureKind.P256)]
        self.keys = [
            self.file(f"signer-{n}.key", encode_owner_key(key).reveal())
            for n, key in enumerate(self.signers)
        ]
        owner = SigningKey.generate().public.hex()
        names = json.dumps([key.public.hex() for key in self.signers])
        self.agreed = self.file(
            "wardian.toml",
            f'[mesh]\nname = "demo"\nowners = ["{owner}"]\n[models.digits]\n[models.faces]\n'
            f"[tenants]\nsigners = {names}\nthreshold = 2\n".encode(),
        )
        self.list = root / "list.json"
        self.digest = run("tenants", "key", "--out", root / "alice.key").strip()
        self.source = self.file("tenants.toml", TERMS.format(digest=self.digest).encode())

    def file(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    def draft(self, *more: object, output: Path | None = None) -> str:
        return run(
            *("tenants", "draft", "--agreed", self.agreed, "--from", self.source),
            *("-o", output or self.list, *more),
        )

    def sign(self, *who: int, path: Path | None = None) -> str:
        return "".join(
            run(
                "tenants", "sign", path or self.list, "--agreed", self.agreed, "--key", self.keys[n]
            )
            for n in who
        )

    def verify(self, path: Path | None = None) -> str:
        return run("tenants", "verify", path or self.list, "--agreed", self.agreed)

    def terms(self) -> tuple[TenantTerms, ...]:
        signed = wire.decode(self.list.read_bytes(), SignedTenants, what="x")
        return parse_tenants(signed).tenants


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_from_nothing_to_a_list_in_force(desk: Desk) -> None:
    said = desk.draft()
    assert "models digits" in said
    assert "Signers that it needs: 2" in said
    with pytest.raises(PolicyDenied):
        desk.verify()
    said = desk.sign(0)
    assert f"signed as {desk.signers[0].public.hex()}" in said
    with pytest.raises(PolicyDenied) as refused:
        desk.verify()
    assert refused.value.rule == "tenants-threshold"
    desk.sign(1, 1)  # twice is once
    assert "serial 1, 1 tenants, in force until" in desk.verify()
    shown = json.loads(run("tenants", "show", desk.list, "--json"))
    assert shown["list"]["tenants"][0]["keys"] == [desk.digest]
    assert len(shown["signers"]) == 2
    assert "rate 50/s" in run("tenants", "show", desk.list)


def test_a_key_is_for_its_user_alone_and_never_overwritten(desk: Desk) -> None:
    path = desk.root / "alice.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        run("tenants", "key", "--out", path)
    assert path.read_bytes() == text
    assert api_key_digest(text.strip()).hex() == desk.digest
    assert run("tenants", "key", "--of", path).strip() == desk.digest
    printed, digest = run("tenants", "key").split()
    assert api_key_digest(printed.encode()).hex() == digest
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_api_key(path)


def test_a_client_takes_a_key_and_echoes_none(desk: Desk) -> None:
    text = (desk.root / "alice.key").read_text().strip()
    assert load_api_key(desk.root / "alice.key") == load_api_key(Secret(text.encode()))
    for given in (text, Secret(text[:-1].encode()), Secret(b"x"), None):
        with pytest.raises(ConfigError) as refused:
            load_api_key(given)  # type: ignore[arg-type]
        assert text[12:40] not in str(refused.value) + repr(refused.value.__context__)


def test_the_next_list_says_what_it_changes(desk: Desk) -> None:
    desk.draft()
    desk.sign(0, 1)
    desk.source.write_text(
        TERMS.format(digest=desk.digest).replace("50", "80")
        + "[tenants.bob]\nall = true\nrate_per_s = 0.5\nburst = 1\nmax_open = 1\nmetrics = true\n"
    )
    following = desk.root / "next.json"
    said = desk.draft("--previous", desk.list, output=following)
    assert "tenant bob: added" in said
    assert "ALL, those that come later included" in said
    assert "- rate 50/s" in said
    assert "+ rate 80/s" in said
    assert "serial 1 -> 2" in said
    desk.sign(0, 1, path=following)
    assert "serial 2" in desk.verify(following)
    again = desk.draft("--previous", following, output=desk.root / "same.json")
    assert "tenant" not in again.replace("tenants", "")
    with pytest.raises(PolicyDenied, match="not newer"):
        run("tenants", "sign", desk.list, "--agreed", desk.agreed, "--previous", following,
            "--key", desk.keys[0])  # fmt: skip


def test_a_program_signs(desk: Desk) -> None:
    desk.draft()
    script = desk.file(
        "sign.py",
        b"import sys\nfrom wardian.cli.owner.keys import read_owner_key\nfrom pathlib import Path\n"
        b"key = read_owner_key(Path(sys.argv[1]))\n"
        b"sys.stdout.buffer.write(key.sign(sys.stdin.buffer.read()))\n",
    )
    run("tenants", "sign", desk.list, "--agreed", desk.agreed, "--sign-with",
        f"{sys.executable} {script} {desk.keys[1]}", "--signer", desk.signers[1].public.hex())  # fmt: skip
    desk.sign(0)
    assert "in force until" in desk.verify()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('models = ["digits"]', "rate_per_s"),
        ("unknown = 1\n", "unknown"),
        (TERMS.replace('"digits"', '"nobody"'), "does not name"),
        (TERMS.replace('models = ["digits"]\n', ""), "either models or all"),
        (TERMS.replace("burst = 100", "burst = 0"), "burst"),
        (TERMS.replace("alice", "Alice"), "Alice|pattern|regex"),
        (TERMS + 'certificates = ["none.pem"]\n', "none.pem"),
        (TERMS + 'certificates = ["signer-0.key"]\n', "PEM"),
        (TERMS + TERMS.replace("alice", "bob"), "twice"),
        (TERMS + "weight = 1.5\n", "weight"),
    ],
)
def test_what_cannot_be_a_list(desk: Desk, text: str, says: str) -> None:
    body = text if "[tenants" in text else f"[tenants.alice]\n{text}"
    desk.source.write_text(body.format(digest=desk.digest))
    with pytest.raises((ConfigError, PolicyDenied), match=says):
        desk.draft()
    assert not desk.list.exists()


def test_who_may_not_sign(desk: Desk) -> None:
    desk.draft()
    stranger = desk.file("stranger.key", encode_owner_key(SigningKey.generate()).reveal())
    signing = ("tenants", "sign", desk.list, "--agreed", desk.agreed)
    with pytest.raises(ConfigError, match="nobody who is a signer"):
        run(*signing, "--key", stranger)
    with pytest.raises(ConfigError, match="say who signs"):
        run(*signing)
    other = desk.file("other.toml", desk.agreed.read_bytes().replace(b'"demo"', b'"other"'))
    with pytest.raises(PolicyDenied, match="another mesh"):
        run("tenants", "sign", desk.list, "--agreed", other, "--key", desk.keys[0])
    bare = desk.file("bare.toml", desk.agreed.read_bytes().split(b"[tenants]")[0])
    with pytest.raises(ConfigError, match=r"no \[tenants\]"):
        run("tenants", "verify", desk.list, "--agreed", bare)


def test_a_list_that_was_altered(desk: Desk) -> None:
    desk.draft()
    desk.sign(0, 1)
    signed = wire.decode(desk.list.read_bytes(), SignedTenants, what="x")
    altered = SignedTenants(
        tenants=signed.tenants.replace(b'"max_open":32', b'"max_open":99'),
        signatures=signed.signatures,
    )
    desk.list.write_bytes(wire.encode(altered))
    with pytest.raises(AuthenticationFailed):
        desk.verify()
    desk.list.write_bytes(b"\0garbage")
    with pytest.raises(ConfigError):
        run("tenants", "show", desk.list)


def test_the_end_of_the_process_says_denied(desk: Desk) -> None:
    desk.draft()
    done = subprocess.run(
        [sys.executable, "-m", "wardian.cli", "tenants", "verify", desk.list, "--agreed",
         desk.agreed],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "not signed" in done.stderr


# What the operator's file opens to the front end


def placed(root: Path, text: str) -> tuple[str | None, tuple[Path, ...], dict[str, Path]]:
    state = StateDir.open(root)
    state.operator.write_text(f"[broker]\nport = 1\n[frontend]\nport = 2\n{text}")
    found = place_frontend(state)
    return found.settings.tenants, found.reach.read, found.files


def test_the_front_end_reads_the_list_s_directory_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    shared = tmp_path.resolve() / "traffic" / "split.json"
    assert placed(tmp_path, "") == (None, (shared.parent,), {"traffic.json": shared})
    path, read, files = placed(tmp_path, 'tenants = "tenants/list.json"')
    assert path == os.fspath((tmp_path / "tenants" / "list.json").resolve())
    assert read == (shared.parent, (tmp_path / "tenants").resolve())
    assert files["tenants.json"] == Path(path)
    for wrong in ("list.json", "../list.json", "/list.json", "none/list.json", "tenants/../x.json"):
        with pytest.raises(ConfigError, match="tenants"):
            placed(tmp_path, f'tenants = "{wrong}"')
    assert Operator().frontend.tenants is None
