"""The engine by its name: refused before anything is made where it is not installed."""

from pathlib import Path

import pytest

from wardian._internal.operator import Operator
from wardian._internal.settings import parse
from wardian.cli.engines import choice
from wardian.cli.engines.command_line import workers_of
from wardian.cli.state import StateDir
from wardian.errors import ConfigError


def operator(text: str) -> Operator:
    return parse(text.encode(), Operator, name="operator.toml")


def test_local_needs_nothing() -> None:
    choice.demand_engine(Operator())


@pytest.mark.parametrize("engine", ["flink", "ray"])
def test_one_that_is_not_installed_is_refused_with_what_to_do(tmp_path: Path, engine: str) -> None:
    text = f'engine = "{engine}"\n[{engine}]\npython = "{tmp_path}/bin/python"\n'
    with pytest.raises(ConfigError, match=f"`make {engine}`"):
        choice.demand_engine(operator(text))


def test_flink_needs_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.touch(mode=0o700)
    monkeypatch.setattr(choice.shutil, "which", lambda _name: None)
    with pytest.raises(ConfigError, match="openjdk-17-jre-headless"):
        choice.demand_engine(operator(f'engine = "flink"\n[flink]\npython = "{python}"\n'))


@pytest.mark.parametrize(
    "text",
    [
        'engine = "spark"',
        '[flink]\npython = "bin/python"',
        '[flink]\nrest = "https://host:8081"',
        "[flink]\ntaskmanager_heap_mib = 64",
        "[ray]\nnodes = 0",
        "[ray]\nfirst_port = 80",
        "[ray]\nworker_cpus = 0",
        '[ray]\nsecret = "x"',
    ],
)
def test_what_an_operator_cannot_say(text: str) -> None:
    with pytest.raises(ConfigError, match=r"operator\.toml"):
        operator(text)


def test_a_worker_s_command_line_is_the_same_on_every_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDIAN_SECRET", "canary")
    state = StateDir.open(tmp_path / "state")
    spec = workers_of(state, "digits:2", replicas=3, queue=("--queue", "rediss://h:1"))
    assert spec.name == "worker-digits-2"
    assert spec.argv[1:] == (
        *("-P", "-m", "wardian.cli", "worker", "--model", "digits:2", "--queue", "rediss://h:1"),
        *("--state", str(state.root), "--lifeline", "{lifeline}"),
    )
    assert "canary" not in str(spec)
    assert spec.logs == state.root / "logs"
