"""`wardian keeper show` at a running keeper: what it says can be put into wardian.toml."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper_process import Keeper

from wardian._internal import settings
from wardian._internal.agreed import Agreed

MESH = (
    f'[mesh]\nname = "m"\nowners = ["{"aa" * 32}"]\n[models.digits]\n'
    f'[[counter.keepers]]\nname = "x"\nkey = "{"01" * 32}"\nplatform = "{"01" * 16}"\n'
    f'simulation_root_sha256 = "{"01" * 32}"\n'
    f'[[counter.keepers]]\nname = "y"\nkey = "{"02" * 32}"\nplatform = "{"02" * 16}"\n'
    f'simulation_root_sha256 = "{"02" * 32}"\n'
)


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    running = Keeper(tmp_path_factory.mktemp("keeper") / "state")
    yield running
    running.end()


def show(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "wardian.cli", "keeper", "show", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_what_it_says_is_what_wardian_toml_takes(keeper: Keeper) -> None:
    said = show(f"127.0.0.1:{keeper.port}", "--name", "k1").stdout
    assert "SIMULATED" in said
    head, line = said[said.index("[counter]") :].split("[[counter.keepers]]")
    raw = MESH.replace("[[counter.keepers]]", head + "[[counter.keepers]]", 1)
    raw += "[[counter.keepers]]" + line
    agreed = settings.parse(raw.encode(), Agreed, name="wardian.toml")
    assert agreed.counter is not None
    told = keeper.show("k1")
    found = next(each for each in agreed.counter.keepers if each.name == "k1")
    assert found.key == told["keeper"]["key"]
    assert found.platform == told["keeper"]["platform"]
    assert agreed.counter.measurements == (told["measurement"],)
    assert told["simulated"] is True
    assert told["tcb_status"] == "UpToDate"


def test_to_look_is_to_count_nothing(keeper: Keeper) -> None:
    keeper.show("k1")
    assert [path.name for path in (keeper.state / "keeper").iterdir()] == ["identity.sealed"]


@pytest.mark.parametrize(
    ("address", "says"),
    [("127.0.0.1:1", "no keeper answers"), ("nonsense", "HOST:PORT"), ("127.0.0.1:99999", "HOST")],
)
def test_where_nobody_is(address: str, says: str) -> None:
    done = show(address)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_another_code_or_machine_is_another_keeper(keeper: Keeper, tmp_path: Path) -> None:
    other = Keeper(tmp_path / "other")
    try:
        mine, theirs = keeper.show("k"), other.show("k")
        assert mine["measurement"] == theirs["measurement"]
        assert mine["keeper"]["platform"] != theirs["keeper"]["platform"]
        assert mine["keeper"]["key"] != theirs["keeper"]["key"]
    finally:
        other.end()
    (tmp_path / "other" / "keeper.toml").write_text('service = "others"\n')
    command = [sys.executable, "-m", "wardian.cli", "keeper", "--state", str(tmp_path / "other")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "another measurement" in done.stderr
