"""`wardian broker backup` and `restore`, as they are called."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from recovery_world import RecoveryWorld

from wardian._internal import wire
from wardian.broker.recovery.backup import back_up_files, package_path
from wardian.cli import broker_backup
from wardian.cli.processes import broker
from wardian.cli.state import StateDir
from wardian.errors import ConfigError


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """The state directory of a stopped broker."""
    (tmp_path / "world").mkdir()
    world = RecoveryWorld(tmp_path / "world")
    world.close()
    state = StateDir.open(tmp_path / "state")
    world.broker.path.rename(state.store)
    package_path(state.store).write_bytes(wire.encode(world.package))
    return state


def call(*arguments: object) -> str:
    done = CliRunner().invoke(broker, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_there_and_back(state: StateDir, tmp_path: Path) -> None:
    file, there = tmp_path / "x.backup", tmp_path / "there"
    assert "bytes" in call("backup", "--state", state.root, "--out", file)
    told = call("restore", file, "--state", there)
    assert "Recovery takes 2 of 3 owners" in told
    assert StateDir(there).store.read_bytes()
    with pytest.raises(ConfigError, match="overwrites nothing"):
        call("restore", file, "--state", there)
    package_path(state.store).unlink()
    call("backup", "--state", state.root, "--out", tmp_path / "y.backup")
    told = call("restore", tmp_path / "y.backup", "--state", tmp_path / "elsewhere")
    assert "owners cannot recover it" in told


def test_from_a_running_broker(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = list(back_up_files(state.store))

    async def fetched(address: tuple[str, int]) -> AsyncIterator[bytes]:
        assert address == ("127.0.0.1", 7)
        for frame in frames:
            yield frame

    monkeypatch.setattr(broker_backup, "fetch_backup", fetched)
    call("backup", "--broker", "127.0.0.1:7", "--out", tmp_path / "a")
    call("backup", "--state", state.root, "--out", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("both", [True, False])
def test_one_broker_is_named(state: StateDir, tmp_path: Path, both: bool) -> None:
    where = ("--broker", "127.0.0.1:7", "--state", state.root) if both else ()
    with pytest.raises(ConfigError, match="say which broker"):
        call("backup", *where, "--out", tmp_path / "x")


def test_under_gramine_the_enclave_does_it(state: StateDir, tmp_path: Path) -> None:
    call("backup", "--state", state.root, "--out", tmp_path / "x.backup")
    there = StateDir.open(tmp_path / "there")
    for each in (state, there):
        each.operator.write_text('tee = "gramine"\n')
    with pytest.raises(ConfigError, match="while it runs"):
        call("backup", "--state", state.root, "--out", tmp_path / "y.backup")
    assert "put in place by the broker" in call(
        "restore", tmp_path / "x.backup", "--state", there.root
    )
    assert there.to_restore.read_bytes() == (tmp_path / "x.backup").read_bytes()
    assert not there.store.exists()
    with pytest.raises(ConfigError, match="is there already"):
        call("restore", tmp_path / "x.backup", "--state", there.root)
