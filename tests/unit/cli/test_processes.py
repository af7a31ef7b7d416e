"""What a launcher does with what its role announces."""

from pathlib import Path

import pytest

from wardian.cli import host, processes
from wardian.cli.state import StateDir


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.open(tmp_path / "state")


def announced(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, role: str, **fields: object
) -> str | None:
    """Return the broker's address after `role` announced that a broker listens there."""

    def launch(_role: str, *, announce, **_: object) -> int:
        announce("broker.listening", fields)
        return 0

    monkeypatch.setattr(processes, "launch_simulated", launch)
    with pytest.raises(SystemExit):
        processes.run(role, state, host.place_broker(state))
    return state.broker_address.read_text() if state.broker_address.exists() else None


def test_the_broker_says_which_port_it_got(state, monkeypatch, capsys) -> None:
    assert announced(state, monkeypatch, "broker", address="127.0.0.1", port=7) == "127.0.0.1:7\n"


@pytest.mark.parametrize(
    ("role", "fields"),
    [
        ("worker", {"address": "127.0.0.1", "port": 7}),
        ("frontend", {"address": "127.0.0.1", "port": 7}),
        ("broker", {"address": "10.0.0.1", "port": 7}),
        ("broker", {"address": "127.0.0.1"}),
        ("broker", {"address": "127.0.0.1", "port": "7"}),
        ("broker", {}),
    ],
)
def test_nobody_else_and_nothing_else(state, monkeypatch, capsys, role, fields) -> None:
    assert announced(state, monkeypatch, role, **fields) is None


def test_a_port_that_the_operator_named_is_the_only_one(state, monkeypatch, capsys) -> None:
    state.operator.write_text("[broker]\nport = 4545\n")
    assert announced(state, monkeypatch, "broker", address="127.0.0.1", port=7) is None
    assert announced(state, monkeypatch, "broker", address="127.0.0.1", port=4545) is not None


def test_a_role_that_does_not_exist_leaves_no_trace(state, tmp_path) -> None:
    from wardian.errors import ConfigError

    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="no role is called"):
        processes.run("../../x", state, host.place_broker(state), tee="gramine-direct")
    assert sorted(tmp_path.rglob("*")) == before
