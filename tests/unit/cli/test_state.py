"""The state directory: on which simulated machine its processes run."""

from pathlib import Path

import pytest

from wardian.cli import host, processes
from wardian.cli.state import StateDir
from wardian.errors import ConfigError


@pytest.fixture
def now(tmp_path: Path) -> StateDir:
    return StateDir.open(tmp_path / "now")


@pytest.fixture
def later(tmp_path: Path) -> StateDir:
    return StateDir.open(tmp_path / "later")


def on(state: StateDir, machine: object) -> None:
    state.operator.write_text(f'[simulation]\nmachine = "{machine}"\n')


def launched_on(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a launcher of this state directory finds platform and counters."""
    found: list[Path] = []

    def launch(_role: str, *, state: Path, **_: object) -> int:
        found.append(state)
        return 0

    monkeypatch.setattr(processes, "launch_simulated", launch)
    with pytest.raises(SystemExit):
        processes.run("broker", state, host.place_broker(state))
    return found[0]


def test_each_state_directory_is_a_machine_by_itself(now, later, monkeypatch) -> None:
    assert launched_on(now, monkeypatch) == now.root
    assert launched_on(later, monkeypatch) == later.root
    assert later.simulation == later.root / "simulation"


@pytest.mark.parametrize("relative", [True, False])
def test_two_of_one_mesh_are_on_one_machine(now, later, monkeypatch, relative: bool) -> None:
    on(later, "../now" if relative else now.root)
    monkeypatch.chdir("/")
    assert launched_on(later, monkeypatch) == now.root
    assert later.simulation == now.simulation
    assert later.store.is_relative_to(later.root)  # everything else stays its own
    assert later.queue != now.queue


def test_a_machine_that_is_not_there_is_not_made(later, monkeypatch) -> None:
    on(later, "../nwo")
    with pytest.raises(ConfigError, match=r"\[simulation\] machine .*nwo: No such file"):
        launched_on(later, monkeypatch)
    assert not (later.root.parent / "nwo").exists()


def test_a_machine_that_others_can_read_or_write(now, later, monkeypatch) -> None:
    """Whoever writes there could plant keys that the mesh then goes by."""
    on(later, "../now")
    now.root.chmod(0o755)
    with pytest.raises(ConfigError, match="open to other users"):
        launched_on(later, monkeypatch)
