"""Tenants on a whole mesh: a confined front end, its file, and lists that follow one another."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mesh import DIGITS, RunningMesh

import wardian
from wardian.cli.main import cli
from wardian.errors import RequestError

IMAGE = {"image": np.zeros((1, 64), "f4")}


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


class Listed:
    """A mesh with tenants, and the desk of who signs their list."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.signer = root / "signer.key"
        public = run("owner", "keygen", "--out", self.signer).strip()
        example = root / "example"
        shutil.copytree(DIGITS, example)
        agreed = (example / "wardian.toml").read_text()
        agreed += f'\n[tenants]\nsigners = ["{public}"]\n'
        (example / "wardian.toml").write_text(agreed)
        (example / "operator.toml").write_text('[frontend]\ntenants = "tenants/list.json"\n')
        self.agreed = root / "agreed.toml"
        self.agreed.write_text(agreed.replace("owners = []", f'owners = ["{public}"]'))
        self.state = root / "state"
        self.place = self.state / "tenants"
        self.place.mkdir(parents=True)
        self.state.chmod(0o700)
        self.digests = {name: self.key(name) for name in ("alice", "bob")}
        self.serial = 0
        self.mesh = RunningMesh(
            self.state, example=example, options=("--api-key-file", str(root / "alice.key"))
        )

    def key(self, name: str) -> str:
        return run("tenants", "key", "--out", self.root / f"{name}.key").strip()

    def put(self, *names: str) -> None:
        """Sign a list of `names` and put it in place, at once."""
        source, fresh = self.root / "tenants.toml", self.place / "new"
        source.write_text(
            "".join(
                f'[tenants.{name}]\nkeys = ["{self.digests[name]}"]\nmodels = ["digits"]\n'
                "rate_per_s = 10000\nburst = 10000\nmax_open = 64\n"
                for name in names
            )
        )
        before = self.root / f"list-{self.serial}.json"
        self.serial += 1
        path = self.root / f"list-{self.serial}.json"
        follows = ("--previous", before) if before.exists() else ()
        run("tenants", "draft", "--agreed", self.agreed, "--from", source, "-o", path, *follows)
        run("tenants", "sign", path, "--agreed", self.agreed, "--key", self.signer)
        shutil.copy(path, fresh)
        fresh.replace(self.place / "list.json")

    def status(self, name: str | None) -> int:
        key = None if name is None else self.root / f"{name}.key"
        with wardian.connect(self.mesh.url, policy=self.mesh.policy, api_key=key) as client:
            try:
                client.infer("digits", IMAGE)
            except RequestError as err:
                return err.status
        return 200

    def until(self, name: str, status: int) -> None:
        end = time.monotonic() + 20
        while self.status(name) != status:
            assert time.monotonic() < end, "the list was not taken up"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listed]:
    made = Listed(tmp_path_factory.mktemp("tenants"))
    made.put("alice")
    made.mesh.start()
    yield made
    made.mesh.stop()


@pytest.mark.slow
def test_lists_follow_one_another_on_a_running_mesh(listed: Listed) -> None:
    assert [listed.status(name) for name in ("alice", "bob", None)] == [200, 401, 401]
    listed.put("alice", "bob")
    listed.until("bob", 200)
    listed.put("bob")
    listed.until("alice", 401)
    shutil.copy(listed.root / "list-1.json", listed.place / "new")
    (listed.place / "new").replace(listed.place / "list.json")  # the host brings the first one
    time.sleep(3)
    assert [listed.status(name) for name in ("alice", "bob")] == [401, 200]
    said = (listed.state / "logs" / "frontend.jsonl").read_text()
    assert "is not newer than the one that was in force" in said
    assert "wardian_key_" not in said
